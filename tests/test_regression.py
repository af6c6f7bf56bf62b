"""The gate's statistics against closed forms, Welch's test and simulated truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmbench import regression
from mmbench.contracts import Concept
from mmbench.cost_ratios import measure_ratio, parse_ratio
from mmbench.errors import UsageError
from mmbench.evaluation.bootstrap import Draws
from mmbench.evaluation.decisions import decide
from mmbench.evaluation.metrics import compute, metrics_of
from mmbench.evaluation.predictions import Predictions
from mmbench.regression import Place, Side, estimate_all, gate, reduce, value_of

METRICS = metrics_of("multilabel")

PLACE = Place("joint", "c", "m")
PAIR = Concept("c", ("no", "yes"))


def side(right: np.ndarray, groups: np.ndarray | None = None, metric: str = "accuracy") -> Side:
    """Cells of a concept of two labels that are right where ``right`` (seeds, n) says; every other row is a "yes"."""
    n = right.shape[1]
    truth = np.arange(n) % 2
    ids = np.arange(n).astype(np.str_)
    cells = tuple(
        Predictions(PAIR, ids, ids if groups is None else groups, np.eye(2)[np.where(r, truth, 1 - truth)],
                    truth[:, None] == np.arange(2))
        for r in right
    )  # fmt: skip
    return Side(tuple(range(len(right))), cells, tuple(value_of(c, metric) for c in cells))


def by_count(counts: list[int], n_groups: int = 40, size: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Seeds that are right in the same number of rows of every group, so that drawing groups changes nothing."""
    right = np.stack([np.tile(np.arange(size) < count, n_groups) for count in counts])
    return right, np.repeat(np.arange(n_groups), size).astype(np.str_)


def only(old: Side, new: Side, metric: str = "accuracy", min_effect: float = 0.01, incomplete=()):
    made = gate({PLACE: (old, new)}, incomplete, metric, min_effect)
    (comparison,) = made.comparisons
    return comparison, made


def test_without_variance_of_groups_the_p_is_welchs():
    old, groups = by_count([8, 9, 7, 9, 8])
    new, _ = by_count([7, 6, 8, 6, 7])
    found, _ = only(side(old, groups), side(new, groups))
    exact = stats.ttest_ind(new.mean(1), old.mean(1), equal_var=False, alternative="less")
    assert found.estimate.delta == pytest.approx(-0.14)
    assert found.p == pytest.approx(exact.pvalue, rel=0.1)
    assert found.estimate.df == pytest.approx(exact.df, rel=0.1)
    interval = stats.ttest_ind(new.mean(1), old.mean(1), equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.05)


def test_without_variance_of_seeds_the_error_is_that_of_the_mean_difference_of_groups():
    rng = np.random.default_rng(0)
    old, new = (np.tile(rng.random(400) < share, (5, 1)) for share in (0.8, 0.7))
    found, _ = only(side(old), side(new))
    difference = new[0].astype(float) - old[0]
    assert found.estimate.error == pytest.approx(difference.std() / 20, rel=0.04)
    assert found.estimate.df == pytest.approx(399)
    assert found.p == pytest.approx(stats.t.cdf(difference.mean() / (difference.std() / 20), 399), rel=0.3)


def test_groups_that_repeat_their_rows_add_no_information():
    rng = np.random.default_rng(1)
    old, new = (rng.random((5, 100)) < share for share in (0.8, 0.75))
    single = estimate_all({PLACE: (side(old), side(new))}, "hamming_single")[PLACE]
    groups = np.repeat(np.arange(100), 4).astype(np.str_)
    pair = side(old.repeat(4, 1), groups, "hamming_single"), side(new.repeat(4, 1), groups, "hamming_single")
    fourfold = estimate_all({PLACE: pair}, "hamming_single")[PLACE]
    assert fourfold.error == pytest.approx(single.error, rel=1e-9)


def test_an_identical_run_is_no_change_at_all():
    right = np.random.default_rng(2).random((5, 90)) < 0.7
    found, made = only(side(right), side(right))
    assert (found.estimate.delta, found.p, found.verdict) == (0, 1, "no alarm")
    assert made.exit_code == 0


@pytest.mark.parametrize(("share", "code"), [(0.0, 1), (1.0, 0)])
def test_a_deterministic_method_that_changes_everywhere_has_no_variance_and_still_a_verdict(share, code):
    old, new = (np.full((5, 60), value, bool) for value in (1 - share, share))
    found, made = only(side(old), side(new))
    assert found.estimate.error == 0
    assert found.verdict == ("REGRESSION" if code else "improved")
    assert made.exit_code == code


def test_lower_is_better_for_hamming():
    rng = np.random.default_rng(3)
    good, bad = (rng.random((5, 200)) < share for share in (0.9, 0.6))
    worse, _ = only(side(good, metric="hamming"), side(bad, metric="hamming"), "hamming")
    better, _ = only(side(bad, metric="hamming"), side(good, metric="hamming"), "hamming")
    assert worse.estimate.delta > 0
    assert (worse.verdict, better.verdict) == ("REGRESSION", "improved")


def test_a_significant_drop_below_the_minimum_effect_does_not_alarm():
    old, groups = by_count([100] * 5, 40, 100)
    new, _ = by_count([99] * 5, 40, 100)
    found, made = only(side(old, groups), side(new, groups), min_effect=0.02)
    assert found.p < 0.001
    assert (found.verdict, made.exit_code) == ("slightly worse", 0)
    assert only(side(old, groups), side(new, groups), min_effect=0.005)[1].exit_code == 1


def test_what_could_not_be_measured_counts_in_holms_family_and_is_never_a_pass():
    rng = np.random.default_rng(4)
    old, new = (rng.random((5, 300)) < share for share in (0.8, 0.73))
    alone, made = only(side(old), side(new))
    assert made.exit_code == 1
    lost = [(Place("joint", "c", f"lost{n}"), "failed") for n in range(40)]
    among, made = only(side(old), side(new), incomplete=lost)
    assert among.p == alone.p
    assert among.p_holm == pytest.approx(min(1, 41 * alone.p))
    assert (among.verdict, made.exit_code) == ("no alarm", 3)


def test_fewer_than_five_seeds_on_a_side_draw_no_seeds_on_either():
    old, groups = by_count([8, 9, 7, 9])
    new, _ = by_count([7, 6, 8, 6, 7])
    found, _ = only(side(old, groups), side(new, groups))
    assert not found.estimate.crossed
    assert found.estimate.error == 0
    assert found.n_seeds == (4, 5)


def test_one_group_or_an_undefined_metric_is_not_measurable():
    right = np.random.default_rng(5).random((5, 40)) < 0.7
    alone = side(right, np.full(40, "g"))
    made = gate({PLACE: (alone, alone)}, [], "accuracy", 0.01)
    assert made.exit_code == 3
    assert "one group" in made.unmeasured[0]
    undefined = Side(alone.seeds, side(right).cells, (None,) * 5)
    assert "not defined" in gate({PLACE: (undefined, undefined)}, [], "map", 0.01).unmeasured[0]


def test_a_metric_that_is_not_defined_in_every_resample_is_not_measurable():
    truth = (np.arange(30) == 0)[:, None]  # a third of the resamples lack the only positive row
    ids = np.arange(30).astype(np.str_)
    rng = np.random.default_rng(8)
    cells = tuple(
        Predictions(Concept("c", ("x",), "multilabel"), ids, ids, rng.random((30, 1)), truth) for _ in "12345"
    )
    rare = Side(tuple(range(5)), cells, tuple(value_of(cell, "roc_auc") for cell in cells))
    made = gate({PLACE: (rare, rare)}, [], "roc_auc", 0.01)
    assert made.exit_code == 3
    assert "not defined in every resample" in made.unmeasured[0]


def test_runs_share_the_groups_they_draw_and_not_the_seeds():
    first, second = (Draws(50, 6, 300, seed_stream=stream) for stream in (0, 1))
    for (_, ours), (_, theirs) in zip(first.groups(), second.groups(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    drawn = np.random.default_rng([0, 1]).integers(0, 6, (300, 6))
    np.testing.assert_array_equal(first.seeds() * 6, [np.bincount(row, minlength=6) for row in drawn])
    correlation = np.corrcoef(first.seeds().ravel(), second.seeds().ravel())[0, 1]
    assert abs(correlation) < 0.1
    assert not Draws(50, 6, 300, seed_stream=None).crossed


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_reduced_predictions_have_exactly_the_metrics_of_the_whole(kind):
    rng = np.random.default_rng(6)
    concept = Concept("c", ("a", "b", "c"), kind)
    truth = np.eye(3, dtype=bool)[rng.integers(0, 3, 80)] if kind == "exclusive" else rng.random((80, 3)) < 0.3
    ids = np.arange(80).astype(np.str_)
    whole = Predictions(concept, ids, ids, rng.random((80, 3)).round(1), truth)  # many ties
    thresholds = None if kind == "exclusive" else np.array([0.3, 0.5, 0.7])
    expected = compute(whole, thresholds)
    for name in METRICS:
        assert value_of(reduce(whole, decide(whole, thresholds), name), name) == expected[name].value


def test_intervals_cover_a_known_difference_and_unchanged_code_seldom_alarms(monkeypatch):
    """Seeds differ in skill, rows in difficulty; the truth is the mean over many seeds and rows."""
    monkeypatch.setattr(regression, "REPLICATES", 300)
    rng = np.random.default_rng(7)
    covered = alarms = 0
    for _ in range(120):
        hard = rng.standard_normal(150)
        skills = 0.8 + 0.15 * rng.standard_normal((2, 5, 1))
        right = hard + 0.7 * rng.standard_normal((2, 5, 150)) < skills
        found, _ = only(side(right[0]), side(right[1]))
        covered += found.low <= 0 <= found.high
        alarms += found.p < 0.05
    assert covered >= 109  # .95 less three standard errors
    assert alarms <= 13


RECORDS = [
    {"problem": p, "method": m, "seed": s, "status": "done", "energy": {"wh": 2.0 + (m == "b"), "source": "rapl"},
     "timings": {"fit_seconds": (10.0 if m == "a" else 4.0) + s, "predict_seconds": 0.0}}
    for p in ("x", "y") for m in ("a", "b") for s in range(3)
]  # fmt: skip


def test_costs_are_ratios_of_medians_summed_over_problems():
    ratio = measure_ratio(parse_ratio("train_seconds:a/b<=2"), RECORDS)
    assert ratio.value == pytest.approx(22 / 10)
    assert ratio.exceeded
    assert not measure_ratio(parse_ratio("energy_wh: a / b <= 0.7"), RECORDS).exceeded


@pytest.mark.parametrize(
    ("text", "change", "said"),
    [
        ("energy_wh:a/b<=2", {"energy": {"wh": 1.0, "source": "estimate"}}, "is estimate, not from a meter"),
        ("energy_wh:a/b<=2", {"energy": None}, "is not measured"),
        ("train_seconds:a/c<=2", {}, "the run has no c"),
        ("train_seconds:a/b<=2", {"status": "failed"}, "seed 0 failed"),
        ("train_seconds:a/b<=2", {"timings": {}}, "has no train_seconds"),
        ("predict_seconds:a/b<=2", {}, "has predict_seconds 0"),
    ],
)
def test_a_cost_that_was_not_measured_is_no_pass(text, change, said):
    ratio = measure_ratio(parse_ratio(text), [RECORDS[0] | change, *RECORDS[1:]])
    assert ratio.value is None
    assert said in ratio.reason
    assert gate({}, [], "macro_f1", 0.01, ratios=[ratio]).exit_code == 3


@pytest.mark.parametrize(
    "text", ["", "train_seconds", "train_seconds:a/b", "train_seconds:a<=2", "a/b<=2", "train_seconds:a/b<=many",
             "train_seconds:a/b<=0", "train_seconds:a/b<=inf", "train_seconds:/b<=2", "wh:a/b<=2"],
)  # fmt: skip
def test_ten_malformed_ratios(text):
    with pytest.raises(UsageError, match="--ratio"):
        parse_ratio(text)
