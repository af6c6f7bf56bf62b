"""``mmbench report``, ``list`` and ``info``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

# fmt: off
FIELDS = [
    "task", "protocol", "problem", "concept", "label", "method", "metric", "mean", "sd", "ci_low", "ci_high",
    "ci_kind", "n_seeds", "n_train", "n_test", "n_groups", "n_labels_used", "reference", "delta", "delta_low",
    "delta_high", "p_raw", "p_holm", "family", "verdict", "mde", "unit", "tests", "parameters",
    "train_seconds", "energy_wh", "energy_source", "generated", "labels", "split", "encoders", "overrides",
]
# fmt: on


COMMAND = ("run", "digits", "--method", "igfn+dmtl,majority", "--seeds", "2", "--epochs", "1", "--no-energy")


@pytest.fixture
def run(mmbench):
    done = mmbench(*COMMAND)
    assert done.code == 0, done.err
    return mmbench


@pytest.mark.parametrize("verb", [("report",), ("report", "--format", "html"), ("compare",), COMMAND])
def test_what_reads_stored_predictions_and_trains_nothing_takes_no_torch_along(run, verb, tmp_path):
    code = (
        "import sys; from mmbench.cli.app import main\n"
        f"try: main({list(verb)})\n"
        "except SystemExit as ended: sys.exit(ended.code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_json_is_the_list_of_records(run):
    records = json.loads(run("report", "--format", "json").out)
    assert all(list(record) == FIELDS for record in records)
    found = {(r["concept"], r["label"], r["method"], r["metric"]): r for r in records}
    assert len(found) == len(records)
    record = found["digit", "", "majority", "macro_f1"]
    assert record["reference"] == "igfn+dmtl"
    assert record["delta_low"] <= record["delta"] <= record["delta_high"]
    assert record["p_raw"] <= record["p_holm"]
    assert record["ci_low"] <= record["mean"] <= record["ci_high"]
    assert "conditional on these seeds" in record["ci_kind"]
    assert found["digit", "7", "majority", "support"]["mean"] > 0


def test_csv_has_the_same_rows(run):
    records = json.loads(run("report", "--format", "json").out)
    rows = list(csv.DictReader(io.StringIO(run("report", "--format", "csv").out)))
    assert len(rows) == len(records)
    assert [row["method"] for row in rows] == [record["method"] for record in records]
    assert float(rows[0]["mean"]) == records[0]["mean"]


def test_markdown_and_latex_hold_every_method(run, tmp_path):
    markdown = run("report", "--format", "markdown", "--metrics", "micro_f1").out
    assert "| igfn+dmtl" in markdown
    assert "micro_f1" in markdown
    assert "hamming" not in markdown
    assert run("report", "--format", "latex", "--output", "table.tex").code == 0
    latex = (tmp_path / "table.tex").read_text()
    assert latex.count(r"\toprule") == 3
    assert r"macro\_f1" in latex
    assert r"\underline{" in latex


def test_report_needs_a_place_it_can_write(run):
    assert "cannot write" in run("report", "--format", "csv", "--output", "no/such/place.csv").complaint


def test_unknown_metric(run):
    assert "did you mean macro_f1" in run("report", "--metrics", "macro-f1").complaint


def test_list(run):
    methods = run("list", "methods").out
    for name in ("concat", "igfn", "dmtl", "majority", "ВГМЗ"):
        assert name in methods
    assert "crisismmd" in run("list", "tasks").out
    assert "tfidf-svd" in run("list", "encoders").out
    assert "macro_f1" in run("list", "metrics").out
    assert "4 cells" in run("list", "runs").out


def test_info(mmbench):
    task = mmbench("info", "crisismmd").out
    for word in ("mt25 (default)", "mt25-rows", "WARNING", "joint-official", "CC BY-NC-SA", "missing_images"):
        assert word in task
    method = mmbench("info", "igfn").out
    assert "delta (float): default 0.5" in method
    assert "unordered|ordered" in method


def test_help_and_version(mmbench):
    assert mmbench("--version").out.startswith("mmbench ")
    assert "run" in mmbench("--help").out
    assert "--missing-images" in mmbench("run", "--help").out


def test_info_of_a_method_shows_its_parts_and_of_an_encoder_its_parameters(mmbench):
    both = mmbench("info", "igfn:delta=0.1+dmtl").out
    assert "igfn (fusion)" in both and "dmtl (strategy)" in both and "beta (float): default 2" in both
    encoder = mmbench("info", "hf").out
    assert "pool (auto|mean|cls|max|pooler|none): default auto" in encoder and "hf:<name or folder>" in encoder
    assert "tfidf-svd (encoder of text)" in mmbench("info", "tfidf-svd").out
    assert "higher is better" in mmbench("info", "macro_f1").out
    for wrong in ("igfn+dmtll", "tfidf-sdv", "+", ""):
        assert mmbench("info", wrong).code == 2


def test_a_broken_file_of_the_users_stops_no_listing_and_no_run(mmbench, tmp_path):
    (tmp_path / "mmbench.toml").touch()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "broken.py").write_text("def (:\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "broken.toml").write_text("x = [\n")
    for what, known in (("tasks", "digits"), ("methods", "concat")):
        listed = mmbench("list", what)
        assert listed.code == 0 and known in listed.out
        assert listed.err.count("left out: ") == 2 and "broken.py" in listed.err and "broken.toml" in listed.err
    done = mmbench("run", "digits", "--method", "majority", "--seeds", "1", "--no-energy")
    assert done.code == 0 and "broken.py" in done.err
    assert "broken.py" in mmbench("run", "digits", "--method", "broken+equal").complaint
    assert mmbench("data", "status").code == 0
