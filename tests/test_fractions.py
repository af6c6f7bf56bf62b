"""Shares of the training rows: nested, whole groups, labels in proportion, and nothing else moved."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mmbench.contracts import Concept, Dataset, Problem
from mmbench.errors import UsageError
from mmbench.fractions import parse_fractions, reduce_train
from mmbench.splits import nested_share

SHARES = (0.05, 0.1, 0.3, 0.5, 0.9, 1.0)


def rows(seed: int, n_groups: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"g{i}" for i in range(n_groups)], rng.integers(1, 5, n_groups))
    return groups, rng.choice(list("abcde"), len(groups), p=[0.5, 0.25, 0.15, 0.07, 0.03])


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_nested_groups_whole_and_sizes_right_to_within_a_group(seed: int) -> None:
    groups, strata = rows(seed)
    taken = [nested_share(groups, strata, share, seed) for share in SHARES]
    for share, chosen in zip(SHARES, taken, strict=True):
        assert abs(chosen.sum() - share * len(groups)) <= 2, "at most half of the largest group away"
        assert not set(groups[chosen]) & set(groups[~chosen])
    assert all((small <= large).all() for small, large in pairwise(taken))
    assert taken[-1].all()


def test_labels_are_closer_to_proportion_than_chance_would_bring_them() -> None:
    """One row a group: the squared distance to the expected counts is a fraction of the hypergeometric variance."""
    ratios = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        held = rng.random((1000, 4)) < np.array([0.02, 0.1, 0.3, 0.5])
        for share in (0.1, 0.3):
            chosen = nested_share(np.arange(1000).astype(str), held, share, seed)
            expected = share * held.sum(0)
            variance = expected * (1 - share) * (1 - held.mean(0))
            ratios.append((held[chosen].sum(0) - expected) ** 2 / variance)
    assert np.mean(ratios) < 0.4


def test_row_order_does_not_matter_and_the_seed_does() -> None:
    groups, strata = rows(1)
    order = np.random.default_rng(2).permutation(len(groups))
    chosen = nested_share(groups, strata, 0.3, 7)
    assert (nested_share(groups[order], strata[order], 0.3, 7) == chosen[order]).all()
    assert (nested_share(groups, strata, 0.3, 8) != chosen).mean() > 0.2


def test_the_smallest_share_is_one_group() -> None:
    chosen = nested_share(np.array(["a", "a", "b"]), np.array([0, 0, 1]), 1e-9, 0)
    assert chosen.tolist() in ([True, True, False], [False, False, True])


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    n = 200
    ids = np.array([f"{i:03d}" for i in range(n)])
    split = np.array((["train"] * 6 + ["val", "val", "test", "test"]) * (n // 10))
    damage = rng.integers(0, 3, n)
    damage[damage == 2] = -1
    damage[np.flatnonzero(split == "train")[:4]] = 2
    kinds = (rng.random((n, 2)) < 0.3).astype(np.int64)
    kinds[::7] = -1
    concepts = (Concept("damage", ("none", "mild", "severe")), Concept("kinds", ("a", "b"), "multilabel"))
    problems = (Problem("damage", ("damage",), split), Problem("kinds", ("kinds",), split[::-1].copy()))
    return Dataset(ids, ids, {}, concepts, {"damage": damage, "kinds": kinds}, problems, "0", "toy")


def test_each_problem_loses_training_rows_and_nothing_else() -> None:
    whole = dataset()
    assert reduce_train(whole, 1.0, 0) is whole
    reduced = reduce_train(whole, 0.5, 3)
    assert replace(reduced, problems=whole.problems) == whole
    for before, after in zip(whole.problems, reduced.problems, strict=True):
        changed = before.split != after.split
        assert (before.split[changed] == "train").all() and (after.split[changed] == "").all()
        assert (after.split == "train").sum() == 60
    again, other = reduce_train(whole, 0.5, 3), reduce_train(whole, 0.5, 4)
    assert (again.problems[0].split == reduced.problems[0].split).all()
    assert (other.problems[0].split != reduced.problems[0].split).any()


def test_a_score_is_kept_in_proportion_by_quarters_and_needs_none_of_them() -> None:
    whole = dataset()
    score = np.random.default_rng(1).normal(size=200)
    score[::9] = np.nan
    split = whole.problems[0].split
    scored = replace(
        whole, concepts=(Concept("mood", ("mood",), "score", bounds=(-3, 3)),), targets={"mood": score},
        problems=(Problem("mood", ("mood",), split),),
    )  # fmt: skip
    train = split == "train"
    known = score[train][~np.isnan(score[train])]
    kept = score[reduce_train(scored, 0.5, 0).problems[0].split == "train"]
    places = np.searchsorted(np.quantile(known, (0.25, 0.5, 0.75)), kept[~np.isnan(kept)])
    counts = np.bincount(places, minlength=4)
    assert abs(counts - len(known) / 8).max() <= 2
    assert (reduce_train(scored, 0.01, 0).problems[0].split == "train").sum() == 1


def test_a_share_without_a_label_that_training_has_is_one_line() -> None:
    with pytest.raises(
        UsageError, match=r"--train-fraction 0\.01: its 1 of 120 training rows of problem 'damage'"
    ) as e:
        reduce_train(dataset(), 0.01, 0)
    assert "give a larger share" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(("text", "found"), [("1,0.1, 0.3", (0.1, 0.3, 1.0)), ("0.5", (0.5,)), (".25,", (0.25,))])
def test_shares_are_sorted(text: str, found: tuple[float, ...]) -> None:
    assert parse_fractions(text) == found


@pytest.mark.parametrize("text", ["0", "1.01", "-0.1", "nan", "inf", "half", "", ",", "0.1,2", "0.1,0.10"])
def test_what_is_no_list_of_shares_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--train-fraction"):
        parse_fractions(text)
