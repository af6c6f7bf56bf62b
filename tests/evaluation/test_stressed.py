"""Predictions under stress on disk, and what of them is shown at a level."""

from __future__ import annotations

import numpy as np
import pytest

from mmbench.errors import MmbenchError
from mmbench.evaluation.stressed import (
    Scenario,
    Stressed,
    at_level,
    read_stressed,
    stored_scenarios,
    write_stressed,
)

RNG = np.random.default_rng(0)
IDS = np.array(["a/1", "b", "ü", "d"])
NOISE, GONE = Scenario("noise", "left/strip", 0.5), Scenario("missing", "any", 1.0)
FOUND = tuple(
    Stressed(scenario, since, {"x/y": RNG.random((4, 3)), "z": RNG.random((4, 1))})
    for scenario, since in ((NOISE, np.zeros(4)), (GONE, np.array([0.5, np.inf, 1.0, 0.25])))
)


@pytest.fixture
def path(tmp_path):
    write_stressed(tmp_path / "stress.npz", IDS, FOUND)
    return tmp_path / "stress.npz"


def test_what_is_written_is_read_in_the_order_asked_for(path) -> None:
    assert stored_scenarios(path) == {NOISE, GONE}
    read = read_stressed(path, {GONE, NOISE}, IDS[[3, 0]], "x/y")
    assert read.keys() == {NOISE, GONE}
    assert read[GONE][0].tolist() == [0.25, 0.5]
    assert (read[NOISE][1] == FOUND[0].scores["x/y"][[3, 0]]).all()


def test_the_same_content_gives_the_same_bytes_and_no_pickle(path, tmp_path) -> None:
    write_stressed(tmp_path / "again.npz", IDS, FOUND)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    with np.load(path, allow_pickle=False) as file:
        assert all(not file[name].dtype.hasobject for name in file.files)


def test_a_share_is_the_stressed_scores_of_its_rows_and_the_clean_ones_of_the_others(path) -> None:
    clean = RNG.random((4, 3))
    stressed = read_stressed(path, {GONE}, IDS, "x/y")[GONE]
    assert np.array_equal(at_level(clean, stressed, 0.0), clean)
    for level, rows in ((0.2, []), (0.25, [3]), (0.5, [0, 3]), (1.0, [0, 2, 3])):
        mixed = at_level(clean, stressed, level)
        assert [row for row in range(4) if np.array_equal(mixed[row], stressed[1][row])] == rows
        assert all(np.array_equal(mixed[row], clean[row]) for row in set(range(4)) - set(rows))
    noise = read_stressed(path, {NOISE}, IDS, "x/y")[NOISE]
    assert np.array_equal(at_level(clean, noise, 0.5), noise[1])
    assert np.array_equal(at_level(clean, noise, 0.0), clean), "level 0 is clean, whatever the axis"


def test_what_is_absent_damaged_or_of_another_version_is_made_again(path, tmp_path, monkeypatch) -> None:
    assert stored_scenarios(tmp_path / "nothing.npz") == frozenset()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert stored_scenarios(path) == frozenset()
    with pytest.raises(MmbenchError, match=r"damaged .*--stress makes it again"):
        read_stressed(path, {NOISE}, IDS, "z")
    path.write_bytes(whole)
    monkeypatch.setattr("mmbench.evaluation.stressed.VERSION", 2)
    assert stored_scenarios(path) == frozenset()


def test_rows_that_the_file_lacks_are_an_error(path) -> None:
    with pytest.raises(MmbenchError, match="damaged"):
        read_stressed(path, {NOISE}, np.array(["e"]), "z")
