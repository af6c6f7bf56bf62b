"""Methods whose population values are known: differences, ties and verdicts come back right."""

import numpy as np
import pytest

from mmbench.contracts import Concept
from mmbench.evaluation.metrics import compute
from mmbench.evaluation.predictions import Predictions
from mmbench.reporting import spreads
from mmbench.reporting.comparison import concept_records
from mmbench.reporting.spreads import Row
from mmbench.reporting.verdicts import judge

N, K, SEEDS = 1_200, 3, 5
CONCEPT = Concept("c", ("x", "y", "z"))
SKILLS = {"ours": 0.80, "twin": 0.80, "near": 0.795, "poor": 0.65}  # the share of rows a method knows
INFO = {
    "task": {"title": "T", "group": "tweet", "generated": False, "proposed": "ours"},
    "protocol": {"name": "p", "split": "s", "primary_metric": "accuracy", "warning": ""},
    "config": {"task": "t", "protocol": "p", "options": {}, "split_seed": 0, "encoders": {}},
    "overrides": [],
    "concepts": [{"name": "c", "kind": "exclusive"}],
    "problems": [{"name": "c", "concepts": {"c": {"n_train": 1, "n_test": N, "n_groups": N // 2}}}],
}


def population(method: str) -> float:
    """Accuracy: what it does not know it guesses among three labels."""
    return SKILLS[method] + (1 - SKILLS[method]) / 3


@pytest.fixture(scope="module")
def compared():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spreads, "REPLICATES", 2_000)
        patch.setattr(spreads, "RANKING_REPLICATES", 20)
        return _compare(np.random.default_rng(11))


def _compare(rng):
    truth = rng.integers(0, K, N)
    ids, groups = np.arange(N).astype(str), (np.arange(N) // 2).astype(str)
    hard = rng.random(N)  # what is hard is hard for every method and seed
    rows = []
    for method, skill in SKILLS.items():
        cells = []
        for _ in range(SEEDS):
            said = np.where(hard + 0.02 * rng.normal(size=N) < skill, truth, rng.integers(0, K, N))
            cells.append((Predictions(CONCEPT, ids, groups, np.eye(K)[said], np.eye(K, dtype=bool)[truth]), None))
        results = [{"timings": {}} for _ in cells]
        rows.append(Row(method, tuple(range(SEEDS)), cells, results, [compute(*cell) for cell in cells]))
    found = concept_records(INFO, "c", CONCEPT, rows, "ours")
    judge(found.family, INFO, "ours", 0.03)
    return found


def one(compared, method):
    (record,) = (r for r in compared.records if (r["method"], r["metric"], r["label"]) == (method, "accuracy", ""))
    return record


@pytest.mark.parametrize("method", SKILLS)
def test_intervals_hold_the_population_values(compared, method):
    record = one(compared, method)
    assert record["ci_low"] < population(method) < record["ci_high"]
    if method != "ours":
        assert record["delta_low"] < population(method) - population("ours") < record["delta_high"]


def test_what_is_equal_shares_a_letter_and_what_is_not_does_not(compared):
    ties = {method: set(letters) for method, letters in compared.ties.items()}
    assert ties["ours"] & ties["twin"]
    assert not ties["poor"] & (ties["ours"] | ties["twin"] | ties["near"])
    assert {m for metric, m in compared.best if metric == "accuracy"} >= {"ours", "twin"}
    assert ("accuracy", "poor") not in compared.best


def test_verdicts(compared):
    assert one(compared, "poor")["verdict"] == "worse than ours"
    assert one(compared, "twin")["verdict"] == "equivalent to ours within ±0.03"
    assert one(compared, "near")["verdict"] == "equivalent to ours within ±0.03"
    assert one(compared, "poor")["mde"] < population("ours") - population("poor")
