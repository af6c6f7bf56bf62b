"""Metrics as fixed in the docs: from counts (F1 family, Hamming loss), from rankings (MAP, ROC-AUC), and of a score
(:mod:`mmbench.evaluation.scores`).

Each is written for weighted rows, weights (R, n) of R resamples at once, so that a bootstrap computes exactly what the
full sample is given; the full sample is the one resample of ones. F1 averages run over all declared labels with
0 for a label without rows (as scikit-learn with ``labels`` and ``zero_division=0``). ``map`` and ``roc_auc`` average
over the labels that have a positive row (and a negative one for ROC-AUC); ``map_strict`` counts the others as 0, as
scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, ConceptKind
from mmbench.errors import unknown
from mmbench.evaluation.decisions import answered, decide
from mmbench.evaluation.predictions import Predictions
from mmbench.evaluation.scores import SENTIMENT, WIDTH, from_sums, row_sums

METRIC_VERSION = 1
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric as listed; ``needs`` says whether it is taken of decisions, of a ranking by scores, or of the numbers
    themselves, as only the metrics of a score concept are."""

    summary: str
    better: Literal["higher", "lower"]
    needs: Literal["decisions", "scores", "numbers"]


@dataclass(frozen=True)
class MetricValue:
    """A value, None where it is not defined, and how many labels have a positive row (for ROC-AUC also a negative one).

    ``map`` and ``roc_auc`` average over these labels, the others over all declared ones.
    """

    value: float | None
    n_labels_used: int


METRICS = {
    "macro_f1": Metric("mean of the labels' F1", "higher", "decisions"),
    "micro_f1": Metric("F1 of all labels' decisions pooled", "higher", "decisions"),
    "weighted_f1": Metric("mean of the labels' F1 weighted by support", "higher", "decisions"),
    "hamming": Metric("share of wrong entries of the label indicator", "lower", "decisions"),
    "hamming_single": Metric("share of wrong rows; exclusive concepts only", "lower", "decisions"),
    "map": Metric("mean average precision over labels with a positive row", "higher", "scores"),
    "map_strict": Metric("mean average precision, a label without a positive row counting 0", "higher", "scores"),
    "accuracy": Metric("share of rows that are right in every label", "higher", "decisions"),
    "precision": Metric("mean of the labels' precision", "higher", "decisions"),
    "recall": Metric("mean of the labels' recall", "higher", "decisions"),
    "roc_auc": Metric("mean area under the ROC curve, one label against the rest", "higher", "scores"),
    "mae": Metric("mean absolute error; scores only, as all that follow", "lower", "numbers"),
    "corr": Metric("Pearson's correlation", "higher", "numbers"),
    "acc7": Metric(
        "share of rows that round to the same integer within ±3; of a score from -3 to 3", "higher", "numbers"
    ),
    "acc5": Metric("the same within ±2", "higher", "numbers"),
    "acc2_has0": Metric(
        "share of rows right about negative or not, 0 is not; of a score from -3 to 3", "higher", "numbers"
    ),
    "acc2_non0": Metric("share of rows right about positive or not, where the truth is not 0", "higher", "numbers"),
    "f1_has0": Metric("weighted F1 of negative or not", "higher", "numbers"),
    "f1_non0": Metric("weighted F1 of positive or not, where the truth is not 0", "higher", "numbers"),
}
LABEL_METRICS = ("f1", "precision", "recall", "average_precision", "roc_auc", "support")


def applies(metric: str, kind: ConceptKind) -> bool:
    """Whether a metric is one of concepts of this kind."""
    return (METRICS[metric].needs == "numbers") == (kind == "score")


def metrics_of(kind: ConceptKind) -> dict[str, Metric]:
    """The metrics of concepts of this kind."""
    return {name: metric for name, metric in METRICS.items() if applies(name, kind)}


def primary_metric(asked: str, kind: ConceptKind) -> str:
    """The metric that a concept is compared on: the one asked for, else, where that is of the other kind, ``mae`` of a
    score and ``macro_f1`` of labels."""
    return asked if applies(asked, kind) else "mae" if kind == "score" else "macro_f1"


def check_metrics(names: Sequence[str]) -> None:
    """Raise a UsageError with the nearest names for a metric that does not exist."""
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)


def row_counts(predictions: Predictions, thresholds: Array | None = None) -> Array:
    """What the decision metrics need of each row, (n, 3 K + 2): true positives, false positives, false negatives by
    label, whether the row is right in every label, and 1; of a score :func:`mmbench.evaluation.scores.row_sums`."""
    if predictions.concept.kind == "score":
        return row_sums(predictions.scores[:, 0], predictions.truth[:, 0])
    decided, truth = decide(predictions, thresholds), predictions.truth
    right = (decided == truth).all(axis=1) & answered(predictions)
    parts = [decided & truth, decided & ~truth, ~decided & truth, right[:, None], np.ones_like(right)[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float64)


def count_width(concept: Concept) -> int:
    """How many numbers :func:`row_counts` has for a row."""
    return WIDTH if concept.kind == "score" else 3 * len(concept.labels) + 2


def from_counts(counts: Array, concept: Concept) -> dict[str, Array]:
    """All metrics that need no ranking from sums of :func:`row_counts`: (..., W) -> (...) each; nan where undefined."""
    if concept.kind == "score":
        return from_sums(counts, concept.bounds == SENTIMENT)
    k = (counts.shape[-1] - 2) // 3
    tp, fp, fn = counts[..., :k], counts[..., k : 2 * k], counts[..., 2 * k : 3 * k]
    right, rows = counts[..., -2], counts[..., -1]
    f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    support = tp + fn
    accuracy = np.divide(right, rows, out=np.full_like(rows, np.nan), where=rows > 0)
    wrong = (fp + fn).sum(-1)
    return {
        "macro_f1": f1.mean(-1),
        "micro_f1": _ratio(2 * tp.sum(-1), (2 * tp + fp + fn).sum(-1)),
        "weighted_f1": _ratio((f1 * support).sum(-1), support.sum(-1)),
        "hamming": np.divide(wrong, rows * k, out=np.full_like(rows, np.nan), where=rows > 0),
        "hamming_single": 1 - accuracy if concept.kind == "exclusive" else np.full_like(rows, np.nan),
        "accuracy": accuracy,
        "precision": _ratio(tp, tp + fp).mean(-1),
        "recall": _ratio(tp, support).mean(-1),
    }


def _ratio(numerator: Array, denominator: Array) -> Array:
    """0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


@dataclass(frozen=True)
class Ranking:
    """One label's rows by falling score, and the runs of equal scores that its positive rows stand in.

    Attributes:
        order: (n,) the rows by falling score.
        hits: (p,) the positive rows in that order.
        upto: (2, p) of each positive row's run the last place among ``order`` and among ``hits``.
        before: (2, p) the places before its run, -1 where it is the first; None where no run is longer than one.
    """

    order: NDArray[np.int64]
    hits: NDArray[np.int64]
    upto: NDArray[np.int64]
    before: NDArray[np.int64] | None


def rank(scores: Array, truth: NDArray[np.bool_]) -> Ranking:
    """Sort one label's rows, scores (n,) and truth (n,)."""
    order = np.argsort(-scores, kind="stable")
    falling, places = scores[order], np.flatnonzero(truth[order])
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    runs = np.searchsorted(ends, places)
    both = [np.stack([at, np.searchsorted(places, at, side="right") - 1])
            for at in (ends[runs], np.append(-1, ends)[runs])]  # fmt: skip
    tied = bool((both[0][0] - both[1][0] > 1).any())
    return Ranking(order, order[places], both[0], both[1] if tied else None)


def from_ranking(ranking: Ranking, weights: NDArray[Any], room: NDArray[Any] | None = None) -> tuple[Array, Array]:
    """Average precision and ROC-AUC of one label under row weights (R, n): (R,) each.

    Weights that are whole numbers are summed as such, which gives the same bits in less time. ``room`` is an array of
    :func:`room_for` the weights that may be written to: it saves making one for each label.

    nan where no positive row (and for ROC-AUC no negative one) has weight. Equal scores share one threshold. A
    resample gets the same bits however many come with it: sums run along rows that lie together in memory.
    """
    undefined = np.full(len(weights), np.nan)
    if len(ranking.hits) == 0:
        return undefined, undefined
    gained = np.take(weights, ranking.hits, axis=1).astype(np.float64)
    positive = np.cumsum(gained, axis=1)
    room = room_for(weights) if room is None else room
    total = np.cumsum(np.take(weights, ranking.order, axis=1), axis=1, dtype=room.dtype, out=room)
    all_positive, all_negative = positive[:, -1], total[:, -1] - positive[:, -1]
    found, of_them = np.take(total, ranking.upto[0], axis=1).astype(np.float64), positive
    if ranking.before is not None:
        of_them = np.take(positive, ranking.upto[1], axis=1)
    precision = np.divide(of_them, found, out=np.zeros_like(found), where=found > 0)
    area = (gained * precision).sum(axis=1)
    above = found - of_them  # negatives above each positive row, those of its own score by half
    if ranking.before is not None:
        above = (above + _at(total, ranking.before[0]) - _at(positive, ranking.before[1])) / 2
    beaten = (gained * (all_negative[:, None] - above)).sum(axis=1)
    pairs = all_positive * all_negative
    return (
        np.divide(area, all_positive, out=undefined.copy(), where=all_positive > 0),
        np.divide(beaten, pairs, out=undefined.copy(), where=pairs > 0),
    )


def room_for(weights: NDArray[Any]) -> NDArray[Any]:
    """Room for running sums of weights (R, n)."""
    return np.empty(weights.shape, np.int64 if weights.dtype.kind in "iu" else np.float64)


def _at(sums: NDArray[Any], places: NDArray[np.int64]) -> Array:
    """Columns of running sums (R, n); 0 at place -1, before the first."""
    return np.where(places >= 0, np.take(sums, places, axis=1), 0.0)


def from_rankings(rankings: Sequence[Ranking], weights: NDArray[Any]) -> dict[str, Array]:
    """The score metrics under row weights (R, n): (R,) each."""
    room = room_for(weights)
    pairs = [from_ranking(ranking, weights, room) for ranking in rankings]
    precision, auc = (np.stack(values, axis=1) for values in zip(*pairs, strict=True))
    return {"map": _mean_known(precision), "map_strict": np.nan_to_num(precision).mean(1), "roc_auc": _mean_known(auc)}


def _mean_known(values: Array) -> Array:
    """The mean over axis 1 of what is not nan; nan where nothing is left."""
    known = ~np.isnan(values)
    undefined = np.full(len(values), np.nan)
    mean: Array = np.divide(np.where(known, values, 0).sum(1), known.sum(1), out=undefined, where=known.any(1))
    return mean


def rankings_of(predictions: Predictions) -> list[Ranking]:
    """Each label's ranking."""
    return [rank(s, t) for s, t in zip(predictions.scores.T, predictions.truth.T, strict=True)]


def compute(predictions: Predictions, thresholds: Array | None = None) -> dict[str, MetricValue]:
    """Every metric of one concept; None where it is not defined (no labelled row, a metric of another kind)."""
    undefined = dict.fromkeys(METRICS, MetricValue(None, 0))
    n, concept = len(predictions.truth), predictions.concept
    if n == 0:
        return undefined
    values = from_counts(row_counts(predictions, thresholds).sum(axis=0, keepdims=True), concept)
    if concept.kind == "score":
        used = dict.fromkeys(values, 1)
    else:
        values |= from_rankings(rankings_of(predictions), np.ones((1, n)))
        support = predictions.truth.sum(axis=0)
        used = dict.fromkeys(values, int((support > 0).sum()))
        used["roc_auc"] = int(((support > 0) & (support < n)).sum())
    return undefined | {
        name: MetricValue(None if np.isnan(value[0]) else float(value[0]), used[name]) for name, value in values.items()
    }


def per_label(predictions: Predictions, thresholds: Array | None = None) -> dict[str, dict[str, float | None]]:
    """By label: f1, precision, recall, average_precision, roc_auc (None where undefined) and support (rows).

    A score has no labels: {}.
    """
    if predictions.concept.kind == "score":
        return {}
    k = len(predictions.concept.labels)
    counts = row_counts(predictions, thresholds).sum(axis=0)
    tp, fp, fn = counts[:k], counts[k : 2 * k], counts[2 * k : 3 * k]
    ones = np.ones((1, len(predictions.ids)))
    ranked = [
        from_ranking(ranking, ones) if len(predictions.ids) else (np.array([np.nan]), np.array([np.nan]))
        for ranking in rankings_of(predictions)
    ]
    table = {
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "average_precision": np.array([pair[0][0] for pair in ranked]),
        "roc_auc": np.array([pair[1][0] for pair in ranked]),
        "support": tp + fn,
    }
    none_if_nan: Callable[[float], float | None] = lambda v: None if np.isnan(v) else float(v)  # noqa: E731
    return {
        label: {name: none_if_nan(table[name][place]) for name in LABEL_METRICS}
        for place, label in enumerate(predictions.concept.labels)
    }
