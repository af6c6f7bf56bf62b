"""Single features that give a label away: found on train, believed only where val confirms them.

Two looks: the area under the ROC curve of a column (a missing cell ranks lowest, so missingness that tells the label is
found as well), and a one-level stump, "the column equals this value" or "the text holds this word", by its balanced
accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR_ONE = 0.99
MIN_TRAIN = 10  # rows with the label, and as many without, before a column is judged
MIN_VAL = 3
MAX_LEVELS = 32
BLOCK = 256  # columns at a time


@dataclass(frozen=True)
class Giveaway:
    """A feature that tells a label: its place, the label's, and the score on train and on val."""

    feature: str
    label: int
    how: str
    train: float
    val: float


def auc(values: NDArray[np.float64], held: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of each column for each label: (n, d) and (n, K) to (d, K); NaN ranks lowest.

    By the ranks of Mann and Whitney, ties shared; NaN for a label that all rows hold or none.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.where(np.isnan(values), -np.inf, values), axis=0)
    positives = held.sum(axis=0).astype(np.float64)
    pairs = positives * (len(held) - positives)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: NDArray[np.float64] = (ranks.T @ held - positives * (positives + 1) / 2) / pairs
    area[:, pairs == 0] = np.nan
    return area


def balanced_accuracy(shown: Any, held: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Balanced accuracy of "shown means held": ``shown`` (n, d) bool, dense or sparse, ``held`` (n, K), to (d, K)."""
    positives = held.sum(axis=0).astype(np.float64)
    both = np.asarray(shown.astype(np.float64).T @ held.astype(np.float64))
    counts = np.asarray(shown.sum(axis=0), dtype=np.float64).reshape(-1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = (both / positives + 1 - (counts - both) / (len(held) - positives)) / 2
    result[:, (positives == 0) | (positives == len(held))] = np.nan
    return result


def _confirmed(
    train: NDArray[np.float64], val: NDArray[np.float64], names: Sequence[str], judged: NDArray[np.bool_], how: str
) -> list[Giveaway]:
    """Where both scores are near 1, or both near 0: a feature that tells the label by its absence tells it too."""
    found = []
    for flip in (False, True):
        a, b = (1 - train, 1 - val) if flip else (train, val)
        with np.errstate(invalid="ignore"):
            hits = np.argwhere((a >= NEAR_ONE) & (b >= NEAR_ONE) & judged)
        found += [Giveaway(names[i], k, how, float(a[i, k]), float(b[i, k])) for i, k in hits.tolist()]
    return found


def _judged(train: NDArray[np.bool_], val: NDArray[np.bool_]) -> NDArray[np.bool_]:
    enough = [
        np.minimum(held.sum(axis=0), (~held).sum(axis=0)) >= least
        for held, least in ((train, MIN_TRAIN), (val, MIN_VAL))
    ]
    both: NDArray[np.bool_] = enough[0] & enough[1]
    return both


def in_columns(
    train: NDArray[np.float64], train_held: NDArray[np.bool_], val: NDArray[np.float64], val_held: NDArray[np.bool_]
) -> list[Giveaway]:
    """Columns of a feature matrix, (n, d) with labels held (n, K), that alone tell a label; a column counts once."""
    judged = _judged(train_held, val_held)
    if not judged.any():
        return []
    found: dict[tuple[str, int], Giveaway] = {}
    for start in range(0, train.shape[1], BLOCK):
        a, b = train[:, start : start + BLOCK], val[:, start : start + BLOCK]
        names = [str(start + column) for column in range(a.shape[1])]
        hits = _confirmed(auc(a, train_held), auc(b, val_held), names, judged, "AUC")
        for column, name in enumerate(names):
            levels = np.unique(a[:, column])
            if 2 <= len(levels) <= MAX_LEVELS:
                shown = [part[:, column, None] == levels for part in (a, b)]
                scores = [balanced_accuracy(s, held) for s, held in zip(shown, (train_held, val_held), strict=True)]
                hits += _confirmed(scores[0], scores[1], [name] * len(levels), judged, "balanced accuracy of one value")
        for hit in hits:
            found.setdefault((hit.feature, hit.label), hit)
    return list(found.values())


def in_words(
    train: Sequence[str], train_held: NDArray[np.bool_], val: Sequence[str], val_held: NDArray[np.bool_]
) -> list[Giveaway]:
    """Words whose presence alone tells a label; words of fewer than ten train texts are not looked at."""
    from sklearn.feature_extraction.text import CountVectorizer

    judged = _judged(train_held, val_held)
    if not judged.any():
        return []
    counter = CountVectorizer(binary=True, min_df=MIN_TRAIN)
    try:
        shown = counter.fit_transform(train)
    except ValueError:  # no word in so many texts
        return []
    scores = balanced_accuracy(shown, train_held), balanced_accuracy(counter.transform(val), val_held)
    return _confirmed(*scores, counter.get_feature_names_out().tolist(), judged, "balanced accuracy of one word")
