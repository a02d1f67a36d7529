"""The compiled kernels for CPUs compute what PyTorch computes."""

import pytest
import torch

from model.attention import eager_attention
from model.config import ModelConfig
from model.fast import cpu, kernels_for
from model.fast.build import NoKernel, load_kernel
from model.generate import generate
from model.gpt import GPT


@pytest.fixture(scope="module", autouse=True)
def compiled():
    try:
        load_kernel()
    except NoKernel as reason:
        pytest.skip(f"no kernel here: {reason}")


def by_pytorch(qkv, n_head):
    """The textbook in fp64."""
    return eager_attention(qkv.double(), n_head)


SHAPES = [  # B, T, D, heads: of whole vectors and blocks, and others; one token; a head a feature; several blocks
    (3, 64, 128, [1, 2, 4, 8, 16]),
    (2, 50, 48, [1, 3, 12, 48, 48]),
    (1, 1, 20, [1, 5]),
    (2, 7, 36, [2, 2, 3]),
    (1, 131, 96, [1, 3, 12]),
]


@pytest.mark.parametrize(("n_sequence", "length", "width", "n_head"), SHAPES)
def test_attention_of_a_stack_and_its_gradient_are_the_explicit_softmax(n_sequence, length, width, n_head):
    torch.manual_seed(0)
    qkv = 2 * torch.randn(len(n_head), n_sequence, length, 3 * width)
    grad = torch.randn(len(n_head), n_sequence, length, width)
    for dtype, atol in ((torch.float32, 2e-5), (torch.bfloat16, 2**-7)):  # bf16: results are rounded, nothing else
        qkv, grad = qkv.to(dtype), grad.to(dtype)
        exact, ours = qkv.double().requires_grad_(), qkv.clone().requires_grad_()
        wanted, out = by_pytorch(exact, n_head), cpu.attend_stack(ours, n_head)
        wanted.backward(grad.double())
        out.backward(grad)
        assert out.dtype == ours.grad.dtype == dtype
        assert torch.allclose(out.double(), wanted, atol=atol, rtol=atol)
        assert torch.allclose(ours.grad.double(), exact.grad, atol=atol, rtol=atol)


def test_large_scores_and_a_faulty_run_stay_where_they_are():
    """Scores far beyond what exp can take, and a NaN in one run: no other run changes by a bit."""
    torch.manual_seed(0)
    qkv = 100 * torch.randn(3, 2, 40, 3 * 16)
    out = cpu.attend_stack(qkv, [1, 4, 4])
    assert torch.allclose(out.double(), by_pytorch(qkv, [1, 4, 4]), atol=1e-2)
    qkv[1, 0, 3, 20] = torch.nan
    faulty = cpu.attend_stack(qkv, [1, 4, 4])
    assert faulty[1].isnan().any()
    assert torch.equal(faulty[[0, 2]], out[[0, 2]])


def test_no_bit_depends_on_threads_or_companions():
    torch.manual_seed(0)
    n_head = [1, 2, 8]
    qkv, grad = torch.randn(3, 2, 70, 3 * 32), torch.randn(3, 2, 70, 32)

    def both(runs):
        x = qkv[runs].clone().requires_grad_()
        out = cpu.attend_stack(x, [n_head[r] for r in runs])
        out.backward(grad[runs])
        return out.detach(), x.grad

    together = both([0, 1, 2])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(a, b) for a, b in zip(both([0, 1, 2]), together, strict=True))
    finally:
        torch.set_num_threads(threads)
    alone = both([1])
    assert all(torch.equal(a, b[1:2]) for a, b in zip(alone, together, strict=True))


def test_the_operator_keeps_pytorchs_contract():
    """Shapes known to the compiler, no aliases, gradients: PyTorch's own check of custom operators."""
    qkv = torch.randn(2, 1, 5, 24, requires_grad=True)
    torch.library.opcheck(cpu._attend, (qkv, [1, 4]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width", "n_head", "block_size"), [(32, [1, 2, 4, 8], 24), (20, [1, 5, 5], 33)])
def test_texts_and_states_of_a_model_are_those_without_the_kernels(bias, width, n_head, block_size):
    config = ModelConfig(n_layer=2, n_embd=width, block_size=block_size, bias=bias)
    kernels = kernels_for(config, torch.device("cpu"))
    plain, fast = GPT(config, 65, n_head).eval(), GPT(config, 65, n_head, kernels).eval()
    assert fast.kernels.cache is cpu.KernelCache
    plain.init_weights(range(len(n_head)))
    for parameter in plain.parameters():
        parameter.data *= 4  # predictions that are far from equal
    fast.load_state_dict(plain.state_dict())
    prompt = list(range(18))
    assert torch.equal(generate(plain, prompt, 3, 60), generate(fast, prompt, 3, 60))  # beyond block_size
    tokens = torch.randint(0, 65, (len(n_head), 2, block_size))
    cache = fast.new_cache()
    with torch.no_grad():
        for context in (tokens, tokens.flip(-1)):  # a second context in the same tensors
            for layer in cache:
                layer.clear()
            parts = [fast.hidden(part, cache) for part in (context[..., :5], *context[..., 5:].split(1, -1))]
            assert torch.allclose(torch.cat(parts, 2), plain.hidden(context), atol=1e-4)
