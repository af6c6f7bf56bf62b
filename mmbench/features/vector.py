"""``standardize``: zero mean and unit variance by column, from the train rows alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.hashing import digest

VERSION = 2
FARTHEST = 1e6  # standard deviations: what lies beyond is held there, so that no network overflows


def encode(values: NDArray[np.float64], *, cache: Path, identity: list[str], fit_rows: NDArray[np.int64]) -> Encoded:
    """(n, d) to (n, d): a cell that is not finite becomes the train mean, a constant column and a missing row zero."""
    x = np.asarray(values, dtype=np.float64)
    return Encoded(cached(cache, digest([*identity, x, "fit", fit_rows]), lambda: _standardize(x, fit_rows)))


def _standardize(x: NDArray[np.float64], fit_rows: NDArray[np.int64]) -> NDArray[np.float32]:
    finite = np.isfinite(x)
    train, known = np.where(finite, x, 0.0)[fit_rows], finite[fit_rows]
    count = np.maximum(known.sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = train.sum(axis=0) / count
        spread = np.sqrt((np.where(known, train - mean, 0.0) ** 2).sum(axis=0) / count)
        spread[spread <= 1e-12 * np.abs(mean)] = np.inf
        standard = (np.where(finite, x, mean) - mean) / spread
    held: NDArray[np.float64] = np.clip(np.nan_to_num(standard, nan=0.0), -FARTHEST, FARTHEST)
    return held.astype(np.float32)
