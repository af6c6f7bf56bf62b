"""The plain sum, and networks of their own."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.contracts import Objective
from mmbench.plugins import shipped

OBJECTIVES = tuple(Objective(name, None, None, 10, 5) for name in "abc")


def test_the_gradient_of_equal_is_the_sum_of_the_objectives_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    losses = layer(torch.randn(6, 4, dtype=torch.float64)).square().mean(0)
    strategy = shipped("baselines", "equal").build(OBJECTIVES)
    separate = [torch.autograd.grad(loss, layer.weight, retain_graph=True)[0] for loss in losses]
    strategy.combine(losses, torch.arange(3), None).backward()
    torch.testing.assert_close(layer.weight.grad, torch.stack(separate).sum(0), rtol=1e-13, atol=1e-15)
    assert strategy.gradients == "none" and not strategy.separate and strategy.loss_weights() is None


def test_single_asks_for_a_network_an_objective() -> None:
    strategy = shipped("baselines", "single").build(OBJECTIVES[:1])
    assert strategy.separate and strategy.gradients == "none"
    loss = torch.tensor([0.7], requires_grad=True)
    assert strategy.combine(loss, torch.arange(1), None).item() == loss.item()
