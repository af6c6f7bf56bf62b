"""Learning curves: a run on a share of the training rows, its groups whole, validation and test as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Dataset, Problem
from mmbench.errors import UsageError
from mmbench.hashing import derive_seed
from mmbench.splits import nested_share

FULL = 1.0


def parse_fractions(text: str) -> tuple[float, ...]:
    """``"0.1,0.3,1"`` as numbers, the smallest first.

    Raises:
        UsageError: no number, one outside (0, 1], or one twice.
    """
    try:
        fractions = sorted(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        fractions = []
    if not fractions or not all(0 < fraction <= FULL for fraction in fractions):
        raise UsageError(f"--train-fraction {text}: expected shares above 0 and at most 1, such as 0.1,0.3,1")
    if len(set(fractions)) < len(fractions):
        raise UsageError(f"--train-fraction {text}: expected each share once")
    return tuple(fractions)


def reduce_train(dataset: Dataset, fraction: float, split_seed: int) -> Dataset:
    """The data set with that share of each problem's training rows; a smaller share is a subset of a larger one.

    Groups stay whole and labels are kept in proportion as far as groups allow (:func:`mmbench.splits.nested_share`).
    Validation and test rows stay as they are; training rows that are left out belong to no split.

    Raises:
        UsageError: a label that training holds has no row in so small a share.
    """
    if fraction == FULL:
        return dataset
    return replace(dataset, problems=tuple(_reduce(dataset, p, fraction, split_seed) for p in dataset.problems))


def _reduce(dataset: Dataset, problem: Problem, fraction: float, split_seed: int) -> Problem:
    train = np.flatnonzero(problem.split == "train")
    if len(train) == 0:
        return problem
    held, names = _labels(dataset, problem, train)
    kept = nested_share(dataset.groups[train], held, fraction, derive_seed(split_seed, "train fraction"))
    missing = np.flatnonzero(held.any(axis=0) & ~held[kept].any(axis=0))
    lost = [names[place] for place in missing if names[place]]
    if lost:
        more = f" and {len(lost) - 3} labels more" if len(lost) > 3 else ""
        raise UsageError(
            f"--train-fraction {fraction:g}: its {kept.sum():,} of {len(train):,} training rows of problem "
            f"'{problem.name}' hold no row with {', '.join(lost[:3])}{more}: give a larger share"
        )
    split = problem.split.copy()
    split[train[~kept]] = ""
    return replace(problem, split=split)


def _labels(dataset: Dataset, problem: Problem, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], list[str]]:
    """(rows, L): which rows hold which label of the problem's concepts, and the labels' names.

    A score counts as labels without a name, one a quarter of its labelled rows.
    """
    held, names = [], []
    for concept in (concept for concept in dataset.concepts if concept.name in problem.concepts):
        target = dataset.targets[concept.name][rows]
        if concept.kind == "score":
            known = target[dataset.labelled(concept.name)[rows]]
            quarters = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else np.zeros(3)
            held.append((np.searchsorted(quarters, target)[:, None] == np.arange(4)) & ~np.isnan(target)[:, None])
            names += [""] * 4
        else:
            held.append(target[:, None] == np.arange(len(concept.labels)) if target.ndim == 1 else target == 1)
            names += [f"{concept.name} '{label}'" for label in concept.labels]
    return np.concatenate(held, axis=1), names
