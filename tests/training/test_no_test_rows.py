"""No test row reaches training: what a model becomes is the same to the last bit whatever the test rows hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmbench.contracts import Concept, Dataset, Problem, Protocol, Task
from mmbench.contracts import Modality as Stream
from mmbench.methods import build_model, parse
from mmbench.plugins import Registry
from mmbench.running.prepare import Prepared, encode_stateless, prepare
from mmbench.training.model import NetworkModel

REGISTRY = Registry()
ROWS = 60
SPLIT = np.array((["train"] * 3 + ["val", "test"]) * (ROWS // 5))
CONCEPTS = (
    Concept("severity", ("none", "mild", "severe"), background="none"),
    Concept("kinds", ("a", "b"), "multilabel"),
)
ENCODERS = {"text": "tfidf-svd:dim=8", "sensor": "standardize"}
WORDS = ("water", "fire", "calm", "road", "help", "storm")


def nothing(request):
    raise NotImplementedError


TASK = Task(
    "toy",
    "none",
    "none",
    "none",
    "row",
    (Stream("text", "text", "tfidf-svd"), Stream("sensor", "vector", "standardize")),
    (Protocol("p", "", "", "", ()),),
    nothing,
    "igfn+dmtl",
)


def dataset() -> Dataset:
    draw = np.random.default_rng(0)
    texts: list[str | None] = [" ".join(draw.choice(WORDS, 4)) for _ in range(ROWS)]
    texts[4], texts[7], texts[10] = None, None, None
    sensor = draw.standard_normal((ROWS, 5)) * 7 + 3
    sensor[12] = np.nan
    severity = draw.integers(0, 3, ROWS)
    kinds = draw.integers(0, 2, (ROWS, 2))
    severity[::11], kinds[3::13] = -1, -1
    ids = np.array([str(row) for row in range(ROWS)])
    return Dataset(
        ids,
        ids,
        {"text": texts, "sensor": sensor},
        CONCEPTS,
        {"severity": severity, "kinds": kinds},
        (Problem("toy", ("severity", "kinds"), SPLIT),),
        "0",
        "toy",
    )


def poison(data: Dataset, part: str) -> Dataset:
    """Every value and target of a part replaced: NaN, infinities, huge numbers, foreign words, turned labels."""
    rows = np.flatnonzero(part == SPLIT)
    texts, sensor = list(data.inputs["text"]), np.array(data.inputs["sensor"])
    for place, row in enumerate(rows):
        texts[row] = (None, "", "zzz \U0001f525 " * 50, "water " * 400)[place % 4]
        sensor[row] = (np.nan, np.inf, 1e300, -1e-300)[place % 4]
    targets = {name: target.copy() for name, target in data.targets.items()}
    targets["severity"][rows] = (targets["severity"][rows] + 1) % 3
    targets["kinds"][rows] = 1 - np.clip(targets["kinds"][rows], 0, 1)
    return Dataset(
        data.ids, data.groups, {"text": texts, "sensor": sensor}, data.concepts, targets, data.problems, "1", "toy"
    )


def ready(data: Dataset, cache: Path) -> Prepared:
    stateless = encode_stateless(data, TASK, ENCODERS, cache)
    return prepare(data, data.problems[0], TASK, ENCODERS, ("severity", "kinds"), stateless, cache)


def outcome(selector: str, prepared: Prepared, small) -> tuple[dict, list[np.ndarray]]:
    """History, and everything that a fitted model holds or says of validation, as arrays."""
    (method,) = parse(selector, REGISTRY, ("text", "sensor"))
    torch.manual_seed(0)
    model = build_model(method, REGISTRY)
    context = type(small)(CONCEPTS).context(epochs=4)
    history = model.fit(prepared.train.examples(), prepared.val.examples(), context)
    arrays = list(model.predict(prepared.val.inputs()).values())
    if isinstance(model, NetworkModel):
        arrays += [value.numpy() for _, network, _ in model.fitted for value in network.state_dict().values()]
    return history, arrays


def equal(one: tuple[dict, list[np.ndarray]], other: tuple[dict, list[np.ndarray]]) -> bool:
    return one[0] == other[0] and all((a == b).all() for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize(
    "selector", ["igfn+dmtl", "graph+moo", "late:mode=weighted+mti", "tensor+single", "linear", "majority"]
)
def test_poisoned_test_rows_change_nothing(selector: str, small, tmp_path: Path) -> None:
    clean = ready(dataset(), tmp_path)
    poisoned = ready(poison(dataset(), "test"), tmp_path)
    for name in ("train", "val"):
        mine, theirs = getattr(clean, name), getattr(poisoned, name)
        assert all((mine.values[m] == theirs.values[m]).all() for m in ENCODERS)
    assert any((clean.test.values[m] != poisoned.test.values[m]).any() for m in ENCODERS)
    assert equal(outcome(selector, clean, small), outcome(selector, poisoned, small))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_the_same_poison_in_validation_is_noticed(small, tmp_path: Path) -> None:
    """A control: the comparison above can tell."""
    clean, poisoned = ready(dataset(), tmp_path), ready(poison(dataset(), "val"), tmp_path)
    other = replace(clean, val=replace(clean.val, targets=poisoned.val.targets))
    assert not equal(outcome("concat+equal", clean, small), outcome("concat+equal", other, small))


def test_test_rows_are_in_no_other_part(tmp_path: Path) -> None:
    prepared = ready(dataset(), tmp_path)
    parts = {name: set(getattr(prepared, name).ids) for name in ("train", "val", "test")}
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 36, "val": 12, "test": 12}
    assert not parts["test"] & (parts["train"] | parts["val"])
    assert set(prepared.train.examples().targets) == {"severity", "kinds"}
