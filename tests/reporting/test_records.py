"""Records of a run whose predictions are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from mmbench.errors import MmbenchError, NotComparableError, UsageError
from mmbench.evaluation.metrics import metrics_of
from mmbench.evaluation.predictions import write_predictions
from mmbench.reporting import spreads
from mmbench.reporting.records import Question, make_records
from mmbench.reporting.render import render
from mmbench.reporting.tables import comparison_tables, make_tables
from mmbench.running.store import Cell, RunFolder

METRICS = metrics_of("multilabel")

N, K = 120, 3
GROUPS = np.array([f"g{i // 2}" for i in range(N)], dtype=np.str_)
SPLIT = np.array(["train"] * 30 + ["val"] * 30 + ["test"] * 60, dtype=np.str_)
TRUTH = np.random.default_rng(7).integers(0, K, N)
MANY = np.random.default_rng(8).integers(0, 2, (N, 2))
FIELDS = [
    "task", "protocol", "problem", "concept", "label", "method", "metric", "mean", "sd", "ci_low", "ci_high",
    "ci_kind", "n_seeds", "n_train", "n_test", "n_groups", "n_labels_used", "reference", "delta", "delta_low",
    "delta_high", "p_raw", "p_holm", "family", "verdict", "mde", "unit", "tests", "parameters", "train_seconds",
    "energy_wh", "energy_source", "generated", "labels", "split", "encoders", "overrides",
]  # fmt: skip
TEST = SPLIT == "test"


def scores_of(skill: float, seed: int) -> dict[str, np.ndarray]:
    """Scores that are right in about ``skill`` of the rows."""
    rng = np.random.default_rng([int(skill * 1000), seed])
    raw = rng.random((N, K)) * 0.5
    hit = rng.random(N) < skill
    raw[np.arange(N), np.where(hit, TRUTH, (TRUTH + 1) % K)] += 1
    many = np.clip(0.5 + np.where(rng.random((N, 2)) < skill, 1, -1) * (MANY - 0.5) * rng.random((N, 2)), 0, 1)
    return {"sort": raw / raw.sum(1, keepdims=True), "many": many}


def run_info(*, generated=False, primary="macro_f1", suite=("good+equal", "poor+equal", "ours+dmtl"), **config) -> dict:
    concepts = {"sort": {"n_train": 30, "n_val": 30, "n_test": 60, "n_groups": 30}}
    return {
        "task": {
            "name": "toy", "title": "Toy (generated)" if generated else "Toy", "group": "tweet",
            "generated": generated, "proposed": "ours+dmtl", "notes": [],
        },
        "unreadable_inputs": 0,
        "protocol": {
            "name": "plain", "split": "official", "primary_metric": primary, "warning": "", "suite": list(suite),
        },
        "config": {
            "task": "toy", "protocol": "plain", "thresholds": "fixed", "options": {"labels": "union"}, "split_seed": 4,
            "encoders": {"text": "tfidf-svd", "image": "hog-color"}, **config,
        },
        "overrides": ["--epochs 3"],
        "concepts": [
            {"name": "sort", "labels": ["a", "b", "c"], "kind": "exclusive", "background": None},
            {"name": "many", "labels": ["x", "y"], "kind": "multilabel", "background": None},
        ],
        "problems": [{"name": "joint", "concepts": concepts | {"many": concepts["sort"]}}],
    }  # fmt: skip


@pytest.fixture
def add(tmp_path) -> Callable[..., RunFolder]:
    """Stores one cell; give ``scores``, and ``mask`` (N,) of the labelled rows or ``groups`` to change them."""
    folder = RunFolder(tmp_path / "run")

    def store(method, seed, scores, *, mask=None, groups=GROUPS, ids=None, problem="joint", **result) -> RunFolder:
        cell = Cell(problem, method, seed)
        mask = np.ones(N, bool) if mask is None else mask
        record = {
            "status": "done", "problem": problem, "method": method, "seed": seed, "parameters": 1234,
            "timings": {"fit_seconds": 1.0 + seed}, "energy": {"wh": 0.5 + seed, "source": "estimate"}, **result,
        }  # fmt: skip
        targets = {"sort": TRUTH, "many": MANY}
        write = partial(
            write_predictions,
            ids=np.arange(N).astype(np.str_) if ids is None else ids,
            groups=groups,
            split=SPLIT,
            scores=scores,
            targets={name: targets[name] for name in scores},
            mask=dict.fromkeys(scores, mask),
        )
        folder.write_cell(cell, record, write if record["status"] == "done" else None)
        return folder

    return store


@pytest.fixture
def few(monkeypatch) -> None:
    """Fewer replicates: the oracles here do not need the accuracy."""
    monkeypatch.setattr(spreads, "REPLICATES", 400)
    monkeypatch.setattr(spreads, "RANKING_REPLICATES", 200)


@pytest.fixture
def run(add, few) -> RunFolder:
    """Three methods, five seeds, two concepts."""
    for method, skill in (("ours+dmtl", 0.8), ("poor+equal", 0.4), ("good+equal", 0.795)):
        for seed in range(5):
            folder = add(method, seed, scores_of(skill, seed))
    folder.write_info(run_info())
    return folder


def one(collection, method, metric="macro_f1", concept="sort", label=""):
    (found,) = (
        r
        for r in collection.records
        if (r["method"], r["metric"], r["concept"], r["label"]) == (method, metric, concept, label)
    )
    return found


def test_every_record_has_every_field_and_there_is_one_of_each(run):
    found = make_records(run).records
    assert all(list(record) == FIELDS for record in found)
    keys = [tuple(r[k] for k in ("task", "problem", "concept", "label", "method", "metric")) for r in found]
    assert len(set(keys)) == len(keys)
    assert len(keys) == 3 * (2 * len(METRICS) + (3 + 2) * 6)
    assert json.loads(render(make_records(run), "json", ())) == json.loads(json.dumps(found))


def test_means_and_deviations_over_seeds(run):
    by_seed = [
        f1_score(TRUTH[TEST], scores_of(0.8, seed)["sort"][TEST].argmax(1), average="macro", labels=[0, 1, 2])
        for seed in range(5)
    ]
    record = one(make_records(run), "ours+dmtl")
    assert record["mean"] == pytest.approx(np.mean(by_seed))
    assert record["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert record["ci_low"] < record["mean"] < record["ci_high"]
    assert record["n_seeds"] == 5
    assert record["unit"] == "tweet × seed"
    assert "crossed" in record["ci_kind"]
    assert record["train_seconds"] == 3.0
    assert record["energy_wh"] == 2.5
    assert (record["energy_source"], record["parameters"], record["labels"]) == ("estimate", 1234, "union")
    assert (record["n_train"], record["n_test"], record["n_groups"]) == (30, 60, 30)
    assert record["overrides"] == ["--epochs 3"]
    assert record["split"] == "official, split seed 4"


def test_label_records_are_one_against_rest(run):
    found = make_records(run)
    by_seed = [f1_score(TRUTH[TEST] == 1, scores_of(0.4, seed)["sort"][TEST].argmax(1) == 1) for seed in range(5)]
    assert one(found, "poor+equal", "f1", label="b")["mean"] == pytest.approx(np.mean(by_seed))
    assert one(found, "poor+equal", "support", label="b")["mean"] == (TRUTH[TEST] == 1).sum()
    assert one(found, "poor+equal", "f1", label="b")["ci_low"] is None


def test_differences_tests_and_verdicts(run):
    found = make_records(run)
    assert found.reference == "ours+dmtl"
    poor, good, ours = (one(found, m) for m in ("poor+equal", "good+equal", "ours+dmtl"))
    assert poor["delta"] == poor["mean"] - ours["mean"]
    assert poor["delta_low"] < poor["delta"] < poor["delta_high"] < 0
    assert poor["verdict"] == "worse than ours+dmtl"
    assert poor["p_raw"] == 2 / 401
    assert good["verdict"] == "not distinguishable from ours+dmtl"
    assert good["p_raw"] > 0.05
    assert good["mde"] > 0
    for name in ("delta", "delta_low", "p_raw", "p_holm", "verdict", "mde", "family"):
        assert ours[name] is None, name
    assert ours["tests"] == []


def test_labels_that_are_rare_are_named_under_their_table(run):
    found = make_records(run)
    assert set(found.rough) == {"joint sort", "joint many"}
    assert "fewer than 50 tweets of the test set hold" in render(found, "markdown", ())
    assert all(name in found.rough["joint many"] for name in ("x ", "y "))


def test_the_family_is_methods_times_concepts_on_the_primary_metric(run):
    tested = [r for r in make_records(run).records if r["p_raw"] is not None]
    assert {(r["method"], r["concept"], r["metric"]) for r in tested} == {
        (m, c, "macro_f1") for m in ("poor+equal", "good+equal") for c in ("sort", "many")
    }
    expected = multipletests([r["p_raw"] for r in tested], method="holm")[1]
    assert [r["p_holm"] for r in tested] == pytest.approx(expected)
    assert {r["family"] for r in tested} == {"4 comparisons with ours+dmtl on macro_f1"}
    for record in tested:
        names = [test["name"] for test in record["tests"]]
        assert names == [
            "bootstrap",
            "equivalence within ±0.01",
            "P(A>B), sign test",
            "paired t",
            "Wilcoxon signed-rank",
            "sign flips by group",
        ]
        assert record["tests"][3]["p"] is None and "needs 10 seeds" in record["tests"][3]["reason"]
        test = record["tests"][0]
        assert test["p"] == record["p_raw"]
        assert test["smallest_p"] == 2 / 401
        assert (test["n"], test["unit"]) == (30, "tweet × seed")


def test_the_smallest_p_is_of_the_replicates_that_the_primary_metric_has(run):
    run.write_info(run_info(primary="map"))
    record = one(make_records(run), "poor+equal", "map")
    assert record["p_raw"] >= 2 / 201
    assert record["tests"][0]["smallest_p"] == 2 / 201


def test_where_lower_is_better_a_lower_value_is_better(run):
    run.write_info(run_info(primary="hamming"))
    record = one(make_records(run), "poor+equal", "hamming")
    assert record["delta"] > 0
    assert record["verdict"] == "worse than ours+dmtl"
    found = make_records(run, Question(reference="poor+equal"))
    assert one(found, "good+equal", "hamming")["verdict"] == "better than poor+equal"
    assert ("joint", "sort", "hamming", "poor+equal") not in found.best
    assert ("joint", "sort", "hamming", "good+equal") in found.best


def test_only_the_unadjusted_interval_excludes_zero(run, monkeypatch):
    monkeypatch.setattr("mmbench.reporting.verdicts.holm", lambda p: [0.06 for _ in p])
    verdict = one(make_records(run), "poor+equal")["verdict"]
    assert verdict == "not distinguishable from ours+dmtl (only the unadjusted interval excludes zero)"


def test_generated_data_gets_no_verdict_in_any_form(run):
    run.write_info(run_info(generated=True))
    found = make_records(run)
    assert all(record["verdict"] is None and record["generated"] for record in found.records)
    for form in ("table", "markdown", "latex"):
        text = render(found, form, ("macro_f1",))
        assert "GENERATED DATA" in text.replace("\n", " ")
        assert "Δ" not in text
        assert "better than" not in text


def test_identical_methods_tie(add, few):
    for method in ("ours+dmtl", "twin+equal"):
        for seed in range(5):
            folder = add(method, seed, scores_of(0.7, seed))
    folder.write_info(run_info())
    found = make_records(folder)
    twin = one(found, "twin+equal")
    assert twin["delta"] == twin["delta_low"] == twin["delta_high"] == 0.0
    assert twin["p_raw"] == twin["p_holm"] == 1.0
    assert twin["mde"] is None
    assert twin["verdict"] == "equivalent to ours+dmtl within ±0.01"
    for metric in set(METRICS) - {"hamming_single"}:
        assert {("joint", "many", metric, m) in found.best for m in ("ours+dmtl", "twin+equal")} == {True}


def test_the_best_and_its_ties_are_marked(run):
    found = make_records(run)
    marked = {method for problem, concept, metric, method in found.best if (concept, metric) == ("sort", "macro_f1")}
    assert marked == {"ours+dmtl", "good+equal"}
    first = make_tables(found, ("macro_f1",))[0]
    assert {row[0].text: row[1].best for row in first.rows} == {
        "good+equal": True, "poor+equal": False, "ours+dmtl": True,
    }  # fmt: skip


def test_below_five_seeds_the_interval_is_conditional(add, few):
    for method, skill in (("ours+dmtl", 0.8), ("poor+equal", 0.4)):
        for seed in range(3):
            folder = add(method, seed, scores_of(skill, seed))
    folder.write_info(run_info())
    record = one(make_records(folder), "poor+equal")
    assert "conditional on these seeds" in record["ci_kind"]
    assert record["unit"] == "tweet"
    assert "conditional" in record["tests"][0]["interval_kind"]
    assert record["verdict"].endswith(", on these seeds")


def test_one_seed_of_each_is_two_models_whose_rows_mcnemar_compares_where_they_are_independent(add, few):
    for method in ("ours+dmtl", "poor+equal"):
        folder = add(method, 0, scores_of(0.8 if method == "ours+dmtl" else 0.4, 0))
    folder.write_info(run_info())
    test = one(make_records(folder), "poor+equal")["tests"][-1]
    assert test["name"] == "exact McNemar" and test["p"] is None and "not independent" in test["reason"]


def test_one_seed_has_no_deviation_but_an_interval(add, few):
    folder = add("ours+dmtl", 0, scores_of(0.8, 0))
    folder.write_info(run_info())
    record = one(make_records(folder), "ours+dmtl")
    assert record["sd"] is None
    assert record["ci_low"] < record["ci_high"]


def test_a_deterministic_twin_counts_as_the_seed_it_repeats(add, few):
    for seed in range(5):
        add("ours+dmtl", seed, scores_of(0.8, seed))
        folder = add("linear:all", seed, scores_of(0.6, 0), **({"same_as_seed": 0} if seed else {}))
    folder.write_info(run_info())
    record = one(make_records(folder), "linear:all")
    expected = f1_score(TRUTH[TEST], scores_of(0.6, 0)["sort"][TEST].argmax(1), average="macro")
    assert record["mean"] == pytest.approx(expected)
    assert record["sd"] == pytest.approx(0, abs=1e-15)
    assert record["n_seeds"] == 5
    assert record["p_raw"] is not None


def test_masked_rows_leave_metric_and_resampling(add, few):
    """Masking rows is the same as never having had them, whatever their scores."""
    keep = np.arange(N) % 3 != 0
    for seed in range(5):
        scores = scores_of(0.8, seed)
        for values in scores.values():
            values[~keep] = 0.123
        folder = add("ours+dmtl", seed, scores, mask=keep)
    folder.write_info(run_info())
    record = one(make_records(folder), "ours+dmtl")
    rows = TEST & keep
    by_seed = [
        f1_score(TRUTH[rows], scores_of(0.8, seed)["sort"][rows].argmax(1), average="macro") for seed in range(5)
    ]
    assert record["mean"] == pytest.approx(np.mean(by_seed))
    support = one(make_records(folder), "ours+dmtl", "support", "many", "x")["mean"]
    assert support == MANY[rows, 0].sum()


def test_a_concept_without_a_labelled_row_is_undefined(add, few):
    for seed in range(5):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed), mask=~TEST)
    folder.write_info(run_info())
    record = one(make_records(folder), "ours+dmtl")
    assert record["mean"] is record["ci_low"] is record["sd"] is None
    assert record["n_labels_used"] == 0
    assert "–" in render(make_records(folder), "markdown", ("macro_f1",))
    json.loads(render(make_records(folder), "json", ()))


def test_one_group_shows_nothing_about_others(add, few):
    """All test rows of one group: no interval over groups, no p, no verdict, and nobody is best."""
    groups = np.where(TEST, "all", GROUPS)
    for method, skill in (("ours+dmtl", 0.8), ("poor+equal", 0.4)):
        for seed in range(3):
            folder = add(method, seed, scores_of(skill, seed), groups=groups)
    folder.write_info(run_info())
    found = make_records(folder)
    record = one(found, "poor+equal")
    assert record["mean"] is not None
    assert record["ci_low"] is record["p_raw"] is record["verdict"] is record["delta_low"] is None
    assert not found.best
    render(found, "table", ("macro_f1",))


def test_thresholds_are_tuned_on_validation_and_nowhere_else(add, few):
    """Scores whose best threshold is .3 in val and .7 in test: .3 is used; test scores do not move it."""
    scores = np.where(MANY == 1, 0.35, 0.2).astype(float)
    scores[TEST] = np.where(MANY[TEST] == 1, 0.75, 0.4)
    for seed in range(2):
        folder = add("ours+dmtl", seed, {"many": scores})
    folder.write_info(run_info(thresholds="val"))
    tuned = one(make_records(folder), "ours+dmtl", "recall", "many")
    assert tuned["mean"] == 1.0
    assert one(make_records(folder), "ours+dmtl", "precision", "many")["mean"] == pytest.approx(MANY[TEST].mean())
    folder.write_info(run_info(thresholds="fixed"))
    assert one(make_records(folder), "ours+dmtl", "macro_f1", "many")["mean"] == 1.0


def test_a_seed_without_one_of_the_concepts_is_no_seed_of_the_rest(add, few):
    scores = scores_of(0.8, 0)
    add("ours+dmtl", 0, scores)
    folder = add("ours+dmtl", 1, {"many": scores["many"]})
    folder.write_info(run_info())
    with pytest.raises(MmbenchError, match=r"seed-1.*has other concepts than ours\+dmtl at other seeds"):
        make_records(folder)


def test_scores_that_are_no_numbers_are_damage(add, few):
    scores = scores_of(0.8, 0)
    scores["many"][:, 0] = np.nan
    folder = add("ours+dmtl", 0, scores)
    folder.write_info(run_info())
    with pytest.raises(MmbenchError, match=r"predictions\.npz is damaged"):
        make_records(folder)


def test_methods_with_other_seeds_are_shown_but_not_compared(add, few):
    for seed in range(5):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed))
    for seed in range(2):
        add("good+equal", seed, scores_of(0.795, seed))
    folder.write_info(run_info())
    found = make_records(folder)
    record = one(found, "good+equal")
    assert record["mean"] is not None
    assert record["delta"] is record["p_raw"] is None
    assert ("joint", "sort", "macro_f1", "good+equal") not in found.best
    text = render(found, "markdown", ("macro_f1",))
    assert "not ranked: good+equal" in text
    assert "crossed bootstrap over seeds and groups (seeds by Student's t), 400 resamples; seeds: 5 (ours+dmtl)" in text
    assert "conditional on these seeds, 400 resamples; seeds: 2 (good+equal)" in text


def test_a_row_that_is_no_pair_says_why(add, few):
    for seed in range(5):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed))
    add("good+equal", 0, scores_of(0.795, 0))
    folder.write_info(run_info())
    found = make_records(folder)
    (test,) = one(found, "good+equal")["tests"]
    assert (test["p"], test["reason"]) == (None, "other seeds than the reference")
    assert one(found, "good+equal", "map")["tests"] == one(found, "ours+dmtl")["tests"] == []
    table = comparison_tables(found)[0]
    assert [row[-1].text for row in table.rows if row[0].text == "good+equal"] == [
        "not tested: other seeds than the reference"
    ]


def test_other_test_rows_are_not_comparable(add, few):
    for seed in range(5):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed))
        add("good+equal", seed, scores_of(0.795, seed), ids=np.arange(1, N + 1).astype(np.str_))
    folder.write_info(run_info())
    with pytest.raises(NotComparableError, match="other rows"):
        make_records(folder)


def test_ceilings_are_neither_tested_nor_best_and_come_last(add, few):
    for seed in range(5):
        add("ours+dmtl", seed, scores_of(0.6, seed))
        add("aaa+equal", seed, scores_of(0.5, seed))
        for name in ("ceiling:text+image", "ceiling:text"):
            folder = add(name, seed, scores_of(0.99, 0))
    folder.write_info(run_info(generated=True))
    found = make_records(folder)
    assert one(found, "ceiling:text")["p_raw"] is None
    assert not any(method.startswith("ceiling") for *_, method in found.best)
    methods = list(dict.fromkeys(record["method"] for record in found.records))
    assert methods == ["ours+dmtl", "aaa+equal", "ceiling:text", "ceiling:text+image"]


def test_chosen_methods_come_in_the_order_given(run):
    found = make_records(run, Question(methods=("poor+equal", "good+equal")))
    assert list(dict.fromkeys(r["method"] for r in found.records)) == ["poor+equal", "good+equal"]
    assert found.reference is None
    assert all(r["p_raw"] is None for r in found.records)


def test_failures_are_told(run, add):
    folder = add("good+equal", 5, {}, status="failed", error={"message": "out of memory"})
    found = make_records(folder)
    assert found.remarks == ("failed: joint good+equal seed 5: out of memory",)
    assert "out of memory" in render(found, "markdown", ("macro_f1",))


def test_nothing_finished_and_an_absent_reference_are_usage_errors(run, add):
    with pytest.raises(UsageError, match=r"unknown reference 'absent': known: good\+equal, ours\+dmtl, poor\+equal"):
        make_records(run, Question(reference="absent"))
    with pytest.raises(UsageError, match="no finished cell"):
        make_records(run, Question(methods=("absent",)))


def test_energy_is_reported_only_where_every_cell_was_measured(add, few):
    for seed in range(3):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed), **({"energy": None} if seed == 1 else {}))
    folder.write_info(run_info())
    record = one(make_records(folder), "ours+dmtl")
    assert record["energy_wh"] is record["energy_source"] is None


def test_the_same_run_gives_the_same_report(run):
    assert render(make_records(run), "json", ()) == render(make_records(run), "json", ())


def test_a_method_has_the_same_numbers_whatever_it_is_shown_beside(run):
    alone, together = make_records(run, Question(methods=("good+equal",))), make_records(run)
    for metric in METRICS:
        first, second = one(alone, "good+equal", metric), one(together, "good+equal", metric)
        for name in ("mean", "ci_low", "ci_high"):
            assert first[name] == second[name]


def test_a_twin_has_the_values_of_the_seed_it_names_and_only_if_its_predictions_are_the_same(add, few):
    for seed in (0, 1):
        add("ours+dmtl", seed, scores_of(0.8, seed))
    add("ours+dmtl", 2, scores_of(0.8, 1), same_as_seed=1)
    add("ours+dmtl", 3, scores_of(0.5, 3), same_as_seed=1)
    folder = add("ours+dmtl", 4, scores_of(0.8, 4), same_as_seed=9)
    folder.write_info(run_info())
    truth = TRUTH[TEST]
    values = [
        f1_score(truth, scores_of(skill, seed)["sort"][TEST].argmax(1), average="macro", labels=[0, 1, 2])
        for skill, seed in ((0.8, 0), (0.8, 1), (0.8, 1), (0.5, 3), (0.8, 4))
    ]
    assert one(make_records(folder), "ours+dmtl")["mean"] == pytest.approx(np.mean(values))


def test_cells_of_another_split_are_not_compared(add, few):
    for seed in range(5):
        add("ours+dmtl", seed, scores_of(0.8, seed), rows="aaaa")
        folder = add("good+equal", seed, scores_of(0.7, seed), rows="aaaa" if seed else "bbbb")
    folder.write_info(run_info())
    with pytest.raises(NotComparableError, match="good\\+equal was trained or tested on other rows than"):
        make_records(folder)


def test_foreign_code_and_several_states_of_the_code_are_told(add, few):
    add("ours+dmtl", 0, scores_of(0.8, 0), source="one", versions={"torch": "1"})
    folder = add("good+equal", 0, scores_of(0.7, 0), source="one", versions={"torch": "1"}, plugins={"good": "abc"})
    folder.write_info(run_info())
    (note,) = make_records(folder).remarks
    assert note == "good+equal uses plug-ins that are not mmbench's: good abc"
    add("good+equal", 0, scores_of(0.7, 0), source="one", versions={"torch": "2"})
    (note,) = make_records(folder).remarks
    assert "rows come from 2 states of mmbench or its libraries" in note


def test_an_average_with_an_estimate_in_it_is_an_estimate(add, few):
    for seed, source in enumerate(("rapl", "rapl", "estimate")):
        folder = add("ours+dmtl", seed, scores_of(0.8, seed), energy={"wh": 1.0, "source": source})
    folder.write_info(run_info())
    assert one(make_records(folder), "ours+dmtl")["energy_source"] == "estimate"


def test_the_detectable_difference_grows_with_the_family(run):
    found = make_records(run)
    record = one(found, "good+equal")
    assert record["family"] == "4 comparisons with ours+dmtl on macro_f1"
    half = (record["delta_high"] - record["delta_low"]) / 2
    assert record["mde"] == pytest.approx(half / 1.96 * (2.4977 + 0.8416), rel=0.15)


def test_labels_that_are_no_scores_rank_nothing(add, few):
    foreign = {
        "foreign": True, "hard": ["sort"], "unparsed": {"sort": 7, "many": 0}, "timings": {}, "parameters": None,
        "file": {"name": "answers.csv"},
    }  # fmt: skip
    for seed in range(2):
        add("ours+dmtl", seed, scores_of(0.8, seed))
        folder = add("model-x", seed, scores_of(0.7, seed), **foreign)
    folder.write_info(run_info())
    found = make_records(folder)
    for metric in ("map", "map_strict", "roc_auc"):
        record = one(found, "model-x", metric)
        assert record["mean"] is record["ci_low"] is record["delta"] is None
        assert one(found, "model-x", metric, "many")["mean"] is not None
    assert one(found, "model-x", "average_precision", label="a")["mean"] is None
    assert one(found, "model-x", "f1", label="a")["mean"] is not None
    assert found.remarks[0].startswith("model-x: predictions of answers.csv, not trained here")
    assert "count as wrong: 7 of sort" in found.remarks[0]
