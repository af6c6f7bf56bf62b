"""What figures are drawn from, as arrays: curves, calibration, confusions, intervals by label, the Pareto front.

``cells`` are always one method's cells of one concept, a (predictions, thresholds) pair a seed, on the same test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.bootstrap import Draws, interval, spread_over_seeds
from mmbench.evaluation.decisions import decide
from mmbench.evaluation.metrics import per_label, row_counts
from mmbench.evaluation.predictions import Predictions

Array = NDArray[np.float64]
Cells = Sequence[tuple[Predictions, Array | None]]
GRID = np.linspace(0.0, 1.0, 201)
BINS = 10
LABEL_REPLICATES = 1_000


def roc_points(cells: Cells) -> Array | None:
    """The true positive rate at each false positive rate of ``GRID``, (201,): averaged vertically.

    Each label against the rest and each seed gives a curve, straight between its points; the mean is over the labels
    with a positive and a negative row, and over seeds, so that the area below is the metric ``roc_auc``. None where no
    label has both.
    """
    from sklearn.metrics import roc_curve

    def rates(truth: NDArray[np.bool_], scores: Array) -> Array:
        false, true, _ = roc_curve(truth, scores)
        # np.interp takes the last of equal false rates except at 0, where the curve starts with its jump
        return np.append(true[np.flatnonzero(false == 0)[-1]], np.interp(GRID[1:], false, true))

    return _vertical_mean(cells, rates, negatives=True)


def pr_points(cells: Cells) -> Array | None:
    """The precision at each recall of ``GRID``, (201,): averaged vertically, so that the area below is ``map``.

    Between two thresholds stands the precision of the next one, as average precision counts it. The mean is over the
    labels with a positive row, and over seeds; None where there is no such label.
    """
    from sklearn.metrics import precision_recall_curve

    def precisions(truth: NDArray[np.bool_], scores: Array) -> Array:
        precision, recall, _ = precision_recall_curve(truth, scores)
        rising, at = recall[::-1], precision[::-1]
        place = np.searchsorted(rising, GRID - 1e-12, side="left")
        first = np.searchsorted(rising, 0.0, side="right")  # what is found first decides at recall 0
        return np.asarray(at[np.maximum(place, first)])

    return _vertical_mean(cells, precisions, negatives=False)


def _vertical_mean(cells: Cells, points: Callable[[NDArray[np.bool_], Array], Array], negatives: bool) -> Array | None:
    curves = []
    for predictions, _ in cells:
        for scores, truth in zip(predictions.scores.T, predictions.truth.T, strict=True):
            if truth.any() and not (negatives and truth.all()):
                curves.append(points(truth, scores))
    return np.mean(curves, axis=0) if curves else None


@dataclass(frozen=True)
class Calibration:
    """Reliability: by bin (those with a row) the mean confidence, how often it was right, and the rows; all seeds."""

    confidence: Array
    observed: Array
    rows: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over rows of the bins' |observed - confidence|."""
        return float(np.average(np.abs(self.observed - self.confidence), weights=self.rows))


def calibration(cells: Cells) -> Calibration | None:
    """Ten bins of equal width, the rows of all seeds pooled; None without rows.

    Exclusive: the score of the predicted label against whether it was right. Multi-label: every score of every label
    against whether the label holds.
    """
    confidence, right = [], []
    for predictions, _ in cells:
        if predictions.concept.kind == "exclusive":
            chosen = predictions.scores.argmax(axis=1)[:, None]
            confidence.append(np.take_along_axis(predictions.scores, chosen, axis=1).ravel())
            right.append(np.take_along_axis(predictions.truth, chosen, axis=1).ravel())
        else:
            confidence.append(predictions.scores.ravel())
            right.append(predictions.truth.ravel())
    scores, hits = np.concatenate(confidence), np.concatenate(right).astype(np.float64)
    if len(scores) == 0:
        return None
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    used = rows > 0
    sums = [np.bincount(place, weights=values, minlength=BINS)[used] for values in (scores, hits)]
    return Calibration(sums[0] / rows[used], sums[1] / rows[used], rows[used])


def scatter(cells: Cells) -> Array:
    """(n, 2): of each row of a score the truth and the mean prediction over seeds."""
    first = cells[0][0]
    told = np.mean([predictions.scores[:, 0] for predictions, _ in cells], axis=0)
    return np.stack([first.truth[:, 0], told], axis=1)


def confusion(cells: Cells) -> Array:
    """(K, K): rows by true label (first axis) and predicted label, the mean over seeds.

    Multi-label rows count once for each pair of a label that holds and a label that was predicted, so that a row of the
    matrix divided by its label's support is how often each label is predicted where this one holds.
    """
    tables = []
    for predictions, thresholds in cells:
        decided = decide(predictions, thresholds)
        tables.append(predictions.truth.T.astype(np.float64) @ decided.astype(np.float64))
    mean: Array = np.mean(tables, axis=0)
    return mean


def binary_counts(cells: Cells) -> Array:
    """(K, 4): by label the true positives, false positives, false negatives and true negatives, mean over seeds."""
    tables = []
    for predictions, thresholds in cells:
        counts = row_counts(predictions, thresholds).sum(axis=0)
        positive = counts[:-2].reshape(3, -1)
        tables.append(np.vstack([positive, counts[-1] - positive.sum(axis=0)]).T)
    mean: Array = np.mean(tables, axis=0)
    return mean


def label_intervals(cells: Cells, n_seeds: int) -> list[tuple[float, float] | None]:
    """The 95 % interval of each label's F1 by the crossed bootstrap of the comparison; None where one group is all.

    ``n_seeds`` is the number of seeds the cells stand for: a deterministic method's one cell serves all of them.
    """
    first = cells[0][0]
    names, groups = np.unique(first.groups, return_inverse=True)
    k = len(first.concept.labels)
    if len(names) < 2:
        return [None] * k
    draws = Draws(len(names), n_seeds, LABEL_REPLICATES)
    by_group = np.zeros((len(names), len(cells), 3 * k))
    for place, (predictions, thresholds) in enumerate(cells):
        np.add.at(by_group[:, place], groups, row_counts(predictions, thresholds)[:, :-2])
    values = np.empty((LABEL_REPLICATES, len(cells), k))
    for rows, weights in draws.groups():
        tp, fp, fn = np.moveaxis((weights @ by_group.reshape(len(names), -1)).reshape(-1, len(cells), 3, k), 2, 0)
        total = 2 * tp + fp + fn
        values[rows] = np.divide(2 * tp, total, out=np.zeros_like(total), where=total > 0)
    if len(cells) < n_seeds or not draws.crossed:
        return [interval(label) for label in values.mean(axis=1).T]
    tables = [per_label(*cell) for cell in cells]
    full = np.array([[table[label]["f1"] for label in first.concept.labels] for table in tables], dtype=np.float64)
    return [interval(spread_over_seeds(values[:, :, i], full[:, i])) for i in range(k)]


def pareto(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """The places that no other beats: none is at most as costly and at least as good, and better in one; by cost."""
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i])):
        last = front[-1] if front else place
        if (
            not front
            or qualities[place] > qualities[last]
            or ((costs[place], qualities[place]) == (costs[last], qualities[last]))
        ):
            front.append(place)
    return front
