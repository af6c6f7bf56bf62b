"""Tables of any common kind as columns of texts: CSV, TSV, JSON lines, Parquet, the columns of a NumPy archive.

A cell is a text, a list of texts (JSON lines, Parquet) or None where there is nothing. Rows are counted from 1, the
header not among them.
"""

from __future__ import annotations

import json
import math
from ast import literal_eval
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmbench.errors import UsageError, unknown

Cell = str | list[str] | None
LONGEST_FIELD = 2**24  # characters; Python's own limit is short of a long text
LONGEST_LIST = 2**14  # characters of a list that is written in a cell
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".npz")
SEPARATORS = (",", "\t", ";", "|")
CHUNK = 10_000  # rows that are turned into columns at a time


@dataclass(frozen=True)
class Table:
    """A table as read; every column has ``n`` cells.

    ``nested`` are the columns that hold what no cell can, each with the one line that says so to whoever asks for it.
    """

    path: Path
    columns: dict[str, list[Cell]]
    n: int
    nested: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> list[Cell]:
        """The cells of a column; a UsageError with the nearest names for an unknown one, or of what a nested one is."""
        if name in self.nested:
            raise UsageError(self.nested[name])
        if name not in self.columns:
            raise unknown(f"column of {self.path}", name, self.columns)
        return self.columns[name]

    def texts(self, name: str) -> list[str]:
        """The cells of a column as texts, empty where there is nothing.

        Raises:
            UsageError: an unknown column, or a list.
        """
        cells = []
        for row, cell in enumerate(self.column(name)):
            if isinstance(cell, list):
                raise self.error(row, name, "is a list, expected one value")
            cells.append(cell or "")
        return cells

    def without(self, marks: Collection[str]) -> Table:
        """The table with nothing in the cells that hold one of ``marks`` alone."""
        if not marks:
            return self
        columns: dict[str, list[Cell]] = {
            name: [None if isinstance(cell, str) and cell.strip() in marks else cell for cell in cells]
            for name, cells in self.columns.items()
        }
        return replace(self, columns=columns)

    def error(self, row: int, column: str, what: str) -> UsageError:
        """The one line about a cell; ``row`` counts from 0."""
        return UsageError(f"{self.path}: row {row + 1}, column '{column}' {what}")


def read_table(path: Path, separator: str | None = None, quotes: bool = True, encoding: str = "utf-8") -> Table:
    """Read a table by its suffix.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` (one object a line), ``.parquet``, or ``.npz``, whose arrays of one
            dimension are the columns.
        separator: of CSV and TSV; by default a comma or a tab, or where the header has none another usual one.
        quotes: whether ``"`` quotes a field of CSV and TSV.
        encoding: of CSV, TSV and JSON lines; a byte order mark is passed over.

    Raises:
        UsageError: no such file, another suffix, or a file that is not what its suffix says; names the line.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected a table ({', '.join(SUFFIXES)}), found '{suffix}'")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    nested: dict[str, str] = {}
    try:
        if suffix == ".parquet":
            columns = _parquet(path, nested)
        elif suffix == ".npz":
            columns = _archive(path)
        elif suffix in (".csv", ".tsv"):
            columns = _delimited(path, separator or find_separator(path, encoding), quotes, encoding)
        else:
            columns = _json_lines(path, encoding, nested)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} is not {encoding}; save the table as UTF-8 or name its encoding"
        ) from None
    except LookupError:
        raise UsageError(f"{path}: '{encoding}' is no known encoding, expected for example utf-8 or cp1252") from None
    n = len(next(iter(columns.values()), []))
    if n == 0:
        raise UsageError(f"{path}: the table has no rows")
    return Table(path, {name: cells for name, cells in columns.items() if name not in nested}, n, nested)


def without_mark(encoding: str) -> str:
    """The encoding that passes over a byte order mark, where there is one.

    Raises:
        LookupError: it is none, or none of texts.
    """
    try:
        "".encode(encoding)
    except ValueError as error:  # a name that no name can be
        raise LookupError(str(error)) from None
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding


def _delimited(path: Path, separator: str, quotes: bool, encoding: str) -> dict[str, list[Cell]]:
    """The fields of every record under a name; a record with more or fewer fields than the header is an error."""
    import csv

    if len(separator) != 1 or separator in '"\r\n':
        raise UsageError(f"{path}: separator {separator!r}: expected one character such as ';'")
    limit = csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding=without_mark(encoding), newline="") as file:
        try:
            if quotes:
                reader = csv.reader(file, delimiter=separator, strict=True)
            else:
                reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
            header = [name.strip() for name in next(reader, [])]
            twice = {name for name in header if name and header.count(name) > 1}
            if twice:
                raise UsageError(f"{path}: column '{min(twice)}' stands twice in the header")
            columns: list[list[Cell]] = [[] for _ in header]
            for rows in _chunks(reader, path, len(header)):
                for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
                    column.extend(cell or None for cell in cells)
        except csv.Error as error:
            more = '; where " is a plain character, say quotes = false' if quotes and '"' in str(error) else ""
            raise UsageError(f"{path}: line {reader.line_num}: {error}{more}") from None
        finally:
            csv.field_size_limit(limit)
    return {name: cells for name, cells in zip(header, columns, strict=True) if name}


def find_separator(path: Path, encoding: str) -> str:
    """The separator that is usual for the file's suffix, or where its first line has none another that it has.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding=without_mark(encoding), newline="") as file:
        header = file.readline(LONGEST_FIELD)
    others = sorted(SEPARATORS, key=lambda separator: -header.count(separator))
    return usual if usual in header or others[0] not in header else others[0]


def _chunks(reader: Any, path: Path, width: int) -> Iterator[list[list[str]]]:
    """The records, some at a time; texts that stand in many cells are held once."""
    shared: dict[str, str] = {}
    rows: list[list[str]] = []
    done = 0
    for fields in reader:
        if not fields:
            continue
        if len(fields) != width:
            raise UsageError(
                f"{path}: row {done + len(rows) + 1} (line {reader.line_num}) has {len(fields)} fields, "
                f"the header {width}"
            )
        if len(shared) > CHUNK:
            shared.clear()
        rows.append([shared.setdefault(field, field) for field in fields])
        if len(rows) == CHUNK:
            yield rows
            done, rows = done + len(rows), []
    if rows:
        yield rows


def _json_lines(path: Path, encoding: str, nested: dict[str, str]) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {}
    n = 0
    with path.open(encoding=without_mark(encoding)) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}: line {number} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise UsageError(f"{path}: line {number} is not an object: expected {{…}} with the columns as keys")
            for name, value in record.items():
                cells = columns.setdefault(name, [None] * n)
                cells.append(_cell(value, name, f"{path}: row {n + 1}, column '{name}'", nested))
            n += 1
            for cells in columns.values():
                cells.extend([None] * (n - len(cells)))
    return columns


def _parquet(path: Path, nested: dict[str, str]) -> dict[str, list[Cell]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path).convert_dtypes()
    except ImportError:
        raise UsageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a Parquet file that can be read: {error}") from None
    return {
        str(name): [
            _cell(value, str(name), f"{path}: row {row + 1}, column '{name}'", nested)
            for row, value in enumerate(frame[name])
        ]
        for name in frame.columns
    }


def _archive(path: Path) -> dict[str, list[Cell]]:
    """The arrays of one dimension that have the commonest length."""
    import numpy as np

    from mmbench.arrays import read_columns

    arrays = {
        name: np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        for name, array in read_columns(path).items()
    }
    if not arrays:
        raise UsageError(f"{path}: no array of texts or numbers has one dimension, so that it could be a column")
    (length, _), *_ = Counter(map(len, arrays.values())).most_common(1)
    return {
        name: [_scalar(value) for value in array.tolist()] for name, array in arrays.items() if len(array) == length
    }


def _cell(value: Any, name: str, where: str, nested: dict[str, str]) -> Cell:
    """A value of JSON or Parquet as a cell: numbers as they are written, whole ones without a point.

    An object, or a list in a list, makes its column one of ``nested``.
    """
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    several = isinstance(value, list | tuple)
    for item in value if several else [value]:
        if isinstance(item, dict | list | tuple):
            told = f"{where} holds a {type(item).__name__}, expected a text, a number or a list of them"
            nested.setdefault(name, told)
            return None
    if several:
        return [text for text in map(_scalar, value) if text is not None]
    return _scalar(value)


def _scalar(value: Any) -> str | None:
    match value:
        case str():
            return value or None
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return None if str(value) in ("<NA>", "NaT") else str(value)


def numbers(table: Table, column: str) -> list[float]:
    """A column as numbers, NaN where there is nothing.

    Raises:
        UsageError: a cell that is no number.
    """
    values = []
    for row, cell in enumerate(table.texts(column)):
        try:
            values.append(float(cell) if cell.strip() else math.nan)
        except ValueError:
            raise table.error(row, column, f"is '{cell[:40]}', expected a number") from None
    return values


def separated(cell: str, separator: str) -> list[str]:
    """The texts of a cell that holds several, stripped, none of them empty.

    They stand between separators, or in a list as JSON or Python writes one: ``a;b``, ``["a", "b"]``, ``['a', 'b']``.
    """
    values = _list(cell) if cell.startswith("[") and cell.endswith("]") and len(cell) <= LONGEST_LIST else None
    return [text for value in (values or cell.split(separator)) if (text := str(value).strip())]


def _list(cell: str) -> list[str | int | float] | None:
    for read in (json.loads, literal_eval):
        try:
            values = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(values, list) and all(isinstance(value, str | int | float) for value in values):
            return values or [""]
    return None


def distinct(cells: Iterable[str]) -> list[str]:
    """The different texts that are not empty, sorted, as numbers where all are numbers."""
    found = {cell for cell in cells if cell}
    try:
        return sorted(found, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(found)
