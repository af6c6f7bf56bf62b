"""Cards and tables with anything anywhere: each is read, or refused in one line that names the card or its data."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mmbench.arrays import write_npz
from mmbench.card import card_task
from mmbench.contracts import LoadRequest
from mmbench.running.loading import load_dataset
from mmbench.tables import read_table

from .conftest import altered, damaged, hunt, told, tree

ROWS = 12
CARD = """\
name = "mine"
summary = "a summary"
title = "Mine"
table = "t.csv"
separator = ","
quotes = true
encoding = "utf-8"
missing = ["?"]
id = "id"
group = "who"
licence = "CC0"
citation = "none"
homepage = "https://example.org"
primary_metric = "macro_f1"
notes = ["a note"]
[modalities.words]
kind = "text"
columns = ["text", "who"]
encoder = "tfidf-svd"
[modalities.letters]
kind = "text"
columns = ["id"]
root = "media"
suffix = ".txt"
[modalities.photo]
kind = "image"
column = "id"
root = "media"
suffix = ".png"
[modalities.facts]
kind = "tabular"
numeric = ["x_*"]
categorical = ["colour"]
levels = {colour = ["red", "blue"]}
[modalities.view]
kind = "features"
file = "f.npz"
array = "view"
ids = "ids"
[modalities.walk]
kind = "sequence"
file = "f.npz"
array = "walk"
lengths = "lengths"
zero_padded = true
max_steps = 2
[concepts.mood]
kind = "exclusive"
column = "mood"
labels = ["glad", "sad"]
background = "sad"
[concepts.tags]
kind = "multilabel"
column = "tags"
separator = ";"
labels = ["p", "q"]
empty = "none"
[concepts.flags]
kind = "multilabel"
columns = ["hot", "wet"]
[concepts.size]
kind = "score"
column = "size"
bounds = [-5, 50]
[split]
column = "part"
val_fraction = 0.0
leaks = false
"""
ODD: tuple[Any, ...] = (
    "", " ", "x", "id", "mood", "part", "text", "../x", "/etc/passwd", "a\0b", "media", "t.csv", "f.npz", "*", "\n",
    "\x1b[1m", "é" * 99, "x_1", "utf-16", "unknown",
    0, 1, -1, 10**30, 0.5, -0.5, float("inf"), float("nan"), True, False,
    [], [[]], [1], [""], ["id"], ["id", "id"], ["mood"], ["*"], [0.5, 0.5], [0.2, 0.3, 0.5], [1, 2, 3],
    {}, {"kind": "text"}, {"x": 1},
    "exclusive", "multilabel", "score", "image", "tabular", "features", "sequence", "video", "hf:nowhere", ".npy",
)  # fmt: skip
KEYS = ("root", "column", "columns", "file", "labels", "array", "odd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with everything that the card names."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "media").mkdir()
    lines = ["id,who,text,x_1,x_2,colour,mood,tags,hot,wet,size,part"]
    for row in range(ROWS):
        part = ("train", "train", "val", "test")[row % 4]
        cells = [f"i{row}", f"u{row}", "some text", row, "?", ("red", "blue")[row % 2], ("glad", "sad")[row // 4 % 2]]
        lines.append(",".join(map(str, [*cells, "p;q", row % 2, 1, row, part])))
        (folder / "media" / f"i{row}.txt").write_text("words")
        (folder / "media" / f"i{row}.png").write_bytes(b"no image, which nobody opens here")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    arrays = {"view": np.ones((ROWS, 2)), "ids": np.array([f"i{row}" for row in range(ROWS)])}
    arrays |= {"walk": np.ones((ROWS, 3, 2)), "lengths": np.full(ROWS, 3)}
    write_npz(folder / "f.npz", arrays)
    return folder


def toml(value: Any) -> str:
    """A value as TOML writes it, tables in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return json.dumps(value)


def as_toml(card: dict[str, Any]) -> bytes:
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in card.items()).encode()


def attempt(path: Path) -> str:
    """What is said of a card."""

    def load() -> None:
        task = card_task(path)
        names, options = tuple(m.name for m in task.modalities), {o.name: o.default for o in task.options}
        dataset = load_dataset("mine", task, LoadRequest(None, path.parent, task.protocols[0], options, names))
        assert len(dataset.ids) > 0 and set(dataset.problems[0].split.tolist()) >= {"train", "val", "test"}

    line = told(load)
    assert not line or any(name in line for name in ("card", "t.csv", "f.npz", "media", "mine", "fuzz")), line
    return line


def test_cards(folder: Path) -> None:
    whole, path = tomllib.loads(CARD), folder / "card.toml"

    def other(content: bytes) -> str:
        path.write_bytes(content)
        return attempt(path)

    assert other(as_toml(whole)) == ""
    before = tree(folder / "media")
    hunt(200, altered(whole, ODD, KEYS).map(as_toml) | damaged(CARD.encode()), other)
    assert tree(folder / "media") == before


@pytest.mark.parametrize("name", ["t.csv", "f.npz"])
def test_what_a_card_names(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    (folder / "card.toml").write_text(CARD)

    def other(content: bytes) -> str:
        path.write_bytes(content)
        return attempt(folder / "card.toml")

    hunt(60, damaged(whole), other)
    path.write_bytes(whole)


ROWS_OF_TABLE: list[Any] = [
    {"id": f"i{row}", "text": 'a, "b" c\n', "x": row / 2, "tags": ["p", "q"][: row % 3], "flag": row % 2 == 0}
    for row in range(6)
]


def as_csv(rows: Any) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(ROWS_OF_TABLE[0])
    writer.writerows(row.values() if isinstance(row, dict) else [row] for row in rows)
    return stream.getvalue().encode("utf-8", "replace")


def as_json_lines(rows: Any) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def as_parquet(rows: Any) -> bytes:
    """The columns that Arrow takes of those rows that are objects."""
    stream, columns = io.BytesIO(), {}
    objects = [row for row in rows if isinstance(row, dict)]
    for name in dict.fromkeys(name for row in objects for name in row):
        try:
            columns[str(name).encode("utf-8", "replace").decode()] = pyarrow.array([row.get(name) for row in objects])
        except (pyarrow.ArrowException, UnicodeError, OverflowError, ValueError, TypeError):
            continue
    pyarrow.parquet.write_table(pyarrow.table(columns or {"x": [1]}), stream)
    return stream.getvalue()


@pytest.mark.parametrize(("name", "form"), [("t.csv", as_csv), ("t.jsonl", as_json_lines), ("t.parquet", as_parquet)])
def test_tables(tmp_path: Path, name: str, form: Any) -> None:
    path = tmp_path / name

    def attempt(content: bytes) -> str:
        path.write_bytes(content)

        def read() -> None:
            table = read_table(path)
            assert all(len(cells) == table.n for cells in table.columns.values())

        line = told(read)
        assert not line or name in line
        return line

    hunt(100, altered(ROWS_OF_TABLE).map(form) | damaged(form(ROWS_OF_TABLE)), attempt)
