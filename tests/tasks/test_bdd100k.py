"""BDD100K: its label layouts, split by ride, missing files, the sample, and files that attack or are damaged."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped
from mmbench.sample_folder import is_whole

BDD = shipped("tasks", "bdd100k")
TASK = BDD.TASK
sample, json_list, label_files = (
    importlib.import_module(f"{BDD.__name__}.{name}") for name in ("sample", "json_list", "labels")
)
USUAL = ("image", "synthetic_motion")


def frame(name: str, *categories: str, weather: Any = "clear", scene: Any = "highway", time: Any = "night") -> Any:
    return {
        "name": f"{name}.jpg",
        "attributes": {"weather": weather, "scene": scene, "timeofday": time},
        "timestamp": 10000,
        "labels": [{"category": category, "id": i, "box2d": {"x1": 0}} for i, category in enumerate(categories)],
    }


TRAIN = [
    frame("a1-01", "car", "person", "lane/single white"),
    frame("a1-02", "rider", "bike", weather="undefined"),
    frame("a2-01", "motor", "traffic sign", "area/drivable", scene="tunnel"),
    frame("a3-01", "bike", "traffic light", "other person", weather="rainy"),
    *(frame(f"b{number}-01", "truck", weather="snowy") for number in range(20)),
]
VAL = [frame("c1-01", "van", time="undefined"), frame("c2-01", weather="foggy", scene="parking lot")]


def recording(ride: str, speed: float = 10.0) -> Any:
    points = [{"timestamp": 1000 * second, "speed": speed, "course": 90.0} for second in range(1, 41)]
    return {"rideID": ride, "startTime": 0, "locations": points}


def lay_out(root: Path, train: Any = None, val: Any = None, images: bool = True, info: bool = True) -> Path:
    """The official layout, a ride each beginning of a name."""
    frames = {
        "train": copy.deepcopy(TRAIN) if train is None else train,
        "val": copy.deepcopy(VAL) if val is None else val,
    }
    (root / "labels").mkdir(parents=True, exist_ok=True)
    for part, content in frames.items():
        (root / "labels" / f"bdd100k_labels_images_{part}.json").write_text(json.dumps(content))
        for name in (str(entry["name"])[:-4] for entry in content if isinstance(entry, dict) and "name" in entry):
            if images:
                (root / "images" / "100k" / part).mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(root / "images" / "100k" / part / f"{name}.jpg")
            if info:
                (root / "info" / "100k" / part).mkdir(parents=True, exist_ok=True)
                path = root / "info" / "100k" / part / f"{name}.json"
                path.write_text(json.dumps(recording(f"ride of {name.split('-')[0]}")))
    return root


def load(root: Path | None, scratch: Path, protocol: str = "scene", modalities: tuple[str, ...] = USUAL,
         seed: int = 0, **options: str) -> Dataset:  # fmt: skip
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | options
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, chosen, values, modalities, seed))
    return dataset


# labels


def test_attributes_and_objects(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "bdd100k")
    dataset = load(tmp_path, tmp_path, "joint")  # the folder that holds bdd100k
    assert dataset.ids.tolist()[:4] == ["a1-01", "a1-02", "a2-01", "a3-01"]
    targets = {c.name: (dataset.targets[c.name], c.labels) for c in dataset.concepts}
    weather, labels = targets["weather"]
    assert [labels[k] if k >= 0 else None for k in weather[:4]] == ["clear", None, "clear", "rainy"]
    assert targets["timeofday"][0][-2:].tolist() == [-1, 1]
    assert targets["scene"][1][targets["scene"][0][2]] == "tunnel"
    objects, names = targets["objects"]
    held = [[name for name, value in zip(names, row, strict=True) if value] for row in objects.tolist()]
    assert held[:4] == [["car", "pedestrian"], ["cyclist"], ["road sign", "motorcycle"], []]
    assert held[4] == ["truck"] and held[-2:] == [["car"], []]  # a van is a car; other person is nobody
    assert any("'undefined' is no label: weather 1, scene 0, timeofday 1 of 26" in note for note in dataset.notes)
    cyclists = {
        how: load(root, tmp_path, "mr26", cyclist=how).targets["objects"][:4, 2].tolist()
        for how in ("rider", "bicycle", "either")
    }
    assert cyclists == {"rider": [0, 1, 0, 0], "bicycle": [0, 1, 0, 1], "either": [0, 1, 0, 1]}
    assert [concept.name for concept in load(root, tmp_path, "mr26").concepts] == ["objects"]


def test_every_release_of_the_labels_says_the_same(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "a")
    one = load(root, tmp_path, "joint")
    renamed = {"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle"}
    (root / "labels" / "det_20").mkdir()
    for part, frames in (("train", TRAIN), ("val", VAL)):
        (root / "labels" / "100k" / part).mkdir(parents=True)
        new = copy.deepcopy(frames)
        for entry in new:
            for label in entry["labels"]:
                label["category"] = renamed.get(label["category"], label["category"])
            if not entry["labels"]:
                del entry["labels"]  # as the release does
            old = {"name": entry["name"][:-4], "attributes": entry["attributes"]}
            old["frames"] = [{"timestamp": 10000, "objects": entry.get("labels", [])}]
            (root / "labels" / "100k" / part / f"{old['name']}.json").write_text(json.dumps(old))
        (root / "labels" / "det_20" / f"det_{part}.json").write_text(json.dumps(new))
    for source in ("det_20", "100k"):
        other = load(root, tmp_path, "joint", labels=source)
        assert sorted(other.ids) == sorted(one.ids)
        order = [other.ids.tolist().index(name) for name in one.ids]
        for name, target in one.targets.items():
            assert (other.targets[name][order] == target).all()
    (root / "labels" / "bdd100k_labels_images_train.json").unlink()
    assert label_files.find_source(root, "auto") == "det_20"  # the first with both parts
    shutil.rmtree(root / "labels" / "100k")
    with pytest.raises(UsageError, match="has no 100k"):
        load(root, tmp_path, labels="100k")


def test_the_frames_of_a_video_are_one_clip(tmp_path: Path) -> None:
    root = lay_out(tmp_path, val=[])
    (root / "labels" / "bdd100k_labels_images_val.json").unlink()
    shutil.move(root / "labels" / "bdd100k_labels_images_train.json", root / "kept.json")
    (root / "labels" / "100k" / "train").mkdir(parents=True)
    frames = [
        {"name": f"x-{number}.jpg", "videoName": "x", "frameIndex": number, "labels": [{"category": category}]}
        for number, category in enumerate(("car", "truck"))
    ]
    frames[1]["attributes"] = {"weather": "snowy"}
    (root / "labels" / "100k" / "train" / "x.json").write_text(json.dumps(frames))
    (root / "labels" / "100k" / "train" / "y.json").write_text(json.dumps({"frames": None}))  # named by its file
    (root / "labels" / "100k" / "train" / "empty.json").write_text("[]")
    read = label_files.read_labels(root, "auto")
    assert [(clip.name, clip.categories, clip.attributes["weather"]) for clip in read.clips] == [
        ("x", {"car", "truck"}, "snowy"),
        ("y", set(), None),
    ]


def test_an_official_file_is_read(test_data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels" / "100k" / "val").mkdir(parents=True)
    name = "example_annotation.json"
    shutil.copy(test_data / "bdd100k" / name, tmp_path / "labels" / "100k" / "val" / name)
    (clip,) = label_files.read_labels(tmp_path, "auto").clips
    content = json.loads((test_data / "bdd100k" / name).read_bytes())
    assert clip.name == content[0]["videoName"] and clip.part == "val"
    known = {label["category"] for label in content[0]["labels"]} & set(label_files.CATEGORIES)
    assert clip.categories == {label_files.CATEGORIES[category] for category in known}


# who is in which split


def test_test_is_the_official_val_part_and_no_ride_crosses(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    shared = root / "info" / "100k" / "train" / "a1-02.json"
    shared.write_text(json.dumps(recording("ride of c1")))
    dataset = load(root, tmp_path)
    split = dict(zip(dataset.ids.tolist(), dataset.problems[0].split.tolist(), strict=True))
    assert split["c1-01"] == split["c2-01"] == "test" and split["a1-02"] == ""
    assert {split[f"b{number}-01"] for number in range(20)} == {"train", "val"}
    assert any(
        note.startswith("1 clips of the official train part are of a ride that test holds") for note in dataset.notes
    )
    rides = dict(zip(dataset.ids.tolist(), dataset.groups.tolist(), strict=True))
    assert rides["a1-02"] == rides["c1-01"] != rides["a1-01"]
    other = load(root, tmp_path, seed=5).problems[0].split
    assert (other != dataset.problems[0].split).any() and (
        (other == "test") == (dataset.problems[0].split == "test")
    ).all()


def test_one_part_alone_is_cut_by_ride(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / "labels" / "bdd100k_labels_images_val.json").unlink()
    dataset = load(root, tmp_path)
    split = dataset.problems[0].split
    assert set(split) == {"train", "val", "test"} and dataset.title == "BDD100K, 24 clips of train"
    assert split[0] == split[1]  # one ride
    assert dataset.notes[0].startswith("only the official train part is here")


def test_a_ride_without_an_id_is_told_by_the_name(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    for number in range(20):
        (root / "info" / "100k" / "train" / f"b{number}-01.json").unlink()
    (root / "info" / "100k" / "train" / "a1-01.json").write_text("{")
    dataset = load(root, tmp_path)
    rides = dict(zip(dataset.ids.tolist(), dataset.groups.tolist(), strict=True))
    assert rides["a1-01"] == rides["a1-02"] and len(set(rides.values())) == 20 + 5
    assert any("21 of 26 clips have no rideID" in note for note in dataset.notes)


def test_clips_without_an_id_join_all_rides_of_their_beginning() -> None:
    join = importlib.import_module(f"{BDD.__name__}.info").join_rides
    names = ["a-1", "a-2", "a-3", "b-1", "b-2", "c-1", "c-2", "d-1"]
    found = join(names, ["x", "y", "", "y", "z", "w", "w", ""])
    assert found[0] == found[1] == found[2] == found[3]
    assert len({found[0], found[4], found[5], found[7]}) == 4 and found[5] == found[6]
    shuffled = [3, 7, 0, 5, 2, 1, 6, 4]
    again = join([names[i] for i in shuffled], [["x", "y", "", "y", "z", "w", "w", ""][i] for i in shuffled])
    assert [again[shuffled.index(i)] == again[shuffled.index(0)] for i in range(8)] == [f == found[0] for f in found]


# files


def test_missing_images_and_videos(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / "images" / "100k" / "train" / "a1-01.jpg").unlink()
    (root / "images" / "100k" / "train" / "a1-02.jpg").write_bytes(b"")
    with pytest.raises(
        UsageError, match=r"2 of 26 rows have no image below .*first: a1-01.jpg.*--missing-images drop"
    ) as e:
        load(root, tmp_path)
    assert "\n" not in str(e.value)
    masked = load(root, tmp_path, missing_images="mask")
    assert [path is None for path in masked.inputs["image"]] == [True, True] + [False] * 24
    dropped = load(root, tmp_path, missing_images="drop").problems[0].split
    assert dropped[:2].tolist() == ["", ""] and (dropped[2:] != "").all()
    with pytest.raises(UsageError, match="26 of 26 rows have no video below"):
        load(root, tmp_path, modalities=("video",))
    (root / "videos" / "val").mkdir(parents=True)
    (root / "videos" / "val" / "c1-01.mov").write_bytes(b"x")
    clips = load(root, tmp_path, modalities=("video",), missing_images="mask").inputs["video"]
    assert [clip.name for clip in clips if clip is not None] == ["c1-01.mov"]


def test_no_motion_at_all_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    root = lay_out(tmp_path, info=False)
    with pytest.raises(
        UsageError, match=r"26 of 26 clips have no motion \(26 no info file\): unpack Info.*--modalities image"
    ):
        load(root, tmp_path)
    assert set(load(root, tmp_path, modalities=("image",)).inputs) == {"image"}
    assert load(root, tmp_path, missing_images="mask").inputs["synthetic_motion"] == (None,) * 26


@pytest.mark.parametrize("given", ["0", "41", "nan", "x", "", "1e400"])
def test_seconds_of_motion_are_checked(tmp_path: Path, given: str) -> None:
    with pytest.raises(UsageError, match="motion_seconds"):
        load(lay_out(tmp_path), tmp_path, motion_seconds=given)


def test_the_fingerprint_is_of_what_is_used(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    one = load(root, tmp_path)
    assert load(root, tmp_path / "other").fingerprint == one.fingerprint
    (root / "info" / "100k" / "val" / "c1-01.json").write_text(json.dumps(recording("ride of c1", speed=12)))
    other = load(root, tmp_path)
    assert other.fingerprint != one.fingerprint  # what was kept of the recordings is not believed any more
    assert other.inputs["synthetic_motion"][-2].speed == pytest.approx(12)
    images = [load(root, tmp_path, modalities=("image",)).fingerprint for _ in range(2)]
    (root / "info" / "100k" / "val" / "c1-01.json").write_text(json.dumps(recording("ride of c1", speed=13)))
    assert load(root, tmp_path, modalities=("image",)).fingerprint == images[0] == images[1]


# the sample


def test_the_sample_is_read_by_the_same_loader_and_known_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SIZES", {"train": 150, "val": 50})
    dataset = load(None, tmp_path)
    home = sample.ensure(tmp_path)
    assert dataset.generated and "(generated)" in dataset.title and len(dataset.ids) == 200
    assert load(home, tmp_path / "unused").fingerprint == dataset.fingerprint
    split = dataset.problems[0].split
    for earlier, later in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(dataset.groups[split == earlier]) & set(dataset.groups[split == later])
    assert (split == "").sum() > 0  # the ride that is in both official parts
    for concept in dataset.concepts:
        counts = np.bincount(dataset.targets[concept.name][split == "train"].clip(0), minlength=len(concept.labels))
        assert counts.min() >= 1
    reasons = " ".join(dataset.notes)
    for reason in ("invalid JSON", "no speed near the frame", "no info file", "not a recording"):
        assert reason in reasons
    speed = np.array([np.nan if m is None else m.speed.mean() for m in dataset.inputs["synthetic_motion"]])
    scene = dataset.targets["scene"]
    labels = dataset.concepts[1].labels
    usual = {name: np.nanmedian(speed[scene == labels.index(name)]) for name in ("highway", "parking lot")}
    assert usual["highway"] > 3 * usual["parking lot"]
    image = next((home / "images" / "100k" / "val").iterdir())
    image.unlink()
    assert sample.ensure(tmp_path) == home and is_whole(home, sample.VERSION) and image.is_file()


# files that are damaged or attack


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 2**20])
def test_objects_are_read_whatever_the_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_list, "CHUNK", chunk)
    values = [{"a": [1, 2.5, 'x]}\\"', None], "é🙂": {"b": {}}}, {}, {"long": "y" * 300, "n": -1e-3}]
    path = tmp_path / "x.json"
    for text in (json.dumps(values), json.dumps(values, indent=2, ensure_ascii=False), "\ufeff " + json.dumps(values)):
        path.write_text(f"{text} \n", encoding="utf-8")
        assert [value for _, value in json_list.read_objects(path, "")] == values
    path.write_text(json.dumps(values[0]))
    assert [value for _, value in json_list.read_objects(path, "")] == values[:1]
    path.write_text("[ ]")
    assert list(json_list.read_objects(path, "")) == []


def test_memory_is_that_of_an_object_not_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def more(text: Any, size: int = 1000) -> bool:
        went_on = read_on(text, size)
        held.append(len(text.text))
        return went_on

    read_on = json_list._Text.more
    monkeypatch.setattr(json_list, "CHUNK", 1000)
    monkeypatch.setattr(json_list._Text, "more", more)
    values = [{"name": str(number), "outline": [0.5] * 1000} for number in range(200)]
    size = len(json.dumps(values[0]))
    (tmp_path / "x.json").write_text(json.dumps(values))
    assert sum(1 for _ in json_list.read_objects(tmp_path / "x.json", "")) == 200
    assert max(held) < 4 * size < (tmp_path / "x.json").stat().st_size / 40


def put(*keys: Any, value: Any) -> Any:
    content = copy.deepcopy(TRAIN)
    spot: Any = content
    for key in keys[:-1]:
        spot = spot[key]
    spot[keys[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (put(0, "name", value="../../etc/passwd"), "no plain name"),
        (put(0, "name", value="..jpg"), "no plain name"),
        (put(0, "name", value="a\x1b[2J.jpg"), "no plain name"),
        (put(0, "name", value="\ud800.jpg"), "no plain name"),
        (put(0, "name", value=7), "expected the name of a clip"),
        (put(0, "name", value="a1-02.jpg"), "a1-02 stands twice"),
        (put(0, "name", value="c1-01.jpg"), "c1-01 stands twice, in train and in val"),
        (put(0, "attributes", value=["clear"]), "attributes is no object"),
        (put(0, "attributes", "weather", value="sunny"), "weather is 'sunny', expected undefined or one of rainy"),
        (put(0, "attributes", "scene", value=3), "scene is '3'"),
        (put(0, "attributes", "scene", value={"a": "b"}), "scene is"),
        (put(0, "labels", value={"category": "car"}), "labels is no list of objects"),
        (put(0, "labels", value=["car"]), "labels is no list of objects"),
        (put(0, "labels", 0, "category", value=None), "a category is 'None', expected a text"),
        (put(0, "frames", value="x"), "frames is no list of objects"),
        (put(0, value=5), r"entry 1: found '5', expected an object"),
        (put(0, value=[]), r"entry 1: found '\[', expected an object"),
    ],
)
def test_a_damaged_list_is_one_line(tmp_path: Path, content: Any, told: str) -> None:
    lay_out(tmp_path, info=False, images=False)
    (tmp_path / "labels" / "bdd100k_labels_images_train.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=told) as error:
        load(tmp_path, tmp_path, modalities=())
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[", b"{", b"[{}", b"[{}}", b"[{},", b"[{}] x", b"[{} {}]", b"\xff\xfe[]", b"[" * 200_000,
        b"[{\"name\": \"\xff\"}]",
        b'[{"a": ' * 50_000, b"null", b'[{"a": ' + b"9" * 6000 + b"}]", b'[{"name": nul}]', b"PK\x03\x04", bytes(1000),
        b'[{"name": "x', b"3", b'"x"', b"[{}{}]",
    ],
)  # fmt: skip
def test_what_is_not_json_is_one_line(tmp_path: Path, raw: bytes) -> None:
    lay_out(tmp_path, info=False, images=False)
    (tmp_path / "labels" / "bdd100k_labels_images_val.json").write_bytes(raw)
    with pytest.raises(UsageError) as error:
        load(tmp_path, tmp_path, modalities=())
    assert "\n" not in str(error.value) and "images_val.json" in str(error.value)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert not TASK.recognises(tmp_path)
    with pytest.raises(UsageError, match="is not BDD100K: expected labels/"):
        load(tmp_path, tmp_path)
    (tmp_path / "labels").mkdir()
    assert TASK.recognises(tmp_path)
    with pytest.raises(UsageError, match=r"has no bdd100k_labels_images_train.json"):
        load(tmp_path, tmp_path)
    (tmp_path / "labels" / "det_20").mkdir()
    (tmp_path / "labels" / "det_20" / "det_val.json").write_text("[]")
    with pytest.raises(UsageError, match="hold no frame"):
        load(tmp_path, tmp_path)


def test_categories_of_no_release_are_counted(tmp_path: Path) -> None:
    dataset = load(lay_out(tmp_path, train=[*TRAIN, frame("z-1", "cars", "cars", "pedes\ntrian")]), tmp_path)
    assert any("3 boxes are of no category of BDD100K ('cars', 'pedes\\ntrian')" in note for note in dataset.notes)
