"""A run on disk: whole cells or none, names that are safe, damage in one line, runs found as a user names them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmbench.errors import MmbenchError, UsageError
from mmbench.running import store
from mmbench.running.store import KEYS, Cell, RunFolder, find_run, folder_name, write_atomically

CELL = Cell("joint", "igfn:delta=0.1+dmtl", 3)


INCOMPLETE = '{"status": "done", "problem": "p", "method": "m", "seed": 0, "parameters": 1, "energy": 3}'


def record(cell: Cell = CELL, **more) -> dict:
    place = {"problem": cell.problem, "method": cell.method, "seed": cell.seed}
    return {"status": "done", **place, "timings": {}, "parameters": None, "energy": None, **more}


def whole_info() -> dict:
    """A ``run.json`` with all that every one holds, and nothing in it."""
    parts = {part: dict.fromkeys(keys, "") for part, keys in KEYS.items()}
    return {**parts.pop(""), **parts, "concepts": [], "problems": []}


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_cell_comes_back(folder):
    assert folder.result(CELL) is None
    assert not folder.is_done(CELL)
    folder.write_cell(CELL, record(note="größer ≥"), lambda path: path.write_bytes(b"scores"))
    assert folder.result(CELL)["note"] == "größer ≥"
    assert folder.result(CELL)["schema_version"] == store.SCHEMA_VERSION
    assert folder.predictions_path(CELL).read_bytes() == b"scores"
    assert folder.is_done(CELL)
    assert [cell for cell, _ in folder.results()] == [CELL]


def test_a_failed_cell_is_recorded_and_not_done(folder):
    folder.write_cell(CELL, record(status="failed", error={"message": "no"}))
    assert not folder.is_done(CELL)
    assert len(list(folder.results())) == 1
    folder.write_cell(CELL, record(), lambda path: path.write_bytes(b"scores"))
    assert folder.is_done(CELL)
    assert files_below(folder.path) == [
        str(folder.cell_path(CELL).relative_to(folder.path) / name) for name in ("predictions.npz", "result.json")
    ]


def test_a_cell_without_its_predictions_is_not_done(folder):
    folder.write_cell(CELL, record(), lambda path: path.write_bytes(b"scores"))
    folder.predictions_path(CELL).unlink()
    assert not folder.is_done(CELL)


class Crash(BaseException):
    pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Crash])
def test_a_crash_while_writing_leaves_no_cell_and_no_litter(folder, error):
    def crash(path):
        path.write_bytes(b"half")
        raise error("stopped")

    with pytest.raises(error):
        folder.write_cell(CELL, record(), crash)
    assert list(folder.results()) == []
    assert files_below(folder.path) == []


def test_a_process_that_dies_while_writing_leaves_no_cell(folder):
    child = os.fork()
    if child == 0:
        folder.write_cell(CELL, record(), lambda path: (path.write_bytes(b"half"), os._exit(9)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert files_below(folder.path)  # its hidden folder is still there
    assert list(folder.results()) == []
    assert folder.result(CELL) is None
    folder.write_cell(CELL, record(), lambda path: path.write_bytes(b"scores"))
    assert [cell for cell, _ in folder.results()] == [CELL]


def test_a_crash_while_replacing_keeps_the_finished_cell(folder, monkeypatch):
    folder.write_cell(CELL, record(note="old"), lambda path: path.write_bytes(b"old"))
    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".seed-3.") and Path(target) == folder.cell_path(CELL):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UsageError, match="No space left"):
        folder.write_cell(CELL, record(note="new"), lambda path: path.write_bytes(b"new"))
    assert folder.result(CELL)["note"] == "old"
    assert folder.predictions_path(CELL).read_bytes() == b"old"


def test_what_is_not_json_is_refused_before_anything_stands(folder):
    with pytest.raises(ValueError, match="JSON"):
        folder.write_cell(CELL, record(value=float("nan")))
    assert files_below(folder.path) == []


@pytest.mark.parametrize(
    "method", ["a/b", "../../etc", "hf:a b", "C:\\x", "only:text,image", "50%", "é", "*", "~", "a?b", "concat+equal"]
)
def test_names_become_one_folder_each_and_come_back(folder, method):
    name = folder_name(method)
    assert not set(name) & set('/\\:*?"<>| %' if "%" not in name else '/\\:*?"<>| ')
    cell = Cell("pro/blem", method, 0)
    folder.write_cell(cell, record(cell))
    assert folder.cell_path(cell).resolve().is_relative_to(folder.path.resolve() / "cells")
    assert [found for found, _ in folder.results()] == [cell]


def test_different_names_are_different_folders():
    names = ["a/b", "a%2Fb", "a:b", "a b", "a_b", "a+b", "a,b", "a=b", "a-b", "a.b", "ab"]
    assert len({folder_name(name) for name in names}) == len(names)
    assert folder_name("igfn+dmtl") == "igfn+dmtl"


def test_results_are_sorted_by_problem_method_and_seed_as_a_number(folder):
    cells = [Cell(p, m, s) for p in ("b", "a") for m in ("y", "x") for s in (10, 9, 0)]
    for cell in cells:
        folder.write_cell(cell, record(cell))
    assert [cell for cell, _ in folder.results()] == sorted(cells)
    assert [cell.seed for cell, _ in folder.siblings(Cell("a", "x", 9))] == [0, 10]


@pytest.mark.parametrize(
    "text", ["", "{", "\x00\x01", "[]", "null", "3", "{}", '{"status": "done"}', INCOMPLETE, "\udcff"]
)
def test_a_damaged_result_is_one_line_that_says_what_to_do(folder, text):
    folder.write_cell(CELL, record(), lambda path: path.write_bytes(b"scores"))
    path = folder.cell_path(CELL) / "result.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for ask in (lambda: folder.result(CELL), lambda: folder.is_done(CELL), lambda: list(folder.results())):
        with pytest.raises(MmbenchError, match=r"result\.json is damaged.*delete its folder") as caught:
            ask()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": 99}', "\udcff"])
def test_a_damaged_or_foreign_run_file_is_a_usage_error(folder, text):
    folder.path.mkdir()
    (folder.path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"run\.json"):
        folder.info()


def test_a_folder_that_is_not_a_run(folder):
    with pytest.raises(UsageError, match="is not a run"):
        folder.info()


def test_run_file_comes_back_and_is_replaced_whole(folder, monkeypatch):
    folder.write_info({"task": "größer"})
    folder.write_info({"task": "second"})
    assert folder.info() == {"schema_version": store.SCHEMA_VERSION, "task": "second"}
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UsageError, match="No space left on device"):
        folder.write_info({"task": "third"})
    assert folder.info()["task"] == "second"
    assert files_below(folder.path) == ["run.json"]


def test_text_is_utf8_whatever_the_locale():
    """``-X warn_default_encoding`` finds an open() that leaves the encoding to the locale."""
    code = (
        "import tempfile, pathlib; from mmbench.running.store import Cell, RunFolder; "
        "f = RunFolder(pathlib.Path(tempfile.mkdtemp())); c = Cell('p', 'm', 0); f.write_info({}); f.info(); "
        f"f.write_cell(c, {record(Cell('p', 'm', 0))}); f.result(c)"
    )
    flags = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="cannot write to"):
        folder.write_cell(CELL, record())
    with pytest.raises(UsageError, match="choose another with --out"):
        folder.write_info({})


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_a_usage_error(folder):
    folder.write_info({})
    folder.path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            folder.write_cell(CELL, record())
    finally:
        folder.path.chmod(0o755)


def test_a_refused_folder_is_a_usage_error_for_root_too(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.tempfile, "mkdtemp", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        folder.write_cell(CELL, record())


def test_an_atomic_write_leaves_the_old_text_on_failure(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert files_below(tmp_path) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.fixture
def runs(tmp_path) -> Path:
    out = tmp_path / "runs"
    for age, name in enumerate(["digits-a-1111", "crisismmd-mt25-3fa9", "crisismmd-mt25-3fa91"]):
        RunFolder(out / name).write_info(whole_info() | {"name": name})
        os.utime(out / name / "run.json", (1000 + age, 1000 + age))
    return out


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        (None, "crisismmd-mt25-3fa91"),
        ("digits", "digits-a-1111"),
        ("digits-a-1111", "digits-a-1111"),
        ("crisismmd-mt25-3fa9", "crisismmd-mt25-3fa9"),  # the whole name, though another begins with it
        ("crisismmd-mt25-3fa91", "crisismmd-mt25-3fa91"),
    ],
)
def test_a_run_is_found_by_name_prefix_or_as_the_latest(runs, selector, name):
    assert find_run(selector, runs).path == runs / name


def test_a_run_is_found_by_path_wherever_it_lies(runs, tmp_path, monkeypatch):
    assert find_run(str(runs / "digits-a-1111"), tmp_path / "none").path == runs / "digits-a-1111"
    monkeypatch.chdir(runs)
    assert find_run("digits-a-1111/", tmp_path / "none").info()["name"] == "digits-a-1111"


@pytest.mark.parametrize("absent", ["task", "task.title", "config.encoders", "versions"])
def test_a_run_that_lacks_what_every_one_holds_is_told(runs, absent):
    folder = RunFolder(runs / "digits-a-1111")
    info = folder.info()
    *part, key = absent.split(".")
    (info[part[0]] if part else info).pop(key)
    folder.write_info(info)
    with pytest.raises(UsageError, match=rf"run\.json lacks {absent}.*delete it"):
        find_run("digits", runs)


def test_the_latest_run_is_the_one_that_last_got_a_cell(runs):
    folder = RunFolder(runs / "digits-a-1111")
    folder.write_cell(CELL, record())
    assert find_run(None, runs).path == folder.path


@pytest.mark.parametrize("selector", ["crisis", ""])
def test_an_ambiguous_beginning_names_the_candidates(runs, selector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"ambiguous.*crisismmd-mt25-3fa9, crisismmd-mt25-3fa91"):
        find_run(selector, runs)


@pytest.mark.parametrize("selector", ["nothing", "*", "[a", "crisismmd-mt25-3fa9*", "[red]x", "../runs/zzz"])
def test_a_run_that_is_not_there_names_those_that_are(runs, selector):
    with pytest.raises(UsageError, match="digits-a-1111"):
        find_run(selector, runs)


def test_no_run_says_how_to_start_one(tmp_path):
    with pytest.raises(UsageError, match="mmbench run"):
        find_run(None, tmp_path / "none")
    with pytest.raises(UsageError, match="none"):
        find_run("x", tmp_path)


def test_processes_that_store_one_cell_at_once_leave_it_whole(folder):
    """Three writers replace the cell twenty times each; threads are at odds over the file system as processes are."""

    def write(writer):
        for turn in range(20):
            folder.write_cell(CELL, record(note=f"{writer} {turn}"), lambda path: path.write_bytes(b"scores"))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert folder.is_done(CELL)
    assert [path.name for path in folder.cell_path(CELL).parent.iterdir()] == ["seed-3"]


def test_an_older_cell_comes_back_where_the_newer_one_cannot_take_its_place(folder, monkeypatch):
    folder.write_cell(CELL, record(note="old"), lambda path: path.write_bytes(b"scores"))
    rename = Path.rename

    def broken(path, target):
        if path.name.startswith(".seed-3.") and not Path(target).exists():
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(UsageError, match="Input/output error"):
        folder.write_cell(CELL, record(note="new"))
    assert folder.result(CELL)["note"] == "old" and folder.is_done(CELL)


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("task", None, "task.name"),
        ("config", 3, "config.task"),
        ("concepts", None, "whole concepts"),
        ("concepts", [{"name": "x"}], "whole concepts"),
        ("problems", [3], "whole problems"),
    ],
)
def test_a_run_whose_parts_are_of_other_types_is_told(tmp_path, part, value, told):
    run = RunFolder(tmp_path / "run")
    run.write_info(whole_info())
    run.check_info()
    run.write_info(whole_info() | {part: value})
    with pytest.raises(UsageError, match=rf"run\.json lacks .*{told}.*delete it"):
        run.check_info()
