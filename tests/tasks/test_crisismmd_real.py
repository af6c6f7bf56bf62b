"""CrisisMMD v2.0 itself, where it is at hand: sizes, shares and splits that its papers and files state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

TASK = shipped("tasks", "crisismmd").TASK


def load(data: Path, protocol: str, modalities: tuple[str, ...] = ("text",), **options: str) -> Dataset:
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | options
    dataset: Dataset = TASK.load(LoadRequest(data / "crisismmd", data, chosen, values, modalities))
    return dataset


def sizes(split: np.ndarray) -> tuple[int, ...]:
    return tuple(int((split == part).sum()) for part in ("train", "val", "test"))


def crossing(groups: np.ndarray, split: np.ndarray) -> int:
    parts = {part: set(groups[split == part].tolist()) for part in ("train", "val", "test")}
    return len((parts["train"] & parts["val"]) | (parts["train"] & parts["test"]) | (parts["val"] & parts["test"]))


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("agreed", {"informative": (9601, 1573, 1534), "humanitarian": (6126, 998, 955)}),
        (
            "official",
            {
                "informative": (13608, 2237, 2237),
                "humanitarian": (13608, 2237, 2237),
                "damage": (2468, 529, 529),
            },
        ),
    ],
)
def test_official_sizes(test_data: Path, protocol: str, expected: dict[str, tuple[int, ...]]) -> None:
    dataset = load(test_data, protocol)
    assert {problem.name: sizes(problem.split) for problem in dataset.problems} == expected
    for problem in dataset.problems:
        assert (dataset.labelled(problem.name) == (problem.split != "")).all()


def test_official_damage_says_that_it_leaks(test_data: Path) -> None:
    notes = load(test_data, "official").notes
    assert "damage: 71 of 529 val rows share a tweet with train" in notes
    assert "damage: 67 of 529 test rows share a tweet with train" in notes


def test_agreed_humanitarian_has_nine_affected_test_rows(test_data: Path) -> None:
    dataset = load(test_data, "agreed")
    concept = dataset.concepts[1]
    test = dataset.problems[1].split == "test"
    assert len(concept.labels) == 5
    assert (dataset.targets["humanitarian"][test] == concept.labels.index("affected_individuals")).sum() == 9


def test_mt25_rows_labels_and_split(test_data: Path) -> None:
    dataset = load(test_data, "mt25")
    assert dataset.title == "CrisisMMD v2.0" and not dataset.generated
    assert len(dataset.ids) == 18082
    n_ids, n_tweets = len(np.unique(dataset.ids)), len(np.unique(dataset.groups))
    assert (n_ids, n_tweets) == (18082, 16058)
    assert round(float((dataset.targets["humanitarian"].sum(axis=1) > 1).mean()), 3) == 0.256
    assert np.bincount(dataset.targets["damage"] + 1).tolist() == [14455 + 101, 475, 839, 2212]
    assert (dataset.targets["informative"] == 1 - dataset.targets["humanitarian"][:, 0]).all()
    split = dataset.problems[0].split
    assert np.abs(np.array(sizes(split)) - 18082 * np.array([0.6, 0.2, 0.2])).max() <= 4
    assert crossing(dataset.groups, split) == 0
    for label in dataset.targets["humanitarian"].T == 1:
        shares = np.array(sizes(split[label])) / label.sum()
        assert np.abs(shares - [0.6, 0.2, 0.2]).max() < 0.05


@pytest.mark.parametrize("protocol", ["joint-agreed", "joint-official", "event"])
def test_no_tweet_is_in_two_splits(test_data: Path, protocol: str) -> None:
    dataset = load(test_data, protocol)
    for problem in dataset.problems:
        assert crossing(dataset.groups, problem.split) == 0 and min(sizes(problem.split)) > 0


def test_joint_keeps_every_official_test_row(test_data: Path) -> None:
    joint = load(test_data, "joint-official").problems[0].split
    for problem in load(test_data, "official").problems:
        assert (joint[problem.split == "test"] == "test").all()
        assert not (joint[problem.split == "val"] == "train").any()


def test_missing_images_are_counted(test_data: Path) -> None:
    both = ("text", "image")
    with pytest.raises(UsageError, match=r"16,772 of 18,082 rows have no image"):
        load(test_data, "mt25", both)
    masked = load(test_data, "mt25", both, missing_images="mask")
    assert sum(image is not None for image in masked.inputs["image"]) == 1310
    dropped = load(test_data, "mt25", both, missing_images="drop")
    assert sum(sizes(dropped.problems[0].split)) == 1310
    assert masked.fingerprint == dropped.fingerprint
