"""The sign flips against exchanging rows one way after another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from mmbench.contracts import Concept
from mmbench.evaluation.metrics import compute, metrics_of
from mmbench.evaluation.permutation import sign_flip
from mmbench.evaluation.predictions import Predictions

METRICS = metrics_of("multilabel")


def cells(n=18, k=3, kind="multilabel", seeds=2, of=0, ties=True):
    truth_rng = np.random.default_rng([n, k])
    truth = (
        truth_rng.random((n, k)) < 0.4 if kind == "multilabel" else np.eye(k, dtype=bool)[truth_rng.integers(0, k, n)]
    )
    ids = np.arange(n).astype(np.str_)
    made = []
    for s in range(seeds):
        scores = np.round(np.random.default_rng([of, s]).random((n, k)), 1 if ties else 9)
        made.append((Predictions(Concept("c", tuple("abcdefg"[:k]), kind), ids, ids, scores, truth), None))
    return made


def exchanged(first, second, rows, metric):
    """The difference after exchanging ``rows``, by the metric of the whole."""
    values = []
    for (p, _), (q, _) in zip(first, second, strict=True):
        mine = np.where(rows[:, None], q.scores, p.scores)
        theirs = np.where(rows[:, None], p.scores, q.scores)
        both = [Predictions(p.concept, p.ids, p.groups, s, p.truth) for s in (mine, theirs)]
        a, b = (compute(x)[metric].value for x in both)
        values.append(a - b)
    return np.mean(values)


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "hamming", "map", "roc_auc"])
@pytest.mark.parametrize("kind", ["multilabel", "exclusive"])
def test_every_way_of_exchanging_groups(metric, kind):
    first, second = cells(kind=kind, of=0), cells(kind=kind, of=1)
    groups = np.arange(18) // 3
    found = sign_flip(first, second, groups, metric, "tweet")
    ways = [
        exchanged(first, second, np.array(way)[groups], metric) for way in itertools.product([False, True], repeat=6)
    ]
    assert found.effect == pytest.approx(ways[0], abs=1e-12)
    assert found.p == pytest.approx(np.mean(np.abs(ways) >= abs(ways[0]) - 1e-9), abs=1e-12)
    assert found.smallest_p == 2 / 64
    assert (found.n, found.unit) == (6, "tweet")


@pytest.mark.parametrize("metric", ["macro_f1", "map"])
def test_drawn_exchanges_agree_with_all_of_them(metric):
    first, second = cells(n=30, of=0), cells(n=30, of=5)
    groups = np.arange(30) // 3
    exact = sign_flip(first, second, groups, metric, "tweet")
    drawn = sign_flip(first, second, groups, metric, "tweet", n_flips=800)
    assert exact.smallest_p == 2 / 2**10
    assert drawn.smallest_p == 1 / 801
    assert drawn.p == pytest.approx(exact.p, abs=4 * (exact.p * (1 - exact.p) / 800) ** 0.5 + 1e-3)


def test_for_accuracy_of_single_rows_it_is_mcnemars():
    """With a row a group and one label, exchanging rows is tossing the discordant ones: the exact McNemar test."""
    truth = np.eye(2, dtype=bool)[np.zeros(40, int)]
    ids = np.arange(40).astype(np.str_)
    rng = np.random.default_rng(3)
    right = [np.arange(40) >= 3, (np.arange(40) < 34) & ((np.arange(40) >= 3) | (rng.random(40) < 2))]
    first, second = (
        [(Predictions(Concept("c", ("a", "b")), ids, ids, np.eye(2)[(~r).astype(int)], truth), None)] for r in right
    )
    found = sign_flip(first, second, np.arange(40), "accuracy", "row")
    wins, losses = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert (wins, losses) == (6, 3)
    assert found.p == pytest.approx(stats.binomtest(int(wins), int(wins + losses)).pvalue)


def test_what_cannot_be_tested_says_why():
    first = cells()
    same = sign_flip(first, first, np.arange(18), "macro_f1", "tweet")
    assert same.p is None
    assert same.reason == "the methods predict the same"
    other = sign_flip(first, cells(of=1), np.arange(18), "hamming_single", "tweet")
    assert other.p is None
    assert "not defined" in other.reason


def test_the_sign_of_the_comparison_does_not_matter():
    first, second = cells(n=60, of=0), cells(n=60, of=1)
    for metric in METRICS:
        if metric != "hamming_single":
            there = sign_flip(first, second, np.arange(60) // 2, metric, "tweet", n_flips=99)
            back = sign_flip(second, first, np.arange(60) // 2, metric, "tweet", n_flips=99)
            assert there.effect == pytest.approx(-back.effect, abs=1e-12), metric
            assert there.p == back.p, metric
