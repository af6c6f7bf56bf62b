"""What a card's modalities read: tables, texts, files and features; nothing leaks from test into a feature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import write_npz
from mmbench.card import card_task
from mmbench.contracts import Dataset
from mmbench.errors import UsageError

from .conftest import CARD, TABLE, load, refused


def test_categories_come_from_the_training_rows_alone(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    values = np.asarray(dataset.inputs["facts"])
    assert values.shape == (5, 3)  # size, green, red: blue is in test only
    np.testing.assert_array_equal(values[0], [1.5, 0, 1])
    np.testing.assert_array_equal(values[3], [3, 0, 0])
    assert np.isnan(values[1, 0]) and values[1, 1] == 1
    assert any("a category that train has not in 1 rows" in note for note in dataset.notes)
    elsewhere = load(tmp_path, table=TABLE.replace("3,blue", "3,purple"))
    np.testing.assert_array_equal(np.asarray(elsewhere.inputs["facts"]), values)


def test_declared_levels_are_all_there_and_bind(tmp_path: Path) -> None:
    card = CARD.replace(
        'categorical = ["colour"]', 'categorical = ["colour"]\nlevels = {colour = ["red", "blue", "green"]}'
    )
    np.testing.assert_array_equal(np.asarray(load(tmp_path, card).inputs["facts"])[3], [3, 0, 1, 0])
    refused(tmp_path, r"t\.csv: row 2, column 'colour' is 'pink', which is not among its levels", card,
            TABLE.replace("green", "pink"))  # fmt: skip


def test_cells_that_say_that_there_is_nothing(tmp_path: Path) -> None:
    table = TABLE.replace(",1.5,", ",NA,").replace("blue,glad", "blue,NA").replace("hello,you", "NA,you")
    refused(tmp_path, r"row 1, column 'size' is 'NA', expected a number", table=table)
    dataset = load(tmp_path, CARD.replace('id = "id"', 'id = "id"\nmissing = ["NA"]'), table)
    assert np.isnan(np.asarray(dataset.inputs["facts"])[0, 0])
    assert dataset.targets["mood"].tolist() == [0, 1, -1, -1, 1]
    assert dataset.inputs["words"][0] == "you"


def test_images_are_below_their_root_present_or_dealt_with(tmp_path: Path) -> None:
    card = CARD.replace('[modalities.words]\nkind = "text"\ncolumns = ["text", "more"]',
                        '[modalities.photo]\nkind = "image"\ncolumn = "text"\nroot = "media"')  # fmt: skip
    table = (
        TABLE.replace("hello", "sub/1.jpg")
        .replace('"a, b"', "2.png")
        .replace("bye", "gone.png")
        .replace("more,,4", ",,4")
    )
    (tmp_path / "media" / "sub").mkdir(parents=True)
    (tmp_path / "media" / "sub" / "1.jpg").write_bytes(b"x")
    (tmp_path / "media" / "2.png").write_bytes(b"x")
    refused(tmp_path, r"row 4, column 'text' names gone.png, which is not there; 1 of 4 rows", card, table)
    masked = load(tmp_path, card, table, missing_images="mask")
    media = tmp_path / "media"
    assert list(masked.inputs["photo"]) == [media / "sub" / "1.jpg", None, media / "2.png", None, None]
    assert load(tmp_path, card, table, missing_images="drop").problems[0].split.tolist()[3] == ""
    for outside in ("../t.csv", "/etc/hostname", "sub/../../t.csv"):
        refused(tmp_path, r"row 1, column 'text' is .*, which is not below", card, table.replace("sub/1.jpg", outside))


def features(folder: Path, section: str) -> Dataset:
    return load(folder, CARD.replace('kind = "text"\ncolumns = ["text", "more"]', section))


def test_features_by_row_in_every_format(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    matrix = np.arange(10, dtype=np.float32).reshape(5, 2)
    matrix[1, 0] = -np.inf
    np.save(tmp_path / "f.npy", matrix)
    write_npz(tmp_path / "f.npz", {"one": matrix, "other": np.zeros(3)})
    save_file({"one": matrix}, tmp_path / "f.safetensors")
    for section in ('file = "f.npy"', 'file = "f.npz"\narray = "one"', 'file = "f.safetensors"'):
        dataset = features(tmp_path, f'kind = "features"\n{section}')
        values = np.asarray(dataset.inputs["words"])
        assert np.isnan(values[1, 0])
        np.testing.assert_array_equal(np.delete(values, 1, 0), np.delete(matrix, 1, 0))
        assert any("1 cells in 1 columns (first: 0) are not finite" in note for note in dataset.notes)


def test_features_by_id_in_any_order(tmp_path: Path) -> None:
    write_npz(tmp_path / "f.npz", {"v": np.array([[3.0], [1.0], [9.0]]), "k": np.array(["c", "a", "stranger"])})
    dataset = features(tmp_path, 'kind = "features"\nfile = "f.npz"\narray = "v"\nids = "k"')
    np.testing.assert_array_equal(np.asarray(dataset.inputs["words"])[:, 0], [1, np.nan, 3, np.nan, np.nan])
    assert any("3 rows have no features" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("arrays", "section", "told"),
    [
        ({"v": np.zeros((4, 2))}, "", r"f\.npz has 4 rows, .*t\.csv has 5: expected as many, or ids"),
        ({"v": np.zeros((5, 2)), "w": np.zeros(5)}, "", 'give array = "NAME"'),
        ({"v": np.zeros((5, 2))}, 'array = "vv"', "did you mean v"),
        ({"v": np.zeros((2, 2)), "k": np.array(["a", "a"])}, 'array = "v"\nids = "k"', "holds an id twice"),
        ({"v": np.zeros((2, 2)), "k": np.array(["p", "q"])}, 'array = "v"\nids = "k"', "no id in 'k'"),
        ({"v": np.zeros((5, 2, 2))}, "", "shape"),
        ({"v": np.array([["a"]] * 5)}, "", "holds <U1"),
    ],
)
def test_features_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], section: str, told: str) -> None:
    write_npz(tmp_path / "f.npz", arrays)
    with pytest.raises(UsageError, match=told):
        features(tmp_path, f'kind = "features"\nfile = "f.npz"\n{section}')


def test_a_feature_file_that_is_none(tmp_path: Path) -> None:
    for name in ("f.npy", "f.npz", "f.safetensors", "f.pkl"):
        for content in (None, b"", b"\x80\x04K\x01."):
            if content is not None:
                (tmp_path / name).write_bytes(content)
            with pytest.raises(UsageError, match=name.replace(".", r"\.")) as raised:
                features(tmp_path, f'kind = "features"\nfile = "{name}"')
            assert "\n" not in str(raised.value)


def test_a_column_of_recordings_is_an_audio_modality(tmp_path: Path) -> None:
    import soundfile

    card = CARD.replace(
        "[modalities.facts]", '[modalities.voice]\nkind = "audio"\ncolumn = "size"\nroot = "media"\n[modalities.facts]'
    )
    card = card.replace('numeric = ["size"]\n', "")
    table = (
        TABLE.replace("1.5", "1.wav").replace("-2", "sub/2.flac").replace(",3,", ",absent.wav,").replace(",4,", ",,")
    )
    media = tmp_path / "media"
    (media / "sub").mkdir(parents=True)
    for name in ("1.wav", "sub/2.flac"):
        soundfile.write(media / name, np.zeros(800), 16_000)
    masked = load(tmp_path, card, table, missing_images="mask")
    (voice,) = [m for m in card_task(tmp_path / "mine.toml").modalities if m.name == "voice"]
    assert (voice.kind, voice.encoder) == ("audio", "logmel")
    assert list(masked.inputs["voice"]) == [media / "1.wav", None, media / "sub" / "2.flac", None, None]
    assert any("no audio file: voice is masked there" in note for note in masked.notes)
    with pytest.raises(UsageError, match=r"names absent\.wav, which is not there"):
        load(tmp_path, card, table)


def test_a_row_whose_file_of_features_is_not_there_is_dealt_with_as_images_are(tmp_path: Path) -> None:
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.array([1.0, 2.0]))
    card = CARD.replace('kind = "text"\ncolumns = ["text", "more"]', 'kind = "features"\ncolumn = "text"')
    table = (
        TABLE.replace("hello", "a.npy").replace('"a, b"', "b.npy").replace("bye", "gone.npy").replace("more,,4", ",,4")
    )
    refused(tmp_path, r"row 4, column 'text' names gone.npy, which is not there; 1 of 4 rows", card, table)
    masked = load(tmp_path, card, table, missing_images="mask")
    assert np.isnan(masked.inputs["words"]).all(axis=1).tolist() == [False, True, False, True, True]
    assert "words: 2 rows have no features: masked" in masked.notes
    assert "1 of 4 rows have no features file: words is masked there" in masked.notes
    assert load(tmp_path, card, table, missing_images="drop").problems[0].split.tolist()[3] == ""


def test_the_column_that_names_an_absent_file_is_told_and_every_modality_is_counted(tmp_path: Path) -> None:
    card = CARD.replace('columns = ["text", "more"]', 'columns = ["text", "more"]\nroot = "."')
    card = card.replace(
        "[modalities.facts]", '[modalities.photo]\nkind = "image"\ncolumn = "colour"\n[modalities.facts]'
    )
    card = card.replace('categorical = ["colour"]\n', "")
    table = (
        TABLE.replace("hello,you", "t.csv,b.txt")
        .replace('"a, b"', "")
        .replace("bye,now", "t.csv,")
        .replace("more,,4", ",,4")
    )
    refused(
        tmp_path, r"row 1, column 'more' names b.txt, which is not there; 1 of 4 rows have no text file", card, table
    )
    masked = load(tmp_path, card, table, missing_images="mask")
    assert "1 of 4 rows have no text file: words is masked there" in masked.notes
    assert "4 of 4 rows have no image file: photo is masked there" in masked.notes


def test_files_named_by_the_id(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in "abc":
        (media / f"{name}.jpg").write_bytes(b"x")
        (media / f"{name}.txt").write_text(f"text {name}\n")
        np.save(media / f"{name}.npy", np.array([1.0, ord(name)]))
    where = 'root = "media"\nsuffix = '
    sections = f"""[modalities.photo]
kind = "image"
column = "id"
{where}".jpg"
[modalities.words]
kind = "text"
columns = ["id"]
{where}".txt"
[modalities.facts]
kind = "features"
column = "id"
{where}".npy"
"""
    card = CARD[: CARD.index("[modalities")] + sections + CARD[CARD.index("[concepts") :]
    refused(tmp_path, r"row 4, column 'id' names d\.jpg, which is not there; 1 of 4 rows have no image", card)
    dataset = load(tmp_path, card, missing_images="mask")
    assert list(dataset.inputs["photo"]) == [*(media / f"{name}.jpg" for name in "abc"), None, None]
    assert list(dataset.inputs["words"]) == ["text a", "text b", "text c", None, None]
    np.testing.assert_array_equal(np.asarray(dataset.inputs["facts"])[:3, 1], [97, 98, 99])
    refused(
        tmp_path,
        "suffix goes with root",
        CARD.replace('columns = ["text", "more"]', 'columns = ["text"]\nsuffix = ".txt"'),
    )
    section = 'kind = "features"\nfile = "f.npy"\nsuffix = ".npy"'
    refused(tmp_path, "suffix goes with column", CARD.replace('kind = "text"\ncolumns = ["text", "more"]', section))
    refused(tmp_path, "which is not below", card.replace('".jpg"', '"/../../x"'))
