"""``--train-fraction``: a run a share of the training rows, joined into learning curves."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmbench.running.store import Cell, RunFolder

TINY = ("--concepts", "parity", "--modalities", "left,middle", "--seeds", "2", "--epochs", "2", "--no-energy")
METHODS = ("--method", "majority,linear:left")


def folders_of(tmp_path) -> dict[float, RunFolder]:
    runs = [RunFolder(path) for path in (tmp_path / "results" / "runs").iterdir()]
    return {run.info()["config"].get("train_fraction", 1.0): run for run in runs}


@pytest.fixture
def curve(mmbench, tmp_path):
    done = mmbench("run", "digits", *METHODS, "--train-fraction", "1,0.1,0.3", *TINY)
    assert done.code == 0, done.err
    return mmbench, done, folders_of(tmp_path)


def scores(folder: RunFolder, method: str) -> dict[str, np.ndarray]:
    with np.load(folder.predictions_path(Cell("joint", method, 0))) as file:
        return {name: file[name] for name in file.files}


def test_a_share_is_a_run_of_its_own_with_the_same_validation_and_test_rows(curve, mmbench, tmp_path) -> None:
    _, done, folders = curve
    assert sorted(folders) == [0.1, 0.3, 1.0] and len({f.path for f in folders.values()}) == 3
    assert "train_fraction=0.1;" in done.err
    sizes = {share: run.info()["problems"][0]["concepts"]["parity"] for share, run in folders.items()}
    assert {share: size["n_train"] for share, size in sizes.items()} == {0.1: 108, 0.3: 323, 1.0: 1078}
    for name in ("id", "split", "targets/parity"):
        stored = [scores(run, "majority")[name] for run in folders.values()]
        assert all(np.array_equal(stored[0], other) for other in stored[1:])
    assert mmbench("run", "digits", *METHODS, *TINY).err.count("nothing to train") == 1, "the whole is the usual run"
    assert len(folders_of(tmp_path)) == 3
    assert "train_fraction" not in folders[1.0].info()["config"]


def test_the_numbers_are_those_of_the_stored_predictions(curve) -> None:
    mmbench, _, folders = curve
    records = json.loads(mmbench("report", "--format", "json", "--studies").out)
    found = {r["train_fraction"]: r for r in records if r.get("study") == "learning" and r["method"] == "linear:left"}
    values = {}
    for share, run in folders.items():
        arrays = scores(run, "linear:left")
        test = arrays["split"] == "test"
        said = arrays["scores/parity"][test].argmax(1)
        values[share] = f1_score(arrays["targets/parity"][test], said, average="macro")
    for share, record in found.items():
        assert record["mean"] == pytest.approx(values[share], abs=1e-12)
        assert record["reference"] == "train_fraction=1"
        assert record["n_train"] == {0.1: 108, 0.3: 323, 1.0: 1078}[share]
    assert found[0.1]["delta"] == pytest.approx(values[0.1] - values[1.0], abs=1e-12)
    assert found[0.1]["delta_low"] < found[0.1]["delta"] < found[0.1]["delta_high"]
    assert found[1.0]["delta"] is None
    assert all("train_fraction" not in r for r in json.loads(mmbench("report", "--format", "json").out))


def test_every_run_of_the_curve_reports_it_in_every_form(curve, tmp_path) -> None:
    mmbench, done, folders = curve
    printed = done.out.strip()
    assert "parity · macro_f1 by training rows" in printed and "Δ to 100 %" in printed
    for run in folders.values():
        assert printed in mmbench("report", run.path.name).out
    page = mmbench("report", folders[0.3].path.name, "--format", "html").out
    assert "against the number of training rows" in page and "--train-fraction 0.3" in page
    assert mmbench("report", "--figures", "figures").code == 0
    assert (tmp_path / "figures" / "learning-parity.png").is_file()


def test_a_run_of_other_settings_does_not_join(curve) -> None:
    mmbench, _, _ = curve
    other = [*TINY, "--train-fraction", "0.5", "--set", "learning_rate=0.01"]
    assert mmbench("run", "digits", *METHODS, *other).code == 0
    assert "by training rows" not in mmbench("report").out
    assert mmbench("run", "digits", *METHODS, *TINY, "--train-fraction", "0.5").code == 0
    assert re.search(r"linear:left +50 % +539 ", mmbench("report").out)


def test_what_was_trained_on_less_is_not_compared_with_the_whole(curve) -> None:
    mmbench, _, folders = curve
    done = mmbench("compare", folders[1.0].path.name, folders[0.1].path.name, "--reference", "majority")
    assert done.code == 3


def test_predictions_are_scored_into_the_run_of_their_share(curve, tmp_path) -> None:
    mmbench, _, folders = curve
    arrays = scores(folders[0.3], "majority")
    ids = arrays["id"][arrays["split"] == "test"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"id": str(i), "parity": "even"}) for i in ids))
    run = folders[0.3].path.name
    scored = mmbench("score", "digits", "--predictions", "a.jsonl", "--name", "guess", "--run", run)
    assert scored.code == 0, scored.err
    assert (folders[0.3].path / "cells" / "joint" / "guess").is_dir()


def test_stress_and_shares_go_together(mmbench, tmp_path) -> None:
    command = ("run", "digits", *METHODS, "--train-fraction", "0.2,0.5", "--stress", "missing:1", *TINY)
    assert mmbench(*command).code == 0
    assert all(list(run.path.rglob("stress.npz")) for run in folders_of(tmp_path).values())
    report = mmbench("report").out
    assert "under missing modalities" in report and "by training rows" in report and "Δ to 50 %" in report


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--train-fraction", "0"), "--train-fraction 0: expected shares above 0"),
        (("--train-fraction", "0.1,1.5"), "expected shares above 0 and at most 1"),
        (("--train-fraction", "0.5,0.5"), "expected each share once"),
        (("--train-fraction", "0.001,1"), "hold no row with digit"),
        (("--train-fraction", "0.1,1", "--resplit"), "expected one share with --resplit"),
    ],
)
def test_a_share_that_cannot_be_is_one_line(mmbench, flags, says) -> None:
    done = mmbench("run", "digits", *METHODS, *flags, "--no-energy")
    assert done.code == 2 and says in done.complaint
