"""What names a run, and what a run says of its split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbench.config import Settings
from mmbench.errors import UsageError
from mmbench.plugins import Registry
from mmbench.running.plan import Plan, Request, describe_problems, make_plan
from mmbench.splits import leaks


def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: dict[int, str], groups: bool = False) -> Plan:
    """A plan on digits whose split was changed in some rows, and whose groups may be pairs of rows."""
    registry = Registry()
    task = registry.load("digits", "task").TASK

    def load(request):
        dataset = task.load(request)
        split = dataset.problems[0].split.copy()
        for row, name in moved.items():
            split[row] = name
        names = np.array([f"g{row // 2}" for row in range(len(split))]) if groups else dataset.groups
        return replace(dataset, problems=(replace(dataset.problems[0], split=split),), groups=names)

    monkeypatch.setattr(registry.load("digits", "task"), "TASK", replace(task, load=load))
    return make_plan(Request("digits", Settings(method="majority", seeds="1"), tmp_path), registry)


def test_a_primary_metric_that_is_none_is_told(tmp_path, monkeypatch):
    registry = Registry()
    task = registry.load("digits", "task").TASK
    protocols = (replace(task.protocols[0], primary_metric="macro_f"),)
    monkeypatch.setattr(registry.load("digits", "task"), "TASK", replace(task, protocols=protocols))
    with pytest.raises(UsageError, match="unknown primary metric of protocol default 'macro_f': did you mean macro_f1"):
        make_plan(Request("digits", Settings(method="majority", seeds="1"), tmp_path), registry)


def test_another_split_is_another_run(tmp_path, monkeypatch):
    usual = plan_of(tmp_path, monkeypatch, {})
    same = plan_of(tmp_path, monkeypatch, {})
    monkeypatch.undo()
    row = int(np.flatnonzero(usual.dataset.problems[0].split == "train")[0])
    moved = plan_of(tmp_path, monkeypatch, {row: "test"})
    assert usual.folder == same.folder != moved.folder
    assert describe_problems(usual, {})[0]["rows"] != describe_problems(moved, {})[0]["rows"]


def test_rows_that_share_a_group_with_train_are_counted(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, monkeypatch, {}, groups=True)
    split = plan.dataset.problems[0].split
    pairs = split[: len(split) // 2 * 2].reshape(-1, 2)
    expected = {name: int(((pairs == name).any(1) & (pairs == "train").any(1)).sum()) for name in ("val", "test")}
    (problem,) = describe_problems(plan, {})
    assert problem["concepts"]["digit"]["shared_with_train"] == expected
    lines = leaks([problem], "pair")
    assert f"{expected['test']} of 359 test rows and {expected['val']} of" in lines[0]
    assert "share their pair with train" in lines[0]
    monkeypatch.undo()
    whole = describe_problems(plan_of(tmp_path, monkeypatch, {}), {})
    assert leaks(whole, "image") == []


def test_every_label_is_counted_in_every_split(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, monkeypatch, {})
    support = describe_problems(plan, {})[0]["concepts"]["digit"]["support"]
    split, target = plan.dataset.problems[0].split, plan.dataset.targets["digit"]
    for name in ("train", "val", "test"):
        assert support[name] == np.bincount(target[split == name], minlength=10).tolist()
