"""``mmbench compare``: one run against a reference, several runs in one table, and what is refused."""

from __future__ import annotations

import json
import re
import shutil

import pytest

QUICK = ("--seeds", "2", "--no-energy")


@pytest.fixture
def runs(mmbench, tmp_path):
    """Two runs on digits that differ in their epochs: how to call mmbench, and their names."""
    for epochs in ("1", "2"):
        done = mmbench("run", "digits", "--method", "concat+equal,majority", "--epochs", epochs, *QUICK)
        assert done.code == 0, done.err
    found = sorted((tmp_path / "results" / "runs").iterdir(), key=lambda p: p.stat().st_mtime)
    return mmbench, [path.name for path in found]


def test_every_method_is_compared_with_the_reference(runs):
    mmbench, (first, _) = runs
    done = mmbench("compare", first, "--reference", "majority")
    assert done.code == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("concat+equal"))
    assert row.endswith("  better")
    assert "3 comparisons with majority on macro_f1" in done.out
    for title in ("digit", "parity", "at-least-five"):
        assert f"{title} · macro_f1 against majority · digits · protocol default" in done.out


def test_where_lower_is_better_the_order_and_the_verdict_follow(runs):
    mmbench, (first, _) = runs
    done = mmbench("compare", first, "--reference", "majority", "--metric", "hamming")
    table = done.out[: done.out.index("parity")]
    assert table.index("concat+equal") < table.index("majority  ")
    assert next(line for line in table.splitlines() if line.startswith("concat+equal")).endswith("  better")
    assert "compared on hamming; the protocol's primary metric is macro_f1" in done.out


def test_runs_that_differ_in_their_settings_stand_in_one_table_with_a_mark(runs):
    mmbench, (first, second) = runs
    done = mmbench("compare", first, second, "--reference", "concat+equal", "--margin", "0.5")
    assert done.code == 0, done.err
    mark = f"@{second[-8:]}"
    assert f"concat+equal{mark}" in done.out
    assert f"{mark}: training.epochs=2" in done.out
    assert "9 comparisons with concat+equal" in done.out
    back = mmbench("compare", second, first, "--reference", f"concat+equal@{first[-8:]}", "--format", "markdown")
    assert "### digit · macro_f1 against concat+equal@" in back.out


def test_a_copy_of_a_run_adds_nothing(runs, tmp_path):
    mmbench, (first, _) = runs
    shutil.copytree(tmp_path / "results" / "runs" / first, tmp_path / "copy" / first)
    alone = mmbench("compare", first, "--reference", "majority")
    both = mmbench("compare", first, str(tmp_path / "copy" / first), "--reference", "majority")
    assert both.code == 0, both.err
    assert both.out == alone.out


def test_what_cannot_be_compared_is_refused_with_the_reason(runs, tmp_path):
    mmbench, (first, second) = runs
    mmbench("run", "digits", "--method", "majority", "--split-seed", "1", *QUICK)
    other = max((tmp_path / "results" / "runs").iterdir(), key=lambda p: p.stat().st_mtime).name
    refused = mmbench("compare", first, other, "--reference", "majority")
    assert (refused.code, "its split seed is 1, not 0" in refused.complaint) == (3, True)
    mixed = mmbench("compare", first, other, "--reference", "majority", "--allow-mixed")
    assert mixed.code == 0
    row = next(line for line in mixed.out.splitlines() if line.startswith(f"majority@{other[-8:]}"))
    assert row.endswith("not tested: other rows than the reference")
    assert f"WARNING: {other}: split seed is 1, not 0" in mixed.out
    info = tmp_path / "results" / "runs" / second / "run.json"
    info.write_text(info.read_text().replace('"metric_version": 1', '"metric_version": 0'))
    refused = mmbench("compare", first, second, "--reference", "majority")
    assert refused.code == 3
    assert "its metric version is 0, not 1" in refused.complaint
    mixed = mmbench("compare", first, second, "--reference", "majority", "--allow-mixed")
    assert mixed.code == 0
    assert "WARNING:" in mixed.out and "metric version is 0, not 1" in mixed.out


def test_every_test_and_every_record_can_be_had(runs):
    mmbench, (first, _) = runs
    told = mmbench("compare", first, "--reference", "majority", "--tests").out
    tests = told[told.index("digit · tests of macro_f1 against majority") : told.index("parity · tests of")]
    assert re.search(r"concat\+equal +paired t .* 2 +seed +needs 10 seeds, has 2", tests)
    assert re.search(r"concat\+equal +bootstrap .* 95 % \[.*\] .* 359 +image +–", tests)
    assert "paired t: null: equal in expectation over seeds, on this test set" in tests
    records = json.loads(mmbench("compare", first, "--reference", "majority", "--format", "json").out)
    (record,) = (
        r
        for r in records
        if (r["method"], r["concept"], r["metric"], r["label"]) == ("concat+equal", "digit", "macro_f1", "")
    )
    assert record["reference"] == "majority"
    assert record["p_holm"] == pytest.approx(3 * record["p_raw"])


def test_mistakes_are_one_line(runs):
    mmbench, (first, _) = runs
    for arguments, said in (
        ((first,), "the proposed method igfn+dmtl is not in this run"),
        ((first, "--reference", "majorty"), "did you mean majority?"),
        ((first, "--metric", "makro"), "did you mean macro_f1"),
        (("nothing",), "'nothing' is no run"),
        ((first, "--margin", "-1"), "--margin"),
    ):
        done = mmbench("compare", *arguments)
        assert done.code == 2, arguments
        assert said in done.complaint
