"""Cards with anything anywhere: each is read and loads, or is refused in one line that names the card or its data."""

from __future__ import annotations

import copy
import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.arrays import write_npz
from mmbench.card import card_task
from mmbench.contracts import LoadRequest
from mmbench.errors import UsageError

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
ODD: list[Any] = [
    "", " ", "x", "id", "mood", "part", "text", "../x", "/etc/passwd", "a\0b", "media", "t.csv", "f.npz", "*", "\n",
    "\x1b[1m", "é" * 99, "x_1", "utf-16", "unknown",
    0, 1, -1, 10**30, 0.5, -0.5, float("inf"), float("nan"), True, False,
    [], [[]], [1], [""], ["id"], ["id", "id"], ["mood"], ["*"], [0.5, 0.5], [0.2, 0.3, 0.5], [1, 2, 3],
    {}, {"kind": "text"}, {"x": 1},
    "exclusive", "multilabel", "score", "image", "tabular", "features", "sequence", "video", "hf:nowhere", ".npy",
]  # fmt: skip


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


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def mutated(rng: random.Random) -> dict[str, Any]:
    """The card with one to three things changed, taken away, renamed or added."""
    card: dict[str, Any] = tomllib.loads(CARD)
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(list(places(card)))
        inside: Any = card
        for key in place[:-1]:
            inside = inside[key]
        key, act = place[-1], rng.randrange(5)
        if act == 0:
            del inside[key]
        elif act == 1 and isinstance(inside, dict):
            inside[rng.choice([f"{key}s", str(key)[:-1], "x", "root", "column"])] = inside.pop(key)
        elif act == 2 and isinstance(inside, dict):
            inside[rng.choice(["file", "column", "columns", "labels", "array", "root", "odd"])] = copy.deepcopy(
                rng.choice(ODD)
            )
        else:
            inside[key] = copy.deepcopy(rng.choice(ODD))
    return card


def attempt(path: Path) -> str:
    """What is said of a card, nothing where it loads."""
    try:
        task = card_task(path)
        names, options = tuple(m.name for m in task.modalities), {o.name: o.default for o in task.options}
        dataset = task.load(LoadRequest(None, path.parent, task.protocols[0], options, names))
    except UsageError as error:
        return str(error)
    assert len(dataset.ids) == ROWS and set(dataset.problems[0].split.tolist()) >= {"train", "val", "test"}
    for target in dataset.targets.values():
        assert len(target) == ROWS
    return ""


def test_the_card_that_is_changed_loads(folder: Path) -> None:
    (folder / "card.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in tomllib.loads(CARD).items()))
    assert attempt(folder / "card.toml") == ""


@pytest.mark.parametrize("seed", range(5))
def test_any_card_loads_or_is_refused_in_one_line(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    path, told = folder / "card.toml", []
    for _ in range(100):
        text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in mutated(rng).items())
        path.write_text(text, encoding="utf-8")
        said = attempt(path)
        named = any(name in said for name in ("card", "t.csv", "f.npz", "media", "mine", "fuzz"))
        assert not said or (named and said.isprintable() and len(said) < 700), (said, text)
        told.append(said)
    assert 10 < sum(map(bool, told)) < 100  # both happen
