"""The network against independent references: transformers' GPT-2, torch.nn.MultiheadAttention, an explicit softmax."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.attention import CausalMHA, eager_attention, softmax_attention
from model.config import ModelConfig
from model.describe import attention_shapes, flops_per_token, parameter_table
from model.fast.cache import Cache
from model.fast.sdpa import fused_attention
from model.generate import Gumbel, draw, generate
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors, load_gpt2_tensors, model_config
from model.hooks import hook_names, hooks, run_with_cache

VOCAB = 61
HEADS = [1, 1, 4, 16, 16]


def make(n_head, seeds=None, noise=0.05, **changes) -> GPT:
    """A small model whose weights are all away from their initial values, biases and norms too."""
    config = ModelConfig(**{"n_layer": 2, "n_embd": 64, "block_size": 24} | changes)
    model = GPT(config, VOCAB, n_head)
    model.init_weights(seeds or [7] * len(n_head))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += noise * torch.randn(p.shape[1:], generator=generator)
    return model.eval()


def tokens(n_run=1, batch=3, length=24, seed=0):
    return torch.randint(VOCAB, (n_run, batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_head", [1, 4, 16])
def test_logits_equal_those_of_transformers_gpt2(n_head, bias):
    import transformers

    model = make([n_head], bias=bias)
    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2_config(model, 0))).eval()
    missing, unexpected = reference.load_state_dict(gpt2_tensors(model, 0), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert not unexpected
    x = tokens()
    with torch.no_grad():
        expected, ours = reference(x[0]).logits, model(x)[0]
    assert ours.std() > 0.1
    assert torch.allclose(ours, expected, atol=1e-4)


def test_training_gradients_equal_those_of_transformers_gpt2():
    import transformers

    model = make([4], bias=True)
    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2_config(model, 0))).eval()
    reference.load_state_dict(gpt2_tensors(model, 0), strict=False)
    x = tokens()
    model.loss(x[:, :, :-1], x[:, :, 1:]).sum().backward()
    reference(x[0], labels=x[0]).loss.backward()
    theirs = dict(reference.transformer.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad[0], theirs[name].grad, atol=1e-5), name


@pytest.mark.parametrize("attention", [None, fused_attention])
@pytest.mark.parametrize("n_head", [1, 2, 8])
def test_attention_equals_torch_multihead_attention(attention, n_head):
    torch.manual_seed(0)
    D, T = 32, 11
    ours = CausalMHA(D, [n_head], bias=True, attention=attention)
    theirs = torch.nn.MultiheadAttention(D, n_head, bias=True, batch_first=True)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(std=0.3)
        ours.c_attn.weight[0] = theirs.in_proj_weight.T
        ours.c_attn.bias[0] = theirs.in_proj_bias
        ours.c_proj.weight[0] = theirs.out_proj.weight.T
        ours.c_proj.bias[0] = theirs.out_proj.bias
    x = torch.randn(1, 3, T, D)
    mask = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected, _ = theirs(x[0], x[0], x[0], attn_mask=mask)
    assert torch.allclose(ours(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("attention", [eager_attention, fused_attention])
def test_every_implementation_is_the_textbook_written_out_in_loops(attention):
    torch.manual_seed(0)
    qkv = torch.randn(3, 2, 9, 96)
    expected = torch.empty(3, 2, 9, 32)
    for run, heads in enumerate([1, 4, 4]):
        q, k, v = qkv[run].chunk(3, -1)
        d_h = 32 // heads
        for head in range(heads):
            cut = slice(d_h * head, d_h * head + d_h)
            for i in range(9):
                weights = (q[..., i : i + 1, cut] * k[..., : i + 1, cut]).sum(-1) / math.sqrt(d_h)
                weights = weights.exp() / weights.exp().sum(-1, keepdim=True)
                expected[run, ..., i, cut] = (weights[..., None] * v[..., : i + 1, cut]).sum(-2)
    assert torch.allclose(attention(qkv, [1, 4, 4]), expected, atol=1e-5)


def test_eager_attention_equals_the_fused_one_in_a_mixed_stack_with_gradients():
    losses, grads = [], []
    for attention in ("sdpa", "eager"):
        model = make(HEADS, attention=attention)
        x = tokens(5)
        loss = model.loss(x[:, :, :-1], x[:, :, 1:])
        loss.sum().backward()
        losses.append(loss.detach())
        grads.append(model.h[0].attn.c_attn.weight.grad)
    assert torch.allclose(*losses, atol=1e-5)
    assert torch.allclose(*grads, atol=1e-5)


@pytest.mark.parametrize("n_head", [1, 4, 16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_later_tokens_never_change_earlier_logits(n_head, attention):
    model = make([n_head], attention=attention)
    x = tokens()
    changed = x.clone()
    changed[:, :, 12:] = (changed[:, :, 12:] + 5) % VOCAB
    before, after = model(x), model(changed)
    assert torch.allclose(before[:, :, :12], after[:, :, :12], atol=1e-6)
    assert not torch.allclose(before[:, :, 12:], after[:, :, 12:], atol=1e-2)


def test_each_run_of_a_stack_computes_what_it_computes_alone():
    seeds = [0, 1, 0, 2, 0]
    stack = GPT(ModelConfig(n_layer=2, n_embd=64, block_size=24), VOCAB, HEADS)
    stack.init_weights(seeds)
    x = tokens(5)
    for r, (heads, seed) in enumerate(zip(HEADS, seeds, strict=True)):
        alone = GPT(stack.config, VOCAB, [heads])
        alone.init_weights([seed])
        assert torch.allclose(stack(x)[r], alone(x[r : r + 1])[0], atol=1e-5)


def test_parameter_count_does_not_depend_on_the_number_of_heads():
    counts = {heads: GPT(ModelConfig(), 512, [heads]).n_parameters() for heads in (1, 2, 4, 8, 16, 32, 64, 128)}
    assert len(set(counts.values())) == 1
    assert sum(parameter_table(GPT(ModelConfig(), 512, [4])).values()) == counts[4]


def test_runs_of_one_seed_start_from_the_same_weights_whatever_their_heads():
    model = GPT(ModelConfig(n_layer=2, n_embd=64, block_size=24), VOCAB, [1, 4, 16])
    model.init_weights([3, 3, 4])
    for name, p in model.named_parameters():
        assert torch.equal(p[0], p[1])
        if "ln_" not in name:
            assert not torch.equal(p[0], p[2])
    std = model.h[0].mlp.c_proj.weight.std().item()
    assert std == pytest.approx(0.02 / math.sqrt(2 * 2), rel=0.05)
    assert model.h[1].attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_head_count_that_does_not_divide_the_width_is_refused():
    with pytest.raises(ValueError, match="64 does not split into 3"):
        GPT(ModelConfig(n_embd=64), VOCAB, [1, 3])


def test_hook_points_show_every_intermediate_tensor_and_can_replace_it():
    model = make([4], attention="eager")
    _, seen = run_with_cache(model, tokens())
    assert set(seen) == set(hook_names(model))
    seen = {name.removeprefix("h.0.attn."): x for name, x in seen.items() if name.startswith("h.0")}
    assert {name: tuple(x.shape) for name, x in seen.items()} == {
        **dict.fromkeys(("q", "k", "v", "z"), (1, 3, 4, 24, 16)),
        **dict.fromkeys(("scores", "pattern"), (1, 3, 4, 24, 24)),
        **dict.fromkeys(("concat", "out"), (1, 3, 24, 64)),
    }
    assert torch.allclose(seen["pattern"].sum(-1), torch.ones(()))
    assert torch.allclose(seen["pattern"] @ seen["v"], seen["z"], atol=1e-6)
    assert torch.equal(seen["concat"][..., 16:32], seen["z"][:, :, 1])
    with hooks(model, {"h.0.attn.z": torch.zeros_like}):
        ablated = run_with_cache(model, tokens(), ["h.0.attn.out"])[1]
    assert not ablated["h.0.attn.out"].any()  # without bias, W_0 of nothing is nothing
    assert not any(module._forward_hooks for module in model.modules())


def test_a_point_that_a_fused_kernel_does_not_pass_is_refused_and_concat_is_not():
    model = make([4])
    with pytest.raises(ValueError, match="eager attention only"), hooks(model, {"h.0.attn.pattern": print}):
        pass
    assert list(run_with_cache(model, tokens(), ["h.1.attn.concat"])[1]) == ["h.1.attn.concat"]


def test_dropout_is_the_same_for_a_run_alone_and_in_a_stack_and_drops_at_its_rate():
    config = ModelConfig(n_layer=2, n_embd=64, block_size=24, dropout=0.3)
    seeds, keys = [0, 1, 0, 2, 0], torch.tensor([5, 6, 5, 7, 5])
    stack = GPT(config, VOCAB, HEADS)
    stack.init_weights(seeds)
    stack.set_dropout_keys(keys)
    x = tokens(5)
    losses = stack.loss(x, x)
    for r, heads in enumerate(HEADS):
        alone = GPT(config, VOCAB, [heads])
        alone.init_weights([seeds[r]])
        alone.set_dropout_keys(keys[r : r + 1])
        assert torch.allclose(losses[r], alone.loss(x[r : r + 1], x[r : r + 1])[0], atol=1e-5)
    stack.set_dropout_keys(keys + 1)
    assert not torch.allclose(losses, stack.loss(x, x), atol=1e-3)
    ones = torch.ones(5, 40, 1000)
    stack.drop.keys = keys
    dropped = stack.drop(ones)
    assert torch.equal(dropped[0], dropped[2])
    kept = (dropped > 0).float()
    assert kept.mean((1, 2)) == pytest.approx(torch.full((5,), 0.7), abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.corrcoef(kept.flatten(1)[[0, 1, 3]]).triu(1).abs().max() < 0.02  # masks of unlike keys are unlike
    assert torch.corrcoef(torch.stack([kept[0].flatten()[:-1], kept[0].flatten()[1:]]))[0, 1].abs() < 0.02
    stack.eval()
    assert torch.equal(stack.drop(ones), ones)


def test_training_with_dropout_without_keys_is_refused_rather_than_silently_wrong():
    model = GPT(ModelConfig(dropout=0.1), VOCAB, [1])
    model.init_weights([0])
    with pytest.raises(RuntimeError, match="set_dropout_keys"):
        model(tokens())


def test_gpt2_tensors_go_out_and_come_back():
    model = make(HEADS)
    back = GPT(model_config(gpt2_config(model, 2)), VOCAB, [4])
    load_gpt2_tensors(back, 0, gpt2_tensors(model, 2))
    x = tokens()
    assert torch.equal(back.eval()(x)[0], make([4])(x)[0])
    tensors = gpt2_tensors(model, 2)
    del tensors["transformer.wpe.weight"]
    with pytest.raises(ValueError, match=r"transformer\.wpe\.weight is missing"):
        load_gpt2_tensors(back, 0, tensors)
    with pytest.raises(ValueError, match="expected"):
        load_gpt2_tensors(back, 0, gpt2_tensors(model, 2) | {"transformer.wpe.weight": torch.zeros(3)})


def without_a_cache(model, prompt, num_samples, max_new_tokens, seed, **settings):
    """`generate` by computing the whole context anew for each token."""
    noise, size = Gumbel(seed, num_samples, VOCAB, torch.device("cpu")), model.config.block_size
    text = torch.tensor(prompt[-size:]).expand(len(model.n_head), num_samples, -1)
    start, first = 0, text.shape[-1]
    for _ in range(max_new_tokens):
        if text.shape[-1] - start > size:
            start = text.shape[-1] - size // 2
        with torch.no_grad():
            logits = model(text[:, :, start:])[:, :, -1]
        text = torch.cat([text, draw(logits, noise(), **settings)[..., None]], -1)
    return text[:, :, first:]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("prompt_length", [1, 5, 30])
def test_the_key_value_cache_changes_nothing(prompt_length, attention):
    model = make(HEADS, noise=0.2, attention=attention)
    prompt = tokens(1, 1, prompt_length)[0, 0].tolist()
    settings = {"seed": 4, "temperature": 0.9, "top_k": 30, "top_p": 0.95}
    cached, plain = generate(model, prompt, 3, 40, **settings), without_a_cache(model, prompt, 3, 40, **settings)
    assert cached.shape == (5, 3, 40)
    assert torch.equal(cached, plain)
    assert cached.unique().numel() > 10


def test_a_cache_keeps_its_tensors_and_attends_as_without_one():
    """What a CUDA graph replays: every key looked at under a mask, the next token's index a number on the device."""
    torch.manual_seed(0)
    qkv, n_head = torch.randn(3, 2, 10, 96), [1, 4, 4]
    cache, addresses = Cache(softmax_attention, 10, torch.device("cpu")), set()
    for context in (qkv, qkv.flip(2)):  # a second context in the same tensors
        cache.clear()
        parts = [cache.attend(part, n_head) for part in (context[:, :, :3], *context[:, :, 3:].split(1, 2))]
        addresses.add(tuple(kv.data_ptr() for kv in cache.held))
        assert torch.allclose(torch.cat(parts, 2), eager_attention(context, n_head), atol=1e-5)
    assert len(addresses) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_texts_drawn_on_a_gpu_are_those_of_the_cpu():
    model = make([1, 4, 4])
    settings = {"num_samples": 2, "max_new_tokens": 60}
    on_cpu = generate(model, [1, 2], **settings)
    assert torch.equal(generate(model.cuda(), [1, 2], **settings).cpu(), on_cpu)


def test_greedy_text_equals_transformers_with_its_own_cache():
    import transformers

    model = make([4], noise=0.2)
    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2_config(model, 0))).eval()
    reference.load_state_dict(gpt2_tensors(model, 0), strict=False)
    prompt = tokens(1, 1, 6)[0]
    theirs = reference.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=18, do_sample=False, pad_token_id=0
    )[0, 6:]
    assert torch.equal(generate(model, prompt[0].tolist(), 1, 18, greedy=True)[0, 0], theirs)


def test_every_head_count_draws_with_the_same_random_numbers():
    model = make([4, 4, 4], noise=0.2)  # three times the same run
    texts = generate(model, [1], 4, 20, seed=1)
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0, 0], texts[0, 1])  # samples differ
    assert torch.equal(generate(model, [1], 2, 20, seed=1)[0], texts[0, :2])  # and do not depend on how many there are
    assert not torch.equal(generate(model, [1], 4, 20, seed=2), texts)


def test_generation_stops_when_every_text_is_over():
    model = make([1, 4], noise=0.2)
    free = generate(model, [1], 3, 30, seed=1)
    stop = int(free[0, 0, 3])
    texts = generate(model, [1], 3, 30, seed=1, stop=stop)
    assert texts[0, 0, 3:].eq(stop).all()
    assert torch.equal(texts[0, 0, :4], free[0, 0, :4])


def test_drawing_follows_the_softmax_and_its_restrictions():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    gumbel = -torch.empty(40000, 4).exponential_(generator=torch.Generator().manual_seed(0)).log()

    def shares(**settings):
        drawn = draw(logits.expand(40000, 4), gumbel, **{"temperature": 1.0, "top_k": None, "top_p": None} | settings)
        return torch.bincount(drawn, minlength=4) / 40000

    assert torch.allclose(shares(), logits.softmax(0), atol=0.01)
    assert torch.allclose(shares(temperature=0.5), (logits / 0.5).softmax(0), atol=0.01)
    assert torch.allclose(shares(top_k=2)[:2], logits[:2].softmax(0), atol=0.01)
    assert shares(top_k=2)[2:].sum() == 0
    cumulative = logits.softmax(0).cumsum(0)  # .64, .88, …: the first two reach 0.8
    assert cumulative[0] < 0.8 < cumulative[1]
    assert torch.allclose(shares(top_p=0.8)[:2], logits[:2].softmax(0), atol=0.01)
    assert shares(top_p=0.8)[2:].sum() == 0


@pytest.mark.parametrize("n_head", [1, 4])
def test_matrix_product_count_equals_pytorchs_counter(n_head):
    config = ModelConfig(n_layer=2, n_embd=64, block_size=24, attention="eager")
    model = GPT(config, VOCAB, [n_head])
    model.init_weights([0])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens(batch=2))
    ours = flops_per_token(config, VOCAB, n_head)
    assert counter.get_total_flops() == 2 * 24 * sum(v for k, v in ours.items() if k != "attention softmax")


def test_the_shapes_follow_the_textbook_example():
    shapes = attention_shapes(ModelConfig(block_size=9), 4, batch_size=2)
    heads, scores = (2, 4, 9, 32), (2, 4, 9, 9)
    assert list(shapes) == ["x", "qkv", "q", "k", "v", "scores", "pattern", "z", "concat", "out"]
    assert list(shapes.values()) == [(2, 9, 128), (2, 9, 384), *[heads] * 3, scores, scores, heads, *[(2, 9, 128)] * 2]
