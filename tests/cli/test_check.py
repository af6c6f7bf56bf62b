"""``mmbench check`` as a user or a CI job types it: exit codes, outputs, and real regressions caught."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from mmbench.cli.app import main
from mmbench.evaluation.predictions import write_predictions
from mmbench.reporting import spreads
from mmbench.reporting.baseline import read_baseline
from mmbench.running.store import Cell, RunFolder

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "baselines"
N = 160
SPLIT = np.array(["val"] * 40 + ["test"] * 120, dtype=np.str_)
IDS = np.array([f"secret-{n}" for n in range(N)])
GROUPS = np.array([f"tweet-{n // 2}" for n in range(N)])
SORT = np.random.default_rng(1).integers(0, 3, N)
MANY = np.random.default_rng(2).integers(0, 2, (N, 2))
METHODS = {"good+equal": 0.9, "poor<&>|+equal": 0.7}


def info(**config) -> dict:
    sizes = {"n_train": 0, "n_val": 40, "n_test": 120, "n_groups": 60}
    return {
        "task": {
            "name": "toy", "title": "Toy (generated)", "licence": "none", "citation": "", "group": "tweet",
            "generated": True, "notes": [], "proposed": "x", "obtain": "",
        },
        "protocol": {
            "name": "plain", "summary": "", "citation": "", "split": "official", "primary_metric": "macro_f1",
            "warning": "", "suite": [],
        },
        "config": {
            "task": "toy", "protocol": "plain", "thresholds": "val", "options": {"labels": "union"}, "split_seed": 4,
            "modalities": ["text"], "concepts": ["sort", "many"], "encoders": {"text": "tfidf-svd"},
            "training": {"epochs": 3}, **config,
        },
        "overrides": [],
        "fingerprint": "f" * 64,
        "metric_version": 1,
        "features": {"text": "1" * 64},
        "concepts": [
            {"name": "sort", "labels": ["a", "b", "c"], "kind": "exclusive", "background": None},
            {"name": "many", "labels": ["x", "y"], "kind": "multilabel", "background": None},
        ],
        "problems": [{"name": "joint", "concepts": {"sort": sizes, "many": sizes}}],
        "unreadable_inputs": {},
        "versions": {"mmbench": "0.1.0", "torch": "2.13.0"},
        "git": {"commit": "c" * 40, "dirty": False},
        "machine": {"processor": "a processor"},
    }  # fmt: skip


def store(folder: Path, methods=METHODS, seeds=range(5), groups=GROUPS, changed=None, **result) -> RunFolder:
    """A run whose methods are right in about the given share of the rows."""
    run = RunFolder(folder)
    run.write_info(info() | (changed or {}))
    for number, (method, skill) in enumerate(methods.items()):
        for seed in seeds:
            rng = np.random.default_rng([number, seed])
            hit = rng.random(N) < skill
            sort = rng.random((N, 3)) * 0.1 + np.eye(3)[np.where(hit, SORT, (SORT + 1) % 3)]
            many = np.abs(np.where(rng.random((N, 2)) < skill, MANY, 1 - MANY) - 0.4 * rng.random((N, 2))).round(2)
            write = partial(
                write_predictions,
                ids=IDS,
                groups=groups,
                split=SPLIT,
                scores={"sort": sort, "many": many},
                targets={"sort": SORT, "many": MANY},
                mask={"sort": np.ones(N, bool), "many": np.arange(N) % 5 > 0},
            )
            cell = Cell("joint", method, seed)
            record = {"status": "done", "problem": "joint", "method": method, "seed": seed, "parameters": 1}
            record |= {"timings": {"fit_seconds": 2.0 + number, "predict_seconds": 0.1}}
            record |= {"energy": {"wh": 0.5, "source": "estimate"}, **result}
            run.write_cell(cell, record, write if record["status"] == "done" else None)
    return run


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    """Not in a GitHub job, and with quick tables after a run: the gate has its own replicates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_ACTIONS", raising=False)
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        patch.setattr(spreads, "REPLICATES", 50)
        patch.setattr(spreads, "RANKING_REPLICATES", 50)
        yield


@pytest.fixture
def check(mmbench, tmp_path):
    """Checks the run in ``run`` against ``base/b.json``, which was written of an equal run."""
    store(tmp_path / "run")
    call = partial(mmbench, "check", "run", "--against", "base/b.json")
    assert call("--update").code == 0
    return call


def edit(path: Path, change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_an_identical_run_passes_without_a_difference(check):
    done = check()
    assert done.code == 0
    rows = [line for line in done.out.splitlines() if re.match("good|poor", line)]
    assert len(rows) == 4
    assert all("+0.000 [" in row and "no alarm" in row for row in rows)
    assert "no regression (4 comparisons)" in done.out


def test_a_baseline_is_small_repeatable_and_holds_no_id_label_or_score(check, tmp_path):
    first = [(tmp_path / "base" / name).read_bytes() for name in ("b.json", "b.npz")]
    assert check("--update").code == 0
    assert first == [(tmp_path / "base" / name).read_bytes() for name in ("b.json", "b.npz")]
    assert sum(map(len, first)) < 10_000
    assert not any(b"secret" in content or b"tweet-" in content for content in first)
    with np.load(tmp_path / "base" / "b.npz", allow_pickle=False) as file:
        assert all(file[name].dtype == np.uint8 for name in file.files)
    record = json.loads(first[0])
    assert record["run"]["git"]["commit"] == "c" * 40
    assert [cell["seeds"] for cell in record["cells"]] == [[0, 1, 2, 3, 4]] * 4


@pytest.mark.parametrize("metric", ["macro_f1", "hamming", "map", "roc_auc", "accuracy"])
def test_values_are_those_of_the_report(check, mmbench, tmp_path, metric):
    assert check("--metric", metric, "--update").code == 0
    records = json.loads(mmbench("report", "run", "--format", "json").out)
    for cell in json.loads((tmp_path / "base" / "b.json").read_text())["cells"]:
        (found,) = (
            r for r in records
            if (r["concept"], r["method"], r["metric"], r["label"]) == (cell["concept"], cell["method"], metric, "")
        )  # fmt: skip
        assert np.mean(cell["values"]) == pytest.approx(found["mean"], abs=1e-15)
    assert check().code == 0


def test_other_seeds_of_unchanged_code_pass(check, tmp_path):
    shutil.rmtree(tmp_path / "run")
    store(tmp_path / "run", seeds=range(10, 16))
    done = check()
    assert done.code == 0
    assert "seeds, baseline and now: 5 and 6" in done.out


def test_a_drop_fails_and_is_named_in_every_output(check, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "run")
    store(tmp_path / "run", {"good+equal": 0.9, "poor<&>|+equal": 0.4}, seeds=range(5, 10))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    done = check("--github", "--junit", "j.xml", "--markdown", "m.md")
    assert done.code == 1
    assert done.err == ""
    assert done.out.count("REGRESSION") == 2  # a row and an annotation: "yes" everywhere keeps the F1 of many labels
    (error,) = (line for line in done.out.splitlines() if line.startswith("::error title="))
    assert error.startswith("::error title=mmbench%3A poor<&>|+equal on sort::REGRESSION: macro_f1 of poor")
    markdown = (tmp_path / "m.md").read_text()
    assert "1 regression in macro\\_f1" in markdown
    assert markdown.count("**REGRESSION**") == 1
    assert all(line.count(" | ") == 6 for line in markdown.splitlines() if line.startswith("| poor"))
    assert (tmp_path / "summary.md").read_text() == "before\n" + markdown
    root = check_junit(tmp_path / "j.xml")
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert [(case.get("classname"), case.get("name")) for case in failed] == [("toy.joint.sort", "poor<&>|+equal")]
    for text in (done.out, markdown, (tmp_path / "j.xml").read_text(), error):
        assert "Toy (generated)" in text


def check_junit(path: Path) -> ElementTree.Element:
    """The rules of the schema that Jenkins, GitLab and pytest share: allowed children, attributes, counts."""
    allowed = {
        "testsuites": ({"testsuite"}, {"name", "time", "tests", "failures", "disabled", "errors"}),
        "testsuite": ({"properties", "testcase", "system-out", "system-err"},
                      {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname",
                       "id", "package"}),
        "testcase": ({"skipped", "error", "failure", "system-out", "system-err"},
                     {"name", "classname", "assertions", "time", "status"}),
        "failure": (set(), {"type", "message"}), "error": (set(), {"type", "message"}), "system-out": (set(), set()),
    }  # fmt: skip
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    for element in root.iter():
        children, attributes = allowed[element.tag]
        assert {child.tag for child in element} <= children
        assert set(element.keys()) <= attributes
    for suite in root.iter("testsuite"):
        cases = list(suite.iter("testcase"))
        assert all(case.get("name") and case.get("classname") for case in cases)
        counts = [len(cases), *(sum(c.find(k) is not None for c in cases) for k in ("failure", "error"))]
        assert [int(suite.get(name, "")) for name in ("tests", "failures", "errors")] == counts
    return root


def test_an_improvement_is_reported_and_passes(check, tmp_path):
    shutil.rmtree(tmp_path / "run")
    store(tmp_path / "run", {"good+equal": 0.9, "poor<&>|+equal": 0.95}, seeds=range(5, 10))
    done = check("--github")
    assert done.code == 0
    assert "2 improved" in done.out
    assert done.out.count("::notice title=") == 2


def test_three_seeds_are_gated_conditional_on_these_seeds(check, tmp_path):
    shutil.rmtree(tmp_path / "run")
    store(tmp_path / "run", seeds=range(3))
    done = check()
    assert "conditional on these seeds" in done.out
    assert "Student" not in done.out


def test_methods_that_only_the_run_has_are_named_and_not_gated(check, tmp_path):
    store(tmp_path / "run", {"new+equal": 0.5})
    done = check()
    assert done.code == 0
    assert "not gated, since the baseline does not hold them: new+equal" in done.out


@pytest.mark.parametrize("lost", ["missing", "failed", "damaged"])
def test_a_missing_or_failed_cell_is_neither_a_pass_nor_a_regression(check, tmp_path, lost):
    if lost == "missing":
        shutil.rmtree(tmp_path / "run")
        store(tmp_path / "run", {"good+equal": 0.9})
    elif lost == "failed":
        store(tmp_path / "run", {"poor<&>|+equal": 0.7}, [3], status="oom", error={"message": "out of\nmemory"})
    else:
        next(tmp_path.glob("run/cells/joint/*/seed-3/predictions.npz")).write_bytes(b"PK")
    done = check("--junit", "j.xml", "--markdown", "m.md", "--github")
    assert done.code == 3
    errors = [c for c in check_junit(tmp_path / "j.xml").iter("testcase") if c.find("error") is not None]
    assert len(errors) == (1 if lost == "damaged" else 2)
    said = {"missing": "no such cell", "failed": "seed 3 oom: out of memory", "damaged": "is damaged"}[lost]
    assert said in done.out + done.err
    assert said in (tmp_path / "m.md").read_text()
    assert "REGRESSION" not in done.out
    assert "::error title=" in done.out


def other_rows(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run")
    store(tmp_path / "run", groups=np.roll(GROUPS, 1))


def changed(key: str, value) -> object:
    return lambda tmp: edit(tmp / "run" / "run.json", lambda r: r["config"].update({key: value}))


def in_baseline(change) -> object:
    return lambda tmp: edit(tmp / "base" / "b.json", change)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed("task", "other"), "task is toy there, other in the run"),
        (changed("protocol", "agreed"), "protocol is plain there, agreed in the run"),
        (changed("options", {"labels": "text"}), "options.labels is union there, text in the run"),
        (changed("encoders", {"text": "tfidf-svd:dim=9"}), "encoders.text is tfidf-svd there"),
        (changed("training", {"epochs": 9}), "training.epochs is 3 there, 9 in the run"),
        (changed("training", {"epochs": 3, "focus": 2}), "training.focus is absent there, 2 in the run"),
        (changed("split_seed", 5), "split_seed is 4 there"),
        (lambda tmp: edit(tmp / "run" / "run.json", lambda r: r.update(fingerprint="e" * 64)), "data fingerprint is"),
        (lambda tmp: edit(tmp / "run" / "run.json", lambda r: r["concepts"][0].update(labels=["b", "a", "c"])),
         "labels of sort"),
        (other_rows, "other ids, groups or labels"),
        (in_baseline(lambda r: r.update(metric_version=99)), "metric version 99"),
        (in_baseline(lambda r: r.update(schema_version=99)), "schema version 99"),
        (in_baseline(lambda r: r["cells"][0]["values"].__setitem__(0, 0.5)), "do not give its macro_f1"),
        (in_baseline(lambda r: r["cells"][0]["seeds"].pop()), "is damaged"),
        (in_baseline(lambda r: r.pop("cells")), "is damaged (KeyError"),
        (in_baseline(lambda r: r.update(cells=[])), "gates nothing"),
        (lambda tmp: (tmp / "base" / "b.json").write_text("{"), "is damaged (JSONDecodeError"),
        (lambda tmp: (tmp / "base" / "b.json").write_text("[]"), "is damaged (TypeError"),
        (lambda tmp: (tmp / "base" / "b.json").unlink(), "no baseline at base/b.json"),
        (lambda tmp: (tmp / "base" / "b.npz").unlink(), "is damaged (FileNotFoundError"),
        (lambda tmp: (tmp / "base" / "b.npz").write_bytes(b"PK"), "not the one it was written with"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_3_with_the_reason_in_one_line(check, tmp_path, damage, said):
    damage(tmp_path)
    done = check("--junit", "j.xml", "--markdown", "m.md", "--github")
    assert done.code == 3
    assert said in done.complaint
    assert "\n" not in done.err.strip()
    assert "::error title=mmbench%3A not comparable::" in done.out
    (case,) = check_junit(tmp_path / "j.xml").iter("testcase")
    assert said in case.find("error").get("message")
    assert "⚠️ mmbench: not comparable" in (tmp_path / "m.md").read_text()


def test_a_library_under_an_encoder_is_gated_but_another_checkpoint_is_not_comparable(check, tmp_path):
    edit(tmp_path / "run" / "run.json", lambda r: r.update(features={"text": "2" * 64}))
    done = check()
    assert done.code == 0
    assert "the encoder tfidf-svd, or a library under it, changed" in done.out
    for path in (tmp_path / "run" / "run.json", tmp_path / "base" / "b.json"):
        edit(path, lambda r: r.get("run", r)["config"].update(encoders={"text": "hf:folder"}))
    done = check()
    assert done.code == 3
    assert "checkpoint hf:folder" in done.complaint


def test_a_baseline_of_decisions_cannot_gate_a_ranking(check):
    assert check("--metric", "hamming").code == 0
    done = check("--metric", "map")
    assert done.code == 3
    assert "holds decisions only" in done.complaint


def test_no_baseline_is_made_of_a_run_with_a_failed_cell(check, tmp_path):
    before = (tmp_path / "base" / "b.json").read_bytes()
    store(tmp_path / "run", {"good+equal": 0.7}, [3], status="failed", error={"message": "no"})
    done = check("--update")
    assert done.code == 3
    assert "good+equal seed 3 failed" in done.complaint
    assert (tmp_path / "base" / "b.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check",), "expected a baseline"),
        (("check", "run"), "expected a baseline"),
        (("check", "nothing", "--against", "base/b.json"), "is no run"),
        (("check", "run", "--against", "base/b.npz"), "ends in .json"),
        (("check", "run", "--against", "base/b.json", "--metric", "macro_f2"), "did you mean macro_f1"),
        (("check", "run", "--against", "base/b.json", "--min-effect", "-1"), "--min-effect"),
        (("check", "run", "--against", "base/b.json", "--ratio", "speed"), "expected METRIC:METHOD/REFERENCE<=LIMIT"),
        (("check", "run", "--against", "base/b.json", "--junit", "no/such/j.xml"), "cannot write no/such/j.xml"),
        (("check", "run", "--against", "file/b.json", "--update"), "cannot write to file"),
    ],
)
def test_a_wrong_request_is_2(check, mmbench, tmp_path, arguments, said):
    (tmp_path / "file").touch()
    done = mmbench(*arguments)
    assert done.code == 2
    assert said in done.complaint


def test_ratios_of_cost_are_gated_and_an_estimate_of_energy_is_not_measurable(check, tmp_path):
    ratio = "train_seconds:poor<&>|+equal/good+equal<="
    assert check("--ratio", f"{ratio}1.6").code == 0
    done = check("--ratio", f"{ratio}1.4", "--github", "--junit", "j.xml")
    assert done.code == 1
    assert "1 ratio above the limit" in done.out
    assert "1.5, limit 1.4: ABOVE THE LIMIT" in done.out
    assert [c.get("classname") for c in check_junit(tmp_path / "j.xml").iter("testcase")][-1] == "toy.ratio"
    done = check("--ratio", f"energy_wh:{ratio.partition(':')[2]}9")
    assert done.code == 3
    assert "is estimate, not from a meter" in done.out


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*.json")), ids=lambda path: path.name)
def test_committed_baselines_are_whole_small_and_generated(path):
    record = read_baseline(path).record
    assert record["run"]["task"]["title"].endswith("(generated)")
    assert record["metric"] == "macro_f1"
    assert min(len(cell["seeds"]) for cell in record["cells"]) >= 5
    assert path.stat().st_size + path.with_suffix(".npz").stat().st_size < 100_000


def test_there_is_a_committed_baseline():
    assert (COMMITTED / "crisismmd-sample.json").is_file()


# Real training on the digits with plug-ins that break one thing each.

TRAIN = ("run", "digits", "--method", "concat+equal", "--epochs", "4", "--no-energy")
HEAD = """
from mmbench.modules import {base}
NAME = "{name}"
KIND = "{kind}"
SUMMARY = "{name}, broken"
"""
BROKEN_LOSS = (
    HEAD.format(base="Strategy", name="equal", kind="strategy")
    + """
class Broken(Strategy):
    def combine(self, losses, active, gramian):
        return losses[0]
def build(objectives):
    return Broken()
"""
)
SWAPPED_LABELS = (
    HEAD.format(base="LinearHeads, Strategy", name="equal", kind="strategy")
    + """
class Swapped(LinearHeads):
    def forward(self, z):
        (logits,) = super().forward(z)
        return [logits if self.training else {name: value.roll(1, -1) for name, value in logits.items()}]
class Broken(Strategy):
    def combine(self, losses, active, gramian):
        return losses.sum()
    def heads(self, width, concepts):
        return Swapped(width, concepts)
def build(objectives):
    return Broken()
"""
)
DROPPED_MODALITY = (
    HEAD.format(base="Fusion", name="concat", kind="fusion")
    + """
import torch
class Broken(Fusion):
    def __init__(self, modalities, width):
        super().__init__()
        self.out_features = modalities * width
    def forward(self, views, present):
        return torch.cat([views[:, :1] * 0, views[:, 1:]], dim=1).flatten(1)
def build(modalities, width):
    return Broken(modalities, width)
"""
)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of five seeds of the shipped code."""
    folder = tmp_path_factory.mktemp("baseline")
    for command in (
        (*TRAIN, "--seeds", "5", "--out", str(folder / "runs")),
        ("check", "--against", str(folder / "digits.json"), "--update", "--out", str(folder / "runs")),
    ):
        with pytest.raises(SystemExit) as ended:
            main(list(command))
        assert not ended.value.code
    return folder / "digits.json"


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        (BROKEN_LOSS, ["at-least-five", "parity"]),
        (SWAPPED_LABELS, ["at-least-five", "digit", "parity"]),
        (DROPPED_MODALITY, ["at-least-five", "digit", "parity"]),
    ],
    ids=["a broken loss", "swapped labels", "a dropped modality"],
)
def test_a_seeded_regression_is_caught(mmbench, tmp_path, baseline, source, caught):
    (tmp_path / "broken.py").write_text(source)
    assert mmbench(*TRAIN, "--seeds", "5", "--plugin", "broken.py").code == 0
    done = mmbench("check", "--against", str(baseline), "--github")
    assert done.code == 1
    assert sorted(re.findall(r"::error title=mmbench%3A concat\+equal on (\S+)::", done.out)) == caught


def test_a_rerun_of_unchanged_code_with_other_seeds_passes(mmbench, baseline):
    assert mmbench(*TRAIN, "--seeds", "5,6,7,8,9").code == 0
    done = mmbench("check", "--against", str(baseline))
    assert done.code == 0
    assert "no regression (3 comparisons)" in done.out
