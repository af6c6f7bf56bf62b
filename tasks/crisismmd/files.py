"""Reads the official layout of CrisisMMD v2.0: annotations of seven events, and the split files.

Lines end with a newline, fields with a tab, and nothing is quoted: texts contain ``"``. Whatever differs from the
layout is a :class:`UsageError` that names the file, the line and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError

from .labels import DAMAGE, HUMANITARIAN, INFORMATIVE, NO_DAMAGE_LABEL

FOLDER = "CrisisMMD_v2.0"
SUFFIX = "_final_data.tsv"
OFFICIAL_ROWS = {
    "california_wildfires": 1589,
    "hurricane_harvey": 4434,
    "hurricane_irma": 4504,
    "hurricane_maria": 4556,
    "iraq_iran_earthquake": 597,
    "mexico_earthquake": 1380,
    "srilanka_floods": 1022,
}
AGAIN = "unpack CrisisMMD_v2.0.tar.gz again"

Codes = Mapping[str, int]
INFORMATIVE_CODES: Codes = {label: code for code, label in enumerate(INFORMATIVE)}
HUMANITARIAN_CODES: Codes = {label: code for code, label in enumerate(HUMANITARIAN)}
DAMAGE_CODES: Codes = {label: code for code, label in enumerate(DAMAGE)}
TEXT_COLUMNS = ("tweet_id", "tweet_text", "image_path")
LABEL_COLUMNS: Mapping[str, Codes] = {
    "text_info": INFORMATIVE_CODES,
    "image_info": INFORMATIVE_CODES,
    "text_human": HUMANITARIAN_CODES,
    "image_human": HUMANITARIAN_CODES,
    "image_damage": {**DAMAGE_CODES, **dict.fromkeys(NO_DAMAGE_LABEL, -1)},
}


@dataclass(frozen=True)
class Annotations:
    """All annotated rows in the order of the files, which are read by name.

    Attributes:
        image: (n,) path below the data set's folder, unique; the sample id.
        tweet, event: (n,) str.
        text: n tweets.
        labels: (n,) int64 codes by annotation column, -1 where a row has no label.
    """

    image: NDArray[np.str_]
    tweet: NDArray[np.str_]
    event: NDArray[np.str_]
    text: tuple[str, ...]
    labels: Mapping[str, NDArray[np.int64]]

    @property
    def official(self) -> bool:
        """Whether these are as many rows an event as the official release holds."""
        events, counts = np.unique(self.event, return_counts=True)
        return dict(zip(events.tolist(), counts.tolist(), strict=True)) == OFFICIAL_ROWS


def find_home(root: Path) -> Path:
    """The folder with ``annotations/``: ``root`` or the ``CrisisMMD_v2.0`` in it.

    Raises:
        UsageError: no such folder, an empty one, or one of another layout.
    """
    give = f"give --data the folder {FOLDER} or the one that holds it"
    try:
        for home in (root, root / FOLDER):
            if (home / "annotations").is_dir():
                return home
        if not root.exists():
            raise UsageError(f"no folder {root}: {give}")
        if not root.is_dir():
            raise UsageError(f"{root} is a file, expected a folder: unpack it and {give}")
        found = sorted(path.name for path in root.iterdir())
    except OSError as error:
        raise UsageError(f"{root} cannot be read: {error.strerror}; {give}") from None
    holds = f"it holds {', '.join(found[:5])}{' …' if len(found) > 5 else ''}" if found else "it is empty"
    raise UsageError(f"{root} is not CrisisMMD v2.0: {holds}, expected annotations/ and data_image/; {give}")


def read_table(path: Path, columns: Iterable[str], remedy: str) -> dict[str, list[str]]:
    """Columns of a tab-separated file as text; row i is line i + 2. ``remedy`` ends every message.

    Raises:
        UsageError: a file that cannot be read, a byte that is not UTF-8, a missing column, a line with too few or too
            many fields, or no rows.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {number}: byte 0x{raw[error.start]:02x} is not UTF-8; {remedy}") from None
    if lines[-1] == "":
        lines.pop()
    header = lines[0].rstrip("\r").split("\t") if lines else []
    for column in columns:
        if column not in header:
            found = ", ".join(header[:20])[:200] or "nothing"
            raise UsageError(f"{path}, line 1: no column '{column}' (found {found}); {remedy}")
    if len(lines) < 2:
        raise UsageError(f"{path} has a header and no rows; {remedy}")
    rows = [line.rstrip("\r").split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UsageError(f"{path}, line {number}: {len(row)} fields, expected {len(header)}; {remedy}")
    return {column: [row[header.index(column)] for row in rows] for column in columns}


def coded(table: Mapping[str, list[str]], column: str, codes: Codes, path: Path, remedy: str) -> NDArray[np.int64]:
    """The codes of a column of labels, (n,) int64; an unknown label is a UsageError with file, line and column."""
    values = table[column]
    for number, value in enumerate(values, start=2):
        if value not in codes:
            raise UsageError(
                f"{path}, line {number}, column {column}: unknown label '{value[:60]}', "
                f"expected one of {', '.join(codes)}; {remedy}"
            )
    return np.array([codes[value] for value in values], dtype=np.int64)


def read_annotations(home: Path) -> Annotations:
    """Every row of ``annotations/*_final_data.tsv``.

    Raises:
        UsageError: no such files; some of the seven official events without the others, or cut short; an image that
            two rows name or that lies outside the folder; and what :func:`read_table` raises.
    """
    files = {path.name.removesuffix(SUFFIX): path for path in sorted((home / "annotations").glob(f"*{SUFFIX}"))}
    if not files:
        raise UsageError(f"{home / 'annotations'} holds no <event>{SUFFIX}; {AGAIN}")
    missing = sorted(set(OFFICIAL_ROWS) - set(files))
    if missing and len(missing) < len(OFFICIAL_ROWS):
        raise UsageError(
            f"{home / 'annotations'} is partial: {len(missing)} of {len(OFFICIAL_ROWS)} events "
            f"are not there ({', '.join(missing)}); {AGAIN}"
        )
    images: list[str] = []
    tweets: list[str] = []
    events: list[str] = []
    texts: list[str] = []
    labels: dict[str, list[NDArray[np.int64]]] = {column: [] for column in LABEL_COLUMNS}
    first_seen: dict[str, str] = {}
    for event, path in files.items():
        table = read_table(path, (*TEXT_COLUMNS, *LABEL_COLUMNS), AGAIN)
        rows = table["image_path"]
        if len(rows) < OFFICIAL_ROWS.get(event, 0):
            raise UsageError(f"{path} is cut short: {len(rows)} rows, expected {OFFICIAL_ROWS[event]}; {AGAIN}")
        for number, image in enumerate(rows, start=2):
            if image in first_seen:
                raise UsageError(f"{path}, line {number}: image {image[:80]} is also on {first_seen[image]}; {AGAIN}")
            if image.startswith("/") or "\\" in image or ".." in image.split("/"):
                raise UsageError(f"{path}, line {number}: image_path {image[:80]} leaves the folder; {AGAIN}")
            first_seen[image] = f"line {number} of {path.name}"
        images += rows
        tweets += table["tweet_id"]
        texts += table["tweet_text"]
        events += [event] * len(rows)
        for column, codes in LABEL_COLUMNS.items():
            labels[column].append(coded(table, column, codes, path, AGAIN))
    return Annotations(
        np.array(images),
        np.array(tweets),
        np.array(events),
        tuple(texts),
        {column: np.concatenate(parts) for column, parts in labels.items()},
    )
