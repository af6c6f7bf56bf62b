"""Vectors, or sequences of different lengths, in one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.bulk import spread


def in_rows(
    n: int, vectors: Iterable[tuple[Sequence[int], NDArray[np.float32]]], width: int, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Vectors (d,), each with the rows where it stands, as (n, d), zero elsewhere; or sequences (T_i, d) as
    :func:`pad` has them.

    Large vectors lie in a file in ``folder``; ``width`` is the d where there is none.
    """
    found = iter(vectors)
    first = next(found, None)
    if first is None:
        return np.zeros((n, width), dtype=np.float32), None
    every = chain([first], found)
    if first[1].ndim == 1:
        return spread(n, every, folder), None
    sequences: list[NDArray[np.float32] | None] = [None] * n
    for rows, sequence in every:
        for row in rows:
            sequences[row] = sequence
    return pad(sequences)


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
