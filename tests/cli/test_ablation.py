"""``--method ablation:…``: one table against the full model, from the run and from what it stored."""

from __future__ import annotations

import json
import re

import pytest

PLUGIN = """
NAME = "mine"
KIND = "fusion"
SUMMARY = "a fusion with two parts, one of which does nothing"
ABLATIONS = {"scaling": "scale=1", "idle part": "idle=off"}
from mmbench.modules import Fusion
class Mine(Fusion):
    def __init__(self, modalities, width, scale):
        super().__init__()
        self.out_features, self.scale = modalities * width, scale
    def forward(self, views, present):
        return views.flatten(1) * self.scale
def build(modalities, width, *, scale: float = 3.0, idle: bool = True): return Mine(modalities, width, scale)
"""
QUICK = ("--seeds", "2", "--epochs", "2", "--no-energy")


@pytest.fixture
def ablated(mmbench, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    done = mmbench("run", "digits", "--method", "majority,ablation:mine", "--plugin", "mine.py", *QUICK)
    assert done.code == 0, done.err
    return mmbench, done


def rows(text: str, title: str) -> dict[str, str]:
    """The rows of a printed table by their first two words or so."""
    table = text[text.index(title) :].split("\n  ")[0]
    return {re.split(r"  +", line)[0]: line for line in table.splitlines()[2:]}


def test_the_parts_stand_in_words_against_the_full_model(ablated):
    _, done = ablated
    found = rows(done.out, "parity · ablation of mine+equal · digits")
    assert list(found) == ["mine+equal", "without scaling", "without idle part"]
    assert "the full model" in found["mine+equal"]
    assert "inert: the same predictions" in found["without idle part"]
    assert "inert" not in found["without scaling"]
    assert done.out.count("ablation of mine+equal") == 3, "one table a concept"


def test_the_report_says_it_again_in_every_form(ablated, tmp_path):
    mmbench, done = ablated
    printed = done.out[done.out.index("digit · ablation of") :]
    assert printed.strip() in mmbench("report").out
    records = json.loads(mmbench("report", "--format", "json", "--studies").out)
    study = [r for r in records if r.get("study") == "ablation"]
    parity = {r["part"]: r for r in study if (r["concept"], r["metric"]) == ("parity", "macro_f1")}
    assert parity.keys() == {"", "scaling", "idle part"}
    assert parity["idle part"]["delta"] == 0 and parity["scaling"]["reference"] == "mine+equal"
    assert parity["scaling"]["delta_low"] < parity["scaling"]["delta"] < parity["scaling"]["delta_high"]
    plain = json.loads(mmbench("report", "--format", "json").out)
    assert len({frozenset(r) for r in plain}) == 1 and "study" not in plain[0]
    for form in ("markdown", "latex", "html"):
        assert "ablation of" in mmbench("report", "--format", form).out
    assert mmbench("report", "--format", "csv", "--studies").out.splitlines()[0].startswith("study,part,")
    assert "json or csv" in mmbench("report", "--studies").complaint
    mmbench("report", "--figures", "figures")
    assert (tmp_path / "figures" / "mine+equal" / "ablation-parity.png").is_file()


def test_an_ablation_of_cells_that_are_all_there_is_remembered(mmbench):
    methods = "igfn+dmtl,igfn:attention=off+dmtl,igfn:similarity=off+dmtl,igfn+dmtl:beta=0,igfn+dmtl:balance=off"
    mmbench("run", "digits", "--method", f"{methods},igfn+dmtl:rebalance=off", *QUICK)
    assert "ablation of" not in mmbench("report").out
    again = mmbench("run", "digits", "--method", "ablation:igfn+dmtl", *QUICK)
    assert "nothing to train" in again.err
    assert "without dynamic attention" in mmbench("report").out
    more = mmbench("run", "digits", "--method", "ablation:concat+dmtl", *QUICK)
    assert "ablation of igfn+dmtl" not in more.out, "a run shows what it was asked for"
    assert "ablation of igfn+dmtl" in mmbench("report").out and "ablation of concat+dmtl" in mmbench("report").out


def test_a_variant_at_other_seeds_is_not_compared(mmbench):
    mmbench("run", "digits", "--method", "ablation:concat+dmtl", *QUICK)
    more = mmbench("run", "digits", "--method", "concat+dmtl", "--seeds", "3", "--epochs", "2", "--no-energy")
    assert more.code == 0
    assert "not paired with the full model: other seeds" in mmbench("report").out


def test_what_has_no_parts_is_refused_in_one_line(mmbench):
    done = mmbench("run", "digits", "--method", "ablation:concat", *QUICK)
    assert done.code == 2
    assert "nothing can be switched off" in done.complaint


def test_info_names_the_parts(mmbench):
    assert "similarity weighting (similarity=off)" in mmbench("info", "igfn").out
