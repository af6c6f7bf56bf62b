"""``mmbench run`` from plan to table, on digits and on the generated sample."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

QUICK = ("--epochs", "2", "--no-energy")


def cells(folder: Path) -> dict[str, bytes]:
    """Every stored cell's predictions by its path below the run."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("*/cells/*/*/*/predictions.npz"))}


def test_a_run_trains_stores_and_shows_one_table_a_concept(mmbench, tmp_path):
    done = mmbench("run", "digits", "--method", "concat+equal,majority", "--seeds", "2", *QUICK)
    assert done.code == 0, done.err
    for concept in ("digit", "parity", "at-least-five"):
        assert f"{concept} · digits · protocol default" in done.out
    assert "n_train 1,07" in done.out
    assert "conditional on these seeds, 10,000 resamples; seeds: 2" in done.out
    (run,) = (tmp_path / "results" / "runs").iterdir()
    assert f"run folder: results/runs/{run.name}" in done.err
    assert done.err.count("\n  mmbench ") == 3
    info = json.loads((run / "run.json").read_text())
    assert info["config"]["training"]["epochs"] == 2
    assert info["versions"]["torch"]
    result = json.loads((run / "cells" / "joint" / "concat+equal" / "seed-1" / "result.json").read_text())
    assert result["status"] == "done"
    assert result["parameters"] > 0
    assert result["history"]["epochs"] == 2
    with np.load(run / "cells" / "joint" / "concat+equal" / "seed-1" / "predictions.npz", allow_pickle=False) as file:
        assert set(np.unique(file["split"])) == {"val", "test"}
        np.testing.assert_allclose(file["scores/digit"].sum(axis=1), 1)


def test_the_same_command_again_trains_nothing_and_one_more_seed_extends_the_run(mmbench, tmp_path):
    command = ("run", "digits", "--method", "concat+equal", "--seeds", "1", *QUICK)
    first = mmbench(*command)
    before = cells(tmp_path / "results" / "runs")
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("results/runs/*/cells/*/*/*/predictions.npz")}
    again = mmbench(*command)
    assert "nothing to train" in again.err
    assert again.out == first.out
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    more = mmbench("run", "digits", "--method", "concat+equal,majority", "--seeds", "2", *QUICK)
    assert "4 cells, 1 done, 3 to run" in more.err
    after = cells(tmp_path / "results" / "runs")
    assert before.items() < after.items()
    assert len(after) == 4


def test_jobs_order_and_folder_do_not_change_a_bit(mmbench, tmp_path):
    methods = ["concat+moo", "igfn+dmtl", "linear:left", "graph+single"]
    one = mmbench("run", "digits", "--method", ",".join(methods), "--seeds", "2", *QUICK, "--out", "one")
    backwards = ",".join(reversed(methods))
    two = mmbench("run", "digits", "--method", backwards, "--seeds", "1,0", "--jobs", "2", *QUICK, "--out", "two")
    assert (one.code, two.code) == (0, 0), two.err
    assert cells(tmp_path / "one") == cells(tmp_path / "two")
    assert len(cells(tmp_path / "one")) == 8


def test_other_training_settings_are_another_run_and_are_named_in_the_table(mmbench, tmp_path):
    mmbench("run", "digits", "--method", "majority", "--seeds", "1,", "--no-energy")
    other = mmbench(
        "run", "digits", "--method", "majority", "--seeds", "1,", "--no-energy", "--config", "mt25", "--split-seed", "3"
    )
    assert "split_seed=3" in other.out
    assert "learning_rate=0.01 (default 0.001)" in other.out
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2


def test_the_sample_calls_itself_generated_everywhere_and_gets_no_verdict(mmbench):
    done = mmbench("run", "--task", "crisismmd", "--method", "majority,igfn+dmtl", "--seeds", "1", *QUICK)
    assert done.code == 0, done.err
    assert "GENERATED DATA" in done.err
    assert done.out.count("CrisisMMD sample (generated)") == 3
    assert "ceiling:text+image" in done.out
    assert "--data FOLDER" in done.err
    for form in ("markdown", "latex", "table"):
        assert "CrisisMMD sample (generated)" in mmbench("report", "--format", form).out
    records = json.loads(mmbench("report", "--format", "json").out)
    assert all(record["generated"] and record["verdict"] is None for record in records)


def test_a_failing_method_is_recorded_and_the_others_go_on(mmbench, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        'NAME = "broken"\nKIND = "model"\nSUMMARY = "raises in fit"\n'
        "from mmbench.contracts import Model\n"
        "class Broken(Model):\n"
        "    n_parameters = 0\n"
        '    def fit(self, train, val, context): raise RuntimeError("it broke")\n'
        "    def predict(self, inputs): return {}\n"
        "def build(): return Broken()\n"
    )
    done = mmbench(
        "run", "digits", "--method", "broken,majority", "--seeds", "1", "--plugin", str(plugin), "--no-energy"
    )
    assert done.code == 1
    assert "failed: joint broken seed 0: it broke" in done.err
    assert "majority" in done.out
    record = json.loads(next(tmp_path.glob("results/runs/*/cells/joint/broken/seed-0/result.json")).read_text())
    assert record["status"] == "failed"
    assert "it broke" in record["error"]["traceback"]
    again = mmbench(
        "run", "digits", "--method", "broken,majority", "--seeds", "1", "--plugin", str(plugin), "--no-energy"
    )
    assert "2 cells, 1 done, 1 to run" in again.err


def test_where_every_cell_fails_they_are_named_and_other_tasks_go_on(mmbench, tmp_path):
    (tmp_path / "raises.py").write_text(
        'NAME = "raises"\nKIND = "model"\nSUMMARY = "cannot be built"\ndef build(): raise KeyError("x")\n'
    )
    command = ("run", "digits,synthetic", "--seeds", "1", *QUICK, "--plugin", "raises.py")
    done = mmbench(*command, "--method", "raises")
    assert done.code == 1 and not done.out
    assert done.err.count("\nfailed: joint raises seed 0: KeyError: 'x'") == 4  # as they come, and again at the end
    assert "mmbench compare digits-default-" in mmbench(*command, "--method", "raises,majority").err
    assert "--reference raises" not in mmbench(*command, "--method", "raises,majority").err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_keeps_finished_cells(tmp_path, cache, jobs):
    command = ["run", "digits", "--method", "majority,concat+mti", "--seeds", "3", "--jobs", jobs, "--no-energy"]
    with subprocess.Popen(
        [sys.executable, "-m", "mmbench", *command],
        cwd=tmp_path,
        env=os.environ | {"MMBENCH_CACHE": str(cache)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # in the background it may be ignored
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[3/6]"):
                break
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert "interrupted: finished cells are kept" in rest
    assert "Traceback" not in rest
    kept = list(tmp_path.glob("results/runs/*/cells/joint/majority/seed-*/result.json"))
    assert len(kept) == 3
    assert not list(tmp_path.glob("results/runs/*/cells/*/*/.seed*"))


def test_energy_is_measured_alone_and_absent_where_the_meter_is_shared(mmbench, tmp_path):
    command = ("run", "digits", "--method", "concat+equal", "--seeds", "1", "--epochs", "1")
    mmbench(*command, "--out", "alone")
    mmbench(*command, "--jobs", "2", "--out", "both")
    (alone,) = tmp_path.glob("alone/*/cells/joint/concat+equal/seed-0/result.json")
    (both,) = tmp_path.glob("both/*/cells/joint/concat+equal/seed-0/result.json")
    energy = json.loads(alone.read_text())["energy"]
    assert energy["wh"] > 0
    assert energy["source"] in ("rapl", "nvml", "estimate")
    assert json.loads(both.read_text())["energy"] is None


def test_a_plug_in_beside_the_marker_is_listed_and_runs_and_without_it_nothing_is_executed(mmbench, tmp_path):
    (tmp_path / "baselines").mkdir()
    plugin = tmp_path / "baselines" / "mine.py"
    plugin.write_text(
        'NAME = "mine"\nKIND = "fusion"\nSUMMARY = "the mean of the views"\n'
        "from pathlib import Path\n"
        'Path("executed").touch()\n'
        "from mmbench.modules import Fusion\n"
        "class Mine(Fusion):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.out_features = width\n"
        "    def forward(self, views, present):\n"
        "        return views.mean(1)\n"
        "def build(modalities, width): return Mine(width)\n"
    )
    assert "mine" not in mmbench("list", "methods").out
    assert mmbench("run", "digits", "--method", "mine+equal", "--seeds", "1").code == 2
    assert not (tmp_path / "executed").exists()
    (tmp_path / "mmbench.toml").touch()
    assert "the mean of the views" in mmbench("list", "methods").out
    assert not (tmp_path / "executed").exists()
    done = mmbench("run", "digits", "--method", "mine+equal", "--seeds", "1", *QUICK)
    assert done.code == 0, done.err
    assert (tmp_path / "executed").exists()
    plugin.write_text(plugin.read_text().replace("views.mean(1)", "views.sum(1)"))


def test_a_changed_plug_in_has_its_cells_run_again(mmbench, tmp_path):
    plugin = tmp_path / "constant.py"
    source = (
        'NAME = "constant"\nKIND = "model"\nSUMMARY = "one class"\n'
        "import numpy as np\nfrom mmbench.contracts import Model\n"
        "class Constant(Model):\n"
        "    n_parameters = 0\n"
        "    def fit(self, train, val, context):\n"
        "        self.sizes = {c.name: len(c.labels) for c in context.concepts}\n"
        "        return {}\n"
        "    def predict(self, inputs):\n"
        "        return {c: np.eye(k)[[0] * len(inputs)] for c, k in self.sizes.items()}\n"
        "def build(): return Constant()\n"
    )
    plugin.write_text(source)
    command = ("run", "digits", "--method", "constant", "--seeds", "1", "--no-energy", "--plugin", "constant.py")
    assert mmbench(*command).code == 0
    assert "nothing to train" in mmbench(*command).err
    plugin.write_text(source.replace("[0]", "[1]"))
    changed = subprocess.run(
        [sys.executable, "-m", "mmbench", *command], capture_output=True, text=True, env=os.environ, check=False
    )
    assert "its plug-in changed" in changed.stderr


DIES = """
import os
import signal
from mmbench.contracts import Model
NAME = "dies"
KIND = "model"
SUMMARY = "Kills its own process"
class Dies(Model):
    n_parameters = 0
    def fit(self, train, val, context):
        os.kill(os.getpid(), signal.SIGKILL) if context.seed else os._exit(3)
    def predict(self, inputs):
        return {}
def build():
    return Dies()
"""


def test_a_worker_that_dies_costs_its_own_cell_and_no_other(mmbench, tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    done = mmbench(
        "run", "digits", "--method", "dies,majority", "--seeds", "2", "--jobs", "2", "--plugin", "dies.py", *QUICK
    )
    assert done.code == 1
    statuses = {
        f"{p.parts[-3]} {p.parts[-2]}": json.loads(p.read_text())["status"]
        for p in tmp_path.glob("results/runs/*/cells/*/*/*/result.json")
    }
    assert statuses == {
        "dies seed-0": "failed",
        "dies seed-1": "oom",
        "majority seed-0": "done",
        "majority seed-1": "done",
    }
    assert "failed: joint dies seed 0: its process ended with exit code 3" in done.err
    assert "oom: joint dies seed 1: its process was killed" in done.err


TELLS = """
import os
from mmbench.contracts import Model
NAME = "tells"
KIND = "model"
SUMMARY = "says in its error what a variable holds"
class Tells(Model):
    n_parameters = 0
    def fit(self, train, val, context):
        raise RuntimeError("it holds " + os.environ["HELD"])
    def predict(self, inputs):
        return {}
def build():
    return Tells()
"""


def test_a_worker_has_the_variables_that_are_set_now(mmbench, tmp_path, monkeypatch):
    (tmp_path / "tells.py").write_text(TELLS)
    for value in ("one", "another"):
        monkeypatch.setenv("HELD", value)
        command = ("run", "digits", "--method", "tells", "--seeds", "2", "--jobs", "2", "--plugin", "tells.py", *QUICK)
        assert f"failed: joint tells seed 1: it holds {value}" in mmbench(*command).err
