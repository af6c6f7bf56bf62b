"""``mmbench data export`` and ``mmbench score``: from rows without labels to a line of the same table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mmbench.config import Settings
from mmbench.plugins import Registry
from mmbench.reporting.records import make_records
from mmbench.running.plan import Plan, Request, make_plan
from mmbench.running.store import RunFolder

TRAIN = ("--epochs", "1", "--seeds", "1", "--no-energy")
SCORE = ("score", "digits", "--name", "theirs", "--predictions")


def exported(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def planned(task: str, **settings) -> Plan:
    return make_plan(Request(task, Settings(**settings), Path("elsewhere")), Registry())


def truth(plan: Plan) -> dict[str, dict]:
    """By sample and concept the true label, or the true labels; rows without a label are left out."""
    found: dict[str, dict] = {str(sample): {} for sample in plan.dataset.ids}
    for concept in plan.dataset.concepts:
        for sample, target in zip(plan.dataset.ids, plan.dataset.targets[concept.name], strict=True):
            if np.min(target) >= 0:
                labels = np.array(concept.labels)
                found[str(sample)][concept.name] = (
                    str(labels[target]) if target.ndim == 0 else labels[target == 1].tolist()
                )
    return found


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def runs(out: Path = Path("results/runs")) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(out.glob("*/run.json"))]


def values(folder: RunFolder, method: str, metric: str = "macro_f1") -> dict[tuple[str, str], float]:
    records = make_records(folder).records
    return {
        (r["problem"], r["concept"]): r["mean"]
        for r in records
        if (r["method"], r["metric"], r["label"]) == (method, metric, "")
    }


@pytest.fixture
def digits(mmbench, tmp_path):
    """The exported test rows of digits, answered with the truth."""
    assert mmbench("data", "export", "digits", "--output", "d.jsonl").code == 0
    true = truth(planned("digits"))
    return [row | true[row["id"]] for row in exported(tmp_path / "d.jsonl")]


def test_export_tells_no_label_and_asks_every_row_for_every_concept(mmbench, tmp_path):
    done = mmbench("data", "export", "crisismmd", "--output", "c.jsonl")
    assert done.code == 0, done.err
    assert "GENERATED DATA" in done.err
    rows, plan = exported(tmp_path / "c.jsonl"), planned("crisismmd")
    (problem,) = plan.dataset.problems
    assert [row["id"] for row in rows] == plan.dataset.ids[problem.split == "test"].tolist()
    told = {name: {"kind": c.kind, "labels": list(c.labels)} for c in plan.dataset.concepts for name in [c.name]}
    for row in rows:
        assert set(row) == {"id", "group", "text", "media", "concepts"}
        assert row["concepts"] == told  # damage too, whose label stands in some rows only
        assert Path(row["media"]["image"]).is_file()
    place = plan.dataset.ids.tolist().index(rows[0]["id"])
    assert rows[0]["text"] == {"text": plan.dataset.inputs["text"][place]}
    assert mmbench("data", "export", "crisismmd", "--split", "val", "--output", "v.jsonl").code == 0
    assert not {row["group"] for row in rows} & {row["group"] for row in exported(tmp_path / "v.jsonl")}


def test_a_protocol_with_several_problems_asks_a_row_for_what_it_is_tested_on(mmbench, tmp_path):
    assert mmbench("data", "export", "crisismmd", "--protocol", "official", "--output", "c.jsonl").code == 0
    rows, plan = exported(tmp_path / "c.jsonl"), planned("crisismmd", protocol="official")
    for problem in plan.dataset.problems:
        tested = set(plan.dataset.ids[problem.split == "test"].tolist())
        assert tested == {row["id"] for row in rows if problem.concepts[0] in row["concepts"]}
    true = truth(plan)
    write(tmp_path / "a.jsonl", [row | {c: true[row["id"]][c] for c in row["concepts"]} for row in rows])
    done = mmbench("score", "crisismmd", "--protocol", "official", "--name", "o", "--predictions", "a.jsonl")
    assert done.code == 0, done.err
    (run,) = runs()
    assert values(run, "o") == {(p.name, p.concepts[0]): 1 for p in plan.dataset.problems}


def test_one_file_answers_every_problem_and_a_problem_without_answers_is_no_part_of_a_partial_run(mmbench, tmp_path):
    options = ("crisismmd", "--protocol", "event")
    assert mmbench("data", "export", *options, "--output", "c.jsonl").code == 0
    rows, plan = exported(tmp_path / "c.jsonl"), planned("crisismmd", protocol="event")
    true = truth(plan)
    write(tmp_path / "a.jsonl", [row | true[row["id"]] for row in rows])
    done = mmbench("score", *options, "--name", "o", "--predictions", "a.jsonl")
    assert done.code == 0, done.err
    (run,) = runs()
    concepts = [c.name for c in plan.dataset.concepts]
    assert values(run, "o", "accuracy") == {(p.name, c): 1 for p in plan.dataset.problems for c in concepts}
    lost, *kept = plan.dataset.problems
    without = set(plan.dataset.ids[lost.split == "test"].tolist())
    write(tmp_path / "b.jsonl", [row | true[row["id"]] for row in rows if row["id"] not in without])
    assert mmbench("score", *options, "--name", "o", "--predictions", "b.jsonl", "--allow-partial").code == 0
    (partial,) = (other for other in runs() if other != run)
    assert values(partial, "o", "accuracy") == {(p.name, c): 1 for p in kept for c in concepts}
    whole = {p["name"]: p["concepts"] for p in run.info()["problems"]}
    assert {p["name"]: p["concepts"] for p in partial.info()["problems"]} == {p.name: whole[p.name] for p in kept}


@pytest.mark.parametrize("task", ["digits", "crisismmd"])
def test_true_answers_to_an_export_score_one(mmbench, tmp_path, task):
    done = mmbench("data", "export", task, "--output", "rows.jsonl")
    assert done.code == 0, done.err
    assert ("vectors are not exported: left, middle, right" in done.err) == (task == "digits")
    true = truth(planned(task))
    write(tmp_path / "a.jsonl", [row | true[row["id"]] for row in exported(tmp_path / "rows.jsonl")])
    done = mmbench("score", task, "--predictions", "a.jsonl", "--name", "oracle (2026)")
    assert done.code == 0, done.err
    assert "oracle (2026)" in done.out
    assert "map and roc_auc need scores and are left out" in done.err
    (run,) = runs()
    for metric, best in (("macro_f1", 1), ("accuracy", 1), ("hamming", 0)):
        assert set(values(run, "oracle (2026)", metric).values()) == {best}
    ((cell, record),) = run.results()
    assert record["foreign"] and record["status"] == "done"
    assert record["hard"] == list(record["metrics"])
    assert record["file"]["name"] == "a.jsonl" and record["file"]["format"] == "jsonl"
    assert record["parameters"] is record["energy"] is None
    assert set(record["unparsed"].values()) == {0}
    for form in ("table", "markdown", "latex", "csv", "json"):
        assert "oracle (2026)" in mmbench("report", "--format", form).out
    with np.load(run.predictions_path(cell)) as file:
        assert set(file["split"]) == {"test"}


def test_scores_of_test_and_val_in_csv_stand_beside_a_trained_method_and_are_paired_with_it(mmbench, tmp_path, digits):
    assert mmbench("run", "digits", "--method", "igfn+dmtl,majority", *TRAIN).code == 0
    (run,) = runs()
    source = next(c for c, _ in run.results() if c.method == "igfn+dmtl")
    with np.load(run.predictions_path(source)) as file, Path("p.csv").open("w", newline="") as text:
        concepts = planned("digits", training={"epochs": 1}).dataset.concepts
        table = csv.writer(text)
        table.writerow(["id", *(f"{c.name}/{label}" for c in concepts for label in c.labels)])
        scores = np.concatenate([file[f"scores/{c.name}"] for c in concepts], axis=1)
        table.writerows([sample, *row] for sample, row in zip(file["id"], scores.tolist(), strict=True))
        before = {key: file[key] for key in file.files}
    done = mmbench(*SCORE, "p.csv", "--set", "training.epochs=1")
    assert done.code == 0, done.err
    assert "hard" not in done.err
    assert runs() == [run]
    records = json.loads(mmbench("report", "--format", "json").out)
    ours, theirs = ([r for r in records if r["method"] == name] for name in ("igfn+dmtl", "theirs"))
    assert [(r["mean"], r["ci_low"], r["ci_high"]) for r in ours] == [
        (r["mean"], r["ci_low"], r["ci_high"]) for r in theirs
    ]
    assert {r["delta"] for r in theirs if r["metric"] == "macro_f1"} == {0}
    with np.load(run.predictions_path(type(source)("joint", "theirs", 0))) as file:
        assert before.keys() == set(file.files)
        assert all(np.array_equal(before[key], file[key]) for key in before)


def test_a_later_run_keeps_the_cell_and_trains_the_rest(mmbench, digits, tmp_path):
    write(tmp_path / "a.jsonl", digits)
    assert mmbench(*SCORE, "a.jsonl", "--set", "training.epochs=1").code == 0
    (run,) = runs()
    (cell,) = (cell for cell, _ in run.results())
    kept = {path: path.read_bytes() for path in run.cell_path(cell).iterdir()}
    done = mmbench("run", "digits", "--method", "majority,linear:left", *TRAIN)
    assert done.code == 0, done.err
    assert "2 cells, 0 done, 2 to run" in done.err
    assert runs() == [run]
    assert {path: path.read_bytes() for path in run.cell_path(cell).iterdir()} == kept
    report = mmbench("report").out
    assert all(name in report for name in ("theirs", "majority", "linear:left"))
    again = run.info()
    assert mmbench(*SCORE, "a.jsonl", "--set", "training.epochs=1").code == 0
    assert run.info() == again


def test_each_further_file_is_the_next_seed_and_another_file_needs_force(mmbench, digits, tmp_path):
    write(tmp_path / "a.jsonl", digits)
    write(tmp_path / "b.jsonl", [row | {"parity": "odd"} for row in digits])
    assert mmbench(*SCORE, "a.jsonl", "--predictions", "b.jsonl").code == 0
    (run,) = runs()
    assert [cell.seed for cell, _ in run.results()] == [0, 1]
    assert mmbench(*SCORE, "a.jsonl", "--seed", "7").code == 0
    assert [cell.seed for cell, _ in run.results()] == [0, 1, 7]
    kept = run.predictions_path(next(iter(run.results()))[0]).read_bytes()
    refused = mmbench(*SCORE, "b.jsonl")
    assert refused.code == 2
    assert "theirs has predictions of another file at seed 0" in refused.complaint
    assert run.predictions_path(next(iter(run.results()))[0]).read_bytes() == kept
    assert mmbench(*SCORE, "b.jsonl", "--force").code == 0
    assert run.predictions_path(next(iter(run.results()))[0]).read_bytes() != kept


def test_a_run_can_be_named_and_must_be_of_the_same_data_and_split(mmbench, digits, tmp_path):
    assert mmbench("run", "digits", "--method", "majority", "--split-seed", "3", *TRAIN).code == 0
    (run,) = runs()
    assert mmbench("data", "export", "digits", "--split-seed", "3", "--output", "d.jsonl").code == 0
    true = truth(planned("digits"))
    write(tmp_path / "a.jsonl", [row | true[row["id"]] for row in exported(tmp_path / "d.jsonl")])
    done = mmbench(*SCORE, "a.jsonl", "--run", run.path.name)
    assert done.code == 0, done.err
    assert runs() == [run]
    assert set(values(run, "theirs").values()) == {1}
    assert "leave out --labels" in mmbench(*SCORE, "a.jsonl", "--run", "digits", "--labels", "x").complaint
    other = mmbench("score", "crisismmd", "--name", "x", "--predictions", "a.jsonl", "--run", "digits")
    assert "is a run of task digits" in other.complaint
    info = run.info()
    for change, said in (({"fingerprint": "0"}, "other data"), ({"problems": []}, "another split")):
        run.write_info(info | change)
        refused = mmbench(*SCORE, "a.jsonl", "--run", str(run.path), "--force")
        assert refused.code == 3
        assert said in refused.complaint


def test_missing_answers_are_counted_and_a_partial_score_stands_apart(mmbench, digits, tmp_path):
    write(tmp_path / "full.jsonl", digits)
    assert mmbench(*SCORE, "full.jsonl").code == 0
    some = [dict(row) for row in digits[:200]]
    for row in some:
        del row["parity"]
    for row in some[:50]:
        del row["at-least-five"]
    write(tmp_path / "some.jsonl", some)
    refused = mmbench(*SCORE, "some.jsonl")
    assert refused.code == 2
    for said in (
        f"159 of 359 test rows have no answer to digit ('{digits[200]['id']}', ",
        "359 of 359 test rows have no answer to parity;",
        "209 of 359 test rows have no answer to at-least-five",
        "--allow-partial",
    ):
        assert said in refused.complaint
    (full,) = runs()
    done = mmbench(*SCORE, "some.jsonl", "--allow-partial")
    assert done.code == 0, done.err
    counts = "digit 200 of 359, parity 0 of 359, at-least-five 150 of 359"
    assert counts in done.err
    (partial,) = (run for run in runs() if run != full)
    assert "-partial-" in partial.path.name
    assert partial.info()["fingerprint"] != full.info()["fingerprint"]
    assert partial.info()["problems"][0]["rows"] != full.info()["problems"][0]["rows"]
    for form in ("table", "markdown", "latex"):
        assert counts in mmbench("report", str(partial.path), "--format", form).out.replace("\\", "")
    records = json.loads(mmbench("report", str(partial.path), "--format", "json").out)
    assert {(r["concept"], r["n_test"]) for r in records} == {("digit", 200), ("at-least-five", 150)}
    assert {r["mean"] for r in records if r["metric"] == "macro_f1"} == {1}
    assert all("PARTIAL" in " ".join(r["overrides"]) for r in records)
    assert [cell.method for cell, _ in full.results()] == ["theirs"]
    fewer = mmbench(*SCORE, "some.jsonl", "--allow-partial", "--run", str(full.path))
    assert fewer.code == 0, fewer.err
    assert len(list(full.results())) == 1


def test_rows_that_every_file_answers_are_the_partial_test_set(mmbench, digits, tmp_path):
    write(tmp_path / "a.jsonl", digits[:300])
    write(tmp_path / "b.jsonl", digits[100:])
    assert mmbench(*SCORE, "a.jsonl", "--predictions", "b.jsonl", "--allow-partial").code == 0
    assert "digit 200 of 359" in mmbench("report").out
    assert mmbench(*SCORE, "a.jsonl", "--predictions", "b.jsonl", "--allow-partial").code == 0
    assert len(runs()) == 1
    write(tmp_path / "c.jsonl", digits[300:])
    refused = mmbench(*SCORE, "a.jsonl", "--predictions", "c.jsonl", "--allow-partial")
    assert "no test row has an answer in every file" in refused.complaint


def test_unread_answers_are_wrong_named_and_counted(mmbench, digits, tmp_path):
    zeros = [row["id"] for row in digits if row["digit"] == "0"]
    for row in digits:
        row["digit"] = "It may be a zero, or an O" if row["id"] in zeros else f" {row['digit']}. "
    write(tmp_path / "a.jsonl", digits)
    done = mmbench(*SCORE, "a.jsonl")
    assert done.code == 0, done.err
    assert f"{len(zeros)} of 359 answers to digit cannot be read and count as wrong: '{zeros[0]}' says" in done.err
    assert f"'{zeros[2]}' says 'It may be a zero, or an O', …" in done.err
    assert f"{359 - len(zeros)} answers to digit were matched but for case" in done.err
    (run,) = runs()
    ((_, record),) = run.results()
    assert record["unparsed"] == {"digit": len(zeros), "parity": 0, "at-least-five": 0}
    assert values(run, "theirs", "accuracy")["joint", "digit"] == pytest.approx(1 - len(zeros) / 359)
    assert values(run, "theirs", "macro_f1")["joint", "digit"] == pytest.approx(0.9)
    assert record["metrics"]["digit"]["macro_f1"] == pytest.approx(0.9)


def test_thresholds_of_val_need_no_val_rows(mmbench, tmp_path):
    mmbench("data", "export", "crisismmd", "--output", "c.jsonl")
    true = truth(planned("crisismmd"))
    write(tmp_path / "a.jsonl", [row | true[row["id"]] for row in exported(tmp_path / "c.jsonl")])
    done = mmbench("score", "crisismmd", "--name", "o", "--predictions", "a.jsonl", "--set", "thresholds=val")
    assert done.code == 0, done.err
    (run,) = runs()
    assert set(values(run, "o").values()) == {1}


def test_val_rows_are_kept_where_all_are_answered_and_other_rows_are_counted(mmbench, tmp_path, digits):
    plan = planned("digits")
    true, split = truth(plan), plan.dataset.problems[0].split
    val, train = ([{"id": i, **true[i]} for i in plan.dataset.ids[split == part].tolist()] for part in ("val", "train"))
    (whole, cut), stored = (digits + val + train[:5], digits + val[1:]), []
    for number, rows in enumerate((whole, cut)):
        write(tmp_path / f"{number}.jsonl", rows)
        done = mmbench(*SCORE, f"{number}.jsonl", "--seed", str(number))
        assert done.code == 0, done.err
        assert ("5 of 724 rows are neither test nor val rows here: not used" in done.err) == (number == 0)
        assert ("359 of 360 val rows of joint have answers: val is left out" in done.err) == (number == 1)
    (run,) = runs()
    for cell, _ in run.results():
        with np.load(run.predictions_path(cell)) as file:
            stored.append(file["split"].tolist())
    assert stored == [["val"] * 360 + ["test"] * 359, ["test"] * 359]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("majority", "means something else"),
        ("all", "means something else"),
        ("ceiling-mine", "means something else"),
        ("concat+equal", "expected up to 64"),
        ("a:b", "expected up to 64"),
        ("../../up", "expected up to 64"),
        ("..", "expected up to 64"),
        ("a,b", "expected up to 64"),
        ("*", "expected up to 64"),
        ("", "expected up to 64"),
        ("tail ", "expected up to 64"),
        ("x" * 65, "expected up to 64"),
    ],
)
def test_names_that_are_taken_or_would_be_misread(mmbench, tmp_path, name, said):
    done = mmbench("score", "digits", "--predictions", "nowhere.csv", "--name", name)
    assert done.code == 2
    assert said in done.complaint


def test_a_trained_method_s_name_is_taken_even_with_force(mmbench, tmp_path, digits):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        'NAME = "mine"\nKIND = "model"\nSUMMARY = "always the first label"\n'
        "import numpy as np\nfrom mmbench.contracts import Model\n"
        "class Mine(Model):\n"
        "    n_parameters = 0\n"
        "    def fit(self, train, val, context):\n"
        "        self.sizes = {c.name: len(c.labels) for c in context.concepts}\n"
        "        return {}\n"
        "    def predict(self, inputs): return {c: np.eye(k)[[0] * len(inputs)] for c, k in self.sizes.items()}\n"
        "def build(): return Mine()\n"
    )
    assert mmbench("run", "digits", "--method", "mine", "--plugin", "mine.py", *TRAIN).code == 0
    write(tmp_path / "a.jsonl", digits)
    done = mmbench("score", "digits", "--name", "mine", "--predictions", "a.jsonl", "--run", "digits", "--force")
    assert "mine is a method that was trained in" in done.complaint


HOSTILE = {
    "empty.csv": b"",
    "binary.csv": bytes(range(256)),
    "cut.json": b'[{"id": "0010", "digit": "3"',
    "twice.csv": b"id,digit,digit\n0010,1,2\n",
    "nan.csv": b"id,parity/even,parity/odd\n0010,nan,1\n",
    "high.jsonl": b'{"id": "0010", "parity": {"even": 1.7, "odd": 0}}\n',
    "columns.csv": b"id,prediction,confidence\n0010,3,.9\n",
    "labels.csv": b"id,digit\n0010,three\n0014,four\n",
    "scored.jsonl": b'{"id": "0010", "parity": {"even": 1, "add": 0}}\n',
    "ids.csv": b"id,digit\n0010,3\n0010,3\n",
    "unknown.csv": b"id,digit\n10,3\n",
    "utf16.csv": "id,digit\n0010,3\n".encode("utf-16"),
    "huge.json": b'[{"id": "0010", "parity": {"even": 1' + b"0" * 400 + b', "odd": 0}}]',
    "digits.json": b'[{"id": "0010", "parity": {"even": 1' + b"0" * 9000 + b', "odd": 0}}]',
    "deep.json": b'{"a":' * 50_000,
    "nested.jsonl": b'{"id": {"id": ["0010"]}, "digit": [[["3"]]]}\n',
    "ragged.csv": b"id,digit\n0010\n0014,2,3\n",
    "scalar.json": b"null",
    "quote.csv": b'id,digit\n0010,"3\n',
    "escape.csv": b"id,\x1b[31mdigit\n0010,3\n",
    "parquet.parquet": b"PAR1\x00\x00PAR1",
    "pickle.pkl": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_malformed_file_ends_with_one_line_and_stores_nothing(mmbench, tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE[name])
    done = mmbench(*SCORE, name)
    assert done.code == 2
    assert name in done.complaint
    assert done.err == f"{done.complaint}\n"
    assert done.out == ""
    assert done.complaint.isprintable()
    assert len(done.complaint) < 600
    assert not runs()


def test_mistakes_of_an_export(mmbench):
    assert "unknown split 'tests'" in mmbench("data", "export", "digits", "--split", "tests", "--output", "x").complaint
    assert "cannot write" in mmbench("data", "export", "digits", "--output", "no/such/place.jsonl").complaint
    assert "no data found" in mmbench("data", "export", "crisismmd", "--require-data", "--output", "x").complaint
