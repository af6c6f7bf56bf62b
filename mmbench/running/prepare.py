"""From a loaded data set to what cells are given: encoded, split, with the test split's targets kept apart."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench import bulk
from mmbench.contracts import SPLITS, Concept, Dataset, Examples, Inputs, Problem, Task
from mmbench.duplicates import image_hashes
from mmbench.errors import UsageError
from mmbench.features import Encoded, encode, is_fitted
from mmbench.locate import cache_folder
from mmbench.splits import split_digest, usable_split


@dataclass(frozen=True)
class Part:
    """One split of a problem as NumPy arrays.

    ``values`` float32 (n, d_m) or (n, T_m, d_m), mapped from a file where they are large, ``present`` bool (n,) and, of
    sequences, ``steps`` bool (n, T_m) by modality; ``targets`` by concept, as a :class:`mmbench.contracts.Dataset` has
    them; ``raw`` (n,) the inputs themselves, of modalities that some method wants as they are.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    values: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    steps: dict[str, NDArray[np.bool_]]
    targets: dict[str, NDArray[Any]]
    raw: dict[str, NDArray[np.object_]] = field(default_factory=dict)

    def inputs(self, own: bool = False, raw: Collection[str] = ()) -> Inputs:
        """What a model may see of any split: its ``own`` to write to, so that nobody else sees it, and the inputs
        themselves of the modalities ``raw``."""
        pages = bulk.Pages(cache_folder(), kept=own)
        values = {m: pages.tensor(m, v) for m, v in self.values.items()}
        present = {m: torch.from_numpy(p) for m, p in self.present.items()}
        steps = {m: torch.from_numpy(s) for m, s in self.steps.items()}
        if own:
            values = {m: v if m in pages.maps else v.clone() for m, v in values.items()}
            present, steps = ({m: t.clone() for m, t in part.items()} for part in (present, steps))
        given = {m: copy.deepcopy(self.raw[m]) if own else self.raw[m] for m in raw}
        return Inputs(values, present, steps, given, pages=pages if pages.maps else None)

    def examples(self, own: bool = False, raw: Collection[str] = ()) -> Examples:
        """What a model may see of train and val, as :meth:`inputs`."""
        targets = {c: torch.from_numpy(t.copy() if own else t) for c, t in self.targets.items()}
        return Examples(self.inputs(own, raw), targets)


@dataclass(frozen=True)
class Prepared:
    """A problem ready to be trained on; ``rows`` is the :func:`mmbench.splits.split_digest`."""

    problem: str
    concepts: tuple[Concept, ...]
    train: Part
    val: Part
    test: Part
    rows: str


def present_rows(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.bool_]:
    """Which inputs of a modality are there: not None, and not a row, or a sequence, of NaN."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        axes = tuple(range(1, values.ndim))
        return np.concatenate([~np.isnan(block).all(axis=axes) for _, block in bulk.blocks(values)])
    return np.array([value is not None for value in values], dtype=np.bool_)


@dataclass(frozen=True)
class Stateless:
    """Features that no split can influence, and the rows whose input could not be read."""

    encoded: dict[str, Encoded]
    bad: dict[int, str]


def encode_stateless(
    dataset: Dataset, task: Task, encoders: Mapping[str, str], cache: Path, unseen: Collection[str] = (), jobs: int = 1
) -> Stateless:
    """Encode the modalities whose encoder is not fitted, once for all problems, in ``jobs`` processes.

    Of the modalities ``unseen``, whose features no method will look at, images are opened, and that is all.
    """
    encoded, bad = {}, {}
    for modality in task.modalities:
        if modality.name not in encoders:
            continue
        selector, values = encoders[modality.name], dataset.inputs[modality.name]
        if modality.name in unseen:
            unreadable = image_hashes(list(values), cache)[2] if modality.kind == "image" else {}
            encoded[modality.name] = Encoded(np.zeros((len(values), 1), dtype=np.float32), unreadable)
        elif not is_fitted(selector):
            nothing = np.empty(0, dtype=np.int64)
            encoded[modality.name] = encode(selector, modality.kind, values, nothing, cache, jobs)
        if modality.name in encoded:
            bad.update(encoded[modality.name].bad)
    return Stateless(encoded, bad)


def refuse_bad(dataset: Dataset, bad: Mapping[int, str], policy: str) -> None:
    """Stop on inputs that cannot be read, unless they are to be dropped.

    Raises:
        UsageError: names how many and the first three.
    """
    told = name_bad(dataset, bad)
    if told and policy != "drop":
        raise UsageError(f"{told}: mend what is unreadable, or leave it out with --bad-images drop")


def name_bad(dataset: Dataset, bad: Mapping[int, str]) -> str:
    """How many inputs of rows in use cannot be read, and the first three; nothing where all can."""
    used = np.zeros(len(dataset.ids), dtype=bool)
    for problem in dataset.problems:
        used |= problem.split != ""
    rows = [row for row in sorted(bad) if used[row]]
    shown = "; ".join(f"{dataset.ids[row]}: {bad[row]}" for row in rows[:3])
    inputs = "1 input" if len(rows) == 1 else f"{len(rows)} inputs"
    return f"{inputs} cannot be read ({shown}{'; …' if len(rows) > 3 else ''})" if rows else ""


def prepare(
    dataset: Dataset,
    problem: Problem,
    task: Task,
    encoders: Mapping[str, str],
    concepts: tuple[str, ...],
    stateless: Stateless,
    cache: Path,
    raw: Collection[str] = (),
) -> Prepared:
    """Encode a problem's modalities, fitted encoders on its train rows only, and cut it into its splits.

    The inputs of the modalities ``raw`` are kept beside their features.

    Raises:
        UsageError: a split without rows, or a concept without a labelled training row.
    """
    split = usable_split(problem, stateless.bad)
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    for name, chosen in rows.items():
        if len(chosen) == 0:
            raise UsageError(f"problem '{problem.name}' has no {name} rows under this protocol and these options")
    used = tuple(c for c in dataset.concepts if c.name in problem.concepts and c.name in concepts)
    for concept in used:
        for name, word in (("train", "training"), ("val", "validation")):
            if not dataset.labelled(concept.name)[rows[name]].any():
                raise UsageError(f"problem '{problem.name}' has no {word} row with a label for '{concept.name}'")
    features = {}
    for modality in task.modalities:
        if modality.name in encoders:
            features[modality.name] = stateless.encoded.get(modality.name) or encode(
                encoders[modality.name], modality.kind, dataset.inputs[modality.name], rows["train"], cache
            )
    present = {name: present_rows(dataset.inputs[name]) for name in features}
    kept = {name: np.fromiter(dataset.inputs[name], dtype=object, count=len(split)) for name in raw}

    def part(chosen: NDArray[np.int64]) -> Part:
        return Part(
            dataset.ids[chosen],
            dataset.groups[chosen],
            {name: bulk.take(encoded.values, chosen, cache) for name, encoded in features.items()},
            {name: present[name][chosen] for name in features},
            {name: encoded.steps[chosen] for name, encoded in features.items() if encoded.steps is not None},
            {concept.name: dataset.targets[concept.name][chosen] for concept in used},
            {name: inputs[chosen] for name, inputs in kept.items()},
        )

    train, val, test = (part(rows[name]) for name in SPLITS)
    return Prepared(problem.name, used, train, val, test, split_digest(dataset.ids, split))
