"""MT25's dynamic multi-task learning against a transcription of its loop, and the properties of its formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmbench.contracts import Concept, Objective
from mmbench.plugins import shipped
from mmbench.proposed import dynamic_multitask
from mmbench.proposed.dynamic_multitask import GradientBalance, class_ratios
from mmbench.training.losses import objective_losses

gradnorm = shipped("baselines", "gradnorm")
OBJECTIVES = (
    Objective("a", None, None, 100, 80),
    Objective("b", "x", 0, 100, 20),
    Objective("b", "y", 1, 100, 2),
)
ALIKE = tuple(Objective(name, None, None, 10, 10) for name in "abc")
CONCEPTS = (Concept("a", ("0", "1", "2")), Concept("b", ("x", "y"), "multilabel"))


class Toy:
    """A shared layer with two heads, in float64, and three batches an epoch."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.trunk = nn.Linear(4, 6).double()
        self.heads = nn.ModuleDict({c.name: nn.Linear(6, len(c.labels)) for c in CONCEPTS}).double()
        self.optimiser = torch.optim.SGD([*self.trunk.parameters(), *self.heads.parameters()], lr=0.5)
        g = torch.Generator().manual_seed(2)
        self.batches = [
            (
                torch.randn(8, 4, dtype=torch.float64, generator=g),
                {"a": torch.randint(0, 3, (8,), generator=g), "b": torch.randint(0, 2, (8, 2), generator=g)},
            )
            for _ in range(3)
        ]

    def losses(self, x: torch.Tensor, targets: dict[str, torch.Tensor], beta: float) -> torch.Tensor:
        z = torch.tanh(self.trunk(x))
        return objective_losses({name: head(z) for name, head in self.heads.items()}, targets, OBJECTIVES, beta)[0]

    def gradients(self, losses: torch.Tensor) -> torch.Tensor:
        rows = [torch.autograd.grad(loss, self.trunk.weight, retain_graph=True)[0].flatten() for loss in losses]
        return torch.stack(rows)


def train(strategy: GradientBalance, epochs: int = 4) -> list[torch.Tensor]:
    """The weights after every step and every epoch when a strategy trains the toy."""
    toy, trajectory = Toy(), []
    for _ in range(epochs):
        sums = torch.zeros(3, dtype=torch.float64)
        for x, targets in toy.batches:
            losses = toy.losses(x, targets, strategy.focus)
            g = toy.gradients(losses)
            total = strategy.combine(losses, torch.arange(3), g @ g.T if strategy.gradients == "trunk" else None)
            toy.optimiser.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            toy.optimiser.step()
            sums += losses.detach()
            trajectory.append(strategy.loss_weights())
        strategy.end_epoch(sums / 3)
        trajectory.append(strategy.loss_weights())
    return trajectory


def transcribe(
    beta: float, alpha: float, ratio: list[float], balance: bool, rebalance: bool, start: list[float], epochs: int = 4
) -> list[torch.Tensor]:
    """The loop as it is written, with autograd for the gradient of L_D with respect to w."""
    toy, trajectory = Toy(), []
    count = 3
    mean_ratio = sum(ratio) / count
    scale = [r / mean_ratio for r in ratio]
    w = [count * s / sum(start) for s in start]
    first: list[float] | None = None
    for _ in range(epochs):
        seen: list[list[float]] = []
        for x, targets in toy.batches:
            losses = toy.losses(x, targets, beta)
            values = losses.tolist()
            first = first or values
            norms = [torch.autograd.grad(loss, toy.trunk.weight, retain_graph=True)[0].norm().item() for loss in losses]
            free = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in w]
            weighted = [free[f] * norms[f] for f in range(count)]
            mean = sum(value.item() for value in weighted) / count
            relative = [values[f] / first[f] for f in range(count)]
            r = [value / (sum(relative) / count) for value in relative]
            balance_loss = sum(scale[f] * abs(weighted[f] - mean * r[f] ** alpha) for f in range(count))
            toy.optimiser.zero_grad()
            sum(w[f] * losses[f] for f in range(count)).backward()  # type: ignore[union-attr]
            toy.optimiser.step()
            if balance:
                slopes = torch.autograd.grad(balance_loss, free)  # type: ignore[arg-type]
                w = [max(w[f] - 0.025 * float(slopes[f]), 1e-3) for f in range(count)]
                w = [value * count / sum(w) for value in w]
            seen.append(values)
            trajectory.append(torch.tensor(w, dtype=torch.float64))
        if rebalance:
            mean_losses = [max(sum(column) / len(seen), 1e-8) for column in zip(*seen, strict=True)]
            factors = [min(max(mean_losses) / value, 10.0) for value in mean_losses]
            w = [count * factor / sum(factors) for factor in factors]
        trajectory.append(torch.tensor(w, dtype=torch.float64))
    return trajectory


SETTINGS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({}, (2.0, 1.0, [100 / 80, 5, 50], True, True, [1, 1, 1])),
    ({"beta": 0.0, "alpha": 0.5}, (0.0, 0.5, [100 / 80, 5, 50], True, True, [1, 1, 1])),
    ({"class_ratio": "off", "rebalance": False}, (2.0, 1.0, [1, 1, 1], True, False, [1, 1, 1])),
    ({"class_ratio": "prior", "rebalance": False}, (2.0, 1.0, [1, 1, 1], True, False, [100 / 80, 5, 50])),
    ({"balance": False}, (2.0, 1.0, [1, 1, 1], False, True, [1, 1, 1])),
]


@pytest.mark.parametrize(("parameters", "readings"), SETTINGS)
def test_training_follows_the_loop_as_written(parameters: dict[str, Any], readings: tuple[Any, ...]) -> None:
    trained = train(dynamic_multitask.build(OBJECTIVES, **parameters))
    expected = transcribe(*readings)
    torch.testing.assert_close(torch.stack(trained), torch.stack(expected), rtol=1e-9, atol=1e-11)
    assert not torch.allclose(trained[0], trained[-1], rtol=1e-3)


def test_without_its_additions_it_is_gradnorm() -> None:
    plain = dynamic_multitask.build(OBJECTIVES, beta=0.0, class_ratio="off", rebalance=False)
    reference = gradnorm.build(OBJECTIVES, a=1.0)
    torch.testing.assert_close(torch.stack(train(plain)), torch.stack(train(reference)), rtol=0, atol=0)


def test_class_ratios_are_labelled_rows_over_positive_ones() -> None:
    torch.testing.assert_close(class_ratios(OBJECTIVES), torch.tensor([1.25, 5.0, 50.0], dtype=torch.float64))
    assert class_ratios((Objective("a", "x", 0, 30, 0),)).item() == 30


def test_the_printed_ratio_changes_the_step_and_not_the_fixed_point() -> None:
    norms = torch.diag(torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64))
    losses = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    objectives = tuple(Objective(name, None, None, 12, m) for name, m in (("a", 12), ("b", 6), ("c", 3)))
    first, settled = [], []
    for ratio in ("printed", "off"):
        strategy = dynamic_multitask.build(objectives, class_ratio=ratio, rebalance=False)  # type: ignore[arg-type]
        strategy.combine(torch.ones(3, dtype=torch.float64), torch.arange(3), norms)
        first.append(strategy.loss_weights())
        for strategy.learning_rate, steps in ((1e-2, 500), (1e-3, 700), (2e-4, 500)):
            for _ in range(steps):
                strategy.combine(losses, torch.arange(3), norms)
        settled.append(strategy.loss_weights())
    assert not torch.allclose(first[0], first[1], rtol=0.01)
    expected = torch.tensor([12 / 11, 12 / 11, 9 / 11], dtype=torch.float64)  # r_f / ||g_f||, summing to three
    for weights in settled:
        torch.testing.assert_close(weights, expected, rtol=5e-3, atol=0)


def test_the_prior_starts_at_the_ratios() -> None:
    strategy = dynamic_multitask.build(OBJECTIVES, class_ratio="prior")
    ratios = torch.tensor([1.25, 5.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(strategy.loss_weights(), 3 * ratios / ratios.sum())


def test_rebalancing_makes_weighted_losses_equal_up_to_the_clamp() -> None:
    strategy = dynamic_multitask.build(ALIKE)
    losses = torch.tensor([0.2, 0.9, 1.6], dtype=torch.float64)
    strategy.end_epoch(losses)
    weighted = strategy.loss_weights() * losses
    torch.testing.assert_close(weighted, weighted[:1].expand(3), rtol=1e-13, atol=0)
    assert strategy.loss_weights().sum().item() == pytest.approx(3)
    strategy.end_epoch(torch.tensor([0.0, 0.9, 1.0], dtype=torch.float64))
    assert (strategy.loss_weights()[0] / strategy.loss_weights()[2]).item() == pytest.approx(10)
    before = strategy.loss_weights()
    strategy.end_epoch(torch.tensor([0.5, 0.25, torch.nan], dtype=torch.float64))
    after = strategy.loss_weights()
    assert after[2] == before[2] and after.sum().item() == pytest.approx(3)
    assert (after[1] / after[0]).item() == pytest.approx(2)
    strategy.end_epoch(torch.full((3,), torch.nan, dtype=torch.float64))
    torch.testing.assert_close(strategy.loss_weights(), after)


def test_switches() -> None:
    default = dynamic_multitask.build(OBJECTIVES)
    assert (default.focus, default.gradients, default.separate) == (2.0, "trunk", False)
    assert dynamic_multitask.build(OBJECTIVES, layer="heads").gradients == "heads"
    off = dynamic_multitask.build(OBJECTIVES, beta=0.0, balance=False, rebalance=False, class_ratio="off")
    assert (off.focus, off.gradients) == (0.0, "none")
    losses = torch.tensor([0.2, 0.9, 1.6], dtype=torch.float64)
    assert off.combine(losses, torch.arange(3), None).item() == pytest.approx(2.7)
    off.end_epoch(losses)
    assert (off.loss_weights() == 1).all()


def test_the_step_uses_the_weights_from_before_it() -> None:
    strategy = dynamic_multitask.build(ALIKE)
    losses = torch.tensor([0.2, 0.9, 1.6], requires_grad=True)
    total = strategy.combine(losses, torch.arange(3), torch.diag(torch.tensor([1.0, 4.0, 9.0]).double()))
    (used,) = torch.autograd.grad(total, losses)
    assert (used == 1).all()
    assert not torch.allclose(strategy.loss_weights().float(), used)


def test_only_objectives_of_the_batch_take_part() -> None:
    strategy = dynamic_multitask.build(ALIKE)
    losses = torch.tensor([0.2, 1.6])
    strategy.combine(losses, torch.tensor([0, 2]), torch.diag(torch.tensor([1.0, 9.0]).double()))
    w = strategy.loss_weights()
    assert w[1] == 1 and w[0] > 1 > w[2] and w.sum().item() == pytest.approx(3)


@pytest.mark.parametrize("losses", [[0.0, 0.0, 0.0], [0.0, 1e-30, 5.0]])
@pytest.mark.parametrize("norms", [[0.0, 0.0, 0.0], [0.0, 1e20, 1.0]])
def test_degenerate_losses_and_gradients_leave_usable_weights(losses: list[float], norms: list[float]) -> None:
    strategy = dynamic_multitask.build(OBJECTIVES)
    for _ in range(3):
        strategy.combine(torch.tensor(losses), torch.arange(3), torch.diag(torch.tensor(norms).double() ** 2))
        assert torch.isfinite(strategy.loss_weights()).all()
        assert (strategy.loss_weights() > 0).all() and strategy.loss_weights().sum().item() == pytest.approx(3)
    strategy.end_epoch(torch.tensor(losses, dtype=torch.float64))
    assert torch.isfinite(strategy.loss_weights()).all()


def test_a_first_loss_of_zero_does_not_end_the_balancing() -> None:
    strategy = dynamic_multitask.build(ALIKE, rebalance=False)
    norms = torch.diag(torch.tensor([1.0, 4.0, 9.0]).double())
    strategy.combine(torch.tensor([0.0, 1.0, 1.0]), torch.arange(3), norms)
    before = strategy.loss_weights()
    strategy.combine(torch.tensor([0.5, 1.0, 1.0]), torch.arange(3), norms)
    stepped = before + 0.025 * torch.tensor([1.0, -2.0, -3.0]).double()  # the first lags far behind its start
    torch.testing.assert_close(strategy.loss_weights(), 3 * stepped / stepped.sum())
