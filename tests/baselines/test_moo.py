"""Min-norm weights against closed forms, exact enumeration, SLSQP and torchjd, and the step's common descent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mmbench.contracts import Concept, Inputs, Objective
from mmbench.plugins import shipped
from mmbench.training.loop import _gramian
from mmbench.training.network import Network

moo = shipped("baselines", "moo")
concat = shipped("baselines", "concat")


def alpha_of(grads: np.ndarray) -> np.ndarray:
    return moo.min_norm(grads @ grads.T)


def enumerate_faces(gramian: np.ndarray) -> np.ndarray:
    """The minimum of a' M a over the simplex by solving every face's KKT system."""
    best, best_value = None, np.inf
    tasks = len(gramian)
    for size in range(1, tasks + 1):
        for face in itertools.combinations(range(tasks), size):
            system = np.zeros((size + 1, size + 1))
            system[:size, :size] = gramian[np.ix_(face, face)]
            system[:size, size] = system[size, :size] = 1
            solution = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0][:size]
            if solution.min() < -1e-12 or abs(solution.sum() - 1) > 1e-9:
                continue
            alpha = np.zeros(tasks)
            alpha[list(face)] = solution
            value = alpha @ gramian @ alpha
            if value < best_value - 1e-15:
                best, best_value = alpha, value
    assert best is not None
    return best


def random_grads(seed: int, tasks: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    common = 0.7 * generator.standard_normal(width)
    return (generator.standard_normal((tasks, width)) + common) * generator.uniform(0.3, 3, (tasks, 1))


def test_orthogonal_gradients() -> None:
    norms = np.array([0.5, 1.0, 2.0, 4.0])
    expected = norms**-2 / (norms**-2).sum()
    np.testing.assert_allclose(alpha_of(np.diag(norms)), expected, rtol=1e-12)


def test_collinear_gradients_leave_the_shortest() -> None:
    np.testing.assert_allclose(alpha_of(np.outer([3.0, 1.0, 2.0], [0.6, 0.8])), [0, 1, 0], atol=1e-12)


def test_opposite_gradients_cancel() -> None:
    grads = np.outer([1.0, -3.0], [0.6, 0.8])
    alpha = alpha_of(grads)
    np.testing.assert_allclose(alpha, [0.75, 0.25], atol=1e-12)
    np.testing.assert_allclose(alpha @ grads, 0, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_two_gradients_in_closed_form(seed: int) -> None:
    g = random_grads(seed, 2, 3)
    a, b, c = g[0] @ g[0], g[0] @ g[1], g[1] @ g[1]
    gamma = 1.0 if b >= a else 0.0 if b >= c else (c - b) / (a + c - 2 * b)
    np.testing.assert_allclose(alpha_of(g), [gamma, 1 - gamma], atol=1e-12)


@pytest.mark.parametrize("tasks", [2, 3, 5, 7])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_exact_enumeration_and_slsqp(tasks: int, seed: int) -> None:
    grads = random_grads(seed, tasks, 9)
    gramian = grads @ grads.T
    alpha = moo.min_norm(gramian)
    np.testing.assert_allclose(alpha, enumerate_faces(gramian), atol=1e-10)
    found = minimize(
        lambda a: a @ gramian @ a,
        np.full(tasks, 1 / tasks),
        jac=lambda a: 2 * gramian @ a,
        bounds=[(0, 1)] * tasks,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": lambda a: np.ones(tasks)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert alpha @ gramian @ alpha <= found.fun + 1e-12
    np.testing.assert_allclose(alpha, found.x, atol=1e-4)


@pytest.mark.parametrize("tasks", [2, 3])
def test_agrees_with_torchjd(tasks: int) -> None:
    from torchjd.aggregation import MGDAWeighting

    for seed in range(3):
        grads = random_grads(seed, tasks, 6)
        gramian = grads @ grads.T
        theirs = MGDAWeighting(epsilon=1e-12, max_iters=2000)(torch.from_numpy(gramian)).numpy()
        np.testing.assert_allclose(moo.min_norm(gramian), theirs, atol=1e-5)


@pytest.mark.parametrize(("tasks", "width"), [(3, 2), (13, 4), (13, 200), (40, 100)])
@pytest.mark.parametrize("seed", range(3))
def test_kkt_conditions(tasks: int, width: int, seed: int) -> None:
    grads = random_grads(seed, tasks, width)
    alpha = alpha_of(grads)
    u = alpha @ grads
    scale = (grads**2).sum(1).mean()
    slack = grads @ u - u @ u
    assert alpha.min() >= 0 and alpha.sum() == pytest.approx(1, abs=1e-14)
    assert slack.min() >= -1e-12 * scale
    assert np.abs(slack[alpha > 1e-9]).max() <= 1e-12 * scale


def test_degenerate_gramians() -> None:
    for grads in (np.ones((5, 3)), np.zeros((4, 3)), np.repeat(np.eye(2), 10, axis=0), np.zeros((1, 2)), np.eye(1)):
        alpha = alpha_of(grads)
        assert alpha.min() >= 0 and alpha.sum() == pytest.approx(1)
    u = alpha_of(np.repeat(np.eye(2), 10, axis=0)) @ np.repeat(np.eye(2), 10, axis=0)
    np.testing.assert_allclose(u, [0.5, 0.5], atol=1e-12)


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e9])
def test_alpha_ignores_common_scale_and_rotation(factor: float) -> None:
    grads = random_grads(0, 5, 8)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    np.testing.assert_allclose(alpha_of(factor * grads @ rotation), alpha_of(grads), atol=1e-9)


def test_a_vanishing_gradient_does_not_freeze_the_others() -> None:
    grads = np.vstack([random_grads(0, 3, 8), np.zeros(8)])
    alpha = alpha_of(grads)
    assert alpha[3] == 0
    np.testing.assert_allclose(alpha[:3], alpha_of(grads[:3]), atol=1e-12)
    grads[3] = 1e-14 * grads[0]
    assert combine(grads, normalise="l2")[3] == 0


def combine(grads: np.ndarray, losses: np.ndarray | None = None, **options: str) -> np.ndarray:
    """The weights with which the strategy multiplies the losses, read off the gradient of what it returns."""
    tasks = len(grads)
    strategy = moo.build(tuple(Objective("c", str(k), k, 1, 1) for k in range(tasks)), **options)
    values = torch.tensor(np.ones(tasks) if losses is None else losses, requires_grad=True)
    strategy.combine(values, torch.arange(tasks), torch.from_numpy(grads @ grads.T)).backward()
    assert values.grad is not None
    torch.testing.assert_close(strategy.loss_weights(), values.grad)
    return values.grad.numpy()


def test_normaliser_none_is_the_min_norm_point_itself() -> None:
    grads = random_grads(2, 5, 8)
    for step in ("rescaled", "isl"):
        np.testing.assert_allclose(combine(grads, normalise="none", step=step), alpha_of(grads), atol=1e-12)


def test_each_normaliser_divides_by_its_own() -> None:
    grads, losses = random_grads(3, 4, 8), np.array([0.3, 2.0, 1.0, 0.1])
    norms = np.linalg.norm(grads, axis=1)
    for name, n in (("l2", norms), ("loss", losses), ("loss+", losses * norms)):
        alpha = enumerate_faces((grads / n[:, None]) @ (grads / n[:, None]).T)
        np.testing.assert_allclose(combine(grads, losses, normalise=name, step="isl"), alpha, atol=1e-10)
        expected = alpha / n / (alpha / n).sum()
        np.testing.assert_allclose(combine(grads, losses, normalise=name), expected, atol=1e-10)


def test_l2_gives_every_objective_in_the_hull_the_same_descent() -> None:
    """With unit gradients the min-norm point makes equal angles with all that carry weight."""
    grads = np.diag([0.1, 1.0, 10.0])
    weights = combine(grads, normalise="l2")
    angles = grads @ (weights @ grads) / np.linalg.norm(grads, axis=1)
    np.testing.assert_allclose(angles, angles[0])


@pytest.mark.parametrize("normalise", ["l2", "none", "loss", "loss+"])
@pytest.mark.parametrize("seed", range(5))
def test_the_rescaled_step_descends_on_every_objective(normalise: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    grads = generator.standard_normal((13, 64)) * 10 ** generator.uniform(-2, 1, (13, 1))
    weights = combine(grads, generator.uniform(0.05, 3, 13), normalise=normalise)
    assert weights.sum() == pytest.approx(1)
    step = weights @ grads
    assert (grads @ step >= -1e-10 * np.linalg.norm(grads, axis=1) * np.linalg.norm(step)).all()
    assert step @ step > 0


def test_the_isl_step_may_lose_common_descent() -> None:
    grads = np.array([[100.0, 0.0], [-0.9, 0.44]])
    assert (combine(grads, step="isl") @ grads) @ grads[1] == pytest.approx(-44.5, abs=0.1)
    assert (grads @ (combine(grads) @ grads) > 0).all()


@pytest.mark.parametrize("normalise", ["l2", "none", "loss", "loss+"])
def test_hostile_losses_and_gradients_give_weights(normalise: str) -> None:
    grads = random_grads(0, 3, 4)
    for losses in (np.zeros(3), np.array([0.0, 1.0, 1e12]), np.array([1e-300, 1.0, 1.0])):
        for g in (grads, np.zeros((3, 4)), grads * np.array([[1e-11], [1.0], [1e11]]), 1e-100 * grads):
            weights = combine(g, losses, normalise=normalise)
            assert np.isfinite(weights).all() and weights.min() >= 0
            assert weights.sum() == pytest.approx(1)


def test_objectives_without_labels_take_no_part() -> None:
    strategy = moo.build(tuple(Objective("c", str(k), k, 1, 1) for k in range(4)), normalise="none")
    losses = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    strategy.combine(losses, torch.tensor([0, 3]), torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))).backward()
    np.testing.assert_allclose(losses.grad, [0.75, 0.25])
    assert strategy.gradients == "features"


def test_upper_bound_is_exact_for_one_sample_and_a_linear_trunk() -> None:
    torch.manual_seed(0)
    concepts = tuple(Concept(str(k), ("a", "b", "c")) for k in range(3))
    heads = shipped("baselines", "equal").build(()).heads
    network = Network({"x": 4, "y": 3}, concat.build(2, 5), heads, concepts, 5, 0.0).double()
    network.trunks[0][0].bias.data += 50  # the trunk's ReLU is open everywhere
    here = torch.ones(1, dtype=torch.bool)
    values = {"x": torch.randn(1, 4).double(), "y": torch.randn(1, 3).double()}
    output = network(Inputs(values, {"x": here, "y": here}))
    losses = torch.stack([-output.logits[c.name].log_softmax(-1)[0, 1] for c in concepts])
    torch.set_default_dtype(torch.float64)
    try:
        features, trunk = (_gramian(network, output, losses, of) for of in ("features", "trunk"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert features is not None and trunk is not None
    views = torch.stack([e(values[m]) for m, e in zip("xy", network.encoders, strict=True)], 1).flatten()
    torch.testing.assert_close(trunk, features * views.square().sum())
    np.testing.assert_allclose(moo.min_norm(trunk.detach().numpy()), moo.min_norm(features.detach().numpy()))
