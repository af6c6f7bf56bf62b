"""The task synthetic: the posterior against enumeration, calibration, and what each regime separates."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmbench.contracts import Dataset, Examples, FitContext, Inputs, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

synthetic = shipped("tasks", "synthetic")
TASK = synthetic.TASK
Law = synthetic.Law


def load(
    protocol: str = "mixed", seen: tuple[str, ...] = ("m1", "m2", "m3"), split_seed: int = 0, **options: object
) -> Dataset:
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {o.name: o.default for o in TASK.options} | dict(chosen.defaults)
    values |= {key: str(value) for key, value in options.items()}
    dataset: Dataset = TASK.load(LoadRequest(None, Path("unused"), chosen, values, seen, split_seed))
    return dataset


def enumerate_posterior(law: Any, shown: NDArray[np.float64], present: list[bool], unit: int) -> NDArray[np.float64]:
    """p(y | what is shown) for one row by summing over every value of y, of the cues and of the shares.

    ``shown`` is (N, 3, K): the blocks of this unit in each modality.
    """
    k, n = law.classes, law.modalities
    owner, sharers = unit % n, [(unit + i) % n for i in range(law.order)]

    def density(m: int, block: int, code: int) -> float:
        if not present[m]:
            return 1.0
        return float(np.exp(-((shown[m, block] - np.eye(k)[code]) ** 2).sum() / (2 * law.noise**2)))

    joint = np.zeros(k)
    for y, u, r in itertools.product(range(k), repeat=3):
        p = law.prior[y]
        p *= law.unique * (u == y) + (1 - law.unique) / k
        p *= law.redundant * (r == y) + (1 - law.redundant) / k
        p *= density(owner, 0, u) * np.prod([density(m, 1, r) for m in range(n)])
        for shares in itertools.product(range(k), repeat=law.order):
            s = sum(shares) % k
            q = law.synergy * (s == y) + (1 - law.synergy) / k
            joint[y] += p * q * np.prod([density(m, 2, a) for m, a in zip(sharers, shares, strict=True)])
    joint /= joint.sum()
    rho = law.label_noise
    flip = (np.ones((k, k)) - np.eye(k)) / (k - 1)
    return (1 - rho) * joint + rho * flip @ joint


@pytest.mark.parametrize(("k", "order", "n"), [(2, 2, 2), (3, 2, 3), (3, 3, 3), (2, 4, 4)])
@pytest.mark.parametrize("seen", [(0,), (0, 1), None])
def test_posterior_equals_enumeration(k: int, order: int, n: int, seen: tuple[int, ...] | None) -> None:
    law = Law(samples=50, modalities=n, concepts=2, labels=k, unique=0.6, redundant=0.4, synergy=0.7, order=order,
              noise=0.5, imbalance=3, label_noise=0.1, missing=0.3, seed=3)  # fmt: skip
    drawn = synthetic.draw(law, n)
    views = range(n) if seen is None else seen
    p = synthetic.posterior(law, drawn, views)
    for row in range(6):
        present = [m in views and bool(drawn.present[m, row]) for m in range(n)]
        for unit in range(law.units):
            expected = enumerate_posterior(law, drawn.shown[:, row, unit], present, unit)
            np.testing.assert_allclose(p[row, unit], expected, rtol=1e-9)


def test_posterior_is_calibrated_on_the_labels_as_observed() -> None:
    law = Law(samples=40_000, unique=0.5, redundant=0.3, synergy=0.7, noise=0.6, imbalance=2, label_noise=0.1)
    drawn = synthetic.draw(law, 3)
    p = synthetic.posterior(law, drawn, range(3))[..., 1].ravel()
    y = drawn.classes.ravel() == 1
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        if inside.sum() > 500:
            z = (y[inside].mean() - p[inside].mean()) / np.sqrt(0.25 / inside.sum())
            assert abs(z) < 4, (low, y[inside].mean(), p[inside].mean())


def test_more_modalities_never_say_less() -> None:
    law = Law(samples=20_000, unique=0.5, redundant=0.3, synergy=0.6, noise=0.5)
    drawn = synthetic.draw(law, 3)
    rows = np.arange(law.samples)[:, None], np.arange(law.units)[None], drawn.classes
    loss = {s: -np.log(synthetic.posterior(law, drawn, s)[rows]).mean() for s in ((0,), (0, 1), (0, 1, 2))}
    assert loss[0, 1, 2] < loss[0, 1] < loss[0,] < np.log(2)


def test_a_share_alone_says_exactly_nothing() -> None:
    dataset = load("synergy", imbalance=4)
    for name in ("m1", "m2", "m3"):
        for scores in dataset.ceilings[name].values():
            assert np.ptp(scores, axis=0).max() < 1e-12
            np.testing.assert_allclose(scores[0], [0.8, 0.2])
    assert np.ptp(dataset.ceilings["m1+m2"]["concept-1"], axis=0).min() > 0.9
    assert np.ptp(dataset.ceilings["m1+m3"]["concept-1"], axis=0).max() < 1e-12


def test_a_unique_cue_is_its_owners_and_a_redundant_one_everyones() -> None:
    unique, redundant = load("unique"), load("redundant")
    for owner, concept in (("m1", "concept-1"), ("m2", "concept-2")):
        for name in ("m1", "m2", "m3"):
            told = np.ptp(unique.ceilings[name][concept], axis=0).max() > 0.5
            assert told == (name == owner)
            assert np.ptp(redundant.ceilings[name][concept], axis=0).max() > 0.5


def accuracy(x_train: NDArray[Any], y_train: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> float:
    from sklearn.linear_model import LogisticRegression

    return float(LogisticRegression(C=0.1, max_iter=500).fit(x_train, y_train).score(x, y))


@pytest.mark.parametrize(("protocol", "linear_passes"), [("unique", True), ("redundant", True), ("synergy", False)])
def test_concatenation_read_linearly_fails_on_synergy_alone_and_the_outer_product_never(
    protocol: str, linear_passes: bool
) -> None:
    dataset = load(protocol, ("m1", "m2"), concepts=1)
    train, test = dataset.problems[0].split != "test", dataset.problems[0].split == "test"
    a, b = (np.asarray(dataset.inputs[m]) for m in ("m1", "m2"))
    y = dataset.targets["concept-1"]
    best = (dataset.ceilings["m1+m2"]["concept-1"].argmax(axis=1) == y)[test].mean()
    joined = np.concatenate([a, b], axis=1)
    ones = np.ones((len(a), 1))
    outer = np.einsum("ni,nj->nij", np.hstack([ones, a]), np.hstack([ones, b])).reshape(len(a), -1)
    linear = accuracy(joined[train], y[train], joined[test], y[test])
    tensor = accuracy(outer[train], y[train], outer[test], y[test])
    assert best > 0.9
    assert tensor > best - 0.06
    assert (linear > best - 0.06) if linear_passes else (linear < 0.58)


def test_the_tensor_fusion_learns_synergy_and_late_fusion_cannot() -> None:
    import torch

    from mmbench.config import Training
    from mmbench.methods import build_model, select
    from mmbench.plugins import Registry

    dataset = load("synergy", ("m1", "m2"), concepts=1, noise=0.1, synergy=1, samples=700)
    registry, split = Registry(), dataset.problems[0].split

    def part(name: str) -> Examples:
        rows = split == name
        values = {m: torch.tensor(np.asarray(x)[rows], dtype=torch.float32) for m, x in dataset.inputs.items()}
        present = {m: torch.ones(int(rows.sum()), dtype=torch.bool) for m in values}
        return Examples(Inputs(values, present), {c: torch.tensor(t[rows]) for c, t in dataset.targets.items()})

    reached = {}
    for method in select("tensor,late", registry, ("m1", "m2"), ())[0]:
        model = build_model(method, registry)
        settings = Training(width=16, epochs=8, learning_rate=0.01)
        model.fit(part("train"), part("val"), FitContext(dataset.concepts, 0, settings))
        test = part("test")
        scores = model.predict(test.inputs)["concept-1"]
        reached[method.name] = (scores.argmax(axis=1) == test.targets["concept-1"].numpy()).mean()
    assert reached["tensor+equal"] > 0.9
    assert reached["late+equal"] < 0.65


def test_multilabel_imbalance_missing_and_label_noise_are_as_asked() -> None:
    dataset = load("unique", kind="multilabel", labels=5, concepts=2, imbalance=4, missing=0.4, samples=20_000)
    assert [c.kind for c in dataset.concepts] == ["multilabel"] * 2
    target = dataset.targets["tags-2"]
    assert target.shape == (20_000, 5)
    np.testing.assert_allclose(target.mean(axis=0), 0.2, atol=0.02)
    absent = np.array([np.isnan(np.asarray(x)).all(axis=1) for x in dataset.inputs.values()])
    assert np.isnan(np.asarray(dataset.inputs["m1"])).any(axis=1).sum() == absent[0].sum()
    assert not absent.all(axis=0).any()
    np.testing.assert_allclose(absent.mean(), 0.4 * 2 / 3, atol=0.02)
    assert dataset.ceilings["m1"]["tags-1"].shape == (20_000, 5)
    clean = load("unique", unique=1, noise=0.1, samples=5000)
    noisy = load("unique", unique=1, noise=0.1, samples=5000, label_noise=0.25)
    right = [(d.ceilings["m1+m2+m3"]["concept-1"].argmax(1) == d.targets["concept-1"]).mean() for d in (clean, noisy)]
    np.testing.assert_allclose(right, [1, 0.75], atol=0.02)


def test_seeds_are_two_things() -> None:
    first, again = load(), load()
    assert first.fingerprint == again.fingerprint
    assert (np.asarray(first.inputs["m1"]) == np.asarray(again.inputs["m1"])).all()
    resplit, redrawn = load(split_seed=1), load(seed=1)
    assert resplit.fingerprint == first.fingerprint != redrawn.fingerprint
    assert (resplit.problems[0].split != first.problems[0].split).any()
    assert (redrawn.targets["concept-1"] != first.targets["concept-1"]).any()


def test_an_unseen_modality_changes_no_label() -> None:
    whole, part = load(), load(seen=("m1", "m3"))
    assert set(part.inputs) == {"m1", "m3"}
    assert set(part.ceilings) == {"m1", "m3", "m1+m3"}
    assert all((whole.targets[c] == part.targets[c]).all() for c in whole.targets)


def test_eight_modalities() -> None:
    task = shipped("tasks", "synthetic8").TASK
    options = {o.name: o.default for o in task.options} | {"samples": "60", "modalities": "5", "order": "5"}
    names = tuple(m.name for m in task.modalities)
    dataset = task.load(LoadRequest(None, Path("unused"), task.protocols[0], options, names))
    assert len(dataset.inputs) == 8
    assert set(dataset.ceilings) == {*names, "+".join(names)}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("samples", "many", "task.samples was given 'many'"),
        ("unique", "1.5", "task.unique was given '1.5'"),
        ("noise", "nan", "task.noise was given 'nan'"),
        ("modalities", "4", "expected 2 to 3"),
        ("order", "5", "expected at most task.modalities=3"),
    ],
)
def test_a_wrong_option_is_one_line(key: str, value: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        load(**{key: value})
    assert "\n" not in str(raised.value)


def test_a_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data folder"):
        TASK.load(LoadRequest(tmp_path, tmp_path, TASK.protocols[0], {}, ("m1",)))


def test_it_says_that_it_is_generated() -> None:
    dataset = load()
    assert dataset.generated and "(generated)" in dataset.title
    assert "not exactly the optimum" in dataset.notes[0]
