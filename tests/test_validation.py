"""Checks of plug-ins: each finds the fault it is there for, and passes what is sound."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmbench.cli.app import main
from mmbench.contracts import Examples, FitContext, Inputs, LoadRequest, Model
from mmbench.plugins import Registry
from mmbench.validation import methods, tasks
from mmbench.validation.finding import BrokenError, NotApplicableError


class Sound(Model):
    """Scores from the seed and from which modalities are present."""

    n_parameters = 3

    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        self.concepts, self.lean = context.concepts, 1 / (2 + context.seed)
        return {"epochs": 1}

    def predict(self, inputs: Inputs) -> dict[str, np.ndarray]:
        there = torch.stack(list(inputs.present.values())).double().mean(0).numpy()
        shapes = {c.name: (c.kind, len(c.labels)) for c in self.concepts}
        return {name: self.scores(kind, there, k) for name, (kind, k) in shapes.items()}

    def scores(self, kind: str, there: np.ndarray, k: int) -> np.ndarray:
        raw = np.stack([self.lean + there / (place + 3) for place in range(k)], axis=1)
        return raw / raw.sum(1, keepdims=True) if kind == "exclusive" else raw


class NotJson(Sound):
    def fit(self, *given: Any) -> dict[str, Any]:
        super().fit(*given)
        return {"loss": float("nan")}


class NarrowScores(Sound):
    def scores(self, *given: Any) -> np.ndarray:
        return super().scores(*given).astype(np.float32)


class NotFinite(Sound):
    def scores(self, *given: Any) -> np.ndarray:
        return super().scores(*given) * np.nan


class AboveOne(Sound):
    def scores(self, *given: Any) -> np.ndarray:
        return super().scores(*given) + 1


class NotAShare(Sound):
    def scores(self, kind: str, there: np.ndarray, k: int) -> np.ndarray:
        return super().scores("multilabel", there, k)


class LacksAConcept(Sound):
    def predict(self, inputs: Inputs) -> dict[str, np.ndarray]:
        return dict(list(super().predict(inputs).items())[:-1])


class Draws(Sound):
    def scores(self, *given: Any) -> np.ndarray:
        return super().scores(*given) * random.uniform(0.5, 1)


class Clock(Sound):
    fits = 0

    def fit(self, *given: Any) -> dict[str, Any]:
        history = super().fit(*given)
        Clock.fits += 1
        self.lean /= Clock.fits
        return history


class IgnoresItsSeed(Sound):
    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        return super().fit(train, val, replace(context, seed=0))


class ClaimsToIgnoreIt(Sound):
    deterministic = True


class OfTheBatch(Sound):
    def scores(self, kind: str, there: np.ndarray, k: int) -> np.ndarray:
        return super().scores(kind, there - there.mean() / 2, k)


class NeedsOne(Sound):
    def scores(self, kind: str, there: np.ndarray, k: int) -> np.ndarray:
        return super().scores(kind, np.where(there > 0, there, np.nan), k)


class ByRowNumber(Sound):
    def scores(self, kind: str, there: np.ndarray, k: int) -> np.ndarray:
        return super().scores(kind, there + np.arange(len(there)) / 99, k)


class Writes(Sound):
    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        train.inputs.values["x"] *= 2
        return super().fit(train, val, context)


@pytest.mark.parametrize(
    ("check", "faulty", "message"),
    [
        (methods.trains_and_predicts, NotJson, "cannot be written as JSON"),
        (methods.trains_and_predicts, NarrowScores, r"float32 \(23, 3\), expected float64 \(23, 3\)"),
        (methods.trains_and_predicts, NotFinite, "not all finite"),
        (methods.trains_and_predicts, AboveOne, "not within 0..1"),
        (methods.trains_and_predicts, NotAShare, "expected 1"),
        (methods.trains_and_predicts, LacksAConcept, "expected severity, kinds, useful, rating"),
        (methods.same_seed_same_bits, Draws, "predicting twice"),
        (methods.same_seed_same_bits, Clock, "trained twice"),
        (methods.the_seed_matters, IgnoresItsSeed, "deterministic is False, but another seed gives the same"),
        (methods.the_seed_matters, ClaimsToIgnoreIt, "deterministic is True, but another seed gives other"),
        (methods.a_row_stands_alone, OfTheBatch, "a row alone"),
        (methods.missing_inputs, NeedsOne, "only nothing is present"),
        (methods.missing_inputs, ByRowNumber, "differ between rows of which nothing is present"),
        (methods.leaves_its_inputs_alone, Writes, "work on copies"),
    ],
)
def test_each_check_finds_its_fault(check: Any, faulty: type[Model], message: str) -> None:
    check(methods.Trial(Sound))
    with pytest.raises(BrokenError, match=message):
        check(methods.Trial(faulty))


PLUGIN = """
import torch
from torch import nn
from mmbench.modules import Fusion
NAME = "mine"
KIND = "fusion"
SUMMARY = "A fusion with a fault"

class Mine(Fusion):
    def __init__(self, modalities, width):
        super().__init__()
        self.out_features = modalities * width
        {init}

    def forward(self, views, present):
        {forward}

def build(modalities, width):
    return Mine(modalities, width)
"""


def write(folder: Path, init: str = "pass", forward: str = "return views.flatten(1)") -> Path:
    path = folder / "mine.py"
    path.write_text(PLUGIN.format(init=init, forward=forward))
    return path


@pytest.mark.parametrize(
    ("init", "forward", "check", "reason"),
    [
        ("self.idle = nn.Linear(2, 2)", "return views.flatten(1)", "every parameter learns", "0: fusion.idle.weight"),
        (
            "self.mean = 0.0",
            "self.mean = 0.9 * self.mean + views.mean().item() if self.training else self.mean\n"
            "        return views.flatten(1) + self.mean",
            "survives its state",
            "some state is in no parameter",
        ),
        (
            "pass",
            "return views.flatten(1) - views.flatten(1).mean(0)",
            "a row stands alone",
            "a row alone gets",
        ),
        ("pass", "return views[:, :, :-1].flatten(1)", "trains and predicts", "ValueError: the fusion returned shape"),
        ("pass", "return views[:, :2].flatten(1)", "3 modalities", "ValueError"),
        ("pass", "raise SystemExit('no')", "trains and predicts", "SystemExit: no (mine.py, line 16)"),
    ],
)
def test_faults_of_a_fusion(tmp_path: Path, init: str, forward: str, check: str, reason: str) -> None:
    registry = Registry([write(tmp_path, init, forward)])
    found = {finding.check: finding for finding in methods.validate_method("mine", registry)}
    assert found[check].kept is False
    assert reason in found[check].reason
    assert "\n" not in found[check].reason


def test_what_is_no_network_of_ours_is_not_looked_into() -> None:
    """Its gradients and its state are its own affair."""
    for check in (methods.every_parameter_learns, methods.survives_its_state):
        with pytest.raises(NotApplicableError):
            check(methods.Trial(Sound))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["mine"], 0, "ok    trains and predicts"),
        (["dmtl:beta=1"], 0, "ok    every parameter learns"),
        (["majority"], 0, "-     survives its state: not a network"),
        (["digits"], 0, "ok    default: no group is split"),
        (["nothing"], 2, "unknown task or method 'nothing'"),
        (["mine", "--data", "."], 2, "--data goes with a task"),
    ],
)
def test_command(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["validate", *arguments, "--plugin", str(write(tmp_path))])
    out, err = capsys.readouterr()
    assert ended.value.code == code
    assert said in out + err
    assert "FAIL" not in out


def test_a_failure_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, forward="raise ValueError('two\\nlines')")
    with pytest.raises(SystemExit) as ended:
        main(["validate", "mine", "--plugin", str(path)])
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert "FAIL  trains and predicts: ValueError: two lines (mine.py, line 16)" in out


def digits():
    task = Registry().task("digits")
    protocol = task.protocols[0]
    request = LoadRequest(None, Path(), protocol, {}, tuple(m.name for m in task.modalities))
    return task, protocol, task.load(request)


def test_each_check_of_a_task_finds_its_fault() -> None:
    task, protocol, dataset = digits()
    problem = dataset.problems[0]
    tasks.loads_the_same_again(dataset, dataset)
    with pytest.raises(BrokenError, match="ids differ"):
        tasks.loads_the_same_again(dataset, replace(dataset, ids=dataset.ids[::-1]))
    no_test = replace(problem, split=np.where(problem.split == "test", "", problem.split))
    with pytest.raises(BrokenError, match="no test row has a label"):
        tasks.every_split_has_labels(replace(dataset, problems=(no_test,)))
    shared = replace(dataset, groups=np.full(len(dataset.ids), "all"))
    with pytest.raises(BrokenError, match=r"1 groups \(all, …\) are in train and in test"):
        tasks.no_group_is_split(shared, protocol)
    tasks.no_group_is_split(shared, replace(protocol, warning="it leaks"))
    with pytest.raises(BrokenError, match="says otherwise"):
        tasks.generated_data_say_so(replace(dataset, generated=True))
    names = tuple(m.name for m in task.modalities)
    with pytest.raises(BrokenError, match="macro_f2 is no metric"):
        tasks.names_what_there_is(task, replace(protocol, primary_metric="macro_f2"), Registry(), names)
    with pytest.raises(BrokenError, match="no options of the task"):
        tasks.names_what_there_is(task, replace(protocol, defaults={"a": "b"}), Registry(), names)
