"""What each column of a table seems to be, by its name and its cells: guesses for :mod:`mmbench.card_proposal`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmbench.card_data import SPLIT_WORDS
from mmbench.tables import Cell, Table, distinct, separated

Role = Literal[
    "id", "group", "split", "label", "text", "image", "audio", "video", "document", "array", "number", "level", "unused"
]  # fmt: skip
FILES: dict[str, Role] = {
    r"\.(jpe?g|png|gif|bmp|webp|tiff?)$": "image",
    r"\.(wav|flac|ogg|mp3)$": "audio",
    r"\.(mp4|mov|avi|mkv|webm)$": "video",
    r"\.txt$": "document",
    r"\.npy$": "array",
}
SPLIT_NAMES = ("split", "fold", "partition", "subset", "set")
WHO = frozenset(("user", "author", "speaker", "patient", "subject", "participant", "session", "video", "tweet"))
LABELLERS = frozenset(("annotator", "annotators", "rater", "raters", "coder", "worker"))
MARKS = ("NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "?")  # what is written for "nothing" among numbers
EVENTS = frozenset(("group", "event", "source"))
ID_NAMES = ("id", "key", "index", "uid", "uuid", "sample", "clip", "segment", "utterance")
LABEL_NAMES = frozenset(
    ("label", "labels", "class", "classes", "target", "targets", "category", "categories", "tag", "tags", "topic",
     "topics", "genre", "genres", "mood", "moods", "sentiment", "emotion", "emotions", "polarity", "stance", "y")
)  # fmt: skip
SEPARATORS = (";", "|", ",")
MOST_LABELS, MOST_LEVELS, FEWEST_WORDS = 50, 50, 3
FEWEST_ALIKE = 3  # columns of the same few whole numbers, from which on they are labels
LONGEST_LABEL = 40  # characters
MOST_GRADES = 11


@dataclass(frozen=True)
class Columns:
    """The role of every column; ``indicators`` are columns of 0 and 1 that are one concept together."""

    roles: dict[str, Role]
    indicators: tuple[str, ...] = ()

    def of(self, *roles: Role) -> list[str]:
        """The columns that have one of these roles."""
        return [name for name, role in self.roles.items() if role in roles]


def guess_columns(table: Table, labels: Sequence[str] = ()) -> Columns:
    """The role of every column; ``labels`` are known to be labels, and the only ones."""
    roles: dict[str, Role] = {}
    for place, (name, cells) in enumerate(table.columns.items()):
        role: Role = "label" if name in labels else _role(name, cells, table.n, not labels, place == 0)
        once = role in ("id", "group", "split") and role in roles.values()
        roles[name] = "unused" if once else role
    if "label" in roles.values():
        return Columns(roles)
    several = [
        name for name, role in roles.items() if role in ("level", "text", "unused") and separator_of(table, name)
    ]
    indicators, grades = _alike(table, roles)
    last = list(table.columns)[-1]
    alone = [last] if roles[last] in ("level", "number") and _few(table.columns[last]) else []
    found = several or indicators or grades or alone
    return Columns(roles | dict.fromkeys(found, "label"), tuple(indicators) if found == indicators else ())


def _role(name: str, cells: Sequence[Cell], n: int, guess_label: bool, first: bool) -> Role:
    flat = texts_of(cells)
    different = len(set(flat))
    words = re.split(r"[\W_]+", name.lower())
    if different < 2 or not name:
        return "unused"
    if any(isinstance(cell, list) for cell in cells):
        return "label" if guess_label and different <= 4 * MOST_LABELS else "unused"
    parts = {SPLIT_WORDS.get(cell.strip().lower()) for cell in flat}
    if None not in parts and (words[-1] in SPLIT_NAMES or parts >= {"train", "test"}):
        return "split"
    if words[-1] in SPLIT_NAMES[:-1] or LABELLERS.intersection(words):
        return "unused"  # a split in other words, who labelled: of no sample's own, and no input
    unique = different == len(flat) == n
    wordy = sum(len(cell.split()) for cell in flat) >= FEWEST_WORDS * len(flat)
    if unique and words[-1] in ID_NAMES:
        return "id"
    for pattern, role in FILES.items():
        if sum(bool(re.search(pattern, cell.strip(), re.IGNORECASE)) for cell in flat) >= 0.8 * len(flat):
            return role
    if guess_label and LABEL_NAMES.intersection(words) and different <= n // 2:
        return "label"
    if unique and first and not wordy and not any("." in cell and number(cell) for cell in flat):
        return "id"
    if (
        words[-1] in ("id", "key")
        or WHO.intersection(words)
        or (EVENTS.intersection(words) and different > MOST_LEVELS)
    ):
        return "group" if different < n else "unused"
    if all(map(number, flat)):
        return "number"
    if wordy:
        return "text"
    return "level" if different <= min(MOST_LEVELS, n // 2) else "unused"


def marks_of(table: Table) -> list[str]:
    """What stands for nothing in columns of numbers, where something does."""
    found: set[str] = set()
    for cells in table.columns.values():
        flat = {text.strip() for text in texts_of(cells)}
        told = flat.intersection(MARKS)
        if told and len(flat) > len(told) and all(map(number, flat - told)):
            found |= told
    return [mark for mark in MARKS if mark in found]


def texts_of(cells: Sequence[Cell]) -> list[str]:
    """All texts of a column that are not empty."""
    return [text for cell in cells if cell for text in (cell if isinstance(cell, list) else [cell]) if text.strip()]


def number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _few(cells: Sequence[Cell]) -> bool:
    """Whether a column holds few values, each several times, and no fractions: it could be a label."""
    flat = texts_of(cells)
    fractions = any("." in cell and number(cell) and not float(cell).is_integer() for cell in flat)
    return len(set(flat)) <= min(MOST_LABELS, len(flat) // 2) and not fractions


def separator_of(table: Table, name: str) -> str:
    """What stands between several labels in a cell of this column; empty where cells do not seem to hold several."""
    cells = table.column(name)
    if any(isinstance(cell, list) for cell in cells):
        return ";"
    whole = texts_of(cells)
    if all(cell.startswith("[") and cell.endswith("]") for cell in whole):
        return ";"  # written as lists, which need none
    for candidate in SEPARATORS:
        parts = [separated(cell, candidate) for cell in whole]
        labels = {label for row in parts for label in row}
        repeated = len(labels) < sum(len(set(row)) for row in {tuple(row): row for row in parts}.values())
        if (
            repeated
            and sum(len(row) > 1 for row in parts) >= 0.05 * len(parts)
            and len(labels) <= min(4 * MOST_LABELS, len(whole) // 2)
            and max(map(len, labels)) <= LONGEST_LABEL
        ):
            return candidate
    return ""


def _alike(table: Table, roles: dict[str, Role]) -> tuple[list[str], list[str]]:
    """Columns of 0 and 1, and columns of grades, a few whole numbers each, where there are several of them."""
    held = {
        name: {float(cell) for cell in texts_of(table.columns[name])}
        for name, role in roles.items()
        if role == "number" and _few(table.columns[name])
    }
    indicators = [name for name, values in held.items() if values == {0, 1}]
    grades = [name for name, values in held.items() if max(values) - min(values) < MOST_GRADES]
    return tuple(found if len(found) >= FEWEST_ALIKE else [] for found in (indicators, grades))  # type: ignore[return-value]


def labels_of(table: Table, name: str, separator: str) -> list[str]:
    """The labels of a column, sorted, as numbers where all are."""
    cells = table.column(name)
    if not separator:
        return distinct(cell.strip() for cell in texts_of(cells))
    rows = (cell if isinstance(cell, list) else separated(cell or "", separator) for cell in cells)
    return distinct(label.strip() for row in rows for label in row)
