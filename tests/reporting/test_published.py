"""Published numbers: what ships is complete and faithful, and where it may stand."""

from __future__ import annotations

import csv
from math import sqrt

import pytest

from mmbench.errors import NotComparableError, UsageError
from mmbench.evaluation.metrics import METRICS
from mmbench.plugins import Registry, shipped_folder
from mmbench.reporting.published import published_tables, read_claims
from mmbench.reporting.records import Collection
from mmbench.reporting.render import render

FOLDER = shipped_folder("results/published")
ROWS = [row for path in sorted(FOLDER.glob("*.csv")) if path.name != "notes.csv" for row in csv.DictReader(path.open())]


def record(method, metric, mean, concept="informative", delta=None) -> dict:
    return {
        "method": method, "metric": metric, "concept": concept, "label": "", "mean": mean, "ci_low": mean - 0.01,
        "ci_high": mean + 0.01, "delta": delta, "delta_low": None if delta is None else delta - 0.02,
        "delta_high": None if delta is None else delta + 0.01,
    }  # fmt: skip


def collection(protocol="mt25", task="crisismmd", generated=False, concept="informative", warning="") -> Collection:
    info = {
        "task": {"name": task, "title": "Toy", "generated": generated, "group": "tweet"},
        "protocol": {"name": protocol, "primary_metric": "macro_f1", "warning": warning},
    }
    records = [
        record("igfn+dmtl", "macro_f1", 0.7, concept), record("igfn+equal", "macro_f1", 0.6, concept, -0.1),
        record("igfn+dmtl", "hamming", 0.2, concept), record("igfn+equal", "hamming", 0.3, concept, 0.1),
    ]  # fmt: skip
    return Collection(info, records, "igfn+dmtl", {}, {}, frozenset(), {}, ())


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['method']}-{r['concept']}-{r['metric']}-{r['label']}")
def test_every_number_has_a_source_a_status_and_a_task_that_has_its_protocol(row):
    assert row["source"] and row["where_read"] and row["method"] and row["metric"]
    assert row["status"] == "claimed"
    assert row["value"] == "" or 0 <= float(row["value"]) <= 1
    assert row["n_test"] == "" or int(row["n_test"]) > 0
    assert row["role"] in ("proposed", "other")
    if row["protocol"]:
        task = Registry().load(row["task"], "task").TASK
        assert set(row["protocol"].split()) <= {p.name for p in task.protocols}
        assert row["metric"] in (*METRICS, "f1")


def test_the_notes_belong_to_sources_that_are_there():
    with (FOLDER / "notes.csv").open() as file:
        assert {note["source"] for note in csv.DictReader(file)} <= {row["source"] for row in ROWS}


def test_the_three_tables_of_mt25_are_whole():
    claims = [c for c in read_claims("crisismmd", "mt25") if c["source"].startswith("Merkotan")]
    assert len(claims) == 3 * 8 * 3
    assert {c["ours"] for c in claims} == set(Registry().load("crisismmd", "task").TASK.protocols[0].suite[:8])
    best = {c["concept"]: float(c["value"]) for c in claims if (c["ours"], c["metric"]) == ("igfn+dmtl", "f1")}
    assert best == {"informative": 0.872, "humanitarian": 0.772, "damage": 0.923}


def test_claims_stand_beside_ours_of_the_same_method_and_metric():
    claims, gains = published_tables(collection())
    by_method = {row[1].text: dict(zip(claims.columns, (e.text for e in row), strict=True)) for row in claims.rows}
    assert by_method["igfn+dmtl"]["F1, averaging not stated: claimed"] == "0.872"
    assert by_method["igfn+dmtl"]["macro_f1: ours [95 %]"] == "0.700 [0.690, 0.710]"
    assert by_method["igfn+dmtl"]["hamming: claimed"] == "0.041"
    assert by_method["concat+moo"]["macro_f1: ours [95 %]"] == "–"
    assert not any(entry.best for row in claims.rows for entry in row)
    assert any("keeps tweets whole" in note for note in claims.notes)
    f1, hamming, _ = (dict(zip(gains.columns, (e.text for e in row), strict=True)) for row in gains.rows)
    noise = 1.96 * sqrt(0.872 * 0.128 / 3616 + 0.849 * 0.151 / 3616)
    assert (f1["gain"], f1["noise of its test set"], f1[""]) == ("+0.023", f"±{noise:.3f}", "exceeds it")
    assert f1["ours Δ [95 %]"] == "macro_f1 +0.100 [+0.090, +0.120]"
    assert hamming["claimed gain over the runner-up"] == "igfn+dmtl over igfn+equal"
    assert hamming["ours Δ [95 %]"] == "hamming -0.100 [-0.110, -0.080]"


def test_a_note_on_one_protocol_stays_there():
    (claims, _) = published_tables(collection("mt25-rows"))
    assert not any("keeps tweets whole" in note for note in claims.notes)


def test_agreed_has_its_own_claims_and_no_gain_is_made_up():
    (claims,) = published_tables(collection("agreed"))
    assert {"text CNN", "GPT-4o"} <= {row[1].text for row in claims.rows}


def test_claims_of_a_label_stand_beside_that_label():
    shown = collection("mr26", "mosei", concept="emotions")
    shown.records.append(record("hybrid", "f1", 0.4, "emotions") | {"label": "anger"})
    shown.records.append(record("hybrid", "macro_f1", 0.3, "emotions"))
    claims, _ = published_tables(shown)
    rows = [dict(zip(claims.columns, (entry.text for entry in row), strict=True)) for row in claims.rows]
    by_label = {row["label"]: row for row in rows if row["method"] == "hybrid"}
    assert len(by_label) == 8
    assert by_label["anger"]["F1, averaging not stated: claimed"] == "0.967"
    assert by_label["anger"]["f1: ours [95 %]"] == "0.400 [0.390, 0.410]"
    assert by_label["anger"]["macro_f1: ours [95 %]"] == by_label["sad"]["f1: ours [95 %]"] == "–"
    assert by_label["all"]["macro_f1: ours [95 %]"] == "0.300 [0.290, 0.310]"
    assert any("accuracy of several labels is not defined" in note for note in claims.notes)


@pytest.mark.parametrize(("changes", "said"), [
    ({"generated": True}, "no published number stands beside generated data"),
    ({"protocol": "event"}, "no published number is known for task crisismmd under protocol event"),
    ({"task": "digits", "protocol": "default"}, "no published number is known for task digits"),
    ({"task": "bdd100k", "protocol": "any"}, "38 are claimed under others or none, see docs/reproduction.md"),
    ({"warning": "PARTIAL: 7 of 955"}, "no published number stands beside a part of a test set"),
    ({"concept": "other"}, "no published number is known"),
])  # fmt: skip
def test_where_nothing_is_comparable_that_is_said(changes, said):
    with pytest.raises(NotComparableError, match=said):
        published_tables(collection(**changes))


@pytest.mark.parametrize("form", ["json", "csv"])
def test_records_hold_only_what_was_measured(form):
    with pytest.raises(UsageError, match="--published has no place in"):
        render(collection(), form, (), published=True)
