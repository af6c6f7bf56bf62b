"""Splitting by group: exact shares, whole groups, balanced strata, independence of row order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mmbench.hashing import digest
from mmbench.splits import grouped_split

FRACTIONS = (0.6, 0.2, 0.2)


def rows(seed: int, n_groups: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"g{i}" for i in range(n_groups)], rng.integers(1, 5, n_groups))
    strata = rng.choice(list("abcde"), len(groups), p=[0.5, 0.25, 0.15, 0.07, 0.03])
    return groups, strata


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_exact_within_a_group(seed: int) -> None:
    groups, strata = rows(seed)
    split = grouped_split(groups, strata, FRACTIONS, seed)
    for name, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
        assert abs((split == name).sum() - fraction * len(groups)) <= 4
    for group in np.unique(groups):
        assert len(set(split[groups == group])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_strata_are_balanced(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = rng.choice(list("abcde"), 1000, p=[0.5, 0.25, 0.15, 0.07, 0.03])
    split = grouped_split(np.arange(1000).astype(str), strata, FRACTIONS, seed)
    for stratum in "abcde":
        members = strata == stratum
        for name, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
            assert abs((split[members] == name).sum() - fraction * members.sum()) <= 2


def test_every_label_of_a_membership_matrix_is_balanced() -> None:
    rng = np.random.default_rng(0)
    prevalence = np.array([0.01, 0.05, 0.2, 0.5])
    members = rng.random((3000, 4)) < prevalence
    split = grouped_split(np.arange(3000).astype(str), members, FRACTIONS, 0)
    for label in members.T:
        shares = np.array([(split[label] == name).mean() for name in ("train", "val", "test")])
        expected = np.array(FRACTIONS)
        # half the standard error that a split without strata would have
        assert (np.abs(shares - expected) < np.sqrt(expected * (1 - expected) / label.sum())).all()


def test_row_order_does_not_matter_and_the_seed_does() -> None:
    groups, strata = rows(1)
    order = np.random.default_rng(2).permutation(len(groups))
    split = grouped_split(groups, strata, FRACTIONS, 7)
    assert (grouped_split(groups[order], strata[order], FRACTIONS, 7) == split[order]).all()
    assert (grouped_split(groups, strata, FRACTIONS, 8) != split).mean() > 0.3


def test_a_share_of_zero_gets_nothing() -> None:
    groups, strata = rows(3)
    split = grouped_split(groups, strata, (0.75, 0.25, 0.0), 0)
    assert set(split) == {"train", "val"}
    assert abs((split == "val").mean() - 0.25) < 0.01


def test_the_seed_draws_where_every_group_holds_labels_of_its_own() -> None:
    held = np.random.default_rng(0).random((400, 24)) < 0.3
    assert len(np.unique(held, axis=0)) == 400
    groups = np.arange(400).astype(str)
    drawn = [grouped_split(groups, held, FRACTIONS, seed) for seed in range(40)]
    for split in drawn:
        assert [(split == name).sum() for name in ("train", "val", "test")] == [240, 80, 80]
    assert all((a != b).mean() > 0.3 for a, b in pairwise(drawn))
    assert all(set(rows) > {"train"} for rows in np.array(drawn).T)  # of 40 draws one is val or test for each row
    rarest = held[:, np.argmin(held.sum(axis=0))]  # by which the groups are ordered first
    for split in drawn:
        for name, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
            assert abs((split[rarest] == name).sum() - fraction * rarest.sum()) <= 4


def test_shared_labels_are_split_as_ever() -> None:
    groups, strata = rows(1)
    assert digest([grouped_split(groups, strata, FRACTIONS, 7).astype("<U5")])[:16] == "3281ebcc77f9c82f"
