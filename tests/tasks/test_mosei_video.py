"""The task mosei-video: labels, folds and columns on the generated file, hostile files, and the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import read_npz, write_npz
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

mosei = shipped("tasks", "mosei_video")
TASK = mosei.TASK


def load(root: Path | None, scratch: Path, protocol: int = 0, seed: int = 0) -> Dataset:
    dataset: Dataset = TASK.load(
        LoadRequest(root, scratch, TASK.protocols[protocol], {}, ("text", "audio", "video"), seed)
    )
    return dataset


def changed(folder: Path, **change: np.ndarray) -> Path:
    arrays = read_npz(mosei.write_sample(folder), mosei.LAYOUT)
    write_npz(folder / mosei.FILE, arrays | change)
    return folder


def test_the_sample_is_generated_says_so_and_is_the_same_every_time(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    assert sample.generated and "(generated)" in sample.title
    assert load(None, tmp_path / "again").fingerprint == sample.fingerprint
    home = mosei.write_sample(tmp_path).parent
    assert load(home, tmp_path).generated and load(home, tmp_path).fingerprint == sample.fingerprint
    assert not load(changed(tmp_path / "real"), tmp_path).generated


def test_the_sample_has_forty_rows_a_label(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    assert (sample.targets["emotion"].sum(axis=0) >= 40).all()
    assert (np.bincount(sample.targets["sentiment"][sample.targets["sentiment"] >= 0]) >= 40).all()


def test_labels_folds_and_columns(tmp_path: Path) -> None:
    share = np.zeros((4, 6), dtype=np.float32)
    share[0, [0, 1]] = 0.5
    share[1, 5], share[2, 0] = 1, 1
    share[3] = np.nan
    audio = np.ones((4, 40), dtype=np.float32)
    audio[0, 7], audio[2], audio[1, 3] = -np.inf, np.nan, np.nan
    video = np.tile(np.arange(35, dtype=np.float32), (4, 1))
    root = changed(
        tmp_path,
        id=np.array(list("abcd")),
        text=np.ones((4, 768), dtype=np.float32),
        audio=audio,
        video=video,
        sdk_fold=np.array([0, 1, 2, 3]),
        sentiment7_mean=np.array([-0.1, 0, 2, np.nan], dtype=np.float32),
        dominant_emotion_fraction=share,
    )
    dataset = load(root, tmp_path)
    expected = [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [-1] * 5]
    assert dataset.targets["emotion"].tolist() == expected
    assert dataset.targets["sentiment"].tolist() == [0, -1, 1, -1]
    assert dataset.problems[0].split.tolist() == ["train", "val", "test", ""]
    read = {name: np.asarray(values) for name, values in dataset.inputs.items()}
    assert read["video"].tolist() == [list(range(2, 35))] * 4
    assert read["audio"][0, 7] == 0 and read["audio"][1, 3] == 0
    assert np.isnan(read["audio"][2]).all()
    assert any("audio column 7 is not finite in 1 rows" in note for note in dataset.notes)


def test_resplit_follows_the_seed_and_keeps_labels_balanced(tmp_path: Path) -> None:
    first, second = load(None, tmp_path, 1), load(None, tmp_path, 1, seed=1)
    assert (first.problems[0].split != second.problems[0].split).any()
    test = first.problems[0].split == "test"
    assert abs(first.targets["emotion"][test].mean() - first.targets["emotion"].mean()) < 0.03


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sdk_fold": np.full(mosei.SAMPLE_ROWS, 7)}, r"sdk_fold holds \[7\], expected 0 to 3"),
        ({"id": np.full(mosei.SAMPLE_ROWS, "same")}, "an id stands twice"),
        ({"emotion_names": np.array(list("abcdef"))}, "emotion_names"),
        ({"audio": np.zeros((mosei.SAMPLE_ROWS, 39))}, "array 'audio' has shape"),
    ],
)
def test_a_file_of_another_layout_is_one_line(tmp_path: Path, change: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(changed(tmp_path, **change), tmp_path)


def test_a_folder_without_the_file_is_told(tmp_path: Path) -> None:
    assert not TASK.recognises(tmp_path)
    with pytest.raises(UsageError, match=mosei.FILE):
        load(tmp_path, tmp_path)


def test_the_real_file(test_data: Path, tmp_path: Path) -> None:
    dataset = load(test_data / "cmu", tmp_path)
    assert dataset.title == "MOSEI, video level, 922 videos" and not dataset.generated
    split = dataset.problems[0].split
    assert {name: int((split == name).sum()) for name in ("train", "val", "test", "")} == {
        "train": 635, "val": 86, "test": 180, "": 21,
    }  # fmt: skip
    assert any("audio column 7 is not finite in 653 rows" in note for note in dataset.notes)
    assert all(np.isfinite(np.asarray(values)).all() for values in dataset.inputs.values())
    assert (dataset.targets["sentiment"] == -1).sum() == 82
