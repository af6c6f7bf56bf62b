"""A first task card for a table: what each column seems to be, by its name and its cells.

A guess to be read and corrected, never used unseen; whatever is not clear stands in it as a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mmbench.card_data import SPLIT_WORDS
from mmbench.errors import UsageError
from mmbench.tables import Cell, Table, distinct, read_table

IMAGE = re.compile(r"\.(jpe?g|png|gif|bmp|webp|tiff?)$", re.IGNORECASE)
SPLIT_NAMES = ("split", "fold", "partition", "subset", "set")
GROUP_NAMES = frozenset(
    ("group", "user", "author", "speaker", "video", "patient", "subject", "session", "tweet", "event", "source")
)
LABEL_NAMES = frozenset(
    ("label", "labels", "class", "classes", "target", "targets", "category", "tags", "sentiment", "emotion", "y")
)
SEPARATORS = (";", "|", ",")
MOST_LABELS, MOST_LEVELS, FEWEST_WORDS = 50, 50, 3


def propose(path: Path, labels: Sequence[str] = ()) -> str:
    """The text of a card for a table.

    Args:
        path: see :func:`mmbench.tables.read_table`.
        labels: the columns that are labels; by default those that look like it.

    Raises:
        UsageError: the table cannot be read, or no column looks like a label or none like an input.
    """
    table = read_table(path)
    for name in labels:
        table.column(name)
    roles = _roles(table, labels)
    concepts = [name for name, role in roles.items() if role == "label"]
    if not concepts:
        raise UsageError(
            f"{path}: no column looks like a label: name it with --label ({', '.join(list(table.columns)[:12])})"
        )
    inputs = {role: [name for name, r in roles.items() if r == role] for role in ("text", "image", "number", "level")}
    if not any(inputs.values()):
        raise UsageError(f"{path}: no column looks like an input: write the card by hand, see docs/own-data.md")
    lines = [
        "# Proposed by mmbench: read it, correct it, and write what you know of licence and source.",
        f"name = {_toml(_slug(path.stem))}",
        f"summary = {_toml(f'{table.n:,} rows of {path.name}')}",
        f"table = {_toml(path.name)}",
        'licence = "unknown"',
        'citation = ""',
    ]
    lines += [f"{key} = {_toml(name)}" for key in ("id", "group") for name, role in roles.items() if role == key]
    if "group" not in roles.values():
        lines.append('# group = "COLUMN"   # rows that belong together (one author, one video) must not be split')
    unused = [name for name, role in roles.items() if role == "unused"]
    if unused:
        lines.append(f"# not used: {', '.join(json.dumps(name, ensure_ascii=False) for name in unused)}")
    if inputs["text"]:
        lines += ["", "[modalities.text]", 'kind = "text"', f"columns = {_toml(inputs['text'])}"]
    for name in inputs["image"]:
        section = "image" if len(inputs["image"]) == 1 else _slug(name)
        lines += ["", f"[modalities.{section}]", 'kind = "image"', f"column = {_toml(name)}"]
        lines.append(f"root = {_toml(_media_root(table, name))}")
    if inputs["number"] or inputs["level"]:
        lines += ["", "[modalities.tabular]", 'kind = "tabular"']
        lines += [f"{key} = {_toml(inputs[role])}" for key, role in (("numeric", "number"), ("categorical", "level"))]
    for name in concepts:
        lines += ["", f"[concepts.{_slug(name)}]", *_concept(table, name)]
    split = [name for name, role in roles.items() if role == "split"]
    lines += ["", "[split]", f"column = {_toml(split[0])}" if split else "fractions = [0.6, 0.2, 0.2]"]
    if split and "val" not in {SPLIT_WORDS[cell.strip().lower()] for cell in table.texts(split[0])}:
        lines.append("val_fraction = 0.2")
    return "\n".join(lines) + "\n"


def _roles(table: Table, labels: Sequence[str]) -> dict[str, str]:
    """What each column seems to be: id, group, split, label, text, image, number, level or unused."""
    roles: dict[str, str] = {}
    for name, cells in table.columns.items():
        if name in labels:
            roles[name] = "label"
        else:
            role = _role(name, cells, table.n, guess_label=not labels)
            once = role in ("id", "group", "split") and role in roles.values()
            roles[name] = "unused" if once else role
    if "label" not in roles.values():
        last = list(table.columns)[-1]
        if roles[last] == "level" and len(distinct(_flat(table.columns[last]))) <= MOST_LABELS:
            roles[last] = "label"
    return roles


def _role(name: str, cells: Sequence[Cell], n: int, guess_label: bool) -> str:
    flat = _flat(cells)
    different = len(set(flat))
    words = re.split(r"[\W_]+", name.lower())
    if different < 2:
        return "unused"
    if any(isinstance(cell, list) for cell in cells):
        return "label" if guess_label and different <= 4 * MOST_LABELS else "unused"
    if words[-1] in SPLIT_NAMES and all(cell.strip().lower() in SPLIT_WORDS for cell in flat):
        return "split"
    if words[-1] in ("id", "key", "index") and different == len(flat) == n:
        return "id"
    if sum(bool(IMAGE.search(cell.strip())) for cell in flat) >= 0.8 * len(flat):
        return "image"
    if guess_label and LABEL_NAMES.intersection(words) and different <= n // 2:
        return "label"
    if words[-1] in ("id", "key") or (set(words) & set(GROUP_NAMES) and different > MOST_LEVELS):
        return "group" if different < n else "unused"
    if all(_is_number(cell) for cell in flat):
        return "number"
    if sum(len(cell.split()) for cell in flat) >= FEWEST_WORDS * len(flat):
        return "text"
    return "level" if different <= min(MOST_LEVELS, n // 2) else "unused"


def _flat(cells: Sequence[Cell]) -> list[str]:
    return [text for cell in cells if cell for text in (cell if isinstance(cell, list) else [cell]) if text.strip()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _concept(table: Table, name: str) -> list[str]:
    """The lines of a concept: several labels a cell where cells, cut at a separator, share their parts."""
    cells = table.column(name)
    whole = set(_flat(cells))
    found = whole
    separator = "" if not any(isinstance(cell, list) for cell in cells) else ";"
    for candidate in SEPARATORS:
        parts = [{part.strip() for part in cell.split(candidate) if part.strip()} for cell in whole]
        if not separator and len(set().union(*parts)) < sum(map(len, parts)):  # some part stands in two cells
            separator, found = candidate, set().union(*parts)
    lines = ['kind = "multilabel"' if separator else 'kind = "exclusive"', f"column = {_toml(name)}"]
    if separator:
        lines.append(f"separator = {_toml(separator)}")
    if len(found) <= MOST_LABELS:
        lines.append(f"labels = {_toml(distinct(part.strip() for part in found))}")
    if separator:
        lines.append('empty = "none"   # an empty cell: none of the labels; or "unlabelled"')
    return lines


def _media_root(table: Table, name: str) -> str:
    """The folder beside the table below which the first image lies, or ``.``."""
    first = next(cell for cell in table.texts(name) if cell.strip()).strip()
    folders = [table.path.parent, *sorted(p for p in table.path.parent.iterdir() if p.is_dir())]
    for folder in folders:
        if (folder / first).is_file():
            return folder.relative_to(table.path.parent).as_posix()
    return "."


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "data"


def _toml(value: str | Sequence[str]) -> str:
    """A text or a list of texts in TOML, whose basic strings are those of JSON but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
