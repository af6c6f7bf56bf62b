"""Ties as letters against what letters must mean."""

from __future__ import annotations

import numpy as np
import pytest

from mmbench.errors import UsageError
from mmbench.evaluation.ties import letters


def separated(k: int, *pairs: tuple[int, int]) -> np.ndarray:
    table = np.zeros((k, k), dtype=bool)
    for i, j in pairs:
        table[i, j] = table[j, i] = True
    return table


@pytest.mark.parametrize("seed", range(30))
def test_methods_share_a_letter_exactly_where_they_are_not_separated(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 10))
    upper = np.triu(rng.random((k, k)) < rng.random(), 1)
    table = upper | upper.T
    found = letters(table)
    for i in range(k):
        assert found[i]
        for j in range(k):
            assert bool(set(found[i]) & set(found[j])) is not table[i, j]
    # no letter can be left out: each column is a set that no other contains
    columns = [frozenset(m for m in range(k) if name in found[m]) for name in set("".join(found))]
    assert not any(a < b for a in columns for b in columns)


def test_a_ladder_where_only_neighbours_are_tied():
    far = [(i, j) for i in range(4) for j in range(i + 2, 4)]
    assert letters(separated(4, *far)) == ["a", "ab", "bc", "c"]


def test_all_tied_all_apart_none():
    assert letters(separated(3)) == ["a", "a", "a"]
    assert letters(separated(3, (0, 1), (0, 2), (1, 2))) == ["a", "b", "c"]
    assert letters(separated(0)) == []
    many = letters(~np.eye(60, dtype=bool))
    assert len(set(many)) == 60
    assert {len(m) for m in many} == {1}


def test_a_table_that_is_not_of_pairs_is_refused():
    lopsided = np.array([[False, True], [False, False]])
    for table in (lopsided, np.eye(2, dtype=bool), np.zeros((2, 3), dtype=bool)):
        with pytest.raises(UsageError, match="symmetric"):
            letters(table)
