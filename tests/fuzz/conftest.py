"""Hostile input for loaders: sound data changed by structure or by bytes, which must be read or refused in one line.

``MMBENCH_FUZZ=20`` tries twenty times as many examples; the same ones every time.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mmbench.errors import LONGEST, UsageError

TIMES = int(os.environ.get("MMBENCH_FUZZ", "1"))
PIECES = (
    b"",
    b"\0",
    b"\n",
    b"\r",
    b'"',
    b"[" * 2000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"NaN",
    b"1e999",
    b"-1",
    b"9" * 5000,
)
CELLS: dict[str, tuple[Any, ...]] = {  # by kind of array; None is the array's first cell
    "f": (np.nan, np.inf, -np.inf, 1e30, -1e30, -1, 0, 2.5, None),
    "i": (-1, 2**31 - 1, 0, 3, None),
    "U": ("", "x", "\n", "\ud800", "../x", "nan", None),
    "b": (True, False),
}
Draw = Callable[[st.SearchStrategy[Any]], Any]


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, -(2**63), 10**30, 10**400, 0.5, float("inf"), float("nan"), 1e308,
    "", " ", "x", "\n", "a\nb\r\nc", "\t", "\0", "\ud800", "\x1b[1m", "../x", "/etc/passwd", "C:\\x", "é" * 99, "0",
    "nan", "x" * 5000, [], [[]], [None], [1], ["x", "x"], {}, {"x": 1}, {"": None}, nested(40),
)  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in nested dictionaries and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def place_of(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


def altered(value: Any, odd: tuple[Any, ...] = ODD, names: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    """Nested dictionaries and lists with one to three things taken away, renamed, doubled, put in or replaced.

    ``odd`` are the values that are put, ``names`` further keys.
    """

    @st.composite
    def make(draw: Draw) -> Any:
        whole = copy.deepcopy(value)
        for _ in range(draw(st.integers(1, 3))):
            found = list(places(whole))
            if not found:
                break
            *way, key = draw(st.sampled_from(found))
            inside, other = place_of(whole, tuple(way)), copy.deepcopy(draw(st.sampled_from(odd)))
            act = draw(st.sampled_from(("drop", "name", "again", "put", "put")))
            if act == "drop":
                del inside[key]
            elif act == "put":
                inside[key] = other
            elif isinstance(inside, list):
                more = copy.deepcopy(inside[key]) if act == "again" else other
                inside.insert(draw(st.integers(0, len(inside))), more)
            else:
                other_key = draw(st.sampled_from((f"{key}s", str(key)[:-1], "x", "", "a/b", "\ud800", *names)))
                inside[other_key] = inside.pop(key) if act == "name" else other
        return whole

    return make()


def spoiled(value: Any) -> st.SearchStrategy[Any]:
    """Nested dictionaries and lists of arrays, one to four of whose cells are no sound ones."""

    @st.composite
    def make(draw: Draw) -> Any:
        whole = copy.deepcopy(value)
        arrays = [way for way in places(whole) if isinstance(place_of(whole, way), np.ndarray)]
        for _ in range(draw(st.integers(1, 4))):
            array = place_of(whole, draw(st.sampled_from(arrays)))
            if array.size and array.dtype.kind in CELLS:
                cell = draw(st.sampled_from(CELLS[array.dtype.kind]))
                array.flat[draw(st.integers(0, array.size - 1))] = array.flat[0] if cell is None else cell
        return whole

    return make()


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that are flipped, cut off, taken out or put in."""

    @st.composite
    def make(draw: Draw) -> bytes:
        whole = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            near = draw(st.sampled_from((len(whole), min(len(whole), 1000))))  # a file begins by what describes it
            at = draw(st.integers(0, max(near - 1, 0)))
            act = draw(st.sampled_from(("flip", "flip", "cut", "take", "insert", "piece")))
            if act == "flip" and whole:
                whole[at] ^= draw(st.integers(1, 255))
            elif act == "cut":
                del whole[at:]
            elif act == "take":
                del whole[at : at + draw(st.integers(1, 64))]
            else:
                whole[at:at] = draw(st.sampled_from(PIECES) if act == "piece" else st.binary(max_size=16))
        return bytes(whole)

    return make()


def told(load: Callable[[], object]) -> str:
    """What is said of data that are refused, nothing where they are read; anything else fails."""
    try:
        load()
    except UsageError as error:
        line = str(error)
        assert line.isprintable() and 10 < len(line) <= LONGEST, line
        assert "cannot load its data" not in line and "loads data that are not" not in line, line
        return line
    return ""


def hunt(tries: int, examples: st.SearchStrategy[Any], attempt: Callable[[Any], str]) -> None:
    """Try examples, each of which is refused in one line or read; some have to be refused, and some read."""
    lines: list[str] = []

    @settings(
        max_examples=tries * TIMES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(examples)
    def each(example: Any) -> None:
        lines.append(attempt(example))

    each()
    refused = sum(map(bool, lines))
    assert 0 < refused < len(lines), f"{refused} of {len(lines)} examples were refused"


def tree(folder: Path) -> dict[str, int]:
    """Everything below a folder, with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
