"""Planted truths: networks with hand-set weights whose heads do known things must be measured as doing just that."""

import math

import numpy as np
import pytest
import torch

from analysis.measure.ablation import ablate
from analysis.measure.heads import induction_scores, measure_heads, query_key_ranks
from model.config import ModelConfig
from model.gpt import GPT


def random_model(n_head=4, n_layer=2, n_embd=32, attention="eager", vocab=23, block_size=16, seeds=(0,)) -> GPT:
    config = ModelConfig(n_layer=n_layer, n_embd=n_embd, block_size=block_size, attention=attention)
    model = GPT(config, vocab, [n_head] * len(seeds))
    model.init_weights(seeds)
    return model


def windows(model, count=6):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(model.vocab_size, (count, model.config.block_size + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def replace_pattern(model, layer, patterns):
    """Put the patterns (H, T, T) in the place of a layer's."""
    model.h[layer].attn.pattern.register_forward_hook(lambda module, inputs, output: patterns.expand_as(output))


@torch.no_grad()
def previous_token_model(block_size=16) -> GPT:
    """One layer, one head, D = 2 T: position t is the unit vector t, queries are shifted by one, attention is sharp."""
    width = 2 * block_size
    model = random_model(1, 1, width, block_size=block_size)
    for parameter in model.parameters():
        parameter.zero_()
    model.h[0].ln_1.weight.fill_(1.0)
    model.ln_f.weight.fill_(1.0)
    model.wpe.weight[0] = torch.eye(width)[:block_size]
    shift = torch.diag(torch.ones(width - 1), -1)  # query of unit vector t: unit vector t - 1
    weight = model.h[0].attn.c_attn.weight[0]
    weight[:, :width] = shift * 100
    weight[:, width : 2 * width] = torch.eye(width)
    return model


def test_a_previous_token_head_scores_one_there_and_nothing_elsewhere():
    model = previous_token_model()
    x, _ = windows(model)
    (found,) = measure_heads(model, x, torch.ones_like(x, dtype=torch.bool))
    got = {name: found[name][0][0] for name in ("previous", "first", "self", "induction", "entropy", "distance")}
    assert got == pytest.approx(
        {"previous": 1, "first": 0, "self": 0, "induction": 0, "entropy": 0, "distance": 1}, abs=1e-5
    )


def test_an_even_head_is_measured_as_the_formulas_say():
    model = random_model(1, 1)
    x, _ = windows(model)
    length = x.shape[1]
    replace_pattern(model, 0, torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None])
    (found,) = measure_heads(model, x, torch.ones_like(x, dtype=torch.bool))
    queries = range(2, length)
    assert found["entropy"][0][0] == pytest.approx(np.mean([math.log(t + 1) for t in queries]), rel=1e-5)
    assert found["distance"][0][0] == pytest.approx(np.mean([t / 2 for t in queries]), rel=1e-5)
    for name in ("previous", "first", "self"):
        assert found[name][0][0] == pytest.approx(np.mean([1 / (t + 1) for t in queries]), rel=1e-5)


def test_an_induction_head_scores_one_and_only_there():
    model = random_model(2, 1)
    length = model.config.block_size
    half = length // 2
    pattern = torch.zeros(2, length, length)
    pattern[0, range(length), [t - half + 1 if t >= half else 0 for t in range(length)]] = 1
    pattern[1, range(length), range(length)] = 1
    replace_pattern(model, 0, pattern)
    assert induction_scores(model).tolist() == [[[1, 0]]]


@torch.no_grad()
def test_heads_with_the_same_weights_have_similarity_one_and_disjoint_ones_zero():
    model = random_model()
    weight = model.h[0].attn.c_attn.weight[0]  # (D, 3 D); heads are 8 columns wide
    for part in (0, 32):
        weight[:, part + 8 : part + 16] = weight[:, part : part + 8]
    weight.mul_(20)
    x, _ = windows(model)
    length = x.shape[1]
    disjoint = torch.zeros(4, length, length)
    disjoint[0, range(length), range(length)] = 1
    disjoint[1:, range(length), [max(0, t - 1) for t in range(length)]] = 1
    replace_pattern(model, 1, disjoint)
    first, second = measure_heads(model, x, torch.ones_like(x, dtype=torch.bool))[0]["similarity"]
    assert first[0][1] == pytest.approx(1, abs=1e-5)
    assert first[0][2] < 0.999
    assert [first[h][h] for h in range(4)] == pytest.approx([1] * 4, abs=1e-5)
    assert (second[0][1], second[1][2]) == pytest.approx((0, 1), abs=1e-6)


def test_padding_and_the_size_of_batches_change_nothing(monkeypatch):
    model = random_model()
    x, _ = windows(model)
    padded, valid = torch.cat([x, x[:2]]), torch.ones(8, x.shape[1], dtype=torch.bool)
    valid[6:] = False
    (whole,) = measure_heads(model, x, valid[:6])
    monkeypatch.setattr("analysis.measure.stack.LARGEST_TENSOR", {"cpu": 1})
    assert measure_heads(model, padded, valid)[0]["entropy"] == [pytest.approx(layer) for layer in whole["entropy"]]


@torch.no_grad()
def test_the_rank_of_a_planted_product_is_found():
    model = random_model()
    width, size = 32, 8
    generator = torch.Generator().manual_seed(2)
    basis = torch.linalg.qr(torch.randn(width, size, generator=generator)).Q
    values = torch.zeros(size)
    values[:3] = 2.0
    weight = model.h[0].attn.c_attn.weight[0]
    weight[:, :size] = basis * values  # W_Q of head 0: three equal singular values
    weight[:, width : width + size] = basis
    found = query_key_ranks(model)
    assert [float(found[kind][0, 0, 0]) for kind in ("rank", "stable_rank", "effective_rank")] == pytest.approx(
        [3, 3, 3], rel=1e-5
    )
    product = (weight[:, size : 2 * size] @ weight[:, width + size : width + 2 * size].T).double().numpy()
    assert (
        found["rank"][0, 0, 1] == np.linalg.matrix_rank(product, tol=np.linalg.norm(product, 2) * width * 1.2e-7) == 8
    )
    ratio = np.linalg.norm(product) ** 2 / np.linalg.norm(product, 2) ** 2
    assert float(found["stable_rank"][0, 0, 1]) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_ablating_a_head_that_w0_ignores_costs_nothing_at_all(attention):
    model = random_model(attention=attention)
    model.h[1].attn.c_proj.weight[0, 8:16] = 0  # W_0's rows of head 1 of the second layer
    for block in model.h:
        block.attn.c_attn.weight.mul_(10)
    (found,) = ablate(model, *windows(model))
    assert found["alone"][1][1] == 0
    assert sum(rise == 0 for layer in found["alone"] for rise in layer) == 1


@torch.no_grad()
def test_ablating_is_removing_the_heads_rows_of_w0():
    """Independent reference: the same network with W_0's rows of those heads set to zero."""
    model, reference = random_model(), random_model()
    for other in (model, reference):
        for block in other.h:
            block.attn.c_attn.weight.mul_(10)
            block.attn.c_proj.weight.mul_(10)
    x, y = windows(model)
    (found,) = ablate(model, x, y)
    assert found["loss"] == pytest.approx(float(reference.loss(x[None], y[None])), rel=1e-6)
    assert (found["ablated"][0], found["ablated"][-1]) == (0, 8)
    saved = reference.h[0].attn.c_proj.weight.clone()
    reference.h[0].attn.c_proj.weight[0, 16:24] = 0
    alone = float(reference.loss(x[None], y[None])) - found["loss"]
    assert found["alone"][0][2] == pytest.approx(alone, abs=1e-6)
    reference.h[0].attn.c_proj.weight.copy_(saved)
    for count, loss in zip(found["ablated"], found["cumulative"], strict=True):
        for layer, head in found["order"][:count]:
            reference.h[layer].attn.c_proj.weight[0, 8 * head : 8 * head + 8] = 0
        assert loss == pytest.approx(float(reference.loss(x[None], y[None])), abs=1e-6)
    rises = [found["alone"][layer][head] for layer, head in found["order"]]
    assert rises == sorted(rises)


def alike(one, other):
    """Equal to within fp32's rounding, which depends on how many runs a product takes at once."""
    assert one.keys() == other.keys()
    for key in one:
        assert np.allclose(one[key], other[key], rtol=1e-5, atol=2e-6), key


@torch.no_grad()
def test_runs_measured_together_are_measured_as_each_alone():
    stack, alone = random_model(seeds=(0, 1, 2)), [random_model(seeds=(seed,)) for seed in (0, 1, 2)]
    for model in (stack, *alone):
        for block in model.h:
            block.attn.c_attn.weight.mul_(10)
            block.attn.c_proj.weight.mul_(10)
    x, y = (part.clone() for part in windows(stack))
    y[-1, 5:] = -1
    heads, ablation = measure_heads(stack, x, y >= 0), ablate(stack, x, y)
    for run, model in enumerate(alone):
        alike(heads[run], measure_heads(model, x, y >= 0)[0])
        alike(ablation[run], ablate(model, x, y)[0])
    assert ablation[0]["order"] != ablation[1]["order"]  # each run loses its own heads first
