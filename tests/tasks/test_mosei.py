"""The task mosei: steps, labels, folds and splits from both kinds of files, and hostile files of each kind."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

mosei = shipped("tasks", "mosei")
TASK = mosei.TASK
steps, csd, mmsa, folds, sample = (
    sys.modules[f"{mosei.__name__}.{n}"] for n in ("steps", "csd", "mmsa", "folds", "sample")
)
PROTOCOLS = {protocol.name: protocol for protocol in TASK.protocols}


def load(root: Path | None, scratch: Path, protocol: str = "official", seed: int = 0, **options: str) -> Dataset:
    given = {option.name: option.default for option in TASK.options} | options
    modalities = tuple(options.pop("modalities", "text,audio,video").split(","))
    given.pop("modalities", None)
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, PROTOCOLS[protocol], given, modalities, seed))
    return dataset


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of files in the official layout."""
    folder = tmp_path_factory.mktemp("mosei")
    sample.generate(folder, videos=12)
    return folder


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "root"))


def tiny(folder: Path) -> Path:
    """Two videos whose every number is known."""
    folder.mkdir()
    labels = {
        "a": ([[0, 2], [2, 4]], [[-0.5, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0.3]]),
        "b": ([[1, 3]], [[2.5, 3, 0, 0, 0, 0, 0]]),
        "c": ([[0, 1]], [[np.nan] * 7]),
    }
    words = {
        "a": ([[0, 1], [1, 2], [2.5, 4]], [[1, 10], [2, 20], [3, 30]]),
        "b": ([[1, 2]], [[4, 40]]),
        "c": ([[5, 6]], [[5, 50]]),
    }
    frames = np.arange(0, 4, 0.5)
    audio = {
        "a": (np.stack([frames, frames + 0.5], 1), np.stack([frames, -frames], 1)),
        "b": ([[1.5, 1.75], [2.5, 3]], [[1, -np.inf], [9, np.nan]]),
    }
    video = {"a": ([[0, 0.25]], [[7.0]]), "b": ([[0.0, 9]], [[8.0]])}
    for name, entries in (("labels", labels), ("text", words), ("audio", audio), ("video", video)):
        path = folder / (csd.LABELS if name == "labels" else csd.FILES[name])
        sample.write(path, name, entries, {})
    write_folds(folder, {"train": ["a"], "valid": ["b"], "test": ["c", "x"]})
    return folder


def write_folds(folder: Path, content: Any, name: str = "folds.json") -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def inputs(dataset: Dataset, name: str) -> list[Any]:
    return np.asarray(dataset.inputs[name]).tolist()


NAN = [pytest.approx(np.nan, nan_ok=True)] * 2


def test_audio_and_video_are_averaged_over_each_word(tmp_path):
    dataset = load(tiny(tmp_path / "d"), tmp_path)
    assert dataset.ids.tolist() == ["a[0]", "a[1]", "b[0]", "c[0]"] and dataset.groups.tolist() == ["a", "a", "b", "c"]
    assert inputs(dataset, "text") == [[[1, 10], [2, 20]], [[3, 30], NAN], [[4, 40], NAN], [NAN, NAN]]
    assert inputs(dataset, "audio")[:2] == [[[0.25, -0.25], [1.25, -1.25]], [[3, -3], NAN]]
    assert inputs(dataset, "audio")[2] == [[1, 0], NAN]  # -inf is 0, and the second frame is of no word
    assert inputs(dataset, "video")[0] == [[7], [NAN[0]]] and inputs(dataset, "video")[2][0] == [8]
    assert not dataset.generated and "4 segments of 3 videos" in dataset.title
    assert "audio: 2 values are not finite: set to 0" in dataset.notes
    assert "audio: 1 segments have none: masked" in dataset.notes


def test_unaligned_every_modality_has_steps_of_its_own(tmp_path):
    dataset = load(tiny(tmp_path / "d"), tmp_path, align="none")
    assert np.asarray(dataset.inputs["text"]).shape == (4, 2, 2) and np.asarray(dataset.inputs["audio"]).shape == (
        4,
        4,
        2,
    )
    assert inputs(dataset, "audio")[0] == [[0, 0], [0.5, -0.5], [1, -1], [1.5, -1.5]]
    assert inputs(dataset, "audio")[2] == [[1, 0], [9, 0], NAN, NAN]
    fewer = load(tmp_path / "d", tmp_path, align="none", steps="2")
    assert inputs(fewer, "audio")[0] == [[0.25, -0.25], [1.25, -1.25]]
    assert fewer.fingerprint != dataset.fingerprint


def test_labels_of_every_kind(tmp_path):
    root = tiny(tmp_path / "d")
    dataset = load(root, tmp_path)
    assert dataset.targets["emotions"].tolist() == [
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0],
        [-1] * 6,
    ]
    assert dataset.targets["sentiment"].tolist() == [0, 1, 2, -1]
    np.testing.assert_allclose(dataset.targets["sentiment_score"], [-0.5, 0, 2.5, np.nan])
    assert load(root, tmp_path, sentiment="2").targets["sentiment"].tolist() == [0, -1, 1, -1]
    assert load(root, tmp_path, sentiment="7").targets["sentiment"].tolist() == [3, 3, 5, -1]
    assert [c.kind for c in dataset.concepts] == ["multilabel", "exclusive", "score"]
    assert dataset.concepts[2].bounds == (-3, 3)
    assert list(load(root, tmp_path, "mr26").targets) == ["emotions"]
    assert list(load(root, tmp_path, "mmsa").targets) == ["sentiment", "sentiment_score"]


def test_splits(root, tmp_path):
    dataset = load(root, tmp_path)
    of = dict(zip(dataset.groups.tolist(), dataset.problems[0].split.tolist(), strict=True))
    assert list(of.values()) == ["train"] * 7 + ["val"] * 2 + ["test"] * 3
    drawn = [load(root, tmp_path, "resplit", seed) for seed in range(6)]
    assert len({tuple(d.problems[0].split) for d in drawn}) > 1
    for data in drawn:
        split = data.problems[0].split
        assert all(len(set(split[data.groups == video])) == 1 for video in set(data.groups))
    (root / sample.FOLDS).unlink()
    assert set(load(root, tmp_path, "resplit").problems[0].split) == {"train", "val", "test"}
    with pytest.raises(UsageError, match="no official folds: put the SDK's"):
        load(root, tmp_path)


def test_segments_that_have_nothing_and_videos_in_no_fold_are_left_out(tmp_path):
    root = tiny(tmp_path / "d")
    write_folds(root, {"train": ["a"], "val": ["x"], "test": ["c"]})
    dataset = load(root, tmp_path)
    assert dataset.problems[0].split.tolist() == ["train", "train", "", ""]
    assert any("1 segments are of videos in none of the official folds" in note for note in dataset.notes)
    assert any("1 segments have no features at all: left out" in note for note in dataset.notes)
    write_folds(root, {"train": ["x"], "val": ["y"], "test": ["z"]})
    with pytest.raises(UsageError, match="none of its 3 videos is in the official folds"):
        load(root, tmp_path)


def test_the_sdks_file_of_folds_is_read_as_text_and_never_run(tmp_path):
    root = tiny(tmp_path / "d")
    (root / "folds.json").unlink()
    ran = tmp_path / "ran"
    text = f"standard_train_fold=['a']\nstandard_valid_fold=['b']\nopen({str(ran)!r}, 'w')\nstandard_test_fold=['c']\n"
    (root / "cmu_mosei_std_folds.py").write_text(text)
    assert load(root, tmp_path).problems[0].split.tolist() == ["train", "train", "val", ""]
    assert not ran.exists()
    (root / "cmu_mosei_std_folds.py").write_text(f"standard_train_fold=[open({str(ran)!r}, 'w')]\n")
    with pytest.raises(UsageError, match="is no file of folds"):
        load(root, tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no file of folds"),
        ("[1]", "is no file of folds"),
        ("[" * 100_000, "is no file of folds"),
        ({"train": "a", "valid": [], "test": []}, "no list of video ids"),
        ({"train": [1], "valid": [], "test": []}, "no list of video ids"),
        ({"train": ["a"], "valid": ["a"], "test": ["c"]}, "video a is in train and in val"),
        ({"train": ["a"], "test": ["c"]}, "has no val videos"),
    ],
)
def test_folds_that_are_none_are_one_line(tmp_path, content, told):
    root = tiny(tmp_path / "d")
    write_folds(root, content)
    with pytest.raises(UsageError, match=told):
        load(root, tmp_path)


def test_the_folds_at_hand_are_the_official_ones(test_data):
    split = list(folds.read_folds(test_data / "cmu" / "cmu_sdk_standard_folds.json").values())
    assert [split.count(name) for name in ("train", "val", "test")] == [2249, 300, 678]


def test_folders_in_the_folder_and_the_other_visual_features(root, tmp_path):
    before = load(root, tmp_path).fingerprint
    (root / "visuals").mkdir()
    (root / csd.VISUAL["facet"]).rename(root / "visuals" / csd.VISUAL["facet"])
    assert load(root, tmp_path).fingerprint == before
    (root / "visuals" / csd.VISUAL["facet"]).rename(root / csd.VISUAL["openface"])
    with pytest.raises(UsageError, match=r"VisualOpenFace2\.csd is there: --set task\.visual=openface"):
        load(root, tmp_path)
    assert load(root, tmp_path, visual="openface").fingerprint == before


def test_files_that_the_sdk_has_aligned_to_the_labels_give_the_same(root, tmp_path):
    plain = load(root, tmp_path)
    with h5py.File(root / csd.LABELS) as file:
        spans = {v: entry["intervals"][()] for v, entry in file[f"{sample.ROOTS['labels']}/data"].items()}
    for name, kind in sample.ROOTS.items():
        path = root / (csd.LABELS if name == "labels" else csd.FILES[name])
        cut = {}
        with csd.opened(path) as file:
            for video, intervals in spans.items():
                entry = file.entry(video)
                for k, (start, end) in enumerate(intervals):
                    part = steps.within(entry, start, end)
                    if name == "labels":
                        part = steps.Frames(entry.intervals[k : k + 1], entry.values[k : k + 1])
                    cut[f"{video}[{k}]"] = (part.intervals, part.values)
        sample.write(path, kind, cut, {})
    aligned = load(root, tmp_path)
    assert aligned.ids.tolist() == plain.ids.tolist() and aligned.groups.tolist() == plain.groups.tolist()
    assert all((plain.targets[c] == aligned.targets[c]).all() for c in plain.targets)
    for name in plain.inputs:
        np.testing.assert_array_equal(plain.inputs[name], aligned.inputs[name])


def test_steps_are_averaged_in_even_bins():
    values = np.array([[1.0], [3.0], [np.nan], [7.0], [np.nan], [np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(steps.binned(values, 3), np.array([[2], [7], [np.nan]], dtype=np.float32))
    assert steps.binned(values, 6) is values
    assert steps.padded([values[:2], values[:0]], 1).shape == (2, 2, 1)


def test_the_sample_says_that_it_is_generated_and_is_the_same_every_time(tmp_path):
    first = load(None, tmp_path)
    home = sample.ensure(tmp_path)
    assert first.generated and "(generated)" in first.title and load(home, tmp_path).generated
    assert load(None, tmp_path / "again").fingerprint == first.fingerprint
    (home / sample.FOLDS).unlink()  # as a writer leaves it that was stopped
    assert load(None, tmp_path).fingerprint == first.fingerprint
    assert 300 <= len(first.ids) <= 600
    train = first.problems[0].split == "train"
    assert (first.targets["emotions"][train].sum(axis=0) >= 10).all()


def pickled(folder: Path, word: bool = True, **change: Any) -> Path:
    """A pickle in MMSA's layout; ``change`` is of its train fold, None takes a key away."""
    folder.mkdir(exist_ok=True)
    data = {}
    for number, (fold, n) in enumerate((("train", 4), ("valid", 2), ("test", 3))):
        rng = np.random.default_rng(number)
        rows = {
            m: rng.normal(size=(n, t, d)).astype("f4")
            for m, t, d in (("text", 5, 6), ("audio", 5, 3), ("vision", 5, 2))
        }
        if not word:
            rows["audio"] = rng.normal(size=(n, 9, 3)).astype("f4")
        rows["text"][:, 3:] = 0
        rows["audio"][:, :2] = 0
        rows["audio"][0, 4, 1] = -np.inf
        bert = np.zeros((n, 3, 5), dtype=np.float32)
        bert[:, 1, :2] = 1
        data[fold] = rows | {
            "raw_text": [f"text {row}" for row in range(n)],
            "text_bert": bert,
            "id": [f"{fold}{row // 2}$_${row}" for row in range(n)],
            "regression_labels": np.linspace(-3, 3, n).astype("f4"),
            "audio_lengths": [9] * n,
        }
    data["train"] = {k: v for k, v in (data["train"] | change).items() if v is not None}
    with (folder / mmsa.FILES[word]).open("wb") as file:
        pickle.dump(data, file, protocol=4)
    return folder


def test_mmsas_pickles(tmp_path):
    root = pickled(tmp_path / "m")
    assert TASK.recognises(root)
    dataset = load(root, tmp_path, steps="10")
    assert list(dataset.targets) == ["sentiment", "sentiment_score"]
    assert any("no emotion labels" in note for note in dataset.notes)
    assert any("audio: 3 values are not finite" in note for note in dataset.notes)
    assert dataset.problems[0].split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert dataset.groups.tolist()[:4] == ["train0", "train0", "train1", "train1"]
    text, audio = (np.asarray(dataset.inputs[name]) for name in ("text", "audio"))
    assert (~np.isnan(text).all(axis=2)).tolist() == [[True, True, False, False, False]] * 9  # as text_bert attends
    assert (~np.isnan(audio).all(axis=2)).tolist() == [[False, False, True, True, True]] * 9
    assert audio[0, 4, 1] == 0
    with pytest.raises(UsageError, match="no labels for emotions: give the"):
        load(root, tmp_path, "mr26")
    with pytest.raises(UsageError, match=r"aligned_50\.pkl is there: --set task\.align=word"):
        load(root, tmp_path, align="none")


def test_mmsas_unaligned_pickles(tmp_path):
    dataset = load(pickled(tmp_path / "m", word=False), tmp_path, align="none")
    assert np.asarray(dataset.inputs["text"]).shape == (9, 2, 6) and np.asarray(dataset.inputs["audio"]).shape == (
        9,
        7,
        3,
    )


def test_either_source_can_be_asked_for(root, tmp_path):
    pickled(root)
    assert "emotions" in load(root, tmp_path).targets
    assert "emotions" not in load(root, tmp_path, source="mmsa").targets


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"audio": None}, "train has no audio"),
        ({"regression_labels": None}, "train has no regression_labels"),
        ({"id": ["a$_$1"] * 4}, "an id stands twice"),
        ({"id": ["a"] * 4}, r"is not of the form video\$_\$clip"),
        ({"id": [1, 2, 3, 4]}, "id is no list of texts"),
        ({"id": []}, "id is no list of texts"),
        ({"audio": np.zeros((4, 5))}, r"audio has shape \(4, 5\), expected"),
        ({"audio": np.zeros((3, 5, 3))}, r"audio has shape \(3, 5, 3\)"),
        ({"audio": np.zeros((4, 5, 7))}, "has .3, 7. features in its folds"),
        ({"audio": np.zeros((4, 6, 3))}, "steps by modality, which are not aligned"),
        ({"audio": [["a"]] * 4}, "audio is no array of numbers"),
        ({"audio": [[1], [1, 2]]}, "audio is no array of numbers"),
        ({"text_bert": np.zeros((4, 2, 5))}, "text_bert has shape"),
        ({"regression_labels": np.full(4, 9.0)}, "sentiment holds a value outside"),
        ({"regression_labels": np.full(4, np.inf)}, "sentiment holds a value outside"),
        ({"audio": print}, "nothing of it was run"),
    ],
)
def test_pickles_of_another_layout_are_one_line(tmp_path, change, told):
    with pytest.raises(UsageError, match=told) as error:
        load(pickled(tmp_path / "m", **change), tmp_path)
    assert len(str(error.value).splitlines()) == 1


def change(path: Path, act: Any) -> None:
    with h5py.File(path, "a") as file:
        act(file[next(iter(file))]["data"])


def replaced(key: str, name: str, value: Any) -> Any:
    def act(data: Any) -> None:
        del data[key][name]
        if value is not None:
            data[key][name] = value

    return act


HUGE = {"shape": (2**40, 35), "dtype": "f4", "chunks": (1, 35)}


@pytest.mark.parametrize(
    ("file", "act", "told"),
    [
        ("video", replaced("video001", "features", None), "video001 has no features in this file"),
        ("video", replaced("video001", "intervals", None), "video001 has no intervals in this file"),
        ("video", replaced("video001", "features", np.zeros(5)), "features is no table of numbers"),
        ("video", replaced("video001", "features", np.zeros((5, 3))), "has 3 features, others 35"),
        ("video", replaced("video001", "features", np.zeros((5, 0))), "is not read"),
        ("video", replaced("video001", "features", np.array([[b"x"]])), "features is no table of numbers"),
        ("video", replaced("video001", "intervals", np.zeros((1, 2))), r"has intervals \(1, 2\) for features"),
        ("video", replaced("video001", "features", h5py.ExternalLink("other.h5", "/x")), "in this file"),
        ("video", replaced("video001", "features", h5py.SoftLink("/nowhere")), "in this file"),
        (
            "labels",
            replaced("video001", "features", np.full((5, 7), 9.0)),
            "sentiment holds a value outside of -3 to 3",
        ),
        ("labels", replaced("video001", "features", np.zeros((5, 6))), "has 6 features, others 7"),
        ("labels", replaced("video001", "intervals", np.full((5, 2), np.nan)), "an interval that is not finite"),
    ],
)
def test_sequences_of_another_layout_are_one_line(root, tmp_path, file, act, told):
    change(root / (csd.LABELS if file == "labels" else csd.FILES[file]), act)
    with pytest.raises(UsageError, match=told) as error:
        load(root, tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_what_promises_much_or_lies_elsewhere_is_not_read(root, tmp_path):
    path, before = root / csd.FILES["video"], (root / csd.FILES["video"]).read_bytes()
    (tmp_path / "secret").write_bytes(b"\0" * 35 * 4 * 4)

    def huge(data: Any) -> None:
        del data["video001"]["features"]
        data["video001"].create_dataset("features", **HUGE)

    def elsewhere(data: Any) -> None:
        del data["video001"]["features"]
        outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        data["video001"].create_dataset("features", (4, 35), "f4", external=outside)

    def virtual(data: Any) -> None:
        del data["video001"]["features"]
        layout = h5py.VirtualLayout((4, 35), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4, 35))
        data["video001"].create_virtual_dataset("features", layout)

    for act in (huge, elsewhere, virtual):
        path.write_bytes(before)
        change(path, act)
        with pytest.raises(UsageError, match="is not read: it is too large, or kept elsewhere"):
            load(root, tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_a_file_that_is_no_hdf5_is_one_line(root, tmp_path, content):
    (root / csd.FILES["audio"]).write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as HDF5"):
        load(root, tmp_path)


@pytest.mark.parametrize("name", [csd.LABELS, csd.FILES["text"], csd.FILES["audio"]])
def test_a_file_that_is_missing_is_named(root, tmp_path, name):
    (root / name).unlink()
    with pytest.raises(UsageError, match=name if name != csd.LABELS else "holds neither"):
        load(root, tmp_path)


@pytest.mark.parametrize("given", ["0", "-1", "x", "1e3", "99999999999"])
def test_steps_that_are_no_number(root, tmp_path, given):
    with pytest.raises(UsageError, match=r"task\.steps="):
        load(root, tmp_path, steps=given)
