"""Runs merged into one table: each row is read by its own run's settings, and what differs is told or refused."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.errors import NotComparableError
from mmbench.evaluation.predictions import write_predictions
from mmbench.reporting import spreads
from mmbench.reporting.records import Collection, Question, make_records
from mmbench.reporting.render import render
from mmbench.reporting.tables import comparison_tables
from mmbench.running.store import Cell, RunFolder

N = 80
SPLIT = np.repeat(["val", "test"], N // 2)
TRUTH = (np.arange(N) % 4 < 2)[:, None]
INFO: dict[str, Any] = {
    "fingerprint": "f" * 8,
    "metric_version": 1,
    "task": {"name": "toy", "title": "Toy", "group": "tweet", "generated": False, "proposed": "ours+dmtl", "notes": []},
    "unreadable_inputs": 0,
    "protocol": {
        "name": "plain", "split": "official", "primary_metric": "macro_f1", "warning": "", "suite": ["ours+dmtl"],
    },
    "config": {
        "task": "toy", "protocol": "plain", "thresholds": "fixed", "options": {"labels": "union"}, "split_seed": 0,
        "encoders": {"text": "tfidf-svd"},
    },
    "overrides": [],
    "concepts": [{"name": "many", "labels": ["x"], "kind": "multilabel", "background": None}],
    "problems": [{"name": "joint", "concepts": {"many": {"n_train": 30, "n_test": 40, "n_groups": 40}}}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreads, "REPLICATES", 100)
    monkeypatch.setattr(spreads, "RANKING_REPLICATES", 50)


def stored(path: Path, method: str = "other+equal", first_id: int = 0, **changes: Any) -> RunFolder:
    """A run of one method whose scores of true rows are .4 and of others .1; ``place__key=value`` changes its info."""
    folder, info = RunFolder(path), copy.deepcopy(INFO)
    for place, value in changes.items():
        *parents, key = place.split("__")
        inner = info
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
    ids = np.arange(first_id, first_id + N).astype(np.str_)
    for seed in range(2):
        write = partial(
            write_predictions, ids=ids, groups=ids, split=SPLIT, scores={"many": np.where(TRUTH, 0.4, 0.1)},
            targets={"many": TRUTH.astype(np.int64)}, mask={"many": np.ones(N, bool)},
        )  # fmt: skip
        result = {
            "status": "done", "problem": "joint", "method": method, "seed": seed, "timings": {}, "parameters": 1,
            "energy": None, "plugins": {},
        }  # fmt: skip
        folder.write_cell(Cell("joint", method, seed), result, write)
    folder.write_info(info)
    return folder


def by_method(collection: Collection) -> dict[str, dict[str, Any]]:
    return {r["method"]: r for r in collection.records if (r["metric"], r["label"]) == ("macro_f1", "")}


def test_each_row_has_the_thresholds_encoders_and_sizes_of_its_own_run(tmp_path):
    first = stored(tmp_path / "toy-aaaaaaaa", "ours+dmtl")
    second = stored(
        tmp_path / "toy-bbbbbbbb",
        config__thresholds="val",
        config__encoders={"text": "minilm"},
        overrides=["thresholds=val"],
        problems=[{"name": "joint", "concepts": {"many": {"n_train": 29, "n_test": 40, "n_groups": 40}}}],
    )
    for folders, names in (((first, second), ("ours+dmtl", "other+equal@bbbbbbbb")),
                           ((second, first), ("ours+dmtl@aaaaaaaa", "other+equal"))):  # fmt: skip
        found = make_records(folders, Question(reference=names[0]))
        fixed, tuned = (by_method(found)[name] for name in names)
        assert (fixed["mean"], tuned["mean"]) == (0.0, 1.0)  # nothing reaches .5, and on validation .4 is found
        assert (fixed["encoders"], tuned["encoders"]) == ("text=tfidf-svd", "text=minilm")
        assert (fixed["n_train"], tuned["n_train"]) == (30, 29)
        assert (fixed["overrides"], tuned["overrides"]) == ([], ["thresholds=val"])
        assert tuned["delta"] == 1.0
        text = render(found, "table", ("macro_f1",))
        assert f"encoders: text=minilm ({names[1]})" in text
        assert f"overrides: thresholds=val ({names[1]})" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fingerprint": "0" * 8}, "data fingerprint is 00000000, not ffffffff"),
        ({"metric_version": 2}, "metric version is 2, not 1"),
        ({"protocol__name": "rows"}, "protocol is rows, not plain"),
        ({"protocol__split": "by row"}, "split is by row, not official"),
        ({"config__split_seed": 3}, "split seed is 3, not 0"),
        ({"config__options": {"labels": "text"}}, "labels is text, not union"),
    ],
    ids=str,
)
def test_a_difference_is_refused_and_told_where_it_is_allowed(tmp_path, changes, said):
    first, second = stored(tmp_path / "toy-aaaaaaaa", "ours+dmtl"), stored(tmp_path / "toy-bbbbbbbb", **changes)
    with pytest.raises(NotComparableError, match=f"toy-bbbbbbbb cannot be compared with toy-aaaaaaaa: its {said}"):
        make_records((first, second))
    found = make_records((first, second), allow_mixed=True)
    assert set(by_method(found)) == {"ours+dmtl", "other+equal@bbbbbbbb"}
    assert any(line.startswith("WARNING") and line.endswith(said) for line in found.remarks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config__task": "else"}, "task is else, not toy"),
        ({"task__generated": True, "fingerprint": "0" * 8}, "data, generated is True, not False"),
        (
            {"concepts": [{"name": "many", "labels": ["y"], "kind": "multilabel", "background": None}],
             "fingerprint": "0" * 8},
            "many has the labels y, not x",
        ),
        ({"protocol__warning": "PARTIAL: 5 of 40", "fingerprint": "0" * 8}, "test set is another part of the whole"),
    ],
    ids=["another task", "generated data", "other labels", "a partial test set"],
)  # fmt: skip
def test_some_differences_no_flag_allows(tmp_path, changes, said):
    first, second = stored(tmp_path / "toy-aaaaaaaa", "ours+dmtl"), stored(tmp_path / "toy-bbbbbbbb", **changes)
    with pytest.raises(NotComparableError, match=said):
        make_records((first, second), allow_mixed=True)


def test_rows_on_other_samples_are_shown_and_neither_paired_nor_ranked(tmp_path):
    first = stored(tmp_path / "toy-aaaaaaaa", "ours+dmtl", config__thresholds="val")
    second = stored(tmp_path / "toy-bbbbbbbb", first_id=1, fingerprint="0" * 8, protocol__warning="ROWS LEAK")
    found = make_records((first, second), allow_mixed=True)
    other = by_method(found)["other+equal@bbbbbbbb"]
    assert other["mean"] == other["ci_high"] == 0.0
    assert other["delta"] is other["p_raw"] is None
    assert found.ranked == {"joint many": ["ours+dmtl"]}
    assert {method for *_, method in found.best} == {"ours+dmtl"}
    table = comparison_tables(found)[0]
    assert table.rows[1][-1].text == "not tested: other rows than the reference"
    assert "WARNING: toy-bbbbbbbb: ROWS LEAK" in table.notes


def test_what_another_run_warns_of_is_told_first(tmp_path):
    first = stored(tmp_path / "toy-aaaaaaaa", "ours+dmtl")
    shared = {"many": {"n_train": 30, "n_test": 40, "n_groups": 40, "shared_with_train": {"test": 4}}}
    second = stored(tmp_path / "toy-bbbbbbbb", problems=[{"name": "joint", "concepts": shared}])
    table = comparison_tables(make_records((first, second)))[0]
    assert table.notes[0] == "WARNING: toy-bbbbbbbb: joint many: 4 of 40 test rows share their tweet with train"
