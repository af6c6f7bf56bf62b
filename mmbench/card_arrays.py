"""Arrays that lie beside a table: which of them are features or sequences of its rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from mmbench.arrays import read_columns
from mmbench.errors import UsageError
from mmbench.locate import cache_folder
from mmbench.matrices import SUFFIXES, ArrayFile
from mmbench.tables import Table

MOST = 64  # files that are looked into, and arrays of one
KINDS = {1: "features", 2: "sequence"}  # by the axes of a row


def arrays_of_column(table: Table, name: str, root: str, suffix: str = "") -> str:
    """The kind of a modality whose arrays are in files that a column names, by the first one that is there."""
    for cell in table.texts(name):
        path = table.path.parent / root / (cell.strip() + suffix)
        if cell.strip() and path.is_file():
            try:
                return KINDS.get(ArrayFile(path, cache_folder()).open().ndim, "features")
            except UsageError:
                continue
    return "features"


def arrays_beside(table: Table, ids: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """A name and the lines of a section for every array in a file beside the table that fits its rows."""
    files = sorted(path for path in table.path.parent.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    for path in files[:MOST]:
        try:
            arrays = ArrayFile(path, cache_folder())
            named = set(arrays.names) & set(ids)
            if 2 * len(named) > len(ids) > 0:
                kind = KINDS.get(arrays.open(min(named)).ndim)
                if kind is not None:
                    yield path.stem, [f"kind = {json.dumps(kind)}", f"file = {json.dumps(path.name)}"]
                continue
            columns = read_columns(path) if path.suffix.lower() == ".npz" else {}
        except UsageError:
            continue
        found = []
        for name in [name for name in arrays.names if name not in columns][:MOST]:
            with suppress(UsageError):
                if lines := _fitting(name, arrays.open(name), columns, table.n, ids):
                    found.append((name, lines))
        for name, lines in found:
            where = [f"file = {json.dumps(path.name)}", *([f"array = {json.dumps(name)}"] if name else [])]
            yield name if len(found) > 1 else path.stem, [lines[0], *where, *lines[1:]]


def _fitting(
    called: str, array: NDArray[Any], columns: dict[str, NDArray[Any]], n: int, ids: Sequence[str]
) -> list[str]:
    """The lines about an array whose rows are those of the table, or are named by its ids; else none.

    Of several columns that may be its lengths, one with a word of the array's own name is, or one that fills it.
    """
    wanted = set(ids)
    by_id = {
        name: len(column)
        for name, column in columns.items()
        if 2 * len(wanted.intersection(map(str, column.tolist()))) > len(wanted) > 0
    }
    counts = {name: column for name, column in columns.items() if column.dtype.kind in "iu" and (column >= 0).all()}
    fills = {name: array.shape[1:2] == (column.max(initial=0),) for name, column in counts.items()}
    likely = sorted(counts, key=lambda name: (not _words(called) & _words(name), not fills[name]))
    if array.ndim in (2, 3) and array.shape[1]:
        own = next((name for name, length in by_id.items() if length == len(array)), "")
        if own or len(array) == n:
            lines = ['kind = "features"' if array.ndim == 2 else 'kind = "sequence"']
            lines += [f"ids = {json.dumps(own)}"] if own else []
            if array.ndim == 3:
                fits = [c for c in likely if len(counts[c]) == len(array) and 0 < counts[c].max() <= array.shape[1]]
                lines += [f"lengths = {json.dumps(name)}" for name in fits if name not in by_id][:1]
            return lines
    if array.ndim == 2:
        for name in likely:
            held = counts[name]
            own = next((other for other, length in by_id.items() if length == len(held) and other != name), "")
            if int(held.sum()) == len(array) and (own or len(held) == n):
                return [
                    'kind = "sequence"',
                    *([f"ids = {json.dumps(own)}"] if own else []),
                    f"lengths = {json.dumps(name)}",
                ]
    return []


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name.lower()))
