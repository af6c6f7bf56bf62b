"""MGDA's min-norm point against exact enumeration, SLSQP, torchjd and closed forms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn
from torchjd.aggregation import MGDAWeighting

from mmbench.contracts import Objective
from mmbench.plugins import shipped

moo = shipped("baselines", "moo")
Array = NDArray[np.float64]


def gradients(tasks: int, size: int, seed: int) -> Array:
    """Gradients of mixed lengths with a direction in common."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(tasks, size)) + rng.normal(size=size)) * rng.uniform(0.1, 3, size=(tasks, 1))


def enumerate_faces(gramian: Array) -> Array:
    """The min-norm weights by solving the KKT system of every face of the simplex."""
    tasks, best, weights = len(gramian), np.inf, np.zeros(len(gramian))
    for size in range(1, tasks + 1):
        for face in combinations(range(tasks), size):
            kkt = np.block([[gramian[np.ix_(face, face)], np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            solved = np.linalg.lstsq(kkt, np.append(np.zeros(size), 1.0), rcond=None)[0][:size]
            alpha = np.zeros(tasks)
            alpha[list(face)] = solved
            if (solved > -1e-12).all() and abs(solved.sum() - 1) < 1e-9 and alpha @ gramian @ alpha < best:
                best, weights = float(alpha @ gramian @ alpha), alpha
    return weights


@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_min_norm_is_the_best_face_of_the_simplex(tasks: int, seed: int) -> None:
    gramian = (g := gradients(tasks, 12, seed)) @ g.T
    np.testing.assert_allclose(moo.min_norm(gramian), enumerate_faces(gramian), atol=1e-9)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 13, 50])
def test_min_norm_meets_its_optimality_conditions(tasks: int) -> None:
    for seed in range(5):
        g = gradients(tasks, 2 * tasks, seed)
        alpha = moo.min_norm(g @ g.T)
        u = alpha @ g
        along, square = g @ u, u @ u
        assert alpha.min() >= 0 and alpha.sum() == pytest.approx(1, abs=1e-14)
        assert (along >= square - 1e-9 * np.diagonal(g @ g.T).max()).all()
        np.testing.assert_allclose(along[alpha > 1e-9], square, atol=1e-9 * np.diagonal(g @ g.T).max())


def test_min_norm_agrees_with_slsqp_and_torchjd() -> None:
    for seed in range(5):
        gramian = (g := gradients(4, 6, seed)) @ g.T
        gramian /= np.trace(gramian)
        alpha = moo.min_norm(gramian)
        found = minimize(
            lambda a, m=gramian: a @ m @ a,
            np.full(4, 0.25),
            jac=lambda a, m=gramian: 2 * m @ a,
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-15},
        )
        np.testing.assert_allclose(alpha, found.x, atol=1e-5)
        frank_wolfe = MGDAWeighting(epsilon=1e-7, max_iters=2000)(torch.from_numpy(gramian)).numpy()
        assert alpha @ gramian @ alpha <= frank_wolfe @ gramian @ frank_wolfe + 1e-15
        assert alpha @ gramian @ alpha == pytest.approx(frank_wolfe @ gramian @ frank_wolfe, rel=2e-3)  # O(1/k)


def test_orthogonal_gradients_weigh_by_their_inverse_squares() -> None:
    lengths = np.array([1.0, 2.0, 0.1, 7.0])
    np.testing.assert_allclose(moo.min_norm(np.diag(lengths**2)), lengths**-2 / (lengths**-2).sum(), rtol=1e-10)


def test_collinear_gradients_leave_all_weight_to_the_shortest() -> None:
    g = np.array([[3.0, 0], [1, 0], [2, 0]])
    np.testing.assert_allclose(moo.min_norm(g @ g.T), [0, 1, 0], atol=1e-12)


def test_opposite_gradients_cancel() -> None:
    g = np.array([[3.0, 0], [-1, 0]])
    np.testing.assert_allclose(moo.min_norm(g @ g.T), [0.25, 0.75], atol=1e-7)
    assert np.abs(moo.min_norm(g @ g.T) @ g).max() < 1e-6


def test_scale_and_rotation_change_nothing() -> None:
    g = gradients(4, 6, 0)
    alpha = moo.min_norm(g @ g.T)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    for changed in (1e-8 * g, 1e8 * g, g @ rotation):
        np.testing.assert_allclose(moo.min_norm(changed @ changed.T), alpha, atol=1e-9)


def test_with_one_sample_and_one_linear_layer_features_and_weights_agree() -> None:
    torch.manual_seed(0)
    trunk, heads = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
    x = torch.randn(1, 5, dtype=torch.float64)
    z = trunk(x)
    losses = heads(z)[0].square()

    def gramian(wanted: torch.Tensor) -> Array:
        rows = [torch.autograd.grad(loss, wanted, retain_graph=True)[0].flatten() for loss in losses]
        product: Array = (torch.stack(rows) @ torch.stack(rows).T).numpy()
        return product

    over_z, over_w = gramian(z), gramian(trunk.weight)
    np.testing.assert_allclose(over_w, x.square().sum().item() * over_z, rtol=1e-12)
    np.testing.assert_allclose(moo.min_norm(over_w), moo.min_norm(over_z), atol=1e-9)


def strategy_step(g: Array, losses: Array | None = None, **parameters: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights that the strategy uses for gradients g, and their step sum_t w_t g_t."""
    tasks = len(g)
    strategy = moo.build(tuple(Objective(str(t), None, None, 1, 1) for t in range(tasks)), **parameters)
    values = torch.ones(tasks) if losses is None else torch.from_numpy(losses)
    values = values.double().requires_grad_()
    total = strategy.combine(values, torch.arange(tasks), torch.from_numpy(g @ g.T))
    (weights,) = torch.autograd.grad(total, values)
    torch.testing.assert_close(strategy.loss_weights(), weights)
    return weights, weights @ torch.from_numpy(g)


@pytest.mark.parametrize("normalise", ["none", "l2", "loss", "loss_l2"])
def test_the_step_descends_on_every_objective(normalise: str) -> None:
    descending = 0
    for seed in range(30):
        g = gradients(13, 20, seed)
        losses = np.random.default_rng(seed).uniform(0.1, 3, size=13)
        _, step = strategy_step(g, losses, normalise=normalise)
        descending += bool((g @ step.numpy() > 1e-9).all())
    assert descending == 30


def test_stepping_along_the_raw_gradients_would_not() -> None:
    g = np.array([[100.0, 0], [-0.9, 0.44]])
    weights, step = strategy_step(g)
    assert (g @ step.numpy() > 0).all()
    assert weights.sum().item() == pytest.approx(1)
    alpha, isl = strategy_step(g, step="isl")
    assert g[1] @ isl.numpy() == pytest.approx(-44.5, abs=0.1)
    np.testing.assert_allclose(alpha.numpy(), 0.5, rtol=1e-9)  # two unit vectors


def test_normalisers_divide_the_gradients_before_solving() -> None:
    g, losses = gradients(4, 6, 2), np.array([0.3, 2.0, 1.1, 0.7])
    norms = np.linalg.norm(g, axis=1)
    for name, scale in {"none": np.ones(4), "l2": norms, "loss": losses, "loss_l2": losses * norms}.items():
        alpha = moo.min_norm((g / scale[:, None]) @ (g / scale[:, None]).T)
        weights, _ = strategy_step(g, losses, normalise=name)
        expected = alpha / scale / (alpha / scale).sum()
        np.testing.assert_allclose(weights.numpy(), expected, atol=1e-9)
        weights, _ = strategy_step(g, losses, normalise=name, step="isl")
        np.testing.assert_allclose(weights.numpy(), alpha, atol=1e-9)


@pytest.mark.parametrize("normalise", ["none", "l2", "loss", "loss_l2"])
def test_a_vanishing_gradient_does_not_stop_the_others(normalise: str) -> None:
    g = np.concatenate([gradients(3, 6, 3), 1e-14 * np.ones((1, 6)), np.zeros((1, 6))])
    weights, step = strategy_step(g, np.array([1.0, 2, 0.5, 0.1, 0.0]), normalise=normalise)
    alone, _ = strategy_step(g[:3], np.array([1.0, 2, 0.5]), normalise=normalise)
    torch.testing.assert_close(weights, torch.cat([alone, torch.zeros(2, dtype=torch.float64)]), rtol=0, atol=1e-12)
    assert step.norm() > 0


@pytest.mark.parametrize("normalise", ["loss", "loss_l2"])
def test_a_loss_of_zero_is_left_out_where_losses_normalise(normalise: str) -> None:
    g, losses = gradients(3, 6, 3), np.array([1.0, 0.0, 0.5])
    weights, _ = strategy_step(g, losses, normalise=normalise)
    assert torch.isfinite(weights).all() and weights[1] == 0
    alone, _ = strategy_step(g[[0, 2]], losses[[0, 2]], normalise=normalise)
    torch.testing.assert_close(weights[[0, 2]], alone, rtol=0, atol=1e-12)


def test_where_nothing_moves_the_weights_are_equal() -> None:
    weights, _ = strategy_step(np.zeros((4, 6)))
    torch.testing.assert_close(weights, torch.full((4,), 0.25, dtype=torch.float64))


def test_objectives_outside_the_batch_keep_their_weights() -> None:
    strategy = moo.build(tuple(Objective(str(t), None, None, 1, 1) for t in range(4)))
    gramian = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    total = strategy.combine(torch.ones(2, requires_grad=True), torch.tensor([1, 3]), gramian)
    assert total.item() == pytest.approx(1)
    assert strategy.loss_weights()[[0, 2]].tolist() == [0.25, 0.25]
    assert strategy.loss_weights()[[1, 3]].sum().item() == pytest.approx(1)
    assert strategy.gradients == "features"
