"""Someone else's answers as they come: CSV, TSV, JSON, JSONL or Parquet, read to rows of named fields.

Nothing here knows a task. Whatever a file does wrong is one line that names it, the place and what was expected.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mmbench.errors import UsageError

ID_FIELDS = ("id", "image_path", "image")
ANSWER_FIELD = "answer"  # what an object id -> label calls the label

Fields = dict[str, Any]


@dataclass(frozen=True)
class AnswerFile:
    """A file of answers.

    ``id_field`` is the field that holds the sample's id. ``sha256`` is of the bytes that were read.
    """

    path: Path
    format: str
    sha256: str
    id_field: str
    rows: tuple[Fields, ...]


class _MalformedError(ValueError):
    """What is wrong with a file, to be said after its name."""


def read_answer_file(path: Path) -> AnswerFile:
    """Read a file by its suffix: ``.csv .tsv .json .jsonl .ndjson .parquet``.

    Raises:
        UsageError: a file that cannot be read, is of another format or damaged, or has no rows or no ids.
    """
    known = {".csv": _csv, ".tsv": _tsv, ".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader: Callable[[bytes], list[Fields]] | None = known.get(path.suffix.lower())
    try:
        raw = path.read_bytes()
        if reader is None:
            _refuse(f"is no file of predictions by its name: expected {', '.join(known)}")
        if not raw.strip():
            _refuse("is empty")
        rows = reader(raw)
        if not rows:
            _refuse("has no rows")
        return AnswerFile(path, path.suffix.lower()[1:], hashlib.sha256(raw).hexdigest(), _id_field(rows), tuple(rows))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except _MalformedError as error:
        raise UsageError(f"{path} {error}") from None


def _refuse(reason: str) -> NoReturn:
    raise _MalformedError(reason)


def shown(value: object) -> str:
    """A value from a stranger's file as part of a line: short, and without control characters."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = repr(value)  # escapes what cannot be printed
    return text if len(text) <= 60 else f"{text[:57]}…{text[-1]}"


def first(values: Iterable[object]) -> str:
    """The first three values, for a line."""
    found = list(values)
    return ", ".join(shown(value) for value in found[:3]) + ", …" * (len(found) > 3)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = "is UTF-16" if wide else f"is not UTF-8 (byte 0x{raw[error.start]:02x} at {error.start})"
        _refuse(f"{what}: save it as UTF-8")
    if "\0" in text:
        _refuse("is not text: it holds NUL bytes")
    return text


def _csv(raw: bytes) -> list[Fields]:
    return _table(_text(raw), ",")


def _tsv(raw: bytes) -> list[Fields]:
    return _table(_text(raw), "\t")


def _table(text: str, delimiter: str) -> list[Fields]:
    """Rows of a table with a header, values as text; a column without a name (a data frame's index) is left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, line) for line in reader if line]
    except csv.Error as error:
        _refuse(f"cannot be read as a table: line {reader.line_num}: {error}")
    header = [name.strip() for name in lines[0][1]] if lines else []
    twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    if twice:
        _refuse(f"has {len(twice)} columns of one name: {first(twice)}")
    ragged = [(number, len(line)) for number, line in lines if len(line) != len(header)]
    if ragged:
        number, length = ragged[0]
        _refuse(
            f"has {len(ragged)} rows of another length than its header: line {number} has {length} fields, "
            f"expected {len(header)}"
        )
    return [{name: value for name, value in zip(header, line, strict=True) if name} for _, line in lines[1:]]


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        _refuse(f"is nested too deeply{where}")
    except _MalformedError as error:
        _refuse(f"{error}{where}")
    except ValueError as error:
        _refuse(f"is not JSON{where}: {error}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        _refuse(f"gives {len(twice)} keys of an object twice: {first(twice)}")
    return found


def _json(raw: bytes) -> list[Fields]:
    value = _loads(_text(raw), "")
    if isinstance(value, list):
        return _objects(value)
    if isinstance(value, dict):
        return [
            {**(answer if isinstance(answer, dict) else {ANSWER_FIELD: answer}), ID_FIELDS[0]: key}
            for key, answer in value.items()
        ]
    _refuse(f"holds {shown(value)}, expected a list of objects, or an object from id to answer")


def _jsonl(raw: bytes) -> list[Fields]:
    lines = enumerate(_text(raw).split("\n"), start=1)
    return _objects([_loads(line, f", line {number}") for number, line in lines if line.strip()])


def _objects(values: list[Any]) -> list[Fields]:
    other = [number for number, value in enumerate(values, start=1) if not isinstance(value, dict)]
    if other:
        _refuse(f"has {len(other)} rows that are no objects: row {other[0]} is {shown(values[other[0] - 1])}")
    return values


def _parquet(raw: bytes) -> list[Fields]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        _refuse("needs pyarrow to be read: python -m pip install pyarrow, or save it as CSV or JSONL")
    try:
        rows: list[Fields] = pyarrow.parquet.read_table(pyarrow.BufferReader(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError):
        _refuse("is not Parquet, or damaged: write it again")
    return rows


def _id_field(rows: list[Fields]) -> str:
    names = dict.fromkeys(name for row in rows for name in row)
    for field in ID_FIELDS:
        if field in names:
            without = [number for number, row in enumerate(rows, start=1) if row.get(field) in (None, "")]
            if without:
                _refuse(f"has {len(without)} rows without an id: the first is row {without[0]}")
            return field
    _refuse(f"has no column of ids: expected {' or '.join(ID_FIELDS)}, found {first(names)}")
