"""Sweeps chosen on validation, and the multi-task gain, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

QUICK = ("--seeds", "2", "--epochs", "2", "--no-energy")
SWEEP = "concat+dmtl:beta=0/2:alpha=1/0"
PLUGIN = """
NAME = "mine"
KIND = "fusion"
SUMMARY = "a fusion with a parameter that does something and one that does nothing"
from mmbench.modules import Fusion
class Mine(Fusion):
    def __init__(self, modalities, width, scale):
        super().__init__()
        self.out_features, self.scale = modalities * width, scale
    def forward(self, views, present):
        return views.flatten(1) * self.scale
def build(modalities, width, *, scale: float = 3.0, idle: bool = True): return Mine(modalities, width, scale)
"""


@pytest.fixture
def swept(mmbench, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    methods = "mine:scale=3/0.01/1+single,mine:idle=on/off,mine+tuned:trials=2,mine+dmtl,majority"
    done = mmbench("run", "digits", "--method", methods, "--plugin", "mine.py", *QUICK)
    assert done.code == 0, done.err
    return mmbench, done


def validation(tmp_path, method: str, concept: str) -> float:
    """The mean macro F1 on validation, by scikit-learn."""
    values = []
    for path in tmp_path.glob(f"results/runs/*/cells/joint/{method}/seed-*/predictions.npz"):
        with np.load(path) as stored:
            val = stored["split"] == "val"
            scores, truth = stored[f"scores/{concept}"][val], stored[f"targets/{concept}"][val]
        values.append(f1_score(truth, scores.argmax(1), average="macro", labels=range(scores.shape[1])))
    assert len(values) == 2
    return float(np.mean(values))


def test_the_value_that_is_best_on_validation_is_chosen(swept, tmp_path):
    mmbench, done = swept
    records = [
        r for r in json.loads(mmbench("report", "--format", "json", "--studies").out) if r.get("study") == "sweep"
    ]
    here = [r for r in records if r["parameter"] == "mine:scale"]
    concepts = ("digit", "parity", "at-least-five")
    assert [r["value"] for r in here if r["concept"] == "digit"] == [0.01, 1, 3]
    folders = {0.01: "mine%3Ascale=0.01+single", 1.0: "mine%3Ascale=1+single", 3.0: "mine+single"}
    on_val = {v: {c: validation(tmp_path, f, c) for c in concepts} for v, f in folders.items()}
    for r in here:
        assert r["validation"] == pytest.approx(on_val[r["value"]][r["concept"]])
    best = max(on_val, key=lambda v: np.mean(list(on_val[v].values())))
    assert {r["value"] for r in here if r["chosen"]} == {best}, "one choice for the whole problem"
    chosen = next(r for r in here if r["chosen"] and r["concept"] == "parity")
    assert chosen["delta"] is None and chosen["ci_low"] < chosen["mean"] < chosen["ci_high"]
    other = next(r for r in here if not r["chosen"] and r["concept"] == "parity")
    assert other["reference"] == chosen["method"] and other["delta"] == pytest.approx(other["mean"] - chosen["mean"])
    assert "sweep of mine scale" in done.out and "chosen on validation" in done.out
    table = done.out[done.out.index("parity · sweep of mine idle") :]
    assert "inert: the same predictions" in table.split("\n\n")[0]


def test_the_sweep_is_drawn_and_told_in_every_form(swept, tmp_path):
    mmbench, _ = swept
    forms = {form: mmbench("report", "--format", form).out for form in ("table", "markdown", "latex", "html")}
    assert all("sweep of mine scale" in text for text in forms.values())
    assert "At the chosen value" in forms["html"]
    mmbench("report", "--figures", "figures")
    assert list((tmp_path / "figures").rglob("sweep-mine-scale-parity.png"))


def test_the_gain_over_single_and_over_the_tuned_sum_stands_behind_the_comparison(swept):
    mmbench, done = swept
    gains = [r for r in json.loads(mmbench("report", "--format", "json", "--studies").out) if r.get("study") == "gain"]
    places = {(g["method"], g["over"], g["baseline"]) for g in gains}
    assert ("mine+dmtl", "single", "mine+single") in places
    assert ("mine+dmtl", "tuned", "mine+tuned:trials=2") in places
    assert not {m for m, *_ in places} & {"mine+single", "mine+tuned:trials=2", "majority", "mine:idle=off+equal"}
    records = json.loads(mmbench("report", "--format", "json").out)
    mean = {(r["method"], r["concept"]): r["mean"] for r in records if r["metric"] == "macro_f1" and r["label"] == ""}
    for g in gains:
        assert g["delta"] == pytest.approx(mean[g["method"], g["concept"]] - mean[g["baseline"], g["concept"]])
        assert g["delta_low"] <= g["delta"] <= g["delta_high"] and g["p_holm"] >= g["p_raw"]
    for text in (done.out, mmbench("report").out, mmbench("compare", "--reference", "majority").out):
        assert "parity · multi-task gain" in text
    assert "not in this run" not in done.out[done.out.index("parity · multi-task gain") :].split("\n\n")[0]


def test_several_parameters_are_shown_one_at_a_time_at_what_was_chosen(mmbench):
    done = mmbench("run", "digits", "--method", SWEEP, "--concepts", "parity", *QUICK)
    assert done.code == 0, done.err
    records = [
        r for r in json.loads(mmbench("report", "--format", "json", "--studies").out) if r.get("study") == "sweep"
    ]
    by_parameter = {p: [r for r in records if r["parameter"] == p] for p in ("dmtl:beta", "dmtl:alpha")}
    assert [len(found) for found in by_parameter.values()] == [2, 2]
    (chosen,) = {r["method"] for r in records if r["chosen"]}
    best = max((r["validation"] for r in records), default=0)
    assert next(r for r in records if r["method"] == chosen)["validation"] == best
    again = mmbench("run", "digits", "--method", "concat+dmtl:beta=0/2", "--concepts", "parity", *QUICK)
    assert "nothing to train" in again.err and "sweep of dmtl beta" in again.out
    assert "sweep of dmtl alpha" not in again.out and "sweep of dmtl alpha" in mmbench("report").out


def test_without_a_baseline_there_is_no_table_of_gains(mmbench):
    done = mmbench("run", "digits", "--method", "concat+dmtl,igfn+equal", "--concepts", "parity", *QUICK)
    assert "multi-task gain" not in done.out + mmbench("report", "--format", "html").out
