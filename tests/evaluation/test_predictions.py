"""Stored predictions: what is read is what was written, and a damaged file is one clear line."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from mmbench.contracts import Concept
from mmbench.errors import MmbenchError
from mmbench.evaluation.predictions import Predictions, labelled_rows, read_predictions, shared, write_predictions

CONCEPTS = (Concept("sort", ("a", "b", "c")), Concept("many", ("x", "y"), "multilabel"))


def content(seed=0) -> dict:
    rng = np.random.default_rng(seed)
    many = rng.integers(0, 2, (8, 2))
    many[5] = -1
    return {
        "ids": np.array([f"bild/ä {i}.jpg" for i in range(8)], dtype=np.str_),
        "groups": np.array(["g1", "g1", "g2", "g3", "g3", "g4", "g5", "g5"], dtype=np.str_),
        "split": np.array(["val", "test"] * 4, dtype=np.str_),
        "scores": {"sort": rng.random((8, 3)), "many": rng.random((8, 2))},
        "targets": {"sort": np.array([0, 1, 2, -1, 0, 1, 2, 0]), "many": many},
        "mask": {"sort": np.arange(8) != 3, "many": np.arange(8) != 5},
    }


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "predictions.npz"
    write_predictions(path, **content())
    return path


@pytest.mark.parametrize(
    ("split", "sort", "many"), [("val", [0, 2, 4, 6], [0, 2, 4, 6]), ("test", [1, 5, 7], [1, 3, 7])]
)
def test_round_trip_of_the_labelled_rows_of_one_split(stored, split, sort, many):
    made, found = content(), read_predictions(stored, CONCEPTS, split)
    for name, rows in (("sort", sort), ("many", many)):
        p = found[name]
        assert p.ids.tolist() == made["ids"][rows].tolist()
        assert p.groups.tolist() == made["groups"][rows].tolist()
        np.testing.assert_array_equal(p.scores, made["scores"][name][rows])
        assert p.scores.dtype == np.float64
        assert p.truth.dtype == bool
    assert found["sort"].truth.argmax(1).tolist() == made["targets"]["sort"][sort].tolist()
    assert (found["sort"].truth.sum(1) == 1).all()
    np.testing.assert_array_equal(found["many"].truth, made["targets"]["many"][many] == 1)


def test_the_same_content_is_the_same_bytes_at_another_time_and_place(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    other = tmp_path / "elsewhere.npz"
    write_predictions(other, **content())
    assert other.read_bytes() == stored.read_bytes()
    write_predictions(other, **content(1))
    assert other.read_bytes() != stored.read_bytes()


def test_the_file_holds_what_is_documented_and_no_more(stored):
    with np.load(stored, allow_pickle=False) as file:
        parts = {f"{part}/{c}" for part in ("scores", "targets", "mask") for c in ("sort", "many")}
        assert set(file.files) == {"id", "group", "split"} | parts


def test_python_objects_are_neither_written_nor_read(stored, tmp_path):
    made = content()
    made["ids"] = made["ids"].astype(object)
    with pytest.raises(TypeError, match="objects"):
        write_predictions(tmp_path / "objects.npz", **made)
    assert not (tmp_path / "objects.npz").exists()
    with np.load(stored) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["id"] = arrays["id"].astype(object)
    np.savez_compressed(stored, **arrays)  # numpy pickles these
    with pytest.raises(MmbenchError, match="damaged"):
        read_predictions(stored, CONCEPTS, "test")


def test_concepts_that_are_not_in_the_file_are_left_out(stored):
    assert set(read_predictions(stored, (*CONCEPTS, Concept("other", ("a",))), "test")) == {"sort", "many"}


def replaced(path, **changes) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | {k.replace("__", "/"): v for k, v in changes.items()}
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(path.read_bytes()[30:]),
        lambda path: path.unlink(),
        lambda path: np.save(path.open("wb"), np.arange(3)),
        lambda path: zipfile.ZipFile(path, "w").writestr("id.npy", b"nonsense"),
        lambda path: replaced(path, id=None),
        lambda path: replaced(path, mask__sort=None),
        lambda path: replaced(path, mask__sort=np.ones(7, bool)),
        lambda path: replaced(path, scores__sort=np.ones((7, 3))),
        lambda path: replaced(path, scores__sort=np.ones((8, 2))),
        lambda path: replaced(path, scores__sort=np.ones(8)),
        lambda path: replaced(path, targets__many=np.ones((8, 3), int)),
    ],
    ids=[
        "empty", "text", "cut-end", "cut-start", "absent", "npy", "nonsense", "no-id", "no-mask", "mask-rows",
        "score-rows", "columns", "flat", "labels",
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_that_says_what_to_do(stored, damage):
    damage(stored)
    with pytest.raises(MmbenchError, match=r"damaged.*delete its folder") as caught:
        read_predictions(stored, CONCEPTS, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", range(16))
def test_a_flipped_byte_is_never_a_traceback_nor_other_numbers(stored, start):
    whole, expected = stored.read_bytes(), read_predictions(stored, CONCEPTS, "test")
    damaged = 0
    for place in range(start, len(whole), 16):
        stored.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read_predictions(stored, CONCEPTS, "test")
        except MmbenchError:
            damaged += 1
            continue
        for name in found:
            np.testing.assert_array_equal(found[name].scores, expected[name].scores)
            np.testing.assert_array_equal(found[name].truth, expected[name].truth)
            np.testing.assert_array_equal(found[name].ids, expected[name].ids)
    assert damaged > len(whole) / 16 / 3


def test_cells_of_one_test_set_hold_its_rows_once() -> None:
    rng = np.random.default_rng(0)
    concept = Concept("c", ("a", "b"))

    def cell(scores: np.ndarray, first: str = "s") -> Predictions:
        ids = np.array([f"{first}{row}" for row in range(50)])
        return labelled_rows(concept, ids, ids.copy(), scores, np.arange(50) % 2, np.ones(50, dtype=bool))

    held, other, elsewhere = cell(rng.random((50, 2))), cell(rng.random((50, 2))), cell(rng.random((50, 2)), "t")
    same = shared(other, held)
    assert same.ids is held.ids and same.groups is held.groups and same.truth is held.truth
    assert same.scores is other.scores
    apart = shared(elsewhere, held)
    assert apart.ids is elsewhere.ids and apart.truth is held.truth
    assert shared(cell(held.scores.copy()), held).scores is held.scores
