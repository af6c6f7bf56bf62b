"""Digests that do not collide by joining, seeds that are independent, and where data and cache are looked for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbench.contracts import Task
from mmbench.errors import UsageError
from mmbench.hashing import derive_seed, digest
from mmbench.locate import cache_folder, find_data
from mmbench.plugins import shipped


def test_digest_is_sha_256_over_lengths_and_parts() -> None:
    assert digest([]) == hashlib.sha256(b"").hexdigest()
    expected = hashlib.sha256(b"\x02\0\0\0\0\0\0\0ab" + b"\x03\0\0\0\0\0\0\0\xe2\x82\xac").hexdigest()
    assert digest(["ab", "€"]) == expected == digest([b"ab", "€".encode()])


def test_sequences_that_join_alike_differ() -> None:
    sequences = [[], [""], ["", ""], ["ab"], ["a", "b"], ["", "ab"], ["ab", ""], ["b", "a"]]
    assert len({digest(parts) for parts in sequences}) == len(sequences)


def test_arrays_differ_by_value_type_and_shape_and_not_by_memory_layout() -> None:
    x = np.arange(6, dtype=np.int64)
    different = [x, x.astype(np.int32), x.astype(np.float64), x.reshape(2, 3), x.reshape(3, 2), x[::-1], x[:5]]
    assert len({digest([array]) for array in different}) == len(different)
    square = x.reshape(2, 3)
    assert digest([np.asfortranarray(square)]) == digest([square]) == digest([np.repeat(square, 2, axis=0)[::2]])


def test_text_that_is_not_valid_unicode_has_a_digest() -> None:
    assert digest(["\ud83d"]) != digest(["\ud83e"])


def test_seeds_fit_numpy_and_torch_and_differ_by_axis_and_seed() -> None:
    seeds = [derive_seed(seed, axis) for seed in range(200) for axis in ("init", "batches", "dropout")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(11, "1") != derive_seed(1, "11")
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    # 600 fair coins a bit: five standard errors
    assert (np.abs(bits.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(len(seeds))).all()


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose data set is a folder that holds ``here.txt``; nothing of the user's own is seen."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMBENCH_DATA", raising=False)
    return replace(
        shipped("tasks", "digits").TASK,
        title="Some data",
        embedded="sample",
        recognises=lambda root: (root / "here.txt").is_file(),
        obtain="Get it from its authors.",
    )


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "here.txt").touch()
    return folder


def test_data_is_looked_for_in_the_documented_order(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_data("some", task, None, False) is None
    in_cache = put(tmp_path / "cache" / "data" / "some")
    assert find_data("some", task, None, True) == in_cache
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "all"))
    assert find_data("some", task, None, True) == in_cache
    in_data = put(tmp_path / "all" / "some")
    assert find_data("some", task, None, True) == in_data
    given = tmp_path / "given"
    given.mkdir()
    assert find_data("some", task, given, True) == given


def test_data_that_is_missing_is_one_line_that_says_how_to_get_it(tmp_path: Path, task: Task) -> None:
    with pytest.raises(UsageError, match=r"no such folder.*Some data.*Get it from its authors"):
        find_data("some", task, tmp_path / "none", False)
    with pytest.raises(UsageError, match=r"no data found for task some.*Get it from its authors"):
        find_data("some", task, None, True)
    with pytest.raises(UsageError, match="no data found"):
        find_data("some", replace(task, embedded="none"), None, False)
    assert find_data("some", replace(task, embedded="real"), None, True) is None


def test_an_empty_folder_is_passed_over_and_one_of_another_layout_refused(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all" / "some").mkdir(parents=True)
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "all"))
    assert find_data("some", task, None, False) is None
    (tmp_path / "all" / "some" / "other.txt").touch()
    with pytest.raises(UsageError, match=r"holds no Some data in a layout that is read.*Get it from its authors"):
        find_data("some", task, None, False)


def test_the_cache_folder_is_the_one_named_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("MMBENCH_CACHE", "")
    assert cache_folder().name == "mmbench" and cache_folder().is_absolute()
