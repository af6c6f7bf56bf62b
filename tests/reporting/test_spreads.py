"""Intervals of rows and differences, against the bootstrap written out with scikit-learn and scipy."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from mmbench.contracts import Concept
from mmbench.evaluation.metrics import compute, metrics_of
from mmbench.evaluation.predictions import Predictions
from mmbench.reporting import spreads
from mmbench.reporting.spreads import Row, make_spreads, roughness

METRICS = metrics_of("multilabel")

N, K = 90, 3
RNG = np.random.default_rng(5)
GROUPS = np.sort(RNG.integers(0, 30, N)).astype(str)
TRUTH = RNG.integers(0, K, N)
CONCEPT = Concept("c", ("x", "y", "z"))


def row(name: str, seeds: int, skill: float) -> Row:
    rng = np.random.default_rng([seeds, int(100 * skill)])
    cells = []
    for _ in range(seeds):
        said = np.where(rng.random(N) < skill, TRUTH, rng.integers(0, K, N))
        scores = np.eye(K)[said] * 0.8 + 0.1
        cells.append(
            (Predictions(CONCEPT, np.arange(N).astype(str), GROUPS, scores, np.eye(K, dtype=bool)[TRUTH]), None)
        )
    return Row(name, tuple(range(seeds)), cells, [{}] * seeds, [compute(*cell) for cell in cells])


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(spreads, "REPLICATES", 4_000)
    monkeypatch.setattr(spreads, "RANKING_REPLICATES", 50)


def resampled(rows: list[Row]) -> np.ndarray:
    """Macro F1 (replicates, methods, seeds) of really repeated rows, for 300 draws of groups made here."""
    rng = np.random.default_rng(0)
    names = np.unique(GROUPS)
    found = []
    for _ in range(300):
        drawn = np.concatenate([np.flatnonzero(g == GROUPS) for g in rng.choice(names, len(names))])
        found.append(
            [
                [
                    f1_score(TRUTH[drawn], c[0].scores[drawn].argmax(1), average="macro", labels=range(K))
                    for c in r.cells
                ]
                for r in rows
            ]
        )
    return np.array(found)


def test_below_five_seeds_groups_alone_vary():
    rows = [row("a", 3, 0.8), row("b", 3, 0.5)]
    made = make_spreads(rows)
    (low, high), kind = made["a"].interval("macro_f1")
    expected = resampled(rows).mean(axis=2)
    assert "conditional on these seeds" in kind and "4,000 resamples" in kind
    assert [low, high] == pytest.approx(np.quantile(expected[:, 0], [0.025, 0.975]), abs=0.02)
    difference = made["a"].replicates("macro_f1", made["b"])
    assert difference.std() == pytest.approx((expected[:, 0] - expected[:, 1]).std(), rel=0.15)


def test_from_five_seeds_on_seeds_vary_too_and_their_own_rows_are_counted_once():
    rows = [row("a", 6, 0.8), row("b", 6, 0.5)]
    made = make_spreads(rows)
    (low, high), kind = made["a"].interval("macro_f1")
    assert "crossed" in kind and "Student" in kind
    by_seed = resampled(rows)[:, 0]
    values = np.array([v["macro_f1"].value for v in rows[0].values])
    own = max(0, by_seed.var(axis=0).mean() - by_seed.mean(axis=1).var()) / 5
    error = np.sqrt(max(0, values.var(ddof=1) / 6 - own))
    rng = np.random.default_rng(1)
    wanted = rng.choice(by_seed.mean(axis=1), 200_000) + error * stats.t(5).rvs(200_000, random_state=rng)
    assert [low, high] == pytest.approx(np.quantile(wanted, [0.025, 0.975]), abs=0.02)
    assert np.abs(made["a"].replicates("macro_f1", made["a"])).max() == 0


def test_one_trained_model_has_the_bca_interval_of_scipy():
    only = row("a", 1, 0.8)
    (low, high), kind = make_spreads([only])["a"].interval("accuracy")
    assert "BCa" in kind and "conditional" in kind
    hits = (only.cells[0][0].scores.argmax(1) == TRUTH).astype(float)
    names = np.unique(GROUPS)
    sums = np.array([[hits[g == GROUPS].sum(), (g == GROUPS).sum()] for g in names])
    found = stats.bootstrap(
        (np.arange(len(names)),), lambda i: sums[i, 0].sum(0) / sums[i, 1].sum(0) if i.ndim == 1 else
        sums[i, 0].sum(-1) / sums[i, 1].sum(-1), method="BCa", n_resamples=9_999, vectorized=False,
        rng=np.random.default_rng(3),
    )  # fmt: skip
    assert [low, high] == pytest.approx([found.confidence_interval.low, found.confidence_interval.high], abs=0.01)


def test_where_bca_cannot_be_had_the_reason_stands_in_the_kind():
    perfect = row("a", 1, 1.0)
    bounds, kind = make_spreads([perfect])["a"].interval("accuracy")
    assert bounds == (1.0, 1.0)
    assert "percentile" in kind and "no BCa: the replicates do not vary" in kind


def test_one_group_shows_nothing():
    alone = row("a", 1, 0.8)
    predictions = dataclasses.replace(alone.cells[0][0], groups=np.full(N, "g"))
    assert make_spreads([dataclasses.replace(alone, cells=[(predictions, None)])]) == {}


def test_rare_labels_are_counted_by_group_and_named():
    predictions = row("a", 1, 0.8).cells[0][0]
    line = roughness(predictions, "tweet")
    for label, k in (("x", 0), ("y", 1), ("z", 2)):
        assert f"{label} ({len(np.unique(GROUPS[k == TRUTH]))})" in line
    assert "fewer than 50 tweets" in line
    often = Predictions(CONCEPT, np.arange(300).astype(str), np.arange(300).astype(str), np.full((300, K), 1 / K),
                        np.eye(K, dtype=bool)[np.arange(300) % K])  # fmt: skip
    assert roughness(often, "tweet") == ""


def test_all_metrics_have_replicates():
    made = make_spreads([row("a", 2, 0.8)])["a"]
    assert set(made.by_seed) == set(METRICS)
