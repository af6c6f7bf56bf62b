"""Near-duplicates as groups: against a closure by hand, and through a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mmbench.contracts import Concept, Dataset, Problem
from mmbench.separate import joined_groups, separate

KINDS = {"text": "text", "image": "image", "numbers": "vector"}


def dataset(folder: Path) -> Dataset:
    rng = np.random.default_rng(0)
    n = 12
    paths: list[Path | None] = []
    for row in range(n):
        pixels = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 60), Image.Resampling.BICUBIC).save(folder / f"{row}.png")
        paths.append(folder / f"{row}.png")
    text: list[str | None] = [f"text number {row} of all" for row in range(n)]
    groups = np.array([f"g{row}" for row in range(n)])
    numbers = rng.normal(size=(n, 3))
    text[5] = text[0].upper()  # type: ignore[union-attr]  # 0 - 5 by text, 5 - 8 by picture: one chain
    with Image.open(folder / "5.png") as one:
        one.resize((100, 100)).save(folder / "8.png")
    groups[11] = groups[2]  # by group
    numbers[7] = numbers[3]  # by features
    text[1] = text[4] = None  # nothing joins what is missing
    paths[1] = paths[4] = None
    split = np.array(["train"] * 6 + ["val"] * 3 + ["test"] * 3)
    return Dataset(
        ids=np.arange(n).astype(str), groups=groups, inputs={"text": text, "image": paths, "numbers": numbers},
        concepts=(Concept("c", ("a", "b")),), targets={"c": np.arange(n) % 2},
        problems=(Problem("joint", ("c",), split),),
        fingerprint="f", title="t",
    )  # fmt: skip


def test_what_is_joined_and_what_leaves(tmp_path: Path) -> None:
    given = dataset(tmp_path)
    groups = joined_groups(given, KINDS, tmp_path / "cache")  # type: ignore[arg-type]
    expected = {5: "g0", 8: "g0", 7: "g3"}
    assert groups.tolist() == [expected.get(row, group) for row, group in enumerate(given.groups.tolist())]
    apart, line = separate(given, KINDS, tmp_path / "cache")  # type: ignore[arg-type]
    split = apart.problems[0].split
    assert [row for row in range(12) if split[row] == ""] == [0, 2, 3, 5]  # 8 and 7 are val, 11 is test
    assert (split[split != ""] == given.problems[0].split[split != ""]).all()
    assert apart.fingerprint != given.fingerprint and "11 groups became 8; 4 rows left" in line
    for later in ("val", "test"):
        assert not set(apart.groups[split == "train"]) & set(apart.groups[split == later])


def test_joining_twice_changes_nothing_more(tmp_path: Path) -> None:
    once, _ = separate(dataset(tmp_path), KINDS, tmp_path / "cache")  # type: ignore[arg-type]
    twice, line = separate(once, KINDS, tmp_path / "cache")  # type: ignore[arg-type]
    assert (once.groups == twice.groups).all() and "0 rows left" in line
