"""Uncertainty weighting against its closed form."""

from __future__ import annotations

import pytest
import torch

from mmbench.contracts import Objective
from mmbench.plugins import shipped

OBJECTIVES = tuple(Objective(name, None, None, 10, 5) for name in "abc")


def make() -> torch.nn.Module:
    strategy: torch.nn.Module = shipped("baselines", "uncertainty").build(OBJECTIVES).double()
    return strategy


def test_the_objective_and_its_gradients() -> None:
    strategy = make()
    losses = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    total = strategy.combine(losses, torch.arange(3), None)  # type: ignore[operator]
    e = torch.exp(torch.tensor(0.5, dtype=torch.float64))
    assert total.item() == pytest.approx((losses.sum() * e / 2 - 0.75).item(), rel=1e-14)
    of_losses, of_s = torch.autograd.grad(total, [losses, strategy.log_variance])  # type: ignore[list-item]
    torch.testing.assert_close(of_losses, strategy.loss_weights())  # type: ignore[operator]
    torch.testing.assert_close(of_s, (0.5 - losses * e / 2).detach())


def test_the_optimal_variance_is_the_loss() -> None:
    strategy = make()
    losses = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    optimiser = torch.optim.LBFGS(strategy.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total: torch.Tensor = strategy.combine(losses, torch.arange(3), None)  # type: ignore[operator]
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(strategy.log_variance.exp(), losses, rtol=1e-6, atol=0)  # type: ignore[operator]


def test_only_objectives_of_the_batch_take_part() -> None:
    strategy = make()
    strategy.combine(torch.ones(2, dtype=torch.float64), torch.tensor([0, 2]), None).backward()  # type: ignore[operator]
    gradient = strategy.log_variance.grad
    assert isinstance(gradient, torch.Tensor)
    assert gradient[1] == 0 and (gradient[[0, 2]] != 0).all()
    assert sum(p.numel() for p in strategy.parameters()) == 3
