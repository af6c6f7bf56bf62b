"""COCO: the official layout, names in captions, the sample, and files that attack or are damaged."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmbench import naming
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped
from mmbench.sample_folder import is_whole

COCO = shipped("tasks", "coco")
TASK = COCO.TASK
sample = importlib.import_module(f"{COCO.__name__}.sample")

INSTANCES: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg"}, {"id": 5, "file_name": "5.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 0, 1, 1], "segmentation": [[0, 1]]},
        {"id": 2, "image_id": 7, "category_id": 18, "iscrowd": 1},
        {"id": 3, "image_id": 3, "category_id": 88},
        {"id": 4, "image_id": 3, "category_id": 18},
    ],
    "categories": [{"id": 88, "name": "teddy bear"}, {"id": 18, "name": "dog"}, {"id": 23, "name": "bear"}],
}
CAPTIONS: dict[str, Any] = {
    "images": [],
    "annotations": [
        {"id": 9, "image_id": 7, "caption": "Two dogs\n run."},
        {"id": 4, "image_id": 7, "caption": "An animal."},
        {"id": 5, "image_id": 3, "caption": "A Teddy-Bear and a hound"},
    ],
}


def lay_out(root: Path, parts: tuple[str, ...] = ("train2017", "val2017"), images: bool = True) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part in parts:
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(INSTANCES))
        (root / "annotations" / f"captions_{part}.json").write_text(json.dumps(CAPTIONS))
        if images:
            (root / part).mkdir(exist_ok=True)
            for number in (3, 5, 7):
                Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(root / part / f"{number}.jpg")
    return root


def load(root: Path | None, scratch: Path, protocol: str = "official", modalities: tuple[str, ...] = ("text", "image"),
         seed: int = 0, **options: str) -> Dataset:  # fmt: skip
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | options
    dataset: Dataset = TASK.load(LoadRequest(root, scratch, chosen, values, modalities, seed))
    return dataset


# the layout


def test_rows_labels_captions_and_split(tmp_path: Path) -> None:
    dataset = load(lay_out(tmp_path), tmp_path)
    assert dataset.ids.tolist() == [f"{part}/{n}.jpg" for part in ("train2017", "val2017") for n in (7, 3, 5)]
    assert dataset.concepts[0].labels == ("dog", "bear", "teddy bear")  # by id
    assert dataset.targets["objects"][:3].tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert list(dataset.inputs["text"])[:3] == ["An animal.", "A Teddy-Bear and a hound", None]
    assert load(tmp_path, tmp_path, captions="joined").inputs["text"][0] == "An animal. Two dogs run."
    assert dataset.problems[0].split[3:].tolist() == ["test"] * 3
    assert set(dataset.problems[0].split[:3]) <= {"train", "val"}
    assert not dataset.generated and dataset.title == "COCO, 3 images of train2017 and 3 images of val2017"
    assert any("2 of 6 images have no caption" in note for note in dataset.notes)


def test_one_part_alone_is_split_on_its_own_and_says_so(tmp_path: Path) -> None:
    dataset = load(lay_out(tmp_path, ("val2014",)), tmp_path)
    assert set(dataset.problems[0].split) <= {"train", "val", "test"} and len(dataset.ids) == 3
    assert dataset.notes[0].startswith("only val2014 is here")


def test_images_in_a_folder_of_their_own_and_missing_ones(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "coco")
    (root / "images").mkdir()
    for part in ("train2017", "val2017"):
        (root / part).rename(root / "images" / part)
    dataset = load(root, tmp_path)
    assert all(path.is_file() for path in dataset.inputs["image"])
    (root / "images" / "val2017" / "7.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"1 of 6 rows have no image .*first: val2017/7.jpg"):
        load(root, tmp_path)
    masked = load(root, tmp_path, missing_images="mask")
    assert masked.inputs["image"][3] is None and masked.problems[0].split[3] == "test"
    with pytest.raises(UsageError, match="with --missing-images drop, joint has no val rows"):
        load(root, tmp_path, missing_images="drop")
    assert load(root, tmp_path, modalities=("text",)).fingerprint != dataset.fingerprint


# names in captions


def test_masked_captions_name_nothing_whatever_the_labels(tmp_path: Path) -> None:
    kept, masked = (load(None, tmp_path, protocol) for protocol in ("official", "masked"))
    names = naming.Names(kept.concepts[0].labels)
    said = sum(bool(names.named(text)) for text in kept.inputs["text"])
    assert said > 100
    assert not any(names.named(text) for text in masked.inputs["text"])
    assert kept.notes[1].startswith("caption leak: ") and "masked" in masked.notes[1]
    told = int(kept.notes[1].split()[2].replace(",", ""))
    held = [{kept.concepts[0].labels[k] for k in np.flatnonzero(row)} for row in kept.targets["objects"]]
    assert told == sum(len(h & names.named(t)) for h, t in zip(held, kept.inputs["text"], strict=True))
    assert kept.fingerprint != masked.fingerprint


# the sample


def test_the_sample_is_written_once_and_again_when_damaged(tmp_path: Path) -> None:
    dataset = load(None, tmp_path)
    home = sample.ensure(tmp_path)
    assert dataset.generated and "(generated)" in dataset.title and len(dataset.ids) == 1000
    assert load(home, tmp_path / "unused").fingerprint == dataset.fingerprint
    assert not (tmp_path / "unused").exists()
    written = {p.name: p.read_bytes() for p in (home / "annotations").iterdir()}
    image = next((home / "val2017").iterdir())
    for damage in (image.unlink, (home / "sample.json").unlink, lambda: (home / "sample.json").write_text("[1]")):
        damage()
        assert sample.ensure(tmp_path) == home and is_whole(home, sample.VERSION)
        assert {p.name: p.read_bytes() for p in (home / "annotations").iterdir()} == written
    assert [path.name for path in tmp_path.iterdir()] == [home.name]
    image.unlink()
    dropped = load(home, tmp_path, missing_images="drop")
    assert dropped.problems[0].split.tolist().count("test") == 299
    (home / "sample.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        load(home, tmp_path)
    assert (tmp_path / "file").write_text("") == 0
    with pytest.raises(UsageError, match="cannot be written"):
        sample.ensure(tmp_path / "file" / "below")


# files that are damaged or attack


def change(root: Path, name: str, how: Callable[[Any], Any]) -> None:
    path = root / "annotations" / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps(how(content) or content))


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def how(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return how


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (put("images", 0, "file_name", value="../../etc/passwd"), "no plain name"),
        (put("images", 0, "file_name", value="/etc/passwd"), "no plain name"),
        (put("images", 0, "file_name", value="..\\x.jpg"), "no plain name"),
        (put("images", 0, "file_name", value=".."), "no plain name"),
        (put("images", 0, "file_name", value="a\x1b[2J.jpg"), "no plain name"),
        (put("images", 0, "file_name", value="\ud800.jpg"), "half a character"),
        (put("images", 0, "file_name", value=["7.jpg"]), "file_name is no text"),
        (put("images", 1, "file_name", value="7.jpg"), "two images have one file_name"),
        (put("images", 1, "id", value=7), "image 7 stands twice"),
        (put("images", 0, "id", value=True), "id is 'True', expected a whole number"),
        (put("images", 0, "id", value=1.5), "expected a whole number"),
        (put("images", 0, "id", value=10**400), "expected a whole number"),
        (put("images", 0, value="x"), r"images\[0\] is no object"),
        (put("images", value={"id": 1}), "no list 'images'"),
        (put("images", value=[]), "no images"),
        (put("categories", value=[]), "no categories"),
        (put("categories", 0, "name", value=" "), "name is no text"),
        (put("categories", 0, "name", value="dog"), "stands twice"),
        (put("annotations", 0, "image_id", value=99), "image 99 or category 18 is not in the file"),
        (put("annotations", 0, "category_id", value=1), "category 1 is not in the file"),
        (put("annotations", value=None), "no list 'annotations'"),
        (lambda content: [content], "holds no JSON object"),
        (put("categories", 2, "name", value="cat"), "other categories"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, how: Callable[[Any], Any], told: str) -> None:
    change(lay_out(tmp_path), "instances_train2017.json", how)
    with pytest.raises(UsageError, match=told) as error:
        load(tmp_path, tmp_path)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff\xfe{}", b"[" * 200_000, b'{"images": ' * 50_000, b"null", b'{"a": ' + b"9" * 6000 + b"}",
        b'{"images": [], "annotations": [NaN], "categories": []}', b"PK\x03\x04", bytes(1000),
    ],
)  # fmt: skip
def test_what_is_not_json_is_one_line(tmp_path: Path, raw: bytes) -> None:
    for name in ("instances_train2017.json", "captions_val2017.json"):
        root = lay_out(tmp_path / name)
        (root / "annotations" / name).write_bytes(raw)
        with pytest.raises(UsageError) as error:
            load(root, tmp_path)
        assert "\n" not in str(error.value) and name in str(error.value)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert not TASK.recognises(tmp_path)
    with pytest.raises(UsageError, match="is not COCO"):
        load(tmp_path, tmp_path)
    lay_out(tmp_path)
    assert TASK.recognises(tmp_path)
    (tmp_path / "annotations" / "captions_val2017.json").unlink()
    with pytest.raises(UsageError, match=r"captions_val2017.json cannot be read"):
        load(tmp_path, tmp_path)


# the real files


def test_the_real_files(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "coco_mini"
    dataset = load(root, tmp_path)
    assert dataset.title == "COCO, 80 images of train2017 and 79 images of val2017"
    assert dataset.targets["objects"].shape == (159, 80)
    row = 0
    for part in ("train2017", "val2017"):
        content = json.loads((root / "annotations" / f"instances_{part}.json").read_text())
        name_of = {c["id"]: c["name"] for c in content["categories"]}
        for image in content["images"]:
            held = {name_of[a["category_id"]] for a in content["annotations"] if a["image_id"] == image["id"]}
            assert {dataset.concepts[0].labels[k] for k in np.flatnonzero(dataset.targets["objects"][row])} == held
            row += 1
    assert row == len(dataset.ids)
