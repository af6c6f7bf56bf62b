"""Arrays in files against the same arrays in memory: every way of making, walking, taking and sharing them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmbench import bulk
from mmbench.config import Training
from mmbench.contracts import Concept, Examples, FitContext, Modality
from mmbench.errors import UsageError
from mmbench.features.vector import encode
from mmbench.methods import build_model, select
from mmbench.plugins import Registry
from mmbench.running.prepare import Part, present_rows

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is too large for memory, and a block holds 40 numbers."""
    monkeypatch.setattr(bulk, "LARGE", 1)
    monkeypatch.setattr(bulk, "BLOCK", 40)


def filled(values: Array, folder: Path) -> bulk.Rows:
    """``values`` written in three pieces, the last first; the rows 2 and 3 are never written."""
    rows = bulk.Rows(values.shape, folder, values.dtype)
    for start, end in ((7, len(values)), (4, 7), (0, 2)):
        rows.write(start, values[start:end])
    return rows


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
@pytest.mark.parametrize("shape", [(10,), (10, 3), (10, 3, 2)])
def test_rows_in_a_file_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    values[2:4] = 0
    held = filled(values, tmp_path / "a").array()
    assert not isinstance(held, np.memmap) and not (tmp_path / "a").exists()
    monkeypatch.setattr(bulk, "LARGE", 1)
    in_file = filled(values, tmp_path / "a").array()
    assert isinstance(in_file, bulk.Mapped) and in_file.dtype == held.dtype == values.dtype
    assert held.tobytes() == in_file.tobytes() == values.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        in_file[0] = 0
    assert list((tmp_path / "a").iterdir()) == []  # a file without a name is gone with its last user


def test_a_file_begins_at_the_size_that_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LARGE", 4 * 6)
    assert bulk.Rows((5, 1), tmp_path).file is None
    assert bulk.Rows((6, 1), tmp_path).file is not None


@pytest.mark.usefixtures("tiny")
def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, place: write(file, content[:7], place))
    values = np.random.default_rng(1).normal(size=(10, 3))
    values[2:4] = 0
    np.testing.assert_array_equal(filled(values, tmp_path).array(), values)


@pytest.mark.usefixtures("tiny")
def test_a_full_disk_and_a_folder_that_is_none_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the feature cache in .*file .*MMBENCH_CACHE"):
        bulk.Rows((5, 2), tmp_path / "file")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    rows = bulk.Rows((5, 2), tmp_path)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UsageError, match=r"\(no space left on device\).*MMBENCH_CACHE"):
        rows.write(0, np.zeros((5, 2)))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (33, 3), (33,), (9, 2, 5), (3, 50), (4, 0)])
def test_blocks_together_are_the_whole(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).normal(size=shape)
    np.save(tmp_path / "v.npy", values)
    in_file = np.load(tmp_path / "v.npy", mmap_mode="r") if values.size else values
    rng = np.random.default_rng(3)
    n = shape[0]
    choices = [
        None,
        np.arange(n),
        np.arange(n)[n // 3 :],
        rng.permutation(n),
        rng.integers(0, max(n, 1), n),
        np.arange(0),
    ]
    for source in (values, in_file):
        for rows in choices:
            wanted = values if rows is None else values[rows]
            found = list(bulk.blocks(source, rows))
            lengths = [len(block) for _, block in found]
            assert [start for start, _ in found] == (np.cumsum(lengths) - lengths).tolist()
            assert all(block.size <= 40 or len(block) == 1 for _, block in found)
            joined = np.concatenate([values[:0], *(block for _, block in found)])
            np.testing.assert_array_equal(joined, wanted)


@pytest.mark.usefixtures("tiny")
def test_rows_that_follow_each_other_are_not_copied(tmp_path: Path) -> None:
    values = np.zeros((50, 3))
    assert all(np.shares_memory(block, values) for _, block in bulk.blocks(values, np.arange(5, 45)))
    assert not any(np.shares_memory(block, values) for _, block in bulk.blocks(values, np.arange(0, 50, 2)))


def test_rows_taken_of_an_array_are_numpys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=(60, 3)).astype(np.float32)
    rows = np.random.default_rng(5).integers(0, 60, 45)
    held = bulk.take(values, rows, tmp_path)
    monkeypatch.setattr(bulk, "LARGE", 1)
    monkeypatch.setattr(bulk, "BLOCK", 40)
    in_file = bulk.take(values, rows, tmp_path)
    again = bulk.take(in_file, np.arange(45)[::-1], tmp_path)
    assert not isinstance(held, np.memmap) and isinstance(in_file, bulk.Mapped) and isinstance(again, bulk.Mapped)
    np.testing.assert_array_equal(held, values[rows])
    np.testing.assert_array_equal(in_file, values[rows])
    np.testing.assert_array_equal(again, values[rows][::-1])
    assert bulk.take(in_file, np.arange(0), tmp_path).shape == (0, 3)


def test_vectors_are_spread_over_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.array([[1, 2], [9, 9], [3, 4]], np.float32)
    given = list(zip(((4, 0), (), (2,)), vectors, strict=True))
    wanted = [[1, 2], [0, 0], [3, 4], [0, 0], [1, 2]]
    assert bulk.spread(5, given, tmp_path).tolist() == wanted
    assert bulk.spread(5, [], tmp_path).shape == (5, 0)
    monkeypatch.setattr(bulk, "LARGE", 1)
    assert bulk.spread(5, given, tmp_path).tolist() == wanted


@pytest.mark.usefixtures("tiny")
def test_what_is_written_to_a_private_mapping_is_seen_by_nobody_else_and_not_kept(tmp_path: Path) -> None:
    """The array begins where no page does."""
    values = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    with (tmp_path / "f").open("w+b") as file:
        file.write(b"x" * 4100 + values.tobytes())
        file.flush()
        array = bulk.mapped(file, values.shape, 4100)
        mine, pages = array.writable()
        np.testing.assert_array_equal(mine, values)
        mine[:] = -1
        np.testing.assert_array_equal(array, values)
        bulk.give_back(pages)
        np.testing.assert_array_equal(mine, values)
        bulk.give_back(array)
        np.testing.assert_array_equal(array, values)


def test_only_pages_that_can_be_read_again_are_given_back(tmp_path: Path) -> None:
    held, own = np.ones(2000), np.memmap(tmp_path / "own", np.float64, "w+", shape=(2000,))
    copied = np.memmap(tmp_path / "own", np.float64, "c", shape=(2000,))
    own[:], copied[:] = 2, 3
    for values, wanted in ((held, 1), (own, 2), (copied, 3)):
        bulk.give_back(values)
        assert (values == wanted).all()


@pytest.mark.usefixtures("tiny")
def test_a_process_that_is_started_maps_the_same_file(tmp_path: Path) -> None:
    values = np.random.default_rng(6).normal(size=(50, 3)).astype(np.float32)
    array = bulk.take(values, np.arange(50), tmp_path)
    context = multiprocessing.get_context("spawn")
    sent = context.SimpleQueue()
    told = "sent.put((type(array).__name__, getattr(array, 'mode', ''), array.tobytes()))"
    worker = context.Process(target=exec, args=(told, {"array": array, "sent": sent}))  # imports no more than it needs
    worker.start()
    found = sent.get()
    worker.join()
    assert found == ("Mapped", "r", values.tobytes())
    copied = pickle.loads(pickle.dumps(array[10:20]))
    assert type(copied) is np.ndarray and copied.tobytes() == values[10:20].tobytes()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kept", [False, True])
def test_rows_of_tensors_over_files_are_those_of_tensors(tmp_path: Path, kept: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(60, 3, generator=generator)
    pages = bulk.Pages(tmp_path, kept)
    mapped = bulk.take(values.numpy(), np.arange(60), tmp_path)
    over = {"a": pages.tensor("a", mapped), "b": values}
    assert set(pages.maps) == {"a"} and torch.equal(over["a"], values)
    for index in (slice(5, 50), torch.randperm(60, generator=generator), torch.rand(60, generator=generator) < 0.4):
        found, after = pages.rows(over, index)
        assert torch.equal(found["a"], values[index]) and torch.equal(found["b"], values[index])
        twice, _ = after.rows(found, torch.tensor([3, 3, 0]))
        assert torch.equal(twice["a"], values[index][[3, 3, 0]])
    over["a"][:] = -1
    pages.rows(over, torch.arange(60))
    assert torch.equal(over["a"], torch.full((60, 3), -1.0) if kept else values)
    assert (mapped == values.numpy()).all()


def standardized(values: Array, kind: str, cache: Path) -> tuple[bytes, ...]:
    encoded = encode(values, cache=cache, identity=["x"], fit_rows=np.arange(0, len(values), 2), kind=kind)
    steps = b"" if encoded.steps is None else encoded.steps.tobytes()
    return encoded.values.tobytes(), steps, present_rows(values).tobytes()


@pytest.mark.parametrize("shape", [(70, 4), (70, 5, 3)])
def test_features_are_standardized_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(7).normal(3, 2, shape)
    values[3], values[5, ..., 0], values[8, ..., 1] = np.nan, np.nan, np.inf
    kind = "vector" if len(shape) == 2 else "sequence"
    held = standardized(values, kind, tmp_path / "one")
    np.save(tmp_path / "v.npy", values)
    monkeypatch.setattr(bulk, "LARGE", 1)
    for block in (1, 40, 111, 10**6):
        monkeypatch.setattr(bulk, "BLOCK", block)
        assert standardized(np.load(tmp_path / "v.npy", mmap_mode="r"), kind, tmp_path / f"b{block}") == held


def part(n: int, folder: Path) -> Part:
    """A vector and a sequence, where they are large in files; a row of each is missing."""
    rng = np.random.default_rng(n)
    label = rng.integers(0, 2, n)
    values = {
        "facts": rng.normal(size=(n, 4)) + label[:, None],
        "walk": rng.normal(size=(n, 5, 3)) - label[:, None, None],
    }
    steps = np.arange(5) < rng.integers(1, 6, n)[:, None]
    present = {name: np.arange(n) != place for place, name in enumerate(values)}
    values["walk"] *= steps[..., None]
    names = np.array([f"s{row}" for row in range(n)])
    taken = {m: bulk.take(v.astype(np.float32), np.arange(n), folder) for m, v in values.items()}
    return Part(names, names, taken, present, {"walk": steps}, {"c": label, "s": label + rng.normal(size=n)})


def outcome(selector: str, folder: Path, own: bool) -> dict[str, Array]:
    registry = Registry()
    concepts = (Concept("c", ("no", "yes")), Concept("s", ("s",), "score"))
    (method,), _ = select(selector, registry, ("facts", "walk"), ())
    streams = (Modality("facts", "vector", "standardize"), Modality("walk", "sequence", "standardize"))
    context = FitContext(concepts, 0, Training(batch_size=16, epochs=2, patience=2), modalities=streams)
    model = build_model(method, registry)
    train, val, test = (part(n, folder) for n in (80, 30, 25))
    given: Examples = train.examples(own)
    assert (given.inputs.pages is not None) == (bulk.LARGE == 1)
    model.fit(given, val.examples(own), context)
    return model.predict(test.inputs(own))


@pytest.mark.parametrize(
    ("selector", "own"), [("concat+equal", False), ("concat+equal", True), ("graph+moo", False), ("linear:all", False)]
)
def test_a_method_trained_over_files_predicts_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str, own: bool
) -> None:
    held = outcome(selector, tmp_path, own)
    monkeypatch.setattr(bulk, "LARGE", 1)
    monkeypatch.setattr(bulk, "BLOCK", 40)
    in_files = outcome(selector, tmp_path, own)
    assert {name: scores.tobytes() for name, scores in held.items()} == {
        name: scores.tobytes() for name, scores in in_files.items()
    }
