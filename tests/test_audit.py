"""The audit's checks on a small data set with one of each fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmbench.audit import audit
from mmbench.contracts import Concept, Dataset, Problem
from mmbench.findings import Finding

N = 240
KINDS = {"text": "text", "image": "image", "numbers": "vector"}


def clean(folder: Path) -> Dataset:
    rng = np.random.default_rng(0)
    split = np.array((["train"] * 4 + ["val"] + ["test"]) * (N // 6))
    paths = []
    for row in range(N):
        pixels = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 60), Image.Resampling.BICUBIC).save(folder / f"{row}.png")
        paths.append(folder / f"{row}.png")
    return Dataset(
        ids=np.array([f"id{row}" for row in range(N)]),
        groups=np.array([f"group{row}" for row in range(N)]),
        inputs={
            "text": [f"this is text {rng.integers(10**9)} of many" for _ in range(N)],
            "image": paths,
            "numbers": rng.normal(size=(N, 6)),
        },
        concepts=(Concept("mood", ("sad", "glad")), Concept("size", ("small", "large"))),
        targets={"mood": np.arange(N) // 6 % 2, "size": np.arange(N) // 12 % 2},
        problems=(Problem("joint", ("mood", "size"), split),),
        fingerprint="f",
        title="t",
    )


def found(dataset: Dataset, cache: Path) -> dict[tuple[str, str, str], Finding]:
    findings = audit(dataset, KINDS, "author", cache)  # type: ignore[arg-type]
    order = [finding.severity for finding in findings]
    assert order == sorted(order, key=("error", "warning", "info").index)
    assert all(len(finding.examples) <= 3 for finding in findings)
    return {(f.check, f.where, f.splits): f for f in findings if f.severity != "info"}


def test_a_clean_data_set_has_nothing_but_its_balance(tmp_path: Path) -> None:
    dataset = clean(tmp_path)
    few = replace(dataset, targets={"mood": dataset.targets["mood"], "size": (np.arange(N) < 9).astype(int)})
    assert found(dataset, tmp_path / "cache") == {}
    assert {key[0] for key in found(few, tmp_path / "cache")} == {"class balance"}


def test_each_fault_is_found(tmp_path: Path) -> None:
    dataset = clean(tmp_path)
    split = dataset.problems[0].split
    train, val, test = (np.flatnonzero(split == part) for part in ("train", "val", "test"))
    groups, numbers = dataset.groups.copy(), np.array(dataset.inputs["numbers"])
    text, image = list(dataset.inputs["text"]), list(dataset.inputs["image"])
    groups[test[0]] = groups[train[0]]
    text[test[1]] = "RT @you " + text[train[1]].upper() + " https://t.co/abc"
    text[test[2]], text[test[4]] = "  ", None
    with Image.open(image[train[2]]) as one:
        one.resize((90, 90)).save(image[test[3]])
    image[val[0]] = None
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    image[val[1]] = tmp_path / "broken.png"
    numbers[:, 0] = 3
    numbers[train[3], 1] = -np.inf
    numbers[:, 2] = dataset.targets["mood"]
    numbers[val[3]] = np.nan
    numbers[test[5]] = numbers[train[5]]
    faulty = replace(dataset, groups=groups, inputs={"text": text, "image": image, "numbers": numbers})
    what = {key: (f.severity, f.count, f.of) for key, f in found(faulty, tmp_path / "cache").items()}
    assert what[("group in two splits", "joint", "train, test")] == ("error", 1, len(test))
    assert what[("near-duplicate", "joint text", "train, test")] == ("warning", 1, len(test))
    assert what[("near-duplicate", "joint image", "train, test")] == ("warning", 1, len(test))
    assert what[("near-duplicate", "joint features", "train, test")] == ("warning", 1, len(test))
    assert what[("missing input", "text", "")] == ("warning", 2, N)
    assert what[("missing input", "image", "")] == ("warning", 1, N)
    assert what[("missing input", "numbers", "")] == ("warning", 1, N)
    assert what[("unreadable input", "image", "")] == ("error", 1, N)
    assert what[("constant feature", "joint numbers", "")] == ("warning", 1, 6)
    assert what[("non-finite feature", "numbers", "")] == ("error", 1, 6)
    assert what[("single feature tells a label", "mood numbers", "train, val")] == ("warning", 1, 6)
    assert len(what) == 11
    ids = found(faulty, tmp_path / "cache")[("group in two splits", "joint", "train, test")].examples
    assert ids == (str(dataset.ids[test[0]]),)


def test_problems_on_other_concepts_are_compared_and_folds_are_not(tmp_path: Path) -> None:
    dataset = clean(tmp_path)
    split = dataset.problems[0].split
    turned = np.where(split == "train", "test", np.where(split == "test", "train", split))
    apart = replace(dataset, problems=(Problem("mood", ("mood",), split), Problem("size", ("size",), turned)))
    crossing = [f for f in found(apart, tmp_path / "cache").values() if f.check == "row in another problem's train"]
    assert {(f.where, f.splits, f.count) for f in crossing} == {
        ("mood", "train, test", (split == "test").sum()),
        ("size", "train, test", (split == "train").sum()),
    }
    folds = replace(dataset, problems=(Problem("fold-1", ("mood",), split), Problem("fold-2", ("mood",), turned)))
    assert not any(key[0].startswith("row in another") for key in found(folds, tmp_path / "cache"))


def test_labels_that_texts_name(tmp_path: Path) -> None:
    dataset = clean(tmp_path)
    mood = dataset.targets["mood"]
    text = [f"{'glad' if m and row % 2 else 'a small one'} is {value}" for row, (m, value) in
            enumerate(zip(mood, dataset.inputs["text"], strict=True))]  # fmt: skip
    named = {k: f for k, f in found(replace(dataset, inputs={"text": text}), tmp_path / "cache").items()
             if f.check == "label named in the text"}  # fmt: skip
    (finding,) = named.values()  # "small" is said whatever the size
    assert (finding.where, finding.count, finding.of) == ("mood text", int((mood * (np.arange(N) % 2)).sum()), N)
    assert finding.examples == ("glad",)
