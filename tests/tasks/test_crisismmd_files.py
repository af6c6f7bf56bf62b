"""The loader of CrisisMMD on a tiny folder in the official layout, and on hostile ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.plugins import shipped

CRISISMMD = shipped("tasks", "crisismmd")
TASK = CRISISMMD.TASK
LABELS = importlib.import_module(f"{CRISISMMD.__name__}.labels")
OFFICIAL = importlib.import_module(f"{CRISISMMD.__name__}.official")

CONF = [f"{column}_conf" for column in ("text_info", "image_info", "text_human", "image_human", "image_damage")]
ANNOTATION = ["tweet_id", "image_id", "text_info", "image_info", "text_human", "image_human", "image_damage"]
ANNOTATION += ["tweet_text", "image_url", "image_path"]
ANNOTATION[3:3] = CONF  # the order of columns carries no meaning
SPLIT = ["event_name", "tweet_id", "image_id", "tweet_text", "image", "label", "label_text", "label_image"]
EVENTS = ("flood_a", "quake_b")
PLACES = ("train",) * 5 + ("dev",) * 2 + ("test",) * 3
CYCLE = ("not_humanitarian", "vehicle_damage", "injured_or_dead_people", "other_relevant_information")


def table(header: list[str], rows: list[dict[str, str]]) -> str:
    return (
        "\n".join("\t".join(row[c] for c in header) for row in [dict(zip(header, header, strict=True)), *rows]) + "\n"
    )


def info(label: str) -> str:
    return "not_informative" if label == "not_humanitarian" else "informative"


def annotated(event: str, n_tweets: int = 20) -> list[dict[str, str]]:
    rows = []
    for tweet in range(n_tweets):
        text = CYCLE[tweet % 4]
        for image in range(1 + tweet % 2):
            seen = CYCLE[(tweet + image * (tweet // 4)) % 4]
            name = f"{event}{tweet:02d}"
            row = dict.fromkeys(ANNOTATION, "1.0") | {
                "tweet_id": name,
                "text_info": info(text),
                "image_info": info(seen),
                "text_human": text,
                "image_human": seen,
                "image_damage": ("nan", "dont_know_or_cant_judge", "mild_damage", "severe_damage")[tweet % 4],
                "tweet_text": f'RT @x: "{name} water &amp; wind',
                "image_path": f"data_image/{event}/1_9_2017/{name}_{image}.jpg",
            }
            rows.append(row)
    return rows


def split_rows(rows: list[dict[str, str]], concept: str, *, agreed: bool) -> list[dict[str, str]]:
    made = []
    for row in rows:
        text, image = (
            (row[f"text_{concept[:4]}"], row[f"image_{concept[:4]}"])
            if concept == "info"
            else (
                row["text_human"],
                row["image_human"],
            )
        )
        if agreed and concept == "human":
            merge = LABELS.MERGED_INTO
            text, image = merge.get(text, text), merge.get(image, image)
        if agreed and text != image:
            continue
        made.append(
            dict.fromkeys(SPLIT, "-")
            | {"tweet_id": row["tweet_id"], "image": row["image_path"], "label": text, "label_text": text}
            | {"label_image": image}
        )
    return made


def write(home: Path) -> Path:
    """A folder in the official layout: 2 events, 40 tweets, 60 rows, half of the images there."""
    rows = []
    (home / "annotations").mkdir(parents=True)
    for event in EVENTS:
        rows += annotated(event)
        (home / "annotations" / f"{event}_final_data.tsv").write_text(table(ANNOTATION, annotated(event)))
    tweets = sorted({row["tweet_id"] for row in rows})
    for folder, suffix in ((OFFICIAL.ALL, ""), (OFFICIAL.AGREED, "_agreed_lab")):
        (home / folder).mkdir()
        for concept, shift in (("informative", 0), ("humanitarian", 2)):
            for part in ("train", "dev", "test"):
                # the humanitarian split is shifted by two tweets: the concepts disagree on some tweets
                chosen = [r for r in rows if PLACES[(tweets.index(r["tweet_id"]) + shift) % 10] == part]
                made = split_rows(chosen, concept[:4] if concept[0] == "i" else "human", agreed=bool(suffix))
                path = home / folder / f"task_{concept}_text_img{suffix}_{part}.tsv"
                path.write_text(table(SPLIT, made))
    severe = [row for row in rows if row["image_damage"] in LABELS.DAMAGE]
    for place, part in enumerate(("train", "dev", "test")):
        made = [
            dict.fromkeys(SPLIT[:6], "-")
            | {"tweet_id": row["tweet_id"], "image": row["image_path"], "label": row["image_damage"]}
            for row in severe[place::3]
        ]
        (home / OFFICIAL.ALL / f"task_damage_text_img_{part}.tsv").write_text(table(SPLIT[:6], made))
    for row in rows[::2]:
        image = home / row["image_path"]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"an image")
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write(tmp_path / "CrisisMMD_v2.0")


def load(root: Path, protocol: str = "mt25", modalities: tuple[str, ...] = ("text",), **options: str) -> Dataset:
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | options
    dataset: Dataset = TASK.load(LoadRequest(root, root.parent / "scratch", chosen, values, modalities))
    return dataset


def crossing(groups: np.ndarray, split: np.ndarray) -> int:
    return sum(len(set(split[(groups == g) & (split != "")])) > 1 for g in np.unique(groups))


def test_rows_come_in_file_order_whatever_the_protocol(home: Path) -> None:
    expected = [row["image_path"] for event in EVENTS for row in annotated(event)]
    for protocol in TASK.protocols:
        dataset = load(home, protocol.name)
        assert dataset.ids.tolist() == expected
        assert dataset.inputs["text"][0] == 'RT @x: "flood_a00 water &amp; wind'
        for problem in dataset.problems:
            assert len(problem.split) == len(expected)
            assert set(problem.concepts) <= {concept.name for concept in dataset.concepts}
    assert not dataset.generated


def test_data_may_be_the_folder_that_holds_it(home: Path) -> None:
    assert load(home.parent).ids.tolist() == load(home).ids.tolist()
    assert TASK.recognises(home) and TASK.recognises(home.parent) and not TASK.recognises(home / "annotations")


def test_label_modes_on_hand_made_rows() -> None:
    code = {label: i for i, label in enumerate(LABELS.HUMANITARIAN)}
    text = [
        "not_humanitarian",
        "vehicle_damage",
        "not_humanitarian",
        "injured_or_dead_people",
        "missing_or_found_people",
    ]
    image = ["not_humanitarian", "infrastructure_and_utility_damage", "vehicle_damage", "vehicle_damage"]
    image.append("missing_or_found_people")
    columns = {
        "text_human": np.array([code[x] for x in text]),
        "image_human": np.array([code[x] for x in image]),
        "text_info": np.array([int(x != "not_humanitarian") for x in text]),
        "image_info": np.array([int(x != "not_humanitarian") for x in image]),
        "image_damage": np.array([-1, 0, 1, 2, -1]),
    }
    union = LABELS.targets(columns, "union")
    assert union["informative"].tolist() == [0, 1, 1, 1, 1]
    held = [{LABELS.HUMANITARIAN[k] for k in np.flatnonzero(row)} for row in union["humanitarian"]]
    assert held == [
        {"not_humanitarian"},
        {"vehicle_damage", "infrastructure_and_utility_damage"},
        {"vehicle_damage"},
        {"injured_or_dead_people", "vehicle_damage"},
        {"missing_or_found_people"},
    ]
    agreed = LABELS.targets(columns, "agreed")
    names = [LABELS.MERGED[k] if k >= 0 else None for k in agreed["humanitarian"]]
    assert names == ["not_humanitarian", "infrastructure_and_utility_damage", None, None, "affected_individuals"]
    assert agreed["informative"].tolist() == [0, 1, -1, 1, 1]
    assert LABELS.targets(columns, "text")["humanitarian"].tolist() == columns["text_human"].tolist()
    assert LABELS.targets(columns, "image")["informative"].tolist() == columns["image_info"].tolist()
    for mode in LABELS.MODES:
        assert LABELS.targets(columns, mode)["damage"].tolist() == [-1, 0, 1, 2, -1]


def test_mt25_targets(home: Path) -> None:
    dataset = load(home)
    rows = [row for event in EVENTS for row in annotated(event)]
    damage = dataset.targets["damage"]
    assert [LABELS.DAMAGE[k] if k >= 0 else None for k in damage] == [
        row["image_damage"] if row["image_damage"] in LABELS.DAMAGE else None for row in rows
    ]
    for row, human, informative in zip(
        rows, dataset.targets["humanitarian"], dataset.targets["informative"], strict=True
    ):
        both = {row["text_human"], row["image_human"]}
        positive = both - {"not_humanitarian"}
        assert {LABELS.HUMANITARIAN[k] for k in np.flatnonzero(human)} == (positive or both)
        assert informative == bool(positive)


@pytest.mark.parametrize("protocol", ["mt25", "joint-agreed", "joint-official", "event"])
def test_tweets_stay_whole(home: Path, protocol: str) -> None:
    dataset = load(home, protocol)
    for problem in dataset.problems:
        assert {"train", "val", "test"} <= set(problem.split)
        assert crossing(dataset.groups, problem.split) == 0


def test_the_row_split_says_that_it_leaks(home: Path) -> None:
    for dataset in (load(home, "mt25-rows"), load(home, "mt25", split="rows")):
        problem = dataset.problems[0]
        train = set(dataset.groups[problem.split == "train"])
        shared = sum(group in train for group in dataset.groups[problem.split == "test"])
        assert shared > 0
        assert any(f"{shared} of" in note and "test rows share a tweet with train" in note for note in dataset.notes)


def test_joint_split_by_hand() -> None:
    groups = np.array(list("aabbccd"))
    first = np.array(["train", "train", "train", "", "val", "", ""])
    second = np.array(["", "test", "val", "train", "train", "", ""])
    assert OFFICIAL.joint_split([first, second], groups).tolist() == ["test", "test", "val", "val", "val", "", ""]


def test_joint_masks_what_a_file_does_not_label(home: Path) -> None:
    joint = load(home, "joint-agreed")
    single = load(home, "agreed")
    for problem in single.problems:
        held = problem.split != ""
        assert (joint.labelled(problem.name) == held).all()
        moved = held & (joint.problems[0].split != problem.split)
        assert not (moved & (problem.split == "test")).any()


def test_official_labels_by_mode(home: Path) -> None:
    rows = [row for event in EVENTS for row in annotated(event)]
    for mode in ("text", "image"):
        dataset = load(home, "official", labels=mode)
        expected = [LABELS.HUMANITARIAN.index(row[f"{mode}_human"]) for row in rows]
        assert dataset.targets["humanitarian"].tolist() == expected
        assert dataset.targets["informative"].tolist() == [int(k > 0) for k in expected]


def test_event_leaves_one_out(home: Path) -> None:
    dataset = load(home, "event")
    assert [problem.name for problem in dataset.problems] == list(EVENTS)
    for problem in dataset.problems:
        in_event = np.array([problem.name in image for image in dataset.ids])
        assert ((problem.split == "test") == in_event).all()


def test_a_tweet_of_two_events_is_not_trained_on_when_one_is_left_out(home: Path) -> None:
    path = home / "annotations" / "quake_b_final_data.tsv"
    path.write_text(path.read_text().replace("quake_b00\t", "flood_a00\t", 1))
    dataset = load(home, "event")
    shared = dataset.groups == "flood_a00"
    assert shared.sum() == 2
    for problem in dataset.problems:
        assert sorted(problem.split[shared]) == ["", "test"]
        assert crossing(dataset.groups, problem.split) == 0


@pytest.mark.parametrize("protocol", ["mt25", "mt25-rows", "event"])
def test_the_split_follows_its_seed_and_not_the_labels(home: Path, protocol: str) -> None:
    chosen = next(p for p in TASK.protocols if p.name == protocol)
    splits = {}
    for seed, labels in ((0, "union"), (0, "agreed"), (0, "text"), (1, "union")):
        values = {option.name: option.default for option in TASK.options} | dict(chosen.defaults) | {"labels": labels}
        dataset = TASK.load(LoadRequest(home, home.parent / "scratch", chosen, values, ("text",), seed))
        splits[seed, labels] = [problem.split.tolist() for problem in dataset.problems]
    assert splits[0, "union"] == splits[0, "agreed"] == splits[0, "text"] != splits[1, "union"]


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("official", {"labels": "union"}),
        ("agreed", {"labels": "text"}),
        ("event", {"split": "rows"}),
        ("mt25", {"split": "official"}),
        ("joint-official", {"labels": "agreed"}),
    ],
)
def test_options_a_protocol_does_not_have(home: Path, protocol: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"under protocol {protocol}"):
        load(home, protocol, **options)


def test_missing_images(home: Path) -> None:
    modalities = ("text", "image")
    with pytest.raises(UsageError, match=r"30 of 60 rows have no image.*--missing-images drop or mask") as error:
        load(home, modalities=modalities)
    assert "\n" not in str(error.value)
    assert "image" not in load(home).inputs
    whole = load(home).problems[0].split
    masked = load(home, modalities=modalities, missing_images="mask")
    present = np.array([image is not None for image in masked.inputs["image"]])
    assert present.tolist() == [row % 2 == 0 for row in range(60)]
    assert (masked.problems[0].split == whole).all()
    assert all(image.is_file() for image in masked.inputs["image"] if image is not None)
    dropped = load(home, modalities=modalities, missing_images="drop")
    assert (dropped.problems[0].split == np.where(present, whole, "")).all()
    assert any("30 of 60" in note and "dropped" in note for note in dropped.notes)


def test_no_image_at_all_cannot_be_dropped(home: Path) -> None:
    for image in home.glob("data_image/**/*.jpg"):
        image.unlink()
    with pytest.raises(UsageError, match="joint has no train rows"):
        load(home, modalities=("text", "image"), missing_images="drop")


def test_fingerprint_follows_the_content_and_not_the_split(home: Path) -> None:
    both = ("text", "image")
    before = load(home, modalities=both, missing_images="mask").fingerprint
    assert load(home, "mt25-rows", modalities=both, missing_images="mask").fingerprint == before
    assert load(home, modalities=both, missing_images="drop").fingerprint == before
    assert load(home, labels="text", modalities=both, missing_images="mask").fingerprint != before
    next(home.glob("data_image/**/*.jpg")).write_bytes(b"another image")
    after = load(home, modalities=both, missing_images="mask").fingerprint
    assert after != before
    text_only = load(home).fingerprint
    path = home / "annotations" / "flood_a_final_data.tsv"
    path.write_text(path.read_text().replace("wind", "rain", 1))
    assert load(home).fingerprint != text_only


Damage = Callable[[Path], Any]


def edit(name: str, old: str, new: str, count: int = 1) -> Damage:
    def apply(home: Path) -> None:
        path = home / name
        path.write_text(path.read_text().replace(old, new, count))

    return apply


A = "annotations/flood_a_final_data.tsv"
D = "crisismmd_datasplit_all/task_damage_text_img_dev.tsv"
H = "crisismmd_datasplit_agreed_label/task_humanitarian_text_img_agreed_lab_train.tsv"


def second_line(home: Path, name: str) -> str:
    return (home / name).read_text().split("\n")[1]


HOSTILE: list[tuple[str, str, Damage, str]] = [
    ("column", "mt25", edit(A, "image_human\t", "human\t"), rf"{A}, line 1: no column 'image_human'"),
    ("label", "mt25", edit(A, "\tmild_damage", "\tawful"), rf"{A}, line 5, column image_damage: unknown label 'awful'"),
    (
        "byte",
        "mt25",
        lambda h: (h / A).write_bytes((h / A).read_bytes().replace(b"wind", b"\xff", 1)),
        "line 2: byte 0xff",
    ),
    ("no rows", "mt25", lambda h: (h / A).write_text("\t".join(ANNOTATION) + "\n"), "header and no rows"),
    ("empty", "mt25", lambda h: (h / A).write_text(""), "no column 'tweet_id'"),
    ("fields", "mt25", edit(A, "wind\t", "wind"), "line 2: 14 fields, expected 15"),
    ("twice", "mt25", edit(A, "flood_a01_1.jpg", "flood_a00_0.jpg"), "line 4: image .* is also on line 2"),
    ("outside", "mt25", edit(A, "data_image/flood_a/", "../../"), "leaves the folder"),
    ("partial", "mt25", lambda h: (h / A).rename(h / "annotations/hurricane_irma_final_data.tsv"), "6 of 7 events"),
    (
        "folder",
        "mt25",
        lambda h: [p.unlink() for p in (h / "annotations").iterdir()],
        "holds no <event>_final_data.tsv",
    ),
    ("no split", "agreed", lambda h: (h / H).unlink(), rf"{H} cannot be read: No such file"),
    ("split label", "agreed", edit(H, "\tnot_humanitarian", "\tcats", -1), "unknown label 'cats'"),
    ("other row", "official", edit(D, "1_9_2017", "1_8_2017"), "is not in the annotations"),
]


@pytest.mark.parametrize(("protocol", "damage", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_files(home: Path, protocol: str, damage: Damage, message: str) -> None:
    load(home, protocol)
    damage(home)
    with pytest.raises(UsageError, match=message) as error:
        load(home, protocol)
    assert "\n" not in str(error.value)


def test_a_row_in_two_split_files(home: Path) -> None:
    path = home / D
    path.write_text(path.read_text() + second_line(home, D.replace("dev", "train")) + "\n")
    with pytest.raises(UsageError, match=r"task_damage_text_img_dev.tsv, line \d+: image .* is already in train"):
        load(home, "official")


def test_agreed_file_that_disagrees(home: Path) -> None:
    path = home / H
    line = second_line(home, H).split("\t")
    line[SPLIT.index("label_text")] = "other_relevant_information"
    line[SPLIT.index("label_image")] = "not_humanitarian"
    path.write_text(path.read_text().replace(second_line(home, H), "\t".join(line)))
    with pytest.raises(UsageError, match="line 2: label_text and label_image differ"):
        load(home, "agreed")


def test_folders_that_are_not_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder .*nowhere"):
        load(tmp_path / "nowhere")
    archive = tmp_path.with_suffix(".zip")
    archive.write_bytes(b"")
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        load(archive)
    with pytest.raises(UsageError, match="it is empty"):
        load(tmp_path)
    (tmp_path / "train2017").mkdir()
    with pytest.raises(UsageError, match=r"it holds train2017, expected annotations/"):
        load(tmp_path)


def test_missing_split_folder_names_the_archive(home: Path) -> None:
    (home / OFFICIAL.ALL).rename(home / "elsewhere")
    assert len(load(home).ids) == 60
    with pytest.raises(UsageError, match=r"crisismmd_datasplit_all\.zip"):
        load(home, "official")
    (home / "elsewhere").rename(home.parent / OFFICIAL.ALL)
    assert len(load(home, "official").problems) == 3
