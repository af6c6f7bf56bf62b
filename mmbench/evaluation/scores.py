"""Metrics of a score, as the field reports sentiment: each from sums over rows, so that a resample is exact.

``mae`` and ``corr`` (Pearson's) are of any score. The others are of a score that was rated from -3 to 3, as CMU-MOSI
and CMU-MOSEI are, and mean what MMSA (Mao et al., ACL 2022 demonstrations) computes: ``acc7`` and ``acc5`` count rows
whose prediction and truth, cut to ±3 or ±2, round to the same integer (halves to the even one); ``has0`` asks of all
rows whether both are negative, ``non0`` of the rows whose truth is not 0 whether both are positive; F1 is the mean over
the two classes weighted by support.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SENTIMENT = (-3.0, 3.0)
WIDTH = 17  # of the sums
CONSTANT = 1e-12  # a variance below this share of the mean square is rounding


def row_sums(scores: Array, truth: Array) -> Array:
    """What the metrics need of each row, (n,) and (n,) to (n, 17).

    1, the absolute error, p, t, p², t², pt (from the median of the truth, which keeps their digits), whether acc7 and
    acc5 count the row, and its place in the tables of has0 and of non0: true positive, false positive, false negative,
    true negative.
    """
    middle = np.median(truth) if len(truth) else 0.0
    p, t = scores - middle, truth - middle
    same = [np.rint(scores.clip(-top, top)) == np.rint(truth.clip(-top, top)) for top in (3, 2)]
    has0 = _table(scores >= 0, truth >= 0)
    non0 = _table(scores > 0, truth > 0) * (truth != 0)
    parts = [np.ones_like(truth), np.abs(scores - truth), p, t, p * p, t * t, p * t, *same, *has0, *non0]
    return np.stack(parts, axis=1).astype(np.float64)


def _table(said: NDArray[np.bool_], holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.stack([said & holds, said & ~holds, ~said & holds, ~said & ~holds])


def from_sums(sums: Array, sentiment: bool) -> dict[str, Array]:
    """All metrics of a score from sums of :func:`row_sums`: (..., 17) -> (...) each; nan where undefined.

    Those of a sentiment are nan unless ``sentiment``. The correlation is nan where either side does not vary.
    """
    n, error = sums[..., 0], sums[..., 1]
    found = {"mae": _share(error, n), "corr": _correlation(sums)}
    rated = {"acc7": _share(sums[..., 7], n), "acc5": _share(sums[..., 8], n)}
    for name, first in (("has0", 9), ("non0", 13)):
        tp, fp, fn, tn = np.moveaxis(sums[..., first : first + 4], -1, 0)
        rows = tp + fp + fn + tn
        weighted = (tp + fn) * _f1(tp, fp, fn) + (tn + fp) * _f1(tn, fn, fp)
        rated |= {f"acc2_{name}": _share(tp + tn, rows), f"f1_{name}": _share(weighted, rows)}
    return found | {m: value if sentiment else np.full_like(n, np.nan) for m, value in rated.items()}


def _correlation(sums: Array) -> Array:
    n, _, p, t, pp, tt, pt = np.moveaxis(sums[..., :7], -1, 0)
    spread_p, spread_t = pp - _share(p * p, n), tt - _share(t * t, n)
    varies = (spread_p > CONSTANT * pp) & (spread_t > CONSTANT * tt)
    together = pt - _share(p * t, n)
    scale = np.sqrt(np.where(varies, spread_p * spread_t, 1.0))
    return np.where(varies, (together / scale).clip(-1, 1), np.nan)


def _share(part: Array, of: Array) -> Array:
    """nan where there is nothing."""
    return np.divide(part, of, out=np.full_like(of, np.nan), where=of > 0)


def _f1(tp: Array, fp: Array, fn: Array) -> Array:
    total = 2 * tp + fp + fn
    return np.divide(2 * tp, total, out=np.zeros_like(total), where=total > 0)
