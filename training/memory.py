"""How much memory a run's training takes, and how much the device has free."""

import math
from pathlib import Path

import torch

from errors import InputError
from experiment.config import Config
from model.gpt import GPT

STATE_BYTES = 16
"""Of a parameter: weight, gradient and AdamW's two averages in fp32."""
STREAM_BYTES = 6000
"""Of a random number generator of PyTorch's, one a sample."""
TRANSIENT = 3
"""The backward pass holds the gradient of the largest tensor, its input's, and a cast or a copy."""


def bytes_of_a_run(config: Config, vocab_size: int, n_head: int, device: torch.device, precision: str) -> int:
    """Peak bytes of training one run with n_head heads: its state, and what a forward pass keeps for the backward.

    The forward pass is carried out with tensors that have shapes and no data, and what autograd saves is added up.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # with what it needs, a second to import

    sizes: dict[tuple, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        return tensor

    keep = []  # storages must not be freed, or their addresses would be used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        keep.append(tensor)
        return note(tensor)

    with FakeTensorMode(), torch.device(device):
        model = GPT(config.model, vocab_size, [n_head])
        model.set_dropout_keys(torch.zeros(1, dtype=torch.int64))
        parameters = {p.untyped_storage()._cdata for p in model.parameters()}
        shape = (1, config.train.batch_size, config.model.block_size)
        tokens = torch.zeros(shape, dtype=torch.int64)
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            loss = model.loss(tokens, tokens)
        saved = {key: size for key, size in sizes.items() if key not in parameters}
        logits = 4 * math.prod(shape) * vocab_size
        del loss
    largest = max([logits, *saved.values()])
    return STATE_BYTES * model.n_parameters() + sum(saved.values()) + TRANSIENT * largest


def ample_bytes(config: Config, vocab_size: int, n_head: int) -> int:
    """More than `bytes_of_a_run` says, by arithmetic alone: with that much room, nothing need be estimated."""
    model, tokens = config.model, config.train.batch_size * config.model.block_size
    width = model.n_embd
    parameters = model.n_layer * (12 * width + 13) * width + (vocab_size + model.block_size + 2) * width
    a_layer = 60 * width + 8 * n_head * model.block_size
    return STATE_BYTES * parameters + 4 * tokens * (model.n_layer * a_layer + 20 * width + 10 * vocab_size)


def require_room_to_sample(model: GPT, num_samples: int, max_new_tokens: int) -> None:
    """Raises InputError where the texts, their key-value cache, logits and random streams have no room."""
    config, device = model.config, model.wte.weight.device
    numbers = 2 * config.n_layer * config.block_size * config.n_embd + 4 * model.vocab_size + 4 * max_new_tokens
    needed = num_samples * (4 * numbers * len(model.n_head) + STREAM_BYTES)
    if needed > (free := free_bytes(device)):
        raise InputError(
            f"num_samples {num_samples} with max_new_tokens {max_new_tokens} need about {needed >> 30:,} GiB "
            f"on {device}, which has {free / 2**30:.1f} GiB free; ask for fewer"
        )


def free_bytes(device: torch.device) -> int:
    """Memory that a new program could take on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        free = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
    return min([free, *_container_room()])


def out_of_memory(error: Exception) -> bool:
    """Whether the device or the CPU's allocator had no room, which PyTorch says in several ways."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _container_room() -> list[int]:
    """What the control group (a container's limit) leaves, where there is one."""
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        return [] if limit == "max" else [int(limit) - used]
    except (OSError, ValueError):
        return []
