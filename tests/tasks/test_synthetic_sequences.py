"""The task synthetic-sequences: the posterior against enumeration, calibration, and what each cue needs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

task = shipped("tasks", "synthetic_sequences")
Law = task.Law


def load(
    protocol: str = "moment", seen: tuple[str, ...] = task.NAMES, root: Path | None = None, **options: object
) -> Dataset:
    chosen = next(p for p in task.TASK.protocols if p.name == protocol)
    values = {o.name: o.default for o in task.TASK.options} | dict(chosen.defaults)
    values |= {key: str(value) for key, value in options.items()}
    dataset: Dataset = task.TASK.load(LoadRequest(root, Path("unused"), chosen, values, seen))
    return dataset


def enumerate_posterior(law: Any, drawn: Any, row: int, concept: int, seen: tuple[int, ...]) -> NDArray[np.float64]:
    """p(y | what is seen) for one row, summing over the cues, the moment of the flag and the symbol at every step."""
    k, steps = law.labels, int(drawn.there[row].sum())
    raises, shows = concept % 2, (concept + 1) % 2
    flag_seen = raises in seen and drawn.present[raises, row]
    symbols_seen = shows in seen and drawn.present[shows, row]

    def density(value: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
        return float(np.exp(-((value - mean) ** 2).sum() / (2 * law.noise**2)))

    joint = np.zeros(k)
    for y, moment, lasting, when in itertools.product(range(k), range(k), range(k), range(steps)):
        p = law.moment * (moment == y) + (1 - law.moment) / k
        p *= law.lasting * (lasting == y) + (1 - law.lasting) / k
        if flag_seen:
            p *= density(drawn.flags[raises, row, :steps, concept], np.eye(steps)[when])
        if symbols_seen:
            for t in range(steps):
                shown = drawn.symbols[shows, row, t, concept]
                codes = [moment] if t == when else range(k)
                p *= np.mean([density(shown[0], np.eye(k)[code]) for code in codes])
                p *= density(shown[1], np.eye(k)[lasting])
        joint[y] += p
    result: NDArray[np.float64] = joint / joint.sum()
    return result


@pytest.mark.parametrize(("k", "concepts"), [(2, 2), (3, 4)])
@pytest.mark.parametrize("seen", [(0,), (1,), (0, 1)])
def test_posterior_equals_enumeration(k: int, concepts: int, seen: tuple[int, ...]) -> None:
    law = Law(samples=50, steps=4, shortest=2, concepts=concepts, labels=k, moment=0.8, lasting=0.5, noise=0.6,
              missing=0.3, seed=2)  # fmt: skip
    drawn = task.draw(law)
    p = task.posterior(law, drawn, seen)
    for row, concept in itertools.product(range(5), range(concepts)):
        expected = enumerate_posterior(law, drawn, row, concept, seen)
        np.testing.assert_allclose(p[row, concept], expected, rtol=1e-8)


@pytest.mark.parametrize("noise", [0.3, 0.8])
def test_posterior_is_calibrated(noise: float) -> None:
    law = Law(samples=20_000, moment=0.7, lasting=0.3, noise=noise, missing=0.2)
    drawn = task.draw(law)
    p, y = task.posterior(law, drawn, range(2))[..., 1].ravel(), drawn.classes.ravel() == 1
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        if inside.sum() > 500:
            assert abs(p[inside].mean() - y[inside].mean()) < 4 * np.sqrt(0.25 / inside.sum())


def accuracy(law: Any, seen: tuple[int, ...], concept: int = 0) -> float:
    drawn = task.draw(law)
    return float((task.posterior(law, drawn, seen)[:, concept].argmax(-1) == drawn.classes[:, concept]).mean())


def test_the_moment_takes_both_modalities_and_the_lasting_cue_one() -> None:
    moment = Law(samples=4000, moment=0.95, lasting=0)
    assert accuracy(moment, (0, 1)) > 0.92
    assert 0.45 < accuracy(moment, (0,)) < 0.55
    assert accuracy(moment, (1,)) < 0.75, "the symbols without the moment tell little"
    lasting = Law(samples=4000, moment=0, lasting=0.9)
    assert accuracy(lasting, (1,)) > 0.93 and accuracy(lasting, (0,)) < 0.55
    two = Law(samples=4000, moment=0, lasting=0.9, concepts=2)
    assert accuracy(two, (0,), concept=1) > 0.93 and accuracy(two, (1,), concept=1) < 0.55


def test_what_a_method_gets() -> None:
    dataset = load(samples=200, missing=0.3, steps=7, shortest=3)
    for name in task.NAMES:
        values = np.asarray(dataset.inputs[name])
        assert values.shape == (200, 7, 1 + 2 * 2)
        there = ~np.isnan(values[:, :, 0])
        assert (np.isnan(values).all(axis=2) == ~there).all()
        lengths = there.sum(axis=1)
        assert set(lengths[lengths > 0]) <= set(range(3, 8)) and {3, 7} <= set(lengths)
        assert (there == (np.arange(7) < lengths[:, None])).all(), "steps that are there come first"
    assert set(dataset.ceilings) == {"m1", "m2", "m1+m2"}
    assert dataset.generated and "(generated)" in dataset.title
    assert load(samples=200).fingerprint != load(samples=200, seed=1).fingerprint
    assert load(samples=200).fingerprint == load(samples=200).fingerprint


def test_symbols_alone_look_alike_in_all_modalities() -> None:
    """Before the rotation: the same share of flags and symbols in a modality that speaks and in one that does not."""
    drawn = task.draw(Law(samples=6000, noise=0.05))
    assert (drawn.flags.round().sum(axis=2) == 1).all()
    shares = drawn.symbols.round().mean(axis=(1, 2))
    np.testing.assert_allclose(shares, 0.5, atol=0.02)


def test_only_some_modalities() -> None:
    some, every = load(seen=("m2",), samples=100), load(samples=100)
    assert list(some.inputs) == ["m2"] and set(some.ceilings) == {"m2"}
    np.testing.assert_array_equal(some.inputs["m2"], every.inputs["m2"])
    np.testing.assert_array_equal(some.targets["concept-1"], every.targets["concept-1"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": "1"}, "task.steps was given '1'"),
        ({"steps": "3"}, "shortest=4 is more than steps=3"),
        ({"noise": "nan"}, "task.noise was given 'nan'"),
        ({"labels": "many"}, "task.labels was given 'many'"),
        ({"moment": "1.5"}, "task.moment was given '1.5'"),
    ],
)
def test_what_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(**options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no data folder"):
        load(root=tmp_path)
