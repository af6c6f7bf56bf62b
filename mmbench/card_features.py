"""Features of a task card: a matrix in a file, its rows in the order of the table or by id, NaN where nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import bulk
from mmbench.arrays import read_npz
from mmbench.card_files import Files
from mmbench.card_schema import FeatureInput
from mmbench.errors import UsageError
from mmbench.matrices import ArrayFile
from mmbench.tables import Table

Texts = NDArray[np.str_]
Places = NDArray[np.int64]
Each = Callable[[], Iterator[tuple[int, NDArray[Any]]]]  # the row of the table, and its array


@dataclass(frozen=True)
class Read:
    """A modality as read: its values, its parts of the fingerprint, notes, and the rows whose file is absent, each with
    the column that names it."""

    values: Any
    parts: tuple[str | NDArray[np.generic], ...]
    notes: tuple[str, ...] = ()
    absent: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrays:
    """Where a modality's arrays are looked for.

    Attributes:
        name: of the modality.
        table: a row is one sample.
        root: what a card's ``file`` is relative to.
        ids: (n,) of the rows.
        files: where each row has a file of its own.
        folder: where what is too large for memory is kept.
    """

    name: str
    table: Table
    root: Path
    ids: Texts
    files: Files | None
    folder: Path

    def each(self, arrays: ArrayFile | None) -> Each:
        """The array of each row that has one: in its own file, or in ``arrays`` under its id.

        Raises:
            UsageError: no array is named by an id.
        """
        if arrays is None:
            paths = self.files.paths if self.files is not None else []
            return lambda: ((r, ArrayFile(path, self.folder).open()) for r, path in enumerate(paths) if path)
        names = set(arrays.names)
        wanted = [(row, name) for row, name in enumerate(self.ids.tolist()) if name in names]
        if not wanted:
            shown = ", ".join(arrays.names[:8]) + (", …" if len(names) > 8 else "")
            raise UsageError(
                f"{arrays.path} has {len(names)} arrays ({shown}), none named by an id of {self.table.path}: "
                'give array = "NAME"'
            )
        return lambda: ((row, arrays.open(name)) for row, name in wanted)

    def rows(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> bulk.Rows:
        """An empty array of that shape: in double precision, but for what is large and was not stored so."""
        large = 8 * math.prod(shape) >= bulk.LARGE
        return bulk.Rows(shape, self.folder, np.result_type(kind, np.float32) if large else np.float64)

    @property
    def absent(self) -> dict[int, str]:
        """The rows whose own file is not there."""
        return self.files.absent if self.files is not None else {}

    def missing_note(self, missing: NDArray[np.bool_]) -> tuple[str, ...]:
        """What to say of rows without features, where there are any besides those whose file is not there."""
        count = int(missing.sum()) - len(self.absent)
        return (f"{self.name}: {count:,} rows have no features: masked",) if count else ()

    def error(self, row: int, what: str) -> UsageError:
        """The one line about the array of a row, which counts from 0."""
        return UsageError(f"{self.table.path}: row {row + 1}: modality {self.name} {what}")


def read_features(item: FeatureInput, where: Arrays) -> Read:
    """The vectors of the rows of a table, (n, d), NaN in a row that has none.

    What is too large for memory stays in its file, or goes to one in the folder for that.

    Raises:
        UsageError: a file that cannot be read, or does not fit the table.
    """
    if item.column:
        return _stacked(where.each(None), where)
    path = where.root / item.file
    arrays = ArrayFile(path, where.folder)
    if not item.array and len(arrays.names) > 1:
        return _stacked(where.each(arrays), where)
    matrix = arrays.open(item.array)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        hint = 'kind = "sequence" reads (rows, steps, features)'
        raise UsageError(f"{path}: shape {matrix.shape}, expected (rows, features); {hint}")
    rows = places(item.ids, path, len(matrix), where)
    notes = where.missing_note(rows < 0)
    wrong, infinite = np.zeros(matrix.shape[1], dtype=np.int64), False
    for _, block in bulk.blocks(matrix, rows[rows >= 0]):
        odd = ~np.isfinite(block)
        wrong += (odd & ~np.isnan(block).all(axis=1, keepdims=True)).sum(axis=0)
        infinite = infinite or bool(np.isinf(block).any())
    if wrong.any():
        columns = np.flatnonzero(wrong)
        notes += (f"{where.name}: {wrong.sum()} cells in {len(columns)} columns (first: {columns[0]}) are not finite",)
    values = matrix
    if infinite or not _as_it_is(matrix, rows):
        made = where.rows((len(rows), matrix.shape[1]), matrix.dtype)
        for start, block in bulk.blocks(matrix, rows):
            cells = np.array(block, dtype=made.dtype)
            cells[~np.isfinite(cells)] = np.nan
            cells[rows[start : start + len(cells)] < 0] = np.nan
            made.write(start, cells)
        values = made.array()
    return Read(values, (values,), notes, where.absent)


def _as_it_is(matrix: NDArray[Any], rows: Places) -> bool:
    """Whether a large matrix can be used where it lies."""
    large, floats = 8 * matrix.size >= bulk.LARGE, matrix.dtype.kind == "f" and matrix.dtype.isnative
    return large and floats and np.array_equal(rows, np.arange(len(matrix)))


def _stacked(each: Each, where: Arrays) -> Read:
    """A vector a row, each in an array of its own."""
    width, kind = 0, np.dtype(np.float32)
    there = np.zeros(where.table.n, dtype=np.bool_)
    for row, vector in each():
        if vector.ndim != 1 or len(vector) == 0:
            raise where.error(row, f'has shape {vector.shape}, expected (features,); kind = "sequence" reads sequences')
        if width and len(vector) != width:
            raise where.error(row, f"has {len(vector)} features, rows before it have {width}")
        width, kind, there[row] = len(vector), np.result_type(kind, vector.dtype), True
    if not width:
        raise UsageError(f"{where.table.path}: modality {where.name}: no row has features")
    made = where.rows((where.table.n, width), kind)
    wrong = 0
    for row, vector in each():
        cells = np.array(vector, dtype=made.dtype)
        cells[~np.isfinite(cells)] = np.nan
        wrong += int(np.isnan(cells).sum()) if not np.isnan(cells).all() else 0
        made.write(row, cells[None])
    for row in np.flatnonzero(~there).tolist():
        made.write(row, np.full((1, made.shape[1]), np.nan))
    notes = where.missing_note(~there)
    if wrong:
        notes += (f"{where.name}: {wrong:,} cells are not finite",)
    values = made.array()
    return Read(values, (values,), notes, where.absent)


def places(ids: str, path: Path, length: int, where: Arrays) -> Places:
    """For each row of the table its place in a file of ``length`` rows, -1 where it has none.

    ``ids`` is the array of the file that holds the id of each of its rows; empty where they are in the table's order.

    Raises:
        UsageError: not as many rows as the table has, without ids; an id twice, or none that the table has.
    """
    table = where.table
    if not ids:
        if length != table.n:
            raise UsageError(f"{path} has {length} rows, {table.path} has {table.n}: expected as many, or ids")
        return np.arange(length)
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{path}: ids = '{ids}' names an array beside the features, which only .npz holds")
    found = [str(one) for one in read_npz(path, {ids: ("Ui", (length,))})[ids].tolist()]
    place = {one: row for row, one in enumerate(found)}
    if len(place) < len(found):
        raise UsageError(f"{path}: array '{ids}' holds an id twice")
    rows = np.array([place.get(one, -1) for one in where.ids.tolist()], dtype=np.int64)
    if (rows < 0).all():
        raise UsageError(f"{path}: no id in '{ids}' is in column of ids of {table.path}")
    return rows
