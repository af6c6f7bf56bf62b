"""Sequences of different lengths in one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def stack(
    rows: Sequence[NDArray[np.float32] | None], width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Vectors (d,), or sequences (T_i, d), None where one is missing, to (n, d), or to what :func:`pad` makes of them.

    A missing vector is zeros; ``width`` is the d where all are missing.
    """
    first = next((row for row in rows if row is not None), np.zeros(width, dtype=np.float32))
    if first.ndim == 2:
        return pad(rows)
    values = np.zeros((len(rows), len(first)), dtype=np.float32)
    for place, row in enumerate(rows):
        if row is not None:
            values[place] = row
    return values, None


def pad(rows: Sequence[NDArray[np.float32] | None]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sequences (T_i, d), None where one is missing, to (n, T, d) with zeros after their ends, and the steps (n, T).

    T is the longest one's length, and at least 1; without any sequence d is 1.
    """
    length = max([1, *(len(row) for row in rows if row is not None)])
    width = next((row.shape[1] for row in rows if row is not None), 1)
    values = np.zeros((len(rows), length, width), dtype=np.float32)
    steps = np.zeros((len(rows), length), dtype=np.bool_)
    for place, row in enumerate(rows):
        if row is not None:
            values[place, : len(row)] = row
            steps[place, : len(row)] = True
    return values, steps
