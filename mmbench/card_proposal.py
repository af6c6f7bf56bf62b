"""A first task card for a table: what its columns and the arrays beside it seem to be.

A guess to be read and corrected, never used unseen; whatever is not clear stands in it as a comment.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmbench.card_arrays import arrays_beside, arrays_of_column
from mmbench.card_data import SPLIT_WORDS
from mmbench.card_guess import (
    FILES,
    MOST_LABELS,
    Columns,
    guess_columns,
    labels_of,
    marks_of,
    number,
    separator_of,
)
from mmbench.errors import UsageError
from mmbench.tables import Table, find_separator, read_table

MOST_LOOKED_FOR = 100  # files of a column, to see below which folder they are
FEWEST_NUMBERED = 4  # columns such as x_1, x_2, …, from which on they are one modality
NUMBERED = re.compile(r"^(.*?\D)\d+$")
MEDIA = ("image", "audio", "video")
PLAIN = frozenset((
    "all", "annotations", "data", "dataset", "index", "label", "labels", "meta", "metadata", "split", "splits", "table",
))  # fmt: skip


def propose(path: Path, labels: Sequence[str] = ()) -> str:
    """The text of a card for a table.

    Args:
        path: see :func:`mmbench.tables.read_table`.
        labels: the columns that are labels; by default those that look like it.

    Raises:
        UsageError: the table cannot be read, or no column looks like a label or none like an input.
    """
    table, format_lines = _read(path)
    marks = marks_of(table)
    if marks:
        table = table.without(marks)
        format_lines.append(f"missing = {_toml(marks)}   # cells that hold nothing")
    for name in labels:
        table.column(name)
    columns = guess_columns(table, labels)
    if not columns.of("label"):
        shown = ", ".join(list(table.columns)[:12])
        raise UsageError(f"{path}: no column looks like a label: name it with --label ({shown})")
    modalities = list(_modalities(table, columns))
    if not modalities:
        raise UsageError(f"{path}: no column looks like an input: write the card by hand, see docs/own-data.md")
    lines = [
        "# Proposed by mmbench: read it, correct it, and write what you know of licence and source.",
        f"name = {_toml(_name(path))}",
        f"summary = {_toml(f'{table.n:,} rows of {path.name}')}",
        f"table = {_toml(path.name)}",
        *format_lines,
        'licence = "unknown"',
        'citation = ""',
    ]
    lines += [f"{key} = {_toml(columns.of(key)[0])}" for key in ("id", "group") if columns.of(key)]
    if not columns.of("group"):
        lines.append('# group = "COLUMN"   # rows that belong together (one author, one video) must not be split')
    unused = [*columns.of("unused"), *table.nested]
    if unused:
        lines.append(f"# not used: {', '.join(json.dumps(name, ensure_ascii=False) for name in unused)}")
    for kind, sections in (("modalities", modalities), ("concepts", list(_concepts(table, columns)))):
        taken: Counter[str] = Counter()
        for name, section in sections:
            taken[name] += 1
            mark = f"-{taken[name]}" if taken[name] > 1 else ""
            lines += ["", f"[{kind}.{name}{mark}]", *section]
    split = columns.of("split")
    lines += ["", "[split]", f"column = {_toml(split[0])}" if split else "fractions = [0.6, 0.2, 0.2]"]
    if split and "val" not in {SPLIT_WORDS[cell.strip().lower()] for cell in table.texts(split[0])}:
        lines.append("val_fraction = 0.2")
    return "\n".join(lines) + "\n"


def _read(path: Path) -> tuple[Table, list[str]]:
    """The table, and what a card must say of its format where that is not the usual one.

    Text that is no UTF-8 is taken for Windows' Western one, or where it has its mark for UTF-16; where ``"`` cannot be
    quotes it is a plain character.
    """
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return read_table(path), []
    lines = []
    encoding = _encoding(path)
    if encoding != "utf-8":
        lines.append(f"encoding = {_toml(encoding)}")
    try:
        table = read_table(path, encoding=encoding)
    except UsageError:
        try:
            table = read_table(path, quotes=False, encoding=encoding)
        except UsageError:
            return read_table(path, encoding=encoding), []  # what is wrong with it as it usually is
        lines.append("quotes = false")
    separator = find_separator(path, encoding)
    if separator != ("\t" if path.suffix.lower() == ".tsv" else ","):
        lines.insert(0, f"separator = {_toml(separator)}")
    return table, lines


def _encoding(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
        with path.open(encoding="utf-8") as text:
            while text.read(2**20):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    except OSError:
        pass
    return "utf-8"


def _modalities(table: Table, columns: Columns) -> Iterator[tuple[str, list[str]]]:
    """The sections of the modalities: a name, and the lines."""
    if columns.of("text"):
        yield "text", ['kind = "text"', f"columns = {_toml(columns.of('text'))}"]
    for name in columns.of("document"):
        root = _root(table, name)
        yield _slug(name), ['kind = "text"', f"columns = {_toml([name])}", f"root = {_toml(root)}"]
    for kind in MEDIA:
        named = columns.of(kind)  # type: ignore[arg-type]
        for name in named:
            section = kind if len(named) == 1 else _slug(name)
            yield section, [f"kind = {_toml(kind)}", f"column = {_toml(name)}", f"root = {_toml(_root(table, name))}"]
    for name in columns.of("array"):
        root = _root(table, name)
        kind = arrays_of_column(table, name, root)
        yield _slug(name), [f"kind = {_toml(kind)}", f"column = {_toml(name)}", f"root = {_toml(root)}"]
    if columns.of("id"):
        yield from _named_by_id(table, columns)
    numbered = _numbered(columns.of("number"))
    for stem, numeric in numbered.items():
        pattern = f"{stem}*"
        names = [pattern] if fnmatch.filter(table.columns, pattern) == numeric else numeric
        yield _slug(stem), ['kind = "tabular"', f"numeric = {_toml(names)}"]
    single = [name for name in columns.of("number") if not any(name in numeric for numeric in numbered.values())]
    if single or columns.of("level"):
        keys = (("numeric", single), ("categorical", columns.of("level")))
        yield "tabular", ['kind = "tabular"', *(f"{key} = {_toml(names)}" for key, names in keys if names)]
    ids = columns.of("id")
    for name, lines in arrays_beside(table, table.texts(ids[0]) if ids else []):
        yield _slug(name), lines


def _named_by_id(table: Table, columns: Columns) -> Iterator[tuple[str, list[str]]]:
    """The sections of files that lie in a folder beside the table, named by the ids, where no column names such."""
    (column,) = columns.of("id")
    ids = {cell.strip() for cell in table.texts(column)[:MOST_LOOKED_FOR]} - {""}
    taken = set(columns.roles.values())
    for folder in _folders(table):
        held = Counter(path.suffix for path in folder.iterdir() if path.stem in ids)
        root = folder.relative_to(table.path.parent).as_posix()
        for suffix, count in sorted(held.items()):
            role = next((role for pattern, role in FILES.items() if re.search(pattern, suffix, re.IGNORECASE)), None)
            if role is None or role in taken or 2 * count <= len(ids):
                continue
            where = [f"root = {_toml(root)}", f"suffix = {_toml(suffix)}"]
            if role == "document":
                yield "text", ['kind = "text"', f"columns = {_toml([column])}", *where]
            else:
                kind = arrays_of_column(table, column, root, suffix) if role == "array" else role
                yield (
                    _slug(folder.name) if root != "." else role,
                    [f"kind = {_toml(kind)}", f"column = {_toml(column)}", *where],
                )


def _folders(table: Table) -> list[Path]:
    """The table's own folder, and those in it."""
    beside = table.path.parent
    return [beside, *sorted(path for path in beside.iterdir() if path.is_dir())]


def _numbered(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that differ in a number at their end, by what they begin with, where there are several."""
    found: dict[str, list[str]] = {}
    for name in names:
        if match := NUMBERED.match(name):
            found.setdefault(match[1], []).append(name)
    return {stem: columns for stem, columns in found.items() if len(columns) >= FEWEST_NUMBERED}


def _concepts(table: Table, columns: Columns) -> Iterator[tuple[str, list[str]]]:
    """The sections of the concepts: a name, and the lines."""
    if columns.indicators:
        yield "labels", ['kind = "multilabel"', f"columns = {_toml(columns.indicators)}"]
        return
    for name in columns.of("label"):
        separator = separator_of(table, name)
        found = labels_of(table, name, separator)
        numeric = not separator and all(map(number, found))
        bounds = f"bounds = [{found[0]}, {found[-1]}]" if numeric and found else ""
        if numeric and (len(found) > MOST_LABELS or not all(float(label).is_integer() for label in found)):
            yield _slug(name), ['kind = "score"', f"column = {_toml(name)}", f"{bounds}   # the ends of its scale"]
            continue
        lines = [f'kind = "{"multilabel" if separator else "exclusive"}"', f"column = {_toml(name)}"]
        if separator:
            lines.append(f"separator = {_toml(separator)}")
        if len(found) <= MOST_LABELS:
            lines.append(f"labels = {_toml(found)}")
        if numeric and float(found[0]) < 0:
            lines.append(f'# or as a number: kind = "score", {bounds}, and no labels')
        if separator:
            lines.append('empty = "none"   # an empty cell: none of the labels; or "unlabelled"')
        yield _slug(name), lines


def _root(table: Table, name: str) -> str:
    """The folder beside the table below which most of a column's first files lie, or ``.``."""
    cells = [cell.strip() for cell in table.texts(name) if cell.strip()][:MOST_LOOKED_FOR]
    best = max(_folders(table), key=lambda folder: sum((folder / cell).is_file() for cell in cells))
    return best.relative_to(table.path.parent).as_posix()


def _name(path: Path) -> str:
    """The name of a task: the table's, or its folder's where the table is called what any table could be."""
    name, folder = _slug(path.stem), _slug(path.resolve().parent.name)
    return folder if name in PLAIN and folder[0].isalnum() else name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "data"


def _toml(value: str | Sequence[str]) -> str:
    """A text or a list of texts in TOML, whose basic strings are those of JSON but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
