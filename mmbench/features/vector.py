"""``standardize``: zero mean and unit variance by column, from the train rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.bulk import blocks
from mmbench.features import Encoded
from mmbench.features.cache import cached_blocks
from mmbench.hashing import digest

VERSION = 2
LARGEST = 1e4  # standard deviations: one absurd cell must not overflow a network's float32

Array = NDArray[np.float64]


def encode(
    values: NDArray[np.floating], *, cache: Path, identity: list[str], fit_rows: NDArray[np.int64], kind: str
) -> Encoded:
    """(n, d) to (n, d), or sequences (n, T, d) to (n, T, d) with their steps.

    A cell that is not finite becomes the train mean; a constant column, a missing row and a missing step become zero.
    Everything is done a few rows at a time.
    """
    x = values if isinstance(values, np.ndarray) and values.dtype.kind == "f" else np.asarray(values, dtype=np.float64)
    key = digest([*identity, x, "fit", fit_rows])
    if kind == "vector":
        return Encoded(cached_blocks(cache, key, x.shape, lambda: _standardized(x, fit_rows)))
    steps = np.concatenate([_there(block) for _, block in blocks(x)])
    return Encoded(cached_blocks(cache, key, x.shape, lambda: _standardized_steps(x, fit_rows)), steps=steps)


def standardize(x: NDArray[Any], fit_rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Columns of (n, d) with the mean and the (population) standard deviation of their finite cells in ``fit_rows``."""
    return np.concatenate(list(_standardized(x, fit_rows)))


def _standardized(x: NDArray[Any], fit_rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    scale = _learn(lambda: (block for _, block in blocks(x, fit_rows)))
    for _, block in blocks(x):
        yield scale(block)


def _standardized_steps(x: NDArray[Any], fit_rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Every step a row, those that are not there zero; the steps that are there in ``fit_rows`` are learned from."""
    scale = _learn(lambda: (block[_there(block)] for _, block in blocks(x, np.unique(fit_rows))))
    for _, block in blocks(x):
        scaled = np.zeros(block.shape, dtype=np.float32)
        there = _there(block)
        scaled[there] = scale(block[there])
        yield scaled


def _there(block: NDArray[Any]) -> NDArray[np.bool_]:
    """The steps of (n, T, d) that are there, (n, T)."""
    there: NDArray[np.bool_] = ~np.isnan(block).all(axis=2)
    return there


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation by column; the deviation of a column that does not vary is infinite."""

    mean: Array
    deviation: Array

    def __call__(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Rows (m, d) on that scale; a cell that is not finite becomes the mean."""
        filled, finite = _filled(block)
        known = np.isfinite(self.mean)
        scaled = np.where(finite & known, (filled - np.where(known, self.mean, 0.0)) / self.deviation, 0.0)
        return scaled.clip(-LARGEST, LARGEST).astype(np.float32)


def _learn(read: Callable[[], Iterator[NDArray[Any]]]) -> Scale:
    """The scale of the rows that each call of ``read`` yields, in blocks (m, d); they are read twice."""
    count, total, squares = np.zeros(1), None, None
    highest, lowest = np.array([-np.inf]), np.array([np.inf])
    with np.errstate(over="ignore", invalid="ignore"):
        for filled, finite in map(_filled, read()):
            count = count + finite.sum(axis=0)
            highest = np.maximum(highest, np.where(finite, filled, -np.inf).max(axis=0, initial=-np.inf))
            lowest = np.minimum(lowest, np.where(finite, filled, np.inf).min(axis=0, initial=np.inf))
            total = _added(total, filled)
        if total is None:
            return Scale(np.zeros(1), np.full(1, np.inf))
        mean = total / np.maximum(count, 1)
        for filled, finite in map(_filled, read()):
            squares = _added(squares, np.where(finite, filled - mean, 0.0) ** 2)
        assert squares is not None
        deviation = np.sqrt(squares / np.maximum(count, 1))
    return Scale(mean, np.where(highest > lowest, deviation, np.inf))


def _filled(block: NDArray[Any]) -> tuple[Array, NDArray[np.bool_]]:
    """A block in double precision with 0 for what is not finite, and which cells are."""
    x = np.asarray(block, dtype=np.float64)
    finite = np.isfinite(x)
    return np.where(finite, x, 0.0), finite


def _added(total: Array | None, rows: Array) -> Array | None:
    """The rows (m, d) added to ``total`` one after another, so that no bit depends on how rows are cut into blocks.

    ``rows`` is used up.
    """
    if len(rows) == 0:
        return total
    if total is not None:
        rows[0] += total
    added: Array = rows.sum(axis=0)
    return added
