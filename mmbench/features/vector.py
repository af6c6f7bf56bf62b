"""``standardize``: zero mean and unit variance by column, from the train rows alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.features import Encoded
from mmbench.features.cache import cached
from mmbench.hashing import digest

VERSION = 2
LARGEST = 1e4  # standard deviations: one absurd cell must not overflow a network's float32


def encode(
    values: NDArray[np.float64], *, cache: Path, identity: list[str], fit_rows: NDArray[np.int64], kind: str
) -> Encoded:
    """(n, d) to (n, d), or sequences (n, T, d) to (n, T, d) with their steps.

    A cell that is not finite becomes the train mean; a constant column, a missing row and a missing step become zero.
    """
    x = np.asarray(values, dtype=np.float64)
    key = digest([*identity, x, "fit", fit_rows])
    if kind == "vector":
        return Encoded(cached(cache, key, lambda: standardize(x, fit_rows)))
    steps: NDArray[np.bool_] = np.asarray(~np.isnan(x).all(axis=2))

    def standardize_steps() -> NDArray[np.float32]:
        scaled = np.zeros(x.shape, dtype=np.float32)
        fitted = np.isin(np.nonzero(steps)[0], fit_rows)
        scaled[steps] = standardize(x[steps], np.flatnonzero(fitted))
        return scaled

    return Encoded(cached(cache, key, standardize_steps), steps=steps)


def standardize(x: NDArray[np.float64], fit_rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Columns of (n, d) with the mean and the (population) standard deviation of their finite cells in ``fit_rows``."""
    finite = np.isfinite(x)
    filled = np.where(finite, x, 0.0)
    train, known = filled[fit_rows], finite[fit_rows]
    count = np.maximum(known.sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = train.sum(axis=0) / count
        spread = np.sqrt((np.where(known, train - mean, 0.0) ** 2).sum(axis=0) / count)
    highest, lowest = np.where(known, train, -np.inf).max(axis=0), np.where(known, train, np.inf).min(axis=0)
    spread[highest <= lowest] = np.inf
    scaled = np.where(finite & np.isfinite(mean), (filled - np.where(np.isfinite(mean), mean, 0.0)) / spread, 0.0)
    return scaled.clip(-LARGEST, LARGEST).astype(np.float32)
