"""Plug-ins that misbehave: each fails its own cells, says why in one line, and changes nothing for the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmbench.config import Settings
from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.plugins import Registry
from mmbench.running.execute import run_cell
from mmbench.running.loading import load_dataset
from mmbench.running.plan import Request, make_plan
from mmbench.running.run import prepare_run

HEAD = """
import numpy as np
import torch
from mmbench.contracts import Model
NAME = "stranger"
KIND = "model"
SUMMARY = "misbehaves"
class Stranger(Model):
    n_parameters = 0
    def fit(self, train, val, context):
        self.sizes = {c.name: len(c.labels) for c in context.concepts}
        return {}
    def predict(self, inputs):
        return {name: np.full((len(inputs), k), 1 / k) for name, k in self.sizes.items()}
"""
TAIL = "\ndef build(): return Stranger()\n"


def run(
    tmp_path: Path, body: str, method: str = "stranger", others: str = "", extra: Sequence[Path] = ()
) -> tuple[dict, dict[str, dict]]:
    """The record of a stranger's cell, and by method those of the cells that ran after it in the same process."""
    (tmp_path / "stranger.py").write_text(HEAD + body + TAIL)
    registry = Registry([tmp_path / "stranger.py", *extra], tmp_path)
    settings = Settings(method=",".join(filter(None, [method, others])), seeds="1", training={"epochs": 1, "width": 8})
    plan = make_plan(Request("digits", settings, tmp_path / "runs"), registry)
    place = prepare_run(plan, registry, 1, None, lambda line: None)
    records = {cell.method: run_cell(place, cell, lambda *_: None, None) for cell in plan.cells}
    return records.pop(method), records


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    def fit(self, *_): raise RuntimeError('two\\n lines')", "two lines"),
        ("    def fit(self, *_): return {}['loss']", "KeyError: 'loss'"),
        ("    def fit(self, *_): raise SystemExit(3)", "SystemExit: 3"),
        ("    def fit(self, *_): raise RuntimeError", "RuntimeError"),
        ("    def fit(self, *_): pass", "returned a NoneType, expected a dictionary"),
        ("    def fit(self, *_): return {'model': object()}", "holds a object"),
        ("    def predict(self, inputs): pass", "predict returned a NoneType"),
        ("    def predict(self, inputs): return {}", "got nothing"),
        ("    def predict(self, inputs): return {'digit': [[0.5]]}", "expected finite (360, 10), got shape (1, 1)"),
        ("    def predict(self, inputs): return {'digit': np.full((360, 10), np.nan)}", "finite: False"),
        ("    def predict(self, inputs): return {'digit': np.full((360, 10), 1.2)}", "expected 0 to 1, got 1.2"),
        ("    def predict(self, inputs): return {'digit': np.full((360, 10), -3.0)}", "expected 0 to 1, got -3"),
        ("    def predict(self, inputs): return {'digit': 'text'}", "could not convert"),
        ("    n_parameters = 'many'", "cannot be interpreted as an integer"),
    ],
)
def test_it_fails_its_cell_with_one_line_and_a_traceback(tmp_path: Path, body: str, said: str) -> None:
    record, _ = run(tmp_path, body)
    assert record["status"] == "failed"
    assert said in record["error"]["message"] and "\n" not in record["error"]["message"]
    assert "Traceback" in record["error"]["traceback"]
    stored = tmp_path.glob("runs/*/cells/joint/stranger/seed-0/result.json")
    assert json.loads(next(stored).read_text())["error"] == record["error"]


def test_numbers_of_numpy_and_torch_are_taken_as_they_are(tmp_path: Path) -> None:
    record, _ = run(
        tmp_path,
        "    n_parameters = np.int64(3)\n"
        "    def fit(self, train, val, context):\n"
        "        self.sizes = {c.name: len(c.labels) for c in context.concepts}\n"
        "        return {'loss': [np.float32(0.5), torch.tensor(2.0), float('nan')], 'of': np.arange(2)}\n"
        "    def predict(self, inputs):\n"
        "        return {n: torch.full((len(inputs), k), 1 / k) for n, k in self.sizes.items()}\n",
    )
    assert record["status"] == "done", record
    assert record["history"] == {"loss": [0.5, 2.0, None], "of": [0, 1]}
    assert record["parameters"] == 3


VANDAL = """
    def fit(self, train, val, context):
        print("noise")
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.manual_seed(0)
        for part in (train, val):
            for tensors in (part.inputs.values, part.inputs.present, part.targets):
                for tensor in tensors.values():
                    tensor.fill_(0)
        return super().fit(train, val, context)
    def predict(self, inputs):
        for tensor in (*inputs.values.values(), *inputs.present.values()):
            tensor.fill_(0)
        return super().predict(inputs)
"""


def test_what_it_writes_prints_and_sets_reaches_no_other_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = "concat+equal,linear:left"
    body = "class Vandal(Stranger):" + VANDAL + "Stranger = Vandal\n"
    record, after = run(tmp_path, body, others=others)
    assert record["status"] == "done", record
    printed = capsys.readouterr()
    assert "noise" in printed.err and "noise" not in printed.out
    (tmp_path / "alone").mkdir()
    _, clean = run(tmp_path / "alone", "", others=others)
    for method in others.split(","):
        assert after[method]["status"] == "done", after[method]
        assert after[method]["metrics"] == clean[method]["metrics"]
        stored = [
            next(folder.glob(f"*/cells/joint/{method.replace(':', '%3A')}/seed-0/predictions.npz")).read_bytes()
            for folder in (tmp_path / "runs", tmp_path / "alone" / "runs")
        ]
        assert stored[0] == stored[1]


def test_what_it_does_to_raw_inputs_reaches_no_other_cell(tmp_path: Path) -> None:
    body = """
    def wants_raw(self, modalities):
        return frozenset({"left"})
    def fit(self, train, val, context):
        self.seen = float(train.inputs.raw["left"][0][0]), train.inputs.raw["left"][1] is None
        train.inputs.raw["left"][0] += 7
        train.inputs.raw["left"][1] = None
        return super().fit(train, val, context) | {"seen": self.seen}
"""
    (tmp_path / "again.py").write_text(
        (HEAD + "class Vandal(Stranger):" + body + "Stranger = Vandal\n" + TAIL).replace('"stranger"', '"again"')
    )
    registry_extra = [tmp_path / "again.py"]
    first, others = run(
        tmp_path, "class Vandal(Stranger):" + body + "Stranger = Vandal\n", others="again", extra=registry_extra
    )
    assert first["status"] == others["again"]["status"] == "done", first
    assert first["history"] == others["again"]["history"]


def test_a_folder_it_changes_to_is_left_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    body = (
        "    def fit(self, train, val, context):\n"
        "        import os; os.chdir('elsewhere'); return Base.fit(self, train, val, context)\n"
    )
    body = "Base = Stranger\nclass Stranger(Base):\n" + body
    record, _ = run(Path(), body, others="majority")
    assert record["status"] == "done", record
    assert len(list(tmp_path.glob("runs/*/cells/joint/*/seed-0/result.json"))) == 2
    assert not list((tmp_path / "elsewhere").iterdir())


def test_memory_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    record, _ = run(tmp_path, "    def fit(self, *_): torch.zeros(10**15)")
    assert record["status"] == "oom", record


@pytest.mark.parametrize("kind", ["model", "fusion"])
def test_a_build_that_prints_and_exits_fails_its_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "exits.py"
    path.write_text(
        f'import sys\nNAME = "exits"\nKIND = "{kind}"\nSUMMARY = "exits"\nprint("loaded")\n'
        'def build(*_):\n    print("built")\n    sys.exit(0)\n'
    )
    name = "exits" if kind == "model" else "exits+equal"
    _, others = run(tmp_path, "", others=name, extra=[path])
    assert others[name]["status"] == "failed"
    assert others[name]["error"]["message"] == "SystemExit: 0"
    printed = capsys.readouterr()
    assert "loaded" in printed.err and "built" in printed.err and not printed.out


def dataset(**changes) -> Dataset:
    ids = np.array(["a", "b", "c", "d"])
    fields = {
        "ids": ids,
        "groups": ids,
        "inputs": {"x": np.zeros((4, 2))},
        "concepts": (Concept("y", ("no", "yes")), Concept("kinds", ("p", "q"), "multilabel")),
        "targets": {"y": np.array([0, 1, -1, 0]), "kinds": np.zeros((4, 2), dtype=np.int64)},
        "problems": (Problem("joint", ("y",), np.array(["train", "val", "test", ""])),),
        "fingerprint": "0",
        "title": "toy",
    }
    return Dataset(**(fields | changes))


def loaded(load) -> Dataset:
    task = Task("t", "", "", "", "row", (Modality("x", "vector", "standardize"),), (), load, "concat+equal")
    protocol = Protocol("p", "", "", "", ())
    return load_dataset("toy", task, LoadRequest(None, Path(), protocol, {}, ("x",)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": np.array(["a", "b", "a", "d"])}, "the id 'a' stands for 2 rows"),
        ({"groups": np.array(["a"])}, "groups: 1 values for 4 rows"),
        ({"inputs": {}}, "no inputs of modality x"),
        ({"inputs": {"x": np.zeros((3, 2))}}, "inputs of x: 3 values for 4 rows"),
        ({"facets": {"event": np.array(["e"])}}, "facet event: 1 values"),
        ({"targets": {}}, "no targets of concept y"),
        ({"targets": {"y": np.array([0, 1, 2, 0])}}, "targets of y: 0 to 2, expected -1 to 1"),
        ({"targets": {"y": np.array([0.0, 1, 1, 0])}}, "expected integer array (4,)"),
        ({"targets": {"y": np.zeros((4, 2), dtype=np.int64)}}, "expected integer array (4,)"),
        (
            {"targets": {"y": np.zeros(4, dtype=np.int64), "kinds": np.full((4, 2), 2)}},
            "kinds: 2 to 2, expected -1 to 1",
        ),
        ({"problems": (Problem("joint", ("z",), np.array(["train"] * 4)),)}, "a concept z that is not declared"),
        ({"problems": (Problem("joint", ("y",), np.array(["train", "dev", "test", ""])),)}, "holds 'dev'"),
        ({"problems": (Problem("joint", ("y",), np.array(["train"])),)}, "shape (1,)"),
        ({"problems": (Problem("joint", ("y",), ["train"] * 4),)}, "expected array (4,)"),
        ({"problems": ()}, "there are no problems"),
        ({"ids": ["a", "b", "c", "d"]}, "ids: a list, expected an array"),
        ({"groups": np.zeros((4, 1))}, "groups: a ndarray, expected an array of texts, one a row"),
        ({"fingerprint": None}, "fingerprint: (None,), expected texts"),
        ({"notes": "one note"}, "notes: 'one note', expected texts"),
        ({"inputs": {"x": np.zeros(4)}}, "inputs of x: shape (4,), expected 2 axes of a vector"),
        ({"concepts": (Concept("y", ("no", "no")),)}, "labels of y: no, no, expected each once"),
        ({"concepts": (Concept("y", ("no", "yes")),) * 2}, "concepts: y, y, expected each once"),
        ({"concepts": (Concept("y", ("no", "yes"), "skore"),)}, "concept y is 'skore', expected exclusive"),
        (
            {"targets": {"y": np.zeros(4, dtype=np.int64), "kinds": np.array([[-1, 0]] * 4)}},
            "a row is -1 in some of its labels",
        ),
        ({"targets": {"y": [0, 1, 0, 1]}}, "expected integer array (4,)"),
    ],
)
def test_data_that_are_not_as_the_contract_says_are_one_line(changes: dict, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        loaded(lambda request: dataset(**changes))
    assert "task toy" in str(raised.value) and said in str(raised.value)


def test_data_as_the_contract_says_pass() -> None:
    given = dataset()
    assert loaded(lambda request: given) is given
    score = Concept("s", ("how much",), "score")
    scored = (Problem("s", ("s",), np.array(["train"] * 4)),)
    assert loaded(
        lambda request: dataset(concepts=(score,), targets={"s": np.array([0.5, np.nan, 3, 1])}, problems=scored)
    )


def test_what_a_loader_raises_is_one_line_with_its_place() -> None:
    def load(request):
        return {}["column"]

    with pytest.raises(UsageError, match=r"task toy cannot load.*: KeyError: 'column' \(test_strangers\.py, line"):
        loaded(load)
    with pytest.raises(UsageError, match="load returned list"):
        loaded(lambda request: [])
    with pytest.raises(UsageError, match=r"task toy cannot load its data: SystemExit: 0"):
        loaded(lambda request: sys.exit(0))


def test_what_a_loader_prints_goes_to_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    loaded(lambda request: print("reading") or dataset())
    assert capsys.readouterr() == ("", "reading\n")
