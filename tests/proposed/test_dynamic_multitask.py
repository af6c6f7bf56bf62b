"""Dynamic multi-task weights and GradNorm against the loop of their equations, written out with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench.contracts import Objective
from mmbench.plugins import shipped
from mmbench.proposed.dynamic_multitask import GradientBalance, build, class_ratios

gradnorm = shipped("baselines", "gradnorm").build

LABELLED, POSITIVE = (100, 100, 80, 100), (50, 10, 60, 2)
OBJECTIVES = tuple(
    Objective("hazard", f"label {k}", k, n, m) for k, (n, m) in enumerate(zip(LABELLED, POSITIVE, strict=True))
)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def gramian_of(norms: torch.Tensor) -> torch.Tensor:
    """A Gramian with these norms on its diagonal, of gradients in no special position."""
    directions = torch.nn.functional.normalize(torch.cos(torch.arange(7.0 * len(norms)) ** 2).view(-1, 7), dim=1)
    grads = directions * norms[:, None]
    return grads @ grads.T


def run(strategy: GradientBalance, epochs: list[list[tuple[torch.Tensor, torch.Tensor]]]) -> list[torch.Tensor]:
    """The strategy's weights after each batch and each epoch, all objectives active."""
    active, seen = torch.arange(len(OBJECTIVES)), []
    for batches in epochs:
        for losses, norms in batches:
            strategy.combine(losses, active, gramian_of(norms))
            seen.append(strategy.loss_weights())
        strategy.end_epoch(torch.stack([losses for losses, _ in batches]).mean(0))
        seen.append(strategy.loss_weights())
    return seen


def by_equations(epochs, *, alpha, lr, scale, start, rebalance) -> list[torch.Tensor]:
    """Equation (11) and the rebalancing of 2.5: autograd gives the slope of L_D, plain SGD takes the step."""
    tasks = len(start)
    w, first, seen = torch.tensor(start) * tasks / sum(start), None, []
    scale = torch.tensor(scale) / np.mean(scale)
    for batches in epochs:
        for losses, norms in batches:
            first = losses if first is None else first
            w = w.clone().requires_grad_()
            g = w * norms
            relative = losses / first
            r = relative / (sum(relative) / tasks)
            target = (g.sum() / tasks * r**alpha).detach()
            (slope,) = torch.autograd.grad((scale * (g - target).abs()).sum(), w)
            w = (w.detach() - lr * slope).clamp(min=1e-3)
            w = w * tasks / w.sum()
            seen.append(w)
        if rebalance:
            mean = [float(sum(losses[f] for losses, _ in batches)) / len(batches) for f in range(tasks)]
            factor = [min(max(mean) / max(m, 1e-8), 10.0) for m in mean]
            w = torch.tensor([tasks * f / sum(factor) for f in factor])
        seen.append(w)
    return seen


def random_epochs(epochs: int = 3, batches: int = 8) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    spread = torch.tensor([1.0, 0.3, 2.0, 0.02])
    return [
        [(torch.rand(4).add(0.1) * spread / (1 + e), torch.rand(4).add(0.05) * 3) for _ in range(batches)]
        for e in range(epochs)
    ]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("rebalance", [True, False])
@pytest.mark.parametrize("class_ratio", ["printed", "prior", "off"])
def test_dmtl_follows_its_equations(alpha: float, rebalance: bool, class_ratio: str) -> None:
    ratio = [n / m for n, m in zip(LABELLED, POSITIVE, strict=True)]
    ones = [1.0] * 4
    epochs = random_epochs()
    expected = by_equations(
        epochs,
        alpha=alpha,
        lr=0.025,
        scale=ratio if class_ratio == "printed" else ones,
        start=ratio if class_ratio == "prior" else ones,
        rebalance=rebalance,
    )
    seen = run(build(OBJECTIVES, alpha=alpha, rebalance=rebalance, class_ratio=class_ratio), epochs)
    for step, (w, e) in enumerate(zip(seen, expected, strict=True)):
        torch.testing.assert_close(w, e, rtol=1e-12, atol=1e-12, msg=lambda m, s=step: f"step {s}: {m}")


@pytest.mark.parametrize("a", [0.12, 1.5])
def test_gradnorm_follows_its_equations(a: float) -> None:
    epochs = random_epochs()
    expected = by_equations(epochs, alpha=a, lr=0.1, scale=[1.0] * 4, start=[1.0] * 4, rebalance=False)
    for w, e in zip(run(gradnorm(OBJECTIVES, a=a, learning_rate=0.1), epochs), expected, strict=True):
        torch.testing.assert_close(w, e, rtol=1e-12, atol=1e-12)


def test_defaults_are_those_of_the_papers() -> None:
    strategy, other = build(OBJECTIVES), gradnorm(OBJECTIVES)
    assert (strategy.focus, strategy.alpha, strategy.learning_rate, strategy.rebalance) == (2.0, 1.0, 0.025, True)
    assert (other.focus, other.alpha, other.learning_rate, other.rebalance) == (0.0, 1.5, 0.025, False)
    assert strategy.gradients == other.gradients == "trunk"
    assert build(OBJECTIVES, layer="heads").gradients == "heads"
    assert build(OBJECTIVES, balance=False).gradients == "none"


def test_class_ratio_is_labelled_rows_over_positives() -> None:
    assert class_ratios(OBJECTIVES).tolist() == [2.0, 10.0, 80 / 60, 50.0]
    assert torch.isfinite(class_ratios((Objective("a", None, None, 0, 0), Objective("b", None, None, 5, 0)))).all()


def test_dmtl_without_its_own_parts_is_gradnorm() -> None:
    epochs = random_epochs()
    bare = build(OBJECTIVES, beta=0, alpha=1, class_ratio="off", rebalance=False)
    assert bare.focus == 0
    for w, e in zip(run(bare, epochs), run(gradnorm(OBJECTIVES, a=1), epochs), strict=True):
        assert (w == e).all()
    balanced = tuple(Objective("hazard", str(k), k, 60, 60) for k in range(4))
    for w, e in zip(run(build(balanced, rebalance=False), epochs), run(gradnorm(balanced, a=1), epochs), strict=True):
        assert (w == e).all()


def settle(strategy: GradientBalance, losses: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Where the weights come to rest with frozen gradients, with an ever smaller step."""
    for rate in (2e-2, 2e-3, 2e-4, 2e-5):
        strategy.learning_rate = rate
        for _ in range(200):
            strategy._step(losses, torch.arange(4), norms)
    return strategy.loss_weights()


@pytest.mark.parametrize(("a", "rtol"), [(0.0, 1e-3), (1.0, 1e-3), (0.5, 0.05), (1.5, 0.05)])
def test_fixed_point_with_frozen_gradients_and_rates(a: float, rtol: float) -> None:
    """w_t ∝ r_t^a / ||g_t||: a point of rest only if mean r^a = 1, that is for a = 0 and 1; nearly so for others."""
    norms, relative = torch.tensor([0.5, 2.0, 1.0, 3.0]), torch.tensor([0.9, 0.5, 0.7, 0.6])
    strategy = gradnorm(OBJECTIVES, a=a)
    strategy._step(torch.ones(4), torch.arange(4), norms)
    expected = (relative / relative.mean()) ** a / norms
    torch.testing.assert_close(settle(strategy, relative, norms), 4 * expected / expected.sum(), rtol=rtol, atol=0)


def test_class_ratio_changes_the_way_and_not_the_fixed_point() -> None:
    norms = torch.tensor([0.5, 2.0, 1.0, 3.0])
    objectives = tuple(Objective("hazard", str(k), k, 100, m) for k, m in enumerate((50, 25, 80, 40)))
    ends, ways = [], []
    for class_ratio in ("printed", "off"):
        strategy = build(objectives, alpha=0, class_ratio=class_ratio, rebalance=False)
        strategy._step(torch.ones(4), torch.arange(4), norms)
        ways.append(strategy.loss_weights())
        ends.append(settle(strategy, torch.ones(4), norms))
    torch.testing.assert_close(ends[0], 4 / norms / (1 / norms).sum(), rtol=0, atol=1e-3)
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-3)
    assert (ways[0] - ways[1]).abs().max() > 1e-2


def test_identical_objectives_keep_weight_one() -> None:
    strategy = gradnorm(OBJECTIVES)
    for loss in (2.0, 1.0, 0.5):
        strategy.combine(torch.full((4,), loss), torch.arange(4), torch.full((4, 4), 2.25))
        assert strategy.loss_weights().tolist() == [1.0] * 4


def test_the_step_uses_the_weights_of_before_it() -> None:
    strategy = build(OBJECTIVES, class_ratio="prior")
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    before = strategy.loss_weights()
    total = strategy.combine(losses, torch.arange(4), torch.diag(torch.tensor([1.0, 4.0, 9.0, 0.25])))
    total.backward()
    torch.testing.assert_close(losses.grad, before)
    assert (strategy.loss_weights() != before).all()
    assert not strategy.weights.requires_grad


def test_rebalancing_makes_weighted_losses_equal() -> None:
    strategy = build(OBJECTIVES)
    means = torch.tensor([0.7, 0.2, 0.35, 1.4])
    strategy.end_epoch(means)
    products = strategy.loss_weights() * means
    torch.testing.assert_close(products, products[:1].expand(4))
    assert strategy.loss_weights().sum().item() == pytest.approx(4)


def test_rebalancing_is_clamped_at_ten_and_forgets_the_old_weights() -> None:
    one, two = build(OBJECTIVES), build(OBJECTIVES, class_ratio="prior")
    for strategy in (one, two):
        strategy.end_epoch(torch.tensor([1.0, 1e-12, 0.0, 0.5]))
    expected = torch.tensor([1.0, 10.0, 10.0, 2.0])
    torch.testing.assert_close(one.loss_weights(), 4 * expected / expected.sum())
    torch.testing.assert_close(one.loss_weights(), two.loss_weights())


def test_rebalancing_leaves_an_objective_that_was_never_seen() -> None:
    strategy = build(OBJECTIVES, class_ratio="prior")
    before = strategy.loss_weights()
    strategy.end_epoch(torch.tensor([1.0, torch.nan, 0.5, torch.nan]))
    after = strategy.loss_weights()
    assert (after[[1, 3]] == before[[1, 3]]).all()
    assert after[2].item() == pytest.approx(2 * after[0].item())
    assert after.sum().item() == pytest.approx(4)
    strategy.end_epoch(torch.full((4,), torch.nan))
    assert (strategy.loss_weights() == after).all()


def test_only_the_active_objectives_move_and_total_stays() -> None:
    strategy = gradnorm(OBJECTIVES)
    before = strategy.loss_weights()
    losses = torch.tensor([2.0, 0.5])
    total = strategy.combine(losses, torch.tensor([1, 3]), torch.diag(torch.tensor([1.0, 9.0])))
    after = strategy.loss_weights()
    assert total.item() == pytest.approx(2.5)
    assert (after[[0, 2]] == before[[0, 2]]).all()
    assert after[1] > 1 > after[3]
    assert after.sum().item() == pytest.approx(4)
    # the first loss of an objective is the one of its first batch
    strategy.combine(torch.tensor([4.0, 1.0]), torch.tensor([0, 1]), torch.eye(2))
    assert strategy.first[:2].tolist() == [4.0, 2.0]


def test_hostile_steps_keep_weights_finite_and_positive() -> None:
    strategy = gradnorm(OBJECTIVES, learning_rate=10.0)
    for losses, norms in (
        (torch.zeros(4), torch.zeros(4)),
        (torch.tensor([1e8, 1e-8, 0.0, 1.0]), torch.tensor([1e6, 0.0, 1e-9, 1.0])),
        (torch.ones(4), torch.tensor([1e9, 1e9, 1.0, 1.0])),
    ):
        strategy.combine(losses, torch.arange(4), torch.diag(norms**2))
        w = strategy.loss_weights()
        assert torch.isfinite(w).all() and (w > 0).all()
        assert w.sum().item() == pytest.approx(4)
