"""From scores to decisions: argmax where a concept is exclusive, thresholds where it is multi-label; a score has none.

A row whose scores are all :data:`NO_ANSWER` was asked and gave nothing that can be read: it gets no label, and is wrong
whatever the truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.predictions import Predictions

THRESHOLD = 0.5
NO_ANSWER = -1.0


def answered(predictions: Predictions) -> NDArray[np.bool_]:
    """Which rows have an answer, (n,)."""
    rows: NDArray[np.bool_] = (predictions.scores != NO_ANSWER).any(axis=1)
    return rows


def decide(predictions: Predictions, thresholds: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Indicator (n, K): the highest score (the first of equals), or the scores of at least the threshold.

    A multi-label prediction may be empty, and so is a row without an answer. ``thresholds`` (K,) replace .5 and matter
    to multi-label concepts only.

    Raises:
        ValueError: predictions of a score.
    """
    scores = predictions.scores
    if predictions.concept.kind == "score":
        raise ValueError(f"{predictions.concept.name} is a score: nothing is decided")
    if predictions.concept.kind == "exclusive":
        decided: NDArray[np.bool_] = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    else:
        decided = scores >= (THRESHOLD if thresholds is None else thresholds)
    return decided & answered(predictions)[:, None]


def tune_thresholds(val: Predictions) -> NDArray[np.float64] | None:
    """The threshold of each label with the best F1 on validation, (K,); None where the concept is not multi-label.

    Candidates are the scores that occur, and .5, which also wins ties and serves labels without a positive row.
    """
    if val.concept.kind != "multilabel":
        return None
    chosen = np.full(val.scores.shape[1], THRESHOLD)
    for label, (scores, truth) in enumerate(zip(val.scores.T, val.truth.T, strict=True)):
        candidates = np.unique(np.append(scores[scores != NO_ANSWER], THRESHOLD))
        decided = scores[None] >= candidates[:, None]
        hits = (decided & truth).sum(axis=1)
        f1 = 2 * hits / np.maximum(decided.sum(axis=1) + truth.sum(), 1)
        best = f1.max()
        if best > f1[candidates == THRESHOLD][0]:
            chosen[label] = candidates[f1.argmax()]
    return chosen
