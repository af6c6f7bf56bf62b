"""The task bdd100k-stats: labels, groups and the layout of boxes, hostile files, and the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import read_npz, write_npz
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

bdd = shipped("tasks", "bdd100k_stats")
TASK = bdd.TASK


def load(root: Path | None, scratch: Path, seed: int = 0) -> Dataset:
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, TASK.protocols[0], {}, bdd.MODALITIES, seed))
    return dataset


def changed(folder: Path, **change: np.ndarray) -> Path:
    arrays = read_npz(bdd.write_sample(folder), bdd.LAYOUT)
    write_npz(folder / bdd.FILE, arrays | change)
    return folder


def test_the_sample_is_generated_says_so_and_has_forty_rows_a_label(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    assert sample.generated and "(generated)" in sample.title
    assert load(None, tmp_path / "again").fingerprint == sample.fingerprint
    assert not load(changed(tmp_path / "real"), tmp_path).generated
    for concept in sample.concepts:
        target = sample.targets[concept.name]
        assert (np.bincount(target[target >= 0], minlength=len(concept.labels)) >= 40).all()
        assert (target == -1).any()


def test_boxes_are_counted_where_their_centres_are(tmp_path: Path) -> None:
    boxes = np.array(
        [
            [0, 0.0, 0.0, 0.1, 0.1],
            [0, 0.99, 1.0, 0.1, 0.1],
            [9, 0.3, 0.5, 1, 1],
            [9, 0.26, 0.34, 1, 1],
            [2, 1.0, 0.0, 0, 0],
        ]
    )
    found = bdd.layout(tmp_path, boxes, np.array([0, 2, 2, 5]), 3).reshape(3, 10, 3, 4)
    assert found.sum() == 5
    assert found[0, 0, 0, 0] == found[0, 0, 2, 3] == found[2, 2, 0, 3] == 1
    assert found[2, 9, 1, 1] == 2
    assert found[1].sum() == 0


def test_the_layout_of_a_class_sums_to_its_count(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    cells = np.expm1(np.asarray(sample.inputs["layout"])).reshape(len(sample.ids), 10, 12).sum(axis=2)
    np.testing.assert_allclose(cells, np.expm1(np.asarray(sample.inputs["counts"])), atol=1e-5)


def test_no_group_is_split_and_undefined_is_no_label(tmp_path: Path) -> None:
    sample = load(None, tmp_path)
    split = sample.problems[0].split
    for group in np.unique(sample.groups):
        assert len(set(split[sample.groups == group].tolist())) == 1
    assert sample.groups[0] == sample.ids[0].split("-")[0]
    weather = read_npz(bdd.write_sample(tmp_path), bdd.LAYOUT)["weather"]
    assert ((weather == "undefined") == (sample.targets["weather"] == -1)).all()
    assert all(
        bdd.CONCEPTS[0].labels[code] == label
        for code, label in zip(sample.targets["weather"], weather, strict=True)
        if code >= 0
    )
    assert (load(None, tmp_path, seed=1).problems[0].split != split).any()


N = bdd.SAMPLE_ROWS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weather": np.full(N, "hail")}, "weather of row 0 is 'hail', expected one of clear"),
        ({"name": np.full(N, "same")}, "a name stands twice"),
        ({"box_offsets": np.arange(N + 1)}, "box_offsets does not cut"),
        ({"boxes": np.full((7, 5), np.nan), "box_offsets": np.r_[0, np.full(N, 7)]}, "boxes holds a class"),
        ({"counts": np.zeros((N, 9))}, "array 'counts' has shape"),
    ],
)
def test_a_file_of_another_layout_is_one_line(tmp_path: Path, change: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(changed(tmp_path, **change), tmp_path)


def test_the_real_file(test_data: Path, tmp_path: Path) -> None:
    dataset = load(test_data / "bdd100k", tmp_path)
    assert not dataset.generated and dataset.title == "BDD100K statistics, 10,000 validation images"
    masked = {name: int((target < 0).sum()) for name, target in dataset.targets.items()}
    assert masked == {"weather": 1157, "timeofday": 35, "scene": 53}
    assert len(np.unique(dataset.groups)) == 5931
    cells = np.expm1(np.asarray(dataset.inputs["layout"])).reshape(10_000, 10, 12).sum(axis=2)
    np.testing.assert_allclose(cells, np.expm1(np.asarray(dataset.inputs["counts"])), atol=1e-4)
