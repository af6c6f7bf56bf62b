"""The task digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmbench.contracts import Dataset, LoadRequest
from mmbench.plugins import shipped

TASK = shipped("tasks", "digits").TASK


def load(modalities: tuple[str, ...] = ("left", "middle", "right"), seed: int = 0) -> Dataset:
    dataset: Dataset = TASK.load(LoadRequest(None, Path("unused"), TASK.protocols[0], {}, modalities, seed))
    return dataset


def test_strips_put_together_are_the_images() -> None:
    from sklearn.datasets import load_digits

    dataset = load()
    strips = [np.asarray(dataset.inputs[name]).reshape(1797, 8, -1) for name in ("left", "middle", "right")]
    assert (np.concatenate(strips, axis=2) == load_digits().images).all()
    assert (dataset.targets["digit"] == load_digits().target).all()


def test_concepts_follow_from_the_digit() -> None:
    dataset = load()
    for row, digit in enumerate(dataset.targets["digit"]):
        assert dataset.targets["parity"][row] == digit % 2
        assert dataset.targets["at-least-five"][row] == (digit >= 5)
    assert {c.name: len(c.labels) for c in dataset.concepts} == {"digit": 10, "parity": 2, "at-least-five": 2}


def test_split_is_stratified_and_follows_the_seed() -> None:
    dataset = load()
    split = dataset.problems[0].split
    for digit in range(10):
        rows = split[dataset.targets["digit"] == digit]
        for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs((rows == part).sum() - share * len(rows)) <= 2
    assert (load().problems[0].split == split).all()
    assert (load(seed=1).problems[0].split != split).any()
    assert load(seed=1).fingerprint == dataset.fingerprint


def test_only_the_modalities_that_were_asked_for() -> None:
    assert set(load(("left",)).inputs) == {"left"}
