"""A user's mistakes: one line that says what was given, what was expected and what to do; nothing half-written."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

SAMPLE = ("run", "crisismmd")
DIGITS = ("run", "digits")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "expected one task"),
        (("run", "crisismm"), "did you mean crisismmd?"),
        ((*SAMPLE, "--protocol", "mt52"), "did you mean mt25?"),
        ((*SAMPLE, "--method", "igfnn+equal"), "did you mean igfn"),
        ((*SAMPLE, "--method", "igfn:dleta=1+equal"), "did you mean delta?"),
        ((*SAMPLE, "--method", "igfn:delta=3+equal"), "less than or equal to 1"),
        ((*SAMPLE, "--method", "igfn:0.3+equal"), "write name=value"),
        ((*SAMPLE, "--method", "concat+igfn"), "expected fusion+strategy"),
        ((*SAMPLE, "--method", "equal"), "expected fusion+strategy"),
        ((*SAMPLE, "--method", "only"), "needs a modality"),
        ((*SAMPLE, "--method", "only:txt"), "did you mean text?"),
        ((*SAMPLE, "--method", "zz*"), "matches no method"),
        ((*SAMPLE, "--method", ","), "names no method"),
        ((*SAMPLE, "--method", "tensor+equal", "--modalities", "text"), "at least 2 modalities"),
        ((*SAMPLE, "--modalities", "sound"), "unknown modality"),
        ((*SAMPLE, "--modalities", ","), "no modality was given"),
        ((*SAMPLE, "--concepts", "damages"), "did you mean damage?"),
        ((*SAMPLE, "--encoders", "text=tfidf"), "did you mean tfidf-svd?"),
        ((*SAMPLE, "--encoders", "text=tfidf-svd:dims=9"), "did you mean dim?"),
        ((*SAMPLE, "--encoders", "text=tfidf-svd:dim=0"), "greater than or equal to 1"),
        ((*SAMPLE, "--encoders", "text=hog-color"), "is for image"),
        ((*SAMPLE, "--encoders", "text"), "expected modality=encoder"),
        ((*SAMPLE, "--encoders", "sound=logmel"), "unknown modality"),
        ((*SAMPLE, "--encoders", "text=hf:no/such-model"), "HF_HUB_OFFLINE"),
        ((*SAMPLE, "--seeds", "0"), "at least one seed"),
        ((*SAMPLE, "--seeds", "1,1"), "each once"),
        ((*SAMPLE, "--seeds", "many"), "expected a number of seeds"),
        ((*SAMPLE, "--data", "nowhere"), "no such folder"),
        ((*SAMPLE, "--require-data"), "no data found"),
        ((*SAMPLE, "--labels", "texts"), "did you mean text?"),
        ((*SAMPLE, "--protocol", "official", "--labels", "union"), "does not exist under protocol official"),
        ((*SAMPLE, "--set", "training.epoch=1"), "did you mean training.epochs"),
        ((*SAMPLE, "--set", "training.epochs=few"), "valid integer"),
        ((*SAMPLE, "--set", "training.epochs"), "expected key=value"),
        ((*SAMPLE, "--set", "task.lables=text"), "did you mean labels?"),
        ((*SAMPLE, "--config", "mt26"), "did you mean mt25 or mr26?"),
        ((*SAMPLE, "--plugin", "nowhere.py"), "no such file"),
        ((*SAMPLE, "--plugin", "."), "it is a folder: name the file of the plug-in"),
        ((*SAMPLE, "--epochs", "0"), "--epochs"),
        ((*SAMPLE, "--jobs", "0"), "--jobs"),
        ((*SAMPLE, "--backend", "slum"), "unknown backend"),
        ((*SAMPLE, "--seed", "3"), "No such option"),
        ((*DIGITS, "--labels", "text"), "unknown option of task digits"),
        ((*DIGITS, "--caption-leak", "mask"), "unknown option of task digits"),
        (("report",), "no run under"),
        (("report", "nothing"), "is no run"),
        (("report", "--format", "pdf"), "unknown format"),
        (("list", "method"), "did you mean methods?"),
        (("info", "igfm"), "did you mean igfn"),
        (("raport",), "No such command"),
    ],
)
def test_one_clear_line_and_exit_2(mmbench, tmp_path, arguments, said):
    done = mmbench(*arguments)
    assert done.code == 2
    assert said in done.complaint
    assert not (tmp_path / "results").exists()


def test_an_empty_a_foreign_and_a_partial_data_folder(mmbench, tmp_path):
    for name in ("empty", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "foreign" / "photo.txt").touch()
    for name in ("empty", "foreign"):
        done = mmbench(*SAMPLE, "--data", name)
        assert done.code == 2
        assert "annotations/" in done.complaint
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written(mmbench, tmp_path):
    (tmp_path / "file").touch()
    done = mmbench(*DIGITS, "--method", "majority", "--out", "file/runs")
    assert done.code == 2
    assert "cannot write to" in done.complaint


def test_a_settings_file_with_an_unknown_key(mmbench, tmp_path):
    (tmp_path / "mmbench.toml").write_text("epochs = 3\n")
    done = mmbench(*DIGITS, "--method", "majority")
    assert done.code == 2
    assert "mmbench.toml" in done.complaint


def test_modalities_that_a_suite_cannot_use_are_left_out_with_a_line(mmbench):
    done = mmbench(*SAMPLE, "--method", "all", "--modalities", "text", "--seeds", "1", "--epochs", "1", "--no-energy")
    assert done.code == 0, done.err
    assert "left out tensor+equal" in done.err
    assert "left out only:image" in done.err
    assert "modalities=text" in done.out


def test_a_current_folder_that_was_removed(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd gone && rmdir ../gone && exec {shlex.quote(sys.executable)} -m mmbench list tasks"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "mmbench: the current folder cannot be opened, it may have been removed: go to another\n"


def test_a_terminal_that_has_no_letters_but_ascii(tmp_path):
    spoken = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "MMBENCH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mmbench", *DIGITS, "--method", "majority", "--seeds", "1", "--no-energy"]
    done = subprocess.run(command, cwd=tmp_path, env=spoken, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert rb"digits \xb7 protocol default" in done.stdout
