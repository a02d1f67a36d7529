"""The stack's optimizer is torch.optim.AdamW run by run; what happens to one run never reaches another."""

import math

import pytest
import torch

from experiment.config import TrainConfig
from model.config import ModelConfig
from model.gpt import GPT
from training.optimizer import StackedAdamW, lr_schedule, lr_share

RATES, DECAYS, SEEDS = [1e-3, 1e-2, 3e-3], [0.1, 0.0, 0.5], [0, 1, 2]
CONFIG = ModelConfig(n_layer=1, n_embd=16, block_size=8, bias=True)


def make(seeds) -> GPT:
    model = GPT(CONFIG, 11, [2] * len(seeds))
    model.init_weights(seeds)
    return model


def batches(n):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(11, (3, 4, 9), generator=generator) for _ in range(n)]


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_equals_torch_adamw_run_by_run(clip):
    stack = make(SEEDS)
    optimizer = StackedAdamW(stack, DECAYS, (0.9, 0.99), clip)
    alone = []
    for seed, rate, decay in zip(SEEDS, RATES, DECAYS, strict=True):
        model = make([seed])
        matrices = [p for p in model.parameters() if p.dim() == 3]
        others = [p for p in model.parameters() if p.dim() < 3]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        alone.append((model, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=False, foreach=False)))
    generator = torch.Generator().manual_seed(0)
    for i in range(20):  # random gradients: a true one is 0 up to rounding in places, which AdamW would blow up
        factor = 1.0 - i / 40
        for name, parameter in stack.named_parameters():
            parameter.grad.copy_(torch.randn(parameter.shape, generator=generator) * (1 + len(name)))
        for r, (model, adamw) in enumerate(alone):
            for ours, theirs in zip(stack.parameters(), model.parameters(), strict=True):
                theirs.grad = ours.grad[r : r + 1].clone()
            for group in adamw.param_groups:
                group["lr"] = RATES[r] * factor
        norms = optimizer.clip(torch.zeros(3))
        optimizer.step(torch.tensor(RATES) * factor)
        for r, (model, adamw) in enumerate(alone):
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or math.inf)
            assert norms[r].item() == pytest.approx(norm.item(), rel=1e-4)
            adamw.step()
    for r, (model, _) in enumerate(alone):
        for (name, ours), theirs in zip(stack.named_parameters(), model.parameters(), strict=True):
            assert torch.allclose(ours[r], theirs[0], atol=2e-6), name


def test_a_run_that_is_no_longer_finite_is_frozen_and_its_companions_do_not_notice():
    def train(poison: bool) -> tuple[GPT, StackedAdamW, list]:
        model = make(SEEDS)
        optimizer = StackedAdamW(model, DECAYS, (0.9, 0.99), 1.0)
        history = []
        for i, x in enumerate(batches(8)):
            optimizer.zero_grad()
            losses = model.loss(x[..., :-1], x[..., 1:])
            losses.sum().backward()
            if poison and i == 4:
                optimizer.grads[1, 5] = float("nan")
            optimizer.clip(losses.detach())
            optimizer.step(torch.tensor(RATES))
            history.append(optimizer.weights.clone())
        return model, optimizer, history

    _, _, healthy = train(poison=False)
    _, optimizer, poisoned = train(poison=True)
    assert optimizer.finite.tolist() == [True, False, True]
    assert torch.equal(poisoned[7][[0, 2]], healthy[7][[0, 2]])
    assert torch.equal(poisoned[3][1], poisoned[7][1])  # frozen at its last finite state
    assert poisoned[7].isfinite().all()


def test_state_goes_out_and_comes_back():
    x = batches(6)

    def steps(model, optimizer, part):
        for tokens in part:
            optimizer.zero_grad()
            losses = model.loss(tokens[..., :-1], tokens[..., 1:])
            losses.sum().backward()
            optimizer.clip(losses.detach())
            optimizer.step(torch.tensor(RATES))

    model = make(SEEDS)
    optimizer = StackedAdamW(model, DECAYS, (0.9, 0.99), 1.0)
    steps(model, optimizer, x[:3])
    again = make(SEEDS)
    with torch.no_grad():
        for p, q in zip(again.parameters(), model.parameters(), strict=True):
            p.copy_(q)
    restored = StackedAdamW(again, DECAYS, (0.9, 0.99), 1.0)
    for r in range(3):
        restored.load_moments(r, optimizer.moments(r), steps=3)
    steps(model, optimizer, x[3:])
    steps(again, restored, x[3:])
    assert torch.equal(optimizer.weights, restored.weights)
    with pytest.raises(ValueError, match="exp_avg"):
        restored.load_moments(0, {}, steps=3)


def test_schedule_warms_up_decays_as_a_cosine_and_stays_at_its_floor():
    factor = [lr_share(i, warmup_iters=10, decay_iters=110, floor=0.1) for i in range(200)]
    assert factor[0] == pytest.approx(1 / 11)
    assert factor[10] == 1.0
    assert factor[60] == pytest.approx(0.55)
    assert factor[110] == pytest.approx(0.1)
    assert factor[150] == 0.1
    assert factor[10:] == sorted(factor[10:], reverse=True)


def test_each_run_has_its_own_schedule_down_to_min_lr():
    train = TrainConfig(max_iters=50, warmup_iters=10, lr_decay_iters=40, min_lr=1e-4)
    schedule = lr_schedule(train, [1e-3, 1e-2])
    assert schedule.shape == (50, 2)
    assert schedule[10].tolist() == pytest.approx([1e-3, 1e-2])
    assert schedule[49].tolist() == pytest.approx([1e-4, 1e-4])
    tenth = lr_schedule(TrainConfig(max_iters=50, warmup_iters=10, lr_decay_iters=40), [1e-3, 1e-2])
    assert tenth[49].tolist() == pytest.approx([1e-4, 1e-3])
