"""GradNorm: its slope, its fixed point and what receives no gradient."""

from __future__ import annotations

import pytest
import torch

from mmbench.contracts import Objective
from mmbench.modules import Strategy
from mmbench.plugins import shipped

gradnorm = shipped("baselines", "gradnorm")
OBJECTIVES = tuple(Objective(name, None, None, 10, 5) for name in "abc")
EVERY = torch.arange(3)


def frozen(strategy: Strategy, norms: list[float], losses: list[float], steps: int) -> torch.Tensor:
    """The weights after steps with frozen gradient norms; the first batch's losses are all one."""
    gramian = torch.diag(torch.tensor(norms, dtype=torch.float64) ** 2)
    strategy.combine(torch.ones(3, dtype=torch.float64), EVERY, gramian)
    for _ in range(steps):
        strategy.combine(torch.tensor(losses, dtype=torch.float64), EVERY, gramian)
    weights = strategy.loss_weights()
    assert weights is not None
    return weights


def test_one_step_follows_the_analytic_slope() -> None:
    norms = torch.tensor([1.0, 2.0, 4.5], dtype=torch.float64)
    strategy = gradnorm.build(OBJECTIVES)
    weights = frozen(strategy, norms.tolist(), [1.0, 1.0, 1.0], 0)
    slope = norms * torch.tensor([-1.0, -1.0, 1.0])  # below, below and above the mean norm of 2.5
    stepped = 1 - 0.025 * slope
    torch.testing.assert_close(weights, 3 * stepped / stepped.sum(), rtol=1e-14, atol=0)


def settled(a: float, norms: list[float], losses: list[float]) -> torch.Tensor:
    """The weights that frozen norms and losses lead to, with a learning rate that falls."""
    strategy = gradnorm.build(OBJECTIVES, a=a)
    for strategy.learning_rate, steps in ((1e-2, 200), (1e-3, 500), (2e-4, 500)):
        weights = frozen(strategy, norms, losses, steps)
    return weights


@pytest.mark.parametrize("a", [0.0, 1.0])
def test_weights_settle_at_rate_over_norm(a: float) -> None:
    norms, losses = [1.0, 2.0, 4.0], [0.5, 1.0, 1.5]
    weights = settled(a, norms, losses)
    expected = torch.tensor(losses, dtype=torch.float64) ** a / torch.tensor(norms, dtype=torch.float64)
    torch.testing.assert_close(weights, 3 * expected / expected.sum(), rtol=2e-3, atol=0)
    if a == 0:
        weighted = weights * torch.tensor(norms, dtype=torch.float64)
        torch.testing.assert_close(weighted, weighted.mean().expand(3), rtol=2e-3, atol=0)


def test_where_the_targets_exceed_the_norms_the_lagging_weights_follow_their_norms() -> None:
    # r = (.5, 1, 1.5): the mean of r^1.5 is above one, so that not all norms can meet Ḡ r^a. The third does, and the
    # others, always below, are moved by their norms alone: w = (c, 2c, 3 - 3c) with 4 (3 - 3c) = (12 - 7c) r_3^a / 3.
    weights = settled(1.5, [1.0, 2.0, 4.0], [0.5, 1.0, 1.5])
    target = 1.5**1.5
    c = (36 - 12 * target) / (36 - 7 * target)
    torch.testing.assert_close(weights, torch.tensor([c, 2 * c, 3 - 3 * c], dtype=torch.float64), rtol=1e-2, atol=0)


def test_objectives_alike_keep_weight_one() -> None:
    weights = frozen(gradnorm.build(OBJECTIVES), [2.0, 2.0, 2.0], [0.7, 0.7, 0.7], 50)
    torch.testing.assert_close(weights, torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_weights_never_fall_below_the_clamp() -> None:
    weights = frozen(gradnorm.build(OBJECTIVES, learning_rate=0.5), [1e3, 1.0, 1.0], [1.0, 1.0, 1.0], 20)
    assert (weights > 0).all() and weights.sum().item() == pytest.approx(3)


def test_the_network_sees_the_weights_as_constants() -> None:
    strategy = gradnorm.build(OBJECTIVES)
    losses = torch.tensor([0.5, 1.0, 1.5], requires_grad=True)
    gramian = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    (used,) = torch.autograd.grad(strategy.combine(losses, EVERY, gramian), losses)
    assert (used == 1).all()
    assert list(strategy.parameters()) == [] and strategy.gradients == "trunk" and strategy.focus == 0


def test_the_defaults_are_the_papers() -> None:
    strategy = gradnorm.build(OBJECTIVES)
    assert (strategy.alpha, strategy.learning_rate) == (1.5, 0.025)
