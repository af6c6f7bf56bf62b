"""Error analysis: where a method is wrong, named by sample id, group and label; never by content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.decisions import decide
from mmbench.reporting.curves import Array, Cells

SHOWN = 10


@dataclass(frozen=True)
class Mistake:
    """A label that most seeds get wrong on one sample.

    ``said`` is the predicted label, or the missed one where ``missed``; ``confidence`` is the mean over seeds of the
    score of what was said (one minus the score where missed); ``seeds`` is how many say it.
    """

    id: str
    group: str
    truth: tuple[str, ...]
    said: str
    missed: bool
    confidence: float
    seeds: int


@dataclass(frozen=True)
class GroupErrors:
    """A group's rows, and how many of them are wrong in some label (mean over seeds)."""

    group: str
    rows: int
    wrong: float


@dataclass(frozen=True)
class Confusion:
    """How many of the rows with the label ``truth`` are given ``said`` (mean over seeds), and their share."""

    truth: str
    said: str
    rows: float
    share: float


def confident_mistakes(cells: Cells, shown: int = SHOWN) -> list[Mistake]:
    """The samples most seeds get wrong with the highest mean confidence, one line a sample; equals by id."""
    first = cells[0][0]
    labels = first.concept.labels
    decided = np.mean([decide(*cell) for cell in cells], axis=0)  # (n, K): the share of seeds that say the label
    scores = np.mean([predictions.scores for predictions, _ in cells], axis=0)
    confidence = np.where(first.truth, 1 - scores, scores)
    share = np.where(first.truth, 1 - decided, decided)
    if first.concept.kind == "exclusive":
        share = np.where(first.truth, 0.0, share)  # the label that was said instead tells it
    blamed = np.where(share > 0.5, confidence, -1.0)
    worst = blamed.argmax(axis=1)
    height = blamed[np.arange(len(worst)), worst]
    order = [row for row in np.lexsort((first.ids, -height)) if height[row] >= 0][:shown]
    return [
        Mistake(
            str(first.ids[row]),
            str(first.groups[row]),
            tuple(label for label, holds in zip(labels, first.truth[row], strict=True) if holds),
            labels[worst[row]],
            bool(first.truth[row, worst[row]]),
            float(height[row]),
            round(share[row, worst[row]] * len(cells)),
        )
        for row in order
    ]


def wrong_rows(cells: Cells) -> Array:
    """(n,): the share of seeds in which a row is wrong in some label."""
    wrong: Array = np.mean([(decide(*cell) != cell[0].truth).any(axis=1) for cell in cells], axis=0)
    return wrong


def is_constant(cells: Cells) -> bool:
    """Whether every row is given the same labels, or the same score, in every seed, as by a majority rule."""
    if cells[0][0].concept.kind == "score":
        return bool(np.ptp([predictions.scores for predictions, _ in cells]) == 0)
    decided = np.concatenate([decide(*cell) for cell in cells])
    return bool((decided == decided[:1]).all())


def errors_by_group(groups: NDArray[np.str_], wrong: Array, shown: int = SHOWN) -> list[GroupErrors]:
    """The groups of several rows with the most wrong rows; [] where every group has one row."""
    names, place = np.unique(groups, return_inverse=True)
    rows, sums = np.bincount(place), np.bincount(place, weights=wrong)
    order = [i for i in np.lexsort((names, -sums)) if rows[i] > 1 and sums[i] > 0][:shown]
    return [GroupErrors(str(names[i]), int(rows[i]), float(sums[i])) for i in order]


def errors_by_facet(ids: NDArray[np.str_], facet: dict[str, str], wrong: Array) -> list[GroupErrors]:
    """A facet's values, the largest share of wrong rows first; rows whose value is not known are left out."""
    values = np.array([facet.get(str(row), "") for row in ids])
    names, place = np.unique(values, return_inverse=True)
    rows, sums = np.bincount(place), np.bincount(place, weights=wrong)
    order = [i for i in np.lexsort((names, -sums / rows)) if names[i]]
    return [GroupErrors(str(names[i]), int(rows[i]), float(sums[i])) for i in order]


def label_confusions(cells: Cells, shown: int = SHOWN) -> list[Confusion]:
    """The pairs of labels taken for each other most often: the first holds, the second is said and does not."""
    first = cells[0][0]
    false = [first.truth.T.astype(np.float64) @ (decide(*cell) & ~first.truth) for cell in cells]
    rows, support, labels = np.mean(false, axis=0), first.truth.sum(axis=0), first.concept.labels
    pairs = [
        Confusion(truth, said, float(rows[i, j]), float(rows[i, j] / support[i]))
        for i, truth in enumerate(labels)
        for j, said in enumerate(labels)
        if rows[i, j] > 0
    ]
    return sorted(pairs, key=lambda pair: (-pair.rows, pair.truth, pair.said))[:shown]
