"""The task mosi: no row whose label made its features, folds by video, and the real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import read_npz, write_npz
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

mosi = shipped("tasks", "mosi")
TASK = mosi.TASK


def load(root: Path | None, scratch: Path, seed: int = 0) -> Dataset:
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, TASK.protocols[0], {}, ("text", "audio", "video"), seed))
    return dataset


def changed(folder: Path, **change: np.ndarray) -> Path:
    arrays = read_npz(mosi.write_sample(folder), mosi.LAYOUT)
    write_npz(folder / mosi.FILE, arrays | change)
    return folder


def test_the_sample_says_so_and_has_forty_rows_a_label(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    assert sample.generated and "(generated)" in sample.title
    assert load(None, tmp_path / "again").fingerprint == sample.fingerprint
    assert not load(changed(tmp_path / "real"), tmp_path).generated
    assert all((np.bincount(target) >= 40).all() for target in sample.targets.values())


def test_rows_whose_label_made_their_features_are_not_there(tmp_path: Path) -> None:
    arrays = read_npz(mosi.write_sample(tmp_path), mosi.LAYOUT)
    sample = load(None, tmp_path)
    assert set(sample.ids.tolist()) == set(arrays["id"][arrays["split_bclstm"] == "test"].tolist())
    assert all(len(np.asarray(values)) == len(sample.ids) for values in sample.inputs.values())


def test_each_row_is_test_once_and_val_once_and_no_video_is_torn(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    splits = np.stack([problem.split for problem in sample.problems])
    assert ((splits == "test").sum(axis=0) == 1).all() and ((splits == "val").sum(axis=0) == 1).all()
    for split in splits:
        assert all(len(set(split[sample.groups == v].tolist())) == 1 for v in set(sample.groups.tolist()))
    sizes = (splits == "test").sum(axis=1)
    assert sizes.max() - sizes.min() <= 2 * np.unique(sample.groups, return_counts=True)[1].max()
    assert (load(None, tmp_path, 1).problems[0].split != splits[0]).any()


def test_labels_are_the_score_cut_and_rounded(tmp_path: Path) -> None:
    n = 1200
    score = np.resize(np.array([-3, -0.4, 0, 0.6, 1.2, 3], dtype=np.float32), n)
    sample = load(changed(tmp_path, sentiment=score, split_bclstm=np.full(n, "test")), tmp_path)
    assert sample.targets["sentiment2"][:6].tolist() == [0, 0, 1, 1, 1, 1]
    assert sample.targets["sentiment7"][:6].tolist() == [0, 3, 3, 4, 4, 6]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split_bclstm": np.full(1200, "dev")}, "split_bclstm holds"),
        ({"split_bclstm": np.full(1200, "train")}, "0 videos outside"),
        ({"sentiment": np.full(1200, np.nan)}, "outside of -3 to 3"),
        ({"id": np.full(1200, "same")}, "an id stands twice"),
        ({"video": np.zeros((1200, 3))}, "array 'video' has shape"),
    ],
)
def test_a_file_of_another_layout_is_one_line(tmp_path: Path, change: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(changed(tmp_path, **change), tmp_path)


def test_the_real_file(test_data: Path, tmp_path: Path) -> None:
    dataset = load(test_data / "cmu", tmp_path)
    assert dataset.title == "MOSI, 752 utterances of 31 videos"
    with np.load(test_data / "cmu" / mosi.FILE) as raw:
        kept = raw["split_bclstm"] == "test"
        assert (raw["label2"][kept] == dataset.targets["sentiment2"]).all()
    assert np.bincount(dataset.targets["sentiment2"]).tolist() == [285, 467]
