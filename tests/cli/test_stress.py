"""``--stress``: curves from predictions on stressed inputs of models trained on clean ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmbench.evaluation.predictions import read_scores
from mmbench.evaluation.stressed import Scenario, read_stressed, stored_scenarios
from mmbench.running.store import Cell, RunFolder

TINY = ("--concepts", "parity", "--modalities", "left,middle", "--seeds", "2", "--epochs", "2", "--no-energy")
METHODS = "late+equal,majority,linear:left"
PLUGIN = """
NAME = "frail"
KIND = "model"
SUMMARY = "predicts the prior, and fails where a modality is missing"
import numpy as np
from mmbench.contracts import Model
class Frail(Model):
    def fit(self, train, val, context):
        self.concepts = context.concepts
        return {}
    def predict(self, inputs):
        if not all(p.all() for p in inputs.present.values()):
            raise RuntimeError("no left strip")
        return {c.name: np.full((len(inputs), len(c.labels)), 1 / len(c.labels)) for c in self.concepts}
    n_parameters = 0
def build(): return Frail()
"""


def folder_of(tmp_path) -> RunFolder:
    (path,) = (tmp_path / "results" / "runs").iterdir()
    return RunFolder(path)


def records_of(mmbench, **wanted) -> list[dict]:
    records = json.loads(mmbench("report", "--format", "json", "--studies").out)
    return [r for r in records if r.get("study") == "stress" and all(r[k] == v for k, v in wanted.items())]


@pytest.fixture
def stressed(mmbench, tmp_path):
    done = mmbench("run", "digits", "--method", METHODS, "--stress", "noise:1,missing,conflict:0.5", *TINY)
    assert done.code == 0, done.err
    return mmbench, done, folder_of(tmp_path)


def test_the_numbers_are_those_of_the_stored_predictions(stressed) -> None:
    mmbench, _, folder = stressed
    (record,) = records_of(mmbench, axis="missing", modality="middle", method="late+equal", level=0.25)
    scenario, found = Scenario("missing", "middle", 1.0), []
    for seed in (0, 1):
        cell = Cell("joint", "late+equal", seed)
        with np.load(folder.predictions_path(cell)) as file:
            test = file["split"] == "test"
            ids, clean, truth = file["id"][test], file["scores/parity"][test], file["targets/parity"][test]
        since, gone = read_stressed(folder.stress_path(cell), {scenario}, ids, "parity")[scenario]
        assert (since <= 0.25).sum() == len(ids) // 4
        mixed = np.where((since <= 0.25)[:, None], gone, clean)
        values = [f1_score(truth, scores.argmax(1), average="macro") for scores in (clean, mixed)]
        found.append(values)
    clean, mixed = np.mean(found, axis=0)
    assert record["mean"] == pytest.approx(mixed, abs=1e-12)
    assert record["delta"] == pytest.approx(mixed - clean, abs=1e-12) and record["reference"] == "clean"
    assert record["delta_low"] <= record["delta"] <= record["delta_high"]


def test_level_0_is_the_comparison_itself(stressed) -> None:
    mmbench, _, _ = stressed
    records = json.loads(mmbench("report", "--format", "json").out)
    compared = [r for r in records if (r["label"], r["metric"]) == ("", "macro_f1")]
    plain = {r["method"]: r for r in compared}
    clean = records_of(mmbench, level=0.0)
    assert len(clean) == 3 * 3 * 3, "a method, axis, and modality or all"
    for record in clean:
        whole = plain[record["method"]]
        assert all(record[k] == whole[k] for k in ("mean", "sd", "ci_low", "ci_high", "ci_kind", "n_seeds", "n_test"))
        assert record["delta"] is None


def test_what_looks_at_nothing_that_changes_stays_exactly_as_it_is(stressed) -> None:
    mmbench, _, folder = stressed
    for method, modality in (("majority", "all"), ("linear:left", "middle")):
        (found,) = records_of(mmbench, axis="noise", method=method, modality=modality, level=1.0)
        assert found["delta"] == found["delta_low"] == found["delta_high"] == 0
        cell = Cell("joint", method, 0)
        clean = read_scores(folder.predictions_path(cell))["parity"]
        with np.load(folder.predictions_path(cell)) as file:
            test = file["split"] == "test"
            ids = file["id"][test]
        scenario = Scenario("noise", modality, 1.0)
        assert np.array_equal(
            read_stressed(folder.stress_path(cell), {scenario}, ids, "parity")[scenario][1], clean[test]
        )
    (left,) = records_of(mmbench, axis="noise", method="linear:left", modality="left", level=1.0)
    assert left["delta_high"] < 0


def test_every_form_of_report_shows_it(stressed, tmp_path) -> None:
    mmbench, done, folder = stressed
    printed = done.out[done.out.index("parity · macro_f1 under noise") :]
    assert printed.count("macro_f1 under ") == 3
    assert "under missing modalities" in printed and "under conflicting modalities" in printed
    assert "Δ at 1 sd to clean" in printed and "50 %" in printed
    assert printed.strip() in mmbench("report").out
    page = mmbench("report", "--format", "html").out
    assert "--stress noise:1,missing:0.25/0.5/1,conflict:0.5" in page
    assert "under conflicting modalities at test time" in page
    for form in ("markdown", "latex"):
        assert "under conflicting modalities" in mmbench("report", "--format", form).out
    assert mmbench("report", "--figures", "figures").code == 0
    assert (tmp_path / "figures" / "stress-missing-parity.png").is_file()
    assert folder.info()["stress"] == {"noise": [1.0], "missing": [0.25, 0.5, 1.0], "conflict": [0.5]}


def test_it_names_no_other_run_and_adds_to_finished_cells_without_touching_them(mmbench, tmp_path) -> None:
    assert mmbench("run", "digits", "--method", METHODS, *TINY).code == 0
    folder = folder_of(tmp_path)
    before = {p: p.read_bytes() for p in folder.path.rglob("cells/*/*/*/*")}
    again = mmbench("run", "digits", "--method", METHODS, "--stress", "noise:1", *TINY)
    assert again.code == 0
    assert "6 finished cells without predictions under this stress: models are not stored" in again.err
    assert folder == folder_of(tmp_path), "one folder still"
    assert all(p.read_bytes() == content for p, content in before.items())
    added = {p.name for p in folder.path.rglob("cells/*/*/*/*")} - {p.name for p in before}
    assert added == {"stress.npz"}

    fresh = mmbench("run", "digits", "--method", METHODS, "--stress", "noise:1", "--out", "other", *TINY)
    assert fresh.code == 0
    for cell, _ in folder.results():
        other = RunFolder(next((tmp_path / "other").iterdir())).stress_path(cell)
        assert other.read_bytes() == folder.stress_path(cell).read_bytes(), "later or at once, the same bits"

    assert "nothing to train" in mmbench("run", "digits", "--method", METHODS, "--stress", "noise:1", *TINY).err
    more = mmbench("run", "digits", "--method", METHODS, "--stress", "noise:2,missing:0.5", *TINY)
    assert "6 finished cells" in more.err
    cell = Cell("joint", "majority", 1)
    assert {s.level for s in stored_scenarios(folder.stress_path(cell)) if s.axis == "noise"} == {1.0, 2.0}
    share = mmbench("run", "digits", "--method", METHODS, "--stress", "missing:0.1", *TINY)
    assert "nothing to train" in share.err, "another share is another cut of the same predictions"
    assert {r["level"] for r in records_of(mmbench, axis="missing")} == {0.0, 0.1, 0.5}


def test_a_cell_that_cannot_be_trained_to_the_same_bits_keeps_what_it_has(mmbench, tmp_path) -> None:
    assert mmbench("run", "digits", "--method", "linear:left", *TINY).code == 0
    folder = folder_of(tmp_path)
    cell = Cell("joint", "linear:left", 0)
    path = folder.predictions_path(cell)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["scores/parity"][0] = arrays["scores/parity"][0, ::-1]
    np.savez_compressed(path, **arrays)
    kept = path.read_bytes()
    done = mmbench("run", "digits", "--method", "linear:left", "--stress", "noise:1", *TINY)
    assert done.code == 1
    assert "no predictions under stress: joint linear:left seed 0: trained again for --stress, its clean" in done.err
    assert path.read_bytes() == kept and not folder.stress_path(cell).exists()
    renewed = mmbench("run", "digits", "--method", "linear:left", "--stress", "noise:1", "--force", *TINY)
    assert renewed.code == 0 and folder.stress_path(cell).is_file()
    assert mmbench("run", "digits", "--method", "linear:left", "--force", *TINY).code == 0
    assert folder.stress_path(cell).is_file(), "a cell that is renewed is stressed as it was"


def test_a_model_that_fails_under_stress_keeps_its_clean_result(mmbench, tmp_path) -> None:
    (tmp_path / "frail.py").write_text(PLUGIN)
    command = ("run", "digits", "--method", "frail,majority", "--plugin", "frail.py", *TINY)
    done = mmbench(*command, "--stress", "noise:1,missing")
    assert done.code == 1
    assert done.err.count("no predictions under stress: joint frail seed") == 2 and "no left strip" in done.err
    assert "Traceback" not in done.err
    folder = folder_of(tmp_path)
    assert folder.result(Cell("joint", "frail", 0))["status"] == "done"
    assert "without predictions under this noise: frail" in done.out
    noise = mmbench(*command, "--stress", "noise:1")
    assert noise.code == 0, noise.err
    report = mmbench("report").out
    assert "without predictions under this noise" not in report
    assert "without predictions under this missing: frail" in report


def test_foreign_predictions_are_named_as_not_stressed(stressed, tmp_path) -> None:
    mmbench, _, folder = stressed
    with np.load(folder.predictions_path(Cell("joint", "majority", 0))) as file:
        ids = file["id"][file["split"] == "test"]
    answers = [json.dumps({"id": str(sample), "parity": "even"}) for sample in ids]
    (tmp_path / "a.jsonl").write_text("\n".join(answers))
    scored = mmbench("score", "digits", "--predictions", "a.jsonl", "--name", "guess", "--run", folder.path.name)
    assert scored.code == 0, scored.err
    assert "without predictions under this noise: guess" in mmbench("report").out


def test_one_modality_has_no_other_to_name(mmbench) -> None:
    done = mmbench("run", "digits", *TINY, "--method", "linear:left", "--modalities", "left", "--stress", "noise:1")
    assert done.code == 0, done.err
    assert {r["modality"] for r in records_of(mmbench)} == {"left"}


def test_generated_data_gets_curves_and_no_comparison(mmbench) -> None:
    quick = ("--seeds", "1", "--epochs", "1", "--no-energy")
    done = mmbench("run", "synthetic", "--method", "linear:all,igfn+dmtl", "--stress", "missing:1", *quick)
    assert done.code == 0, done.err
    printed = done.out[done.out.index("under missing modalities") :]
    assert "GENERATED DATA" in printed and "to clean [95 %]" in printed
    assert "to igfn" not in printed and "ceiling:" not in printed.split("\n  ")[0]


@pytest.mark.parametrize(
    ("stress", "says"), [("noize", "unknown stress 'noize': did you mean noise?"), ("missing:2", "shares above 0")]
)
def test_a_stress_that_does_not_exist_is_one_line(mmbench, stress, says) -> None:
    done = mmbench("run", "digits", "--method", "majority", "--stress", stress, *TINY)
    assert done.code == 2 and says in done.complaint


def test_stress_that_was_asked_for_and_is_gone_is_said(stressed) -> None:
    mmbench, _, folder = stressed
    for path in folder.path.rglob("stress.npz"):
        path.unlink()
    shutil.rmtree(folder.cell_path(Cell("joint", "late+equal", 1)))
    done = mmbench("report", "--format", "html")
    assert done.code == 0
    assert "conflict: no method has predictions under it: give --stress again" in done.out
