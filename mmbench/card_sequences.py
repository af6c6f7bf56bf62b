"""Sequences of a task card: padded, one after another with their lengths, an array a row by its id, or a file a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import bulk
from mmbench.arrays import read_npz
from mmbench.card_features import Arrays, Each, Read, places
from mmbench.card_schema import SequenceInput
from mmbench.errors import UsageError
from mmbench.matrices import ArrayFile

ROWS = 1000  # after which the pages of a mapped file are given back


def read_sequences(item: SequenceInput, where: Arrays) -> Read:
    """The sequences of the rows of a table, (n, T, d): T is the longest, a step that is not there is NaN throughout.

    Raises:
        UsageError: a file that cannot be read, or does not fit the table.
    """
    each = where.each(None) if item.column else _of_one_file(item, where)
    (n, longest, width), kind, there = _survey(each, where, item.max_steps)
    made = where.rows((n, longest, width), kind)
    wrong = zeros = 0
    for row, sequence in each():
        steps = np.array(sequence, dtype=made.dtype)
        steps[~np.isfinite(steps)] = np.nan
        wrong += int(np.isnan(steps[~np.isnan(steps).all(axis=1)]).sum())
        empty = ~steps.any(axis=1)
        zeros += int(empty.sum())
        if item.zero_padded:
            steps[empty] = np.nan
        padded = np.full((1, longest, width), np.nan, dtype=made.dtype)
        steps = averaged(steps, longest)
        padded[0, : len(steps)] = steps
        made.write(row, padded)
    for row in np.flatnonzero(~there).tolist():
        made.write(row, np.full((1, longest, width), np.nan, dtype=made.dtype))
    notes = where.missing_note(~there)
    if wrong:
        notes += (f"{where.name}: {wrong:,} cells are not finite",)
    if zeros and not item.zero_padded:
        notes += (f"{where.name}: {zeros:,} steps hold nothing but 0: where that is padding, say zero_padded = true",)
    values = made.array()
    return Read(values, (values,), notes, where.absent)


def _survey(each: Each, where: Arrays, max_steps: int) -> tuple[tuple[int, int, int], np.dtype[Any], NDArray[np.bool_]]:
    """The shape that holds all sequences, a type that holds all numbers, and which rows have a sequence."""
    longest, width, kind = 0, 0, np.dtype(np.float32)
    there = np.zeros(where.table.n, dtype=np.bool_)
    for row, sequence in each():
        if sequence.ndim != 2 or sequence.shape[1] == 0:
            raise where.error(row, f"has shape {sequence.shape}, expected (steps, features)")
        if width and sequence.shape[1] != width:
            raise where.error(row, f"has {sequence.shape[1]} features a step, rows before it have {width}")
        longest, width, kind = max(longest, len(sequence)), sequence.shape[1], np.result_type(kind, sequence.dtype)
        there[row] = len(sequence) > 0
    if longest == 0:
        raise UsageError(f"{where.table.path}: modality {where.name}: no row has a sequence")
    return (where.table.n, min(longest, max_steps or longest), width), kind, there


def averaged(steps: NDArray[Any], most: int) -> NDArray[Any]:
    """Steps (L, d), or where they are more than ``most`` the means of as many runs of them: t goes to t * most // L.

    A cell of a mean is over what is not NaN.
    """
    if len(steps) <= most:
        return steps
    first = np.flatnonzero(np.diff(np.arange(len(steps)) * most // len(steps), prepend=-1))
    known = ~np.isnan(steps)
    count = np.add.reduceat(known, first, axis=0, dtype=np.int64)
    total = np.add.reduceat(np.where(known, steps, 0), first, axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _of_one_file(item: SequenceInput, where: Arrays) -> Each:
    """One file holds all: an array (rows, steps, features), one (steps, features) with lengths, or one for each id."""
    path = where.root / item.file
    arrays = ArrayFile(path, where.folder)
    if not item.array and len(arrays.names) > 1:
        return where.each(arrays)
    array = arrays.open(item.array)
    if item.lengths and path.suffix.lower() != ".npz":
        raise UsageError(f"{path}: lengths = '{item.lengths}' names an array of the same file, which only .npz holds")
    if array.ndim != (2 if item.lengths and array.ndim < 3 else 3):
        raise UsageError(
            f"{path}: shape {array.shape}, expected (rows, steps, features), or (steps, features) with lengths"
        )
    count = len(array)
    lengths = np.full(count, array.shape[1])
    if item.lengths:
        lengths = read_npz(path, {item.lengths: ("iu", ("rows",))})[item.lengths].astype(np.int64)
        count = len(lengths)
        ragged = array.ndim == 2
        if lengths.min(initial=0) < 0:
            raise UsageError(f"{path}: array '{item.lengths}' holds {lengths.min()}, expected the number of steps")
        if ragged and lengths.sum() != len(array):
            raise UsageError(
                f"{path}: array '{item.lengths}' sums to {lengths.sum()}, array '{item.array}' has {len(array)} steps"
            )
        if not ragged and (count != len(array) or lengths.max(initial=0) > array.shape[1]):
            raise UsageError(f"{path}: array '{item.lengths}' does not fit array '{item.array}' of shape {array.shape}")
    begins = np.cumsum(lengths) - lengths
    rows = places(item.ids, path, count, where)

    def read() -> Iterator[tuple[int, NDArray[Any]]]:
        for done, (row, place) in enumerate(enumerate(rows.tolist()), start=1):
            if place >= 0 and array.ndim == 3:
                yield row, array[place, : lengths[place]]
            elif place >= 0:
                yield row, array[begins[place] : begins[place] + lengths[place]]
            if done % ROWS == 0:
                bulk.give_back(array)

    return read
