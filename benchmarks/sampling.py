"""Tokens per second of sampling: this project's cached stack, nanoGPT's generate, transformers' cached generate.

python -m benchmarks.sampling --nanogpt PATH      PATH: a checkout of github.com/karpathy/nanoGPT; needs transformers
"""

import argparse
import statistics
from collections.abc import Callable

import torch

from benchmarks.common import finish, interleaved, load_nanogpt, parser, seconds, spread, start, table
from model.config import ModelConfig
from model.fast import kernels_for
from model.generate import generate
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors
from training.settings import keep_freed_memory


def main() -> None:
    options = arguments()
    keep_freed_memory()
    device = start(options)
    config = ModelConfig(n_layer=options.n_layer, n_embd=options.n_embd, block_size=options.block_size, bias=True)
    stack = GPT(config, options.vocab_size, options.n_head, kernels_for(config, device))
    stack.init_weights([0] * len(options.n_head))
    stack.to(device).eval()
    total = len(options.n_head) * options.num_samples * options.max_new_tokens
    print(
        f"{options.num_samples} samples of {options.max_new_tokens} tokens for each H in {options.n_head}; "
        f"{config.n_layer} layers, D {config.n_embd}, block {config.block_size}, vocabulary {options.vocab_size}\n"
    )
    work = {"Headcount, all H at once": lambda: generate(stack, [0], options.num_samples, options.max_new_tokens)}
    work["transformers, cached, one H after another"] = transformers_work(stack, options, device)
    if options.nanogpt:
        work["nanoGPT, one H after another"] = nanogpt_work(stack, options, device)
    timed = {name: (lambda f=f: seconds(f, device)) for name, f in work.items()}
    results = interleaved(timed, options.repeats)
    ours = statistics.median(next(iter(results.values())))
    rows = [
        [name, spread(times, 2), f"{total / statistics.median(times):,.0f}", f"{statistics.median(times) / ours:.1f}"]
        for name, times in results.items()
    ]
    print(table(["", "seconds", "tokens/s", "Headcount is times faster"], rows))
    finish(options, device, {"settings": {k: v for k, v in vars(options).items() if k != "json"}, "seconds": results})


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=3)
    result.add_argument("--nanogpt", metavar="PATH", help="a nanoGPT checkout to compare with")
    result.add_argument("--n_head", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="head counts")
    result.add_argument("--n_layer", type=int, default=4, help="layers")
    result.add_argument("--n_embd", type=int, default=128, help="width")
    result.add_argument("--block_size", type=int, default=256, help="longest context, tokens")
    result.add_argument("--vocab_size", type=int, default=65, help="tokens")
    result.add_argument("--num_samples", type=int, default=16, help="samples of each H")
    result.add_argument("--max_new_tokens", type=int, default=500, help="tokens of a sample")
    return result.parse_args()


def transformers_work(stack: GPT, options: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """generate() with its key-value cache; past the last position it goes on from half a block, as ours does."""
    from transformers import GPT2Config, GPT2LMHeadModel

    models = []
    for run in range(len(options.n_head)):
        model = GPT2LMHeadModel(GPT2Config(**gpt2_config(stack, run)))
        model.load_state_dict(gpt2_tensors(stack, run), strict=False)
        models.append(model.to(device).eval())
    first = torch.zeros(options.num_samples, 1, dtype=torch.int64, device=device)

    def work() -> None:
        for model in models:
            context, left = first, options.max_new_tokens
            while left:
                count = min(left, options.block_size - context.shape[1])
                length = {"min_new_tokens": count, "max_new_tokens": count, "pad_token_id": 0}
                mask = torch.ones_like(context)
                text = model.generate(context, attention_mask=mask, do_sample=True, top_k=0, **length)
                context, left = text[:, -(options.block_size // 2) :], left - count

    return work


def nanogpt_work(stack: GPT, options: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """nanoGPT's own generate, which computes the whole context again for every token."""
    nanogpt = load_nanogpt(options.nanogpt)
    shape = {key: getattr(options, key) for key in ("block_size", "vocab_size", "n_layer", "n_embd")}
    models = []
    for run, n_head in enumerate(options.n_head):
        model = nanogpt.GPT(nanogpt.GPTConfig(**shape, n_head=n_head, dropout=0.0, bias=True))
        transposed = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        tensors = gpt2_tensors(stack, run).items()
        model.load_state_dict({k: v.t() if k.endswith(transposed) else v for k, v in tensors}, strict=False)
        models.append(model.to(device).eval())
    first = torch.zeros(options.num_samples, 1, dtype=torch.int64, device=device)

    def work() -> None:
        for model in models:
            model.generate(first, options.max_new_tokens)

    return work


if __name__ == "__main__":
    main()
