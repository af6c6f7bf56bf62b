"""Tables in every form from records made by hand."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from mmbench.evaluation import significance
from mmbench.reporting.latex import to_latex
from mmbench.reporting.records import Collection
from mmbench.reporting.render import render
from mmbench.reporting.tables import Entry, Table, decimals, energy, make_tables, number
from mmbench.reporting.terminal import _print, to_text
from mmbench.reporting.tested import significance_tables

FORMS = ("table", "markdown", "latex", "csv", "json")
HOSTILE = "[red]only:a|b,c\"d'[/red]"


def record(method="good+equal", metric="macro_f1", **changes) -> dict:
    return {
        "task": "toy", "problem": "joint", "concept": "sort", "label": "", "method": method, "metric": metric,
        "mean": 0.5, "sd": 0.01, "ci_low": 0.45, "ci_high": 0.55, "ci_kind": "95 % percentile", "n_seeds": 5,
        "n_train": 1000, "n_test": 2000, "n_groups": 1500, "delta": None, "delta_low": None, "delta_high": None,
        "mde": None, "parameters": 12345, "train_seconds": 1.25, "energy_wh": 0.5, "energy_source": "rapl",
        "encoders": "text=tfidf-svd", "tests": [], "verdict": None, "labels": "union", "split": "official",
        "family": "3 comparisons with ours+dmtl on macro_f1", "overrides": [], "p_raw": None, "p_holm": None,
    } | changes  # fmt: skip


def collection(
    records, *, best=(), failures=(), generated=False, warning="", shared=None, ranked=None, notes=(), unreadable=0
) -> Collection:
    info = {
        "task": {"title": "Toy", "group": "tweet", "generated": generated, "notes": list(notes)},
        "unreadable_inputs": unreadable,
        "concepts": [{"name": "sort", "kind": "exclusive"}],
        "protocol": {"name": "plain", "primary_metric": "macro_f1", "split": "official", "warning": warning},
        "problems": [{"name": "joint", "concepts": {"sort": {"n_test": 2000, "shared_with_train": shared or {}}}}],
    }
    methods = [r["method"] for r in records]
    return Collection(
        info,
        records,
        "ours+dmtl",
        {"joint sort": methods if ranked is None else ranked},
        {},
        frozenset(best),
        {"joint sort": ""},
        tuple(failures),
    )


def both(method="good+equal", **changes) -> list[dict]:
    return [record(method, "macro_f1", **changes), record(method, "map", mean=0.25)]


def test_a_value_an_interval_and_a_difference():
    made = collection(both(delta=-0.0123, delta_low=-0.05, delta_high=0.02) + both("ours+dmtl"))
    (table,) = make_tables(made, ("map",))
    assert table.columns[:4] == ("method", "macro_f1 [95 % interval]", "Δ to ours+dmtl [95 %]", "map")
    first, second = ([entry.text for entry in row] for row in table.rows)
    assert first == ["good+equal", "0.500 [0.450, 0.550]", "-0.012 [-0.050, +0.020]", "0.250", "12,345", "1.2", "0.5"]
    assert second[2] == "–"


def test_the_primary_metric_comes_first_and_once():
    (table,) = make_tables(collection(both()), ("map", "macro_f1"))
    assert [c for c in table.columns if c.startswith(("macro", "map"))] == ["macro_f1 [95 % interval]", "map"]


def test_what_is_undefined_is_a_dash():
    assert number(None) == "–"
    nothing = dict.fromkeys(("mean", "ci_low", "ci_high", "parameters", "train_seconds", "energy_wh"))
    (table,) = make_tables(collection([record(**nothing)]), ())
    assert {entry.text for entry in table.rows[0][1:]} == {"–"}


def test_an_estimate_of_energy_bears_a_tilde_and_its_source_is_named():
    assert energy(record(energy_wh=1.234, energy_source="estimate")) == "~1.23"
    assert energy(record(energy_wh=1.234, energy_source="rapl")) == "1.23"
    (table,) = make_tables(collection(both(energy_source="estimate")), ("map",))
    assert any("source: estimate" in note or "estimate" in note for note in table.notes)


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_every_note_reaches_every_form(form):
    made = collection(
        both(mde=0.021, overrides=["epochs 3"]), generated=True, warning="row-level split", failures=["oom: cell 7"]
    )
    text = " ".join(render(made, form, ("map",)).split())
    for note in ("GENERATED DATA", "row-level split", "epochs 3", "oom: cell 7", "0.021", "1,500 groups", "2,000"):
        assert note in text, note


def test_rows_that_share_a_group_with_train_are_a_warning_and_come_first():
    made = collection(both(), shared={"val": 0, "test": 67})
    (table,) = make_tables(made, ("map",))
    assert table.notes[0] == "WARNING: sort: 67 of 2000 test rows share their tweet with train"
    assert not any("share" in note for note in make_tables(collection(both()), ("map",))[0].notes)


def test_the_best_is_marked_in_every_form():
    made = collection(both() + both("poor+equal"), best=[("joint", "sort", "map", "good+equal")])
    assert render(made, "markdown", ("map",)).count("**0.250**") == 1
    assert render(made, "latex", ("map",)).count(r"\underline{0.250}") == 1
    assert render(made, "table", ("map",)).count("_0.250_") == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_name_neither_breaks_nor_styles_a_form(form):
    text = render(collection(both(HOSTILE)), form, ("map",))
    assert "red" in text
    if form == "json":
        assert json.loads(text)[0]["method"] == HOSTILE
    if form == "csv":
        assert next(csv.DictReader(io.StringIO(text)))["method"] == HOSTILE
    if form == "table":
        assert HOSTILE in text
    if form == "markdown":
        header, rule, row = [line for line in text.splitlines() if line.startswith("|")]
        assert header.count("|") == rule.count("|") == row.replace(r"\|", "").count("|")


def test_every_test_has_a_row_on_its_concepts_own_metric_and_its_null_below():
    done = significance.Test(
        "paired t", "equal means", "seed", 12, "mean difference", -0.0123, -2.0, 0.04, 0.0, -0.02, -0.004, "95 % t"
    )
    lacks = significance.Test("Wilcoxon", "symmetric", "seed", 5, "mean difference", reason="needs 10 seeds, has 5")
    tests = [done.as_dict(), lacks.as_dict()]
    (table,) = significance_tables(collection([record(metric="mae", tests=tests), record("ours+dmtl", "mae")]))
    assert table.title == "sort · tests of mae against ours+dmtl · Toy · protocol plain"
    first, second = (dict(zip(table.columns, (entry.text for entry in row), strict=True)) for row in table.rows)
    assert (first["effect"], first["interval"], first["p"]) == ("-0.012", "95 % [-0.020, -0.004]", "0.040")
    assert (first["n"], first["unit"], first["no p because"]) == ("12", "seed", "–")
    assert (second["p"], second["no p because"]) == ("–", "needs 10 seeds, has 5")
    assert "paired t: null: equal means" in table.notes


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_a_name_steers_no_terminal(form):
    text = render(collection(both("evil\x1b[31m+equal\x07")), form, ("map",))
    assert not {"\x1b", "\x07"} & set(text)


def test_markdown_shows_markup_as_it_is_written():
    text = render(collection(both("<b>*x*</b>`y`")), "markdown", ("map",))
    assert r"\<b>\*x\*\</b>\`y\`" in text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@A1", "'@A1"),
        ("+cmd|x", "'+cmd|x"),
        ("-x", "'-x"),
        ("-1", "-1"),
        ("+.5e3", "+.5e3"),
        ("a=1", "a=1"),
    ],
)
def test_a_text_that_a_spreadsheet_would_run_is_a_text_in_csv(name, written):
    (row,) = csv.DictReader(io.StringIO(render(collection([record(name, delta=-0.5)]), "csv", ())))
    assert (row["method"], row["delta"]) == (written, "-0.5")


def test_csv_has_one_row_a_record_and_comes_back():
    records = [*both(tests=[{"name": "crossed bootstrap", "p": 0.5}]), record(mean=None)]
    rows = list(csv.DictReader(io.StringIO(render(collection(records), "csv", ()))))
    assert len(rows) == 3
    assert json.loads(rows[0]["tests"]) == records[0]["tests"]
    assert float(rows[0]["ci_low"]) == 0.45
    assert rows[2]["mean"] == ""


def test_json_refuses_what_json_cannot_hold():
    with pytest.raises(ValueError, match="JSON"):
        render(collection([record(mean=float("nan"))]), "json", ())


def test_plain_text_has_no_escape_codes_and_all_columns(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = to_text([Table("t", tuple("abcdefgh"), (tuple(Entry("0.500 [0.450, 0.550]") for _ in range(8)),), (), "n")])
    assert "\x1b" not in text
    assert text.count("0.550]") == 8


def test_two_problems_are_told_apart():
    made = collection([record(), record(problem="alone")])
    made.info["problems"].append({"name": "alone", "concepts": {"sort": {"n_test": 2000}}})
    made.ranked["alone sort"] = ["good+equal"]
    titles = [table.title for table in make_tables(made, ())]
    assert len(set(titles)) == 2
    latex = to_latex(make_tables(made, ()))
    assert latex.count(r"\label{tab:joint-sort}") == latex.count(r"\label{tab:alone-sort}") == 1


def test_a_narrow_terminal_leaves_out_columns_and_says_so_but_cuts_no_number():
    rows = tuple((Entry(f"method-{n}"), Entry("0.5", best=n == 0), Entry("123,456,789")) for n in range(2))
    table = Table("title", ("method", "macro_f1", "parameters"), rows, ("a note",), "name")
    for width, whole in ((40, True), (25, False)):
        out = io.StringIO()
        _print(Console(file=out, width=width, force_terminal=True, color_system=None), table)
        text = out.getvalue()
        assert ("123,456,789" in text) is whole
        assert ("this terminal is too narrow for: parameters" in " ".join(text.split())) is not whole
        assert "0.5" in text
        assert "…" not in text


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [
        (0.70, 0.74, 3), (0.5, 0.6, 3), (0.3, 0.5, 2), (0.2, 0.7, 2), (0.8, 0.8, 3), (None, None, 3),
        (0.899, 0.9005, 3), (0.8998, 0.9001, 4), (0.0001, 0.0004, 4), (0.00001, 0.00004, 5), (0.1 + 0.2, 0.3, 3),
        (0.3, 0.1 + 0.2, 3), (-1e-17, 1e-17, 3), (1 / 3, 1 / 3 + 1e-8, 9),
    ],
)  # fmt: skip
def test_no_more_digits_than_two_of_the_half_width(low, high, places):
    assert decimals(low, high) == places


def test_values_and_differences_have_the_digits_of_their_intervals():
    wide = record(mean=0.51234, ci_low=0.30123, ci_high=0.72345, delta=0.0004, delta_low=-0.25, delta_high=0.251)
    table = make_tables(collection([wide, record(method="ours+dmtl")]), ("macro_f1",))[0]
    assert [entry.text for entry in table.rows[0][1:3]] == ["0.51 [0.30, 0.72]", "0.00 [-0.25, +0.25]"]


def test_what_is_missing_from_the_data_stands_under_every_table():
    notes = ("sort: 1 of 2 rows have a label", "16,772 of 18,082 rows have no image: the image is masked there")
    (table,) = make_tables(collection(both(), notes=notes, unreadable=3), ("macro_f1",))
    (line,) = [note for note in table.notes if note.startswith("data: ")]
    assert line == f"data: {notes[1]}; 3 rows are left out, their input cannot be read"
    (plain,) = make_tables(collection(both(), notes=notes[:1]), ("macro_f1",))
    assert not [note for note in plain.notes if note.startswith("data: ")]


def test_a_value_outside_its_own_interval_is_named():
    lies = [record(), record(method="ours+dmtl", mean=0.099, ci_low=0.109, ci_high=0.144)]
    (table,) = make_tables(collection(lies), ("macro_f1",))
    (line,) = [note for note in table.notes if "outside its own interval" in note]
    assert "macro_f1 of ours+dmtl;" in line
    (plain,) = make_tables(collection(both()), ("macro_f1",))
    assert not any("outside its own interval" in note for note in plain.notes)


def test_notes_break_between_words_in_a_terminal_and_nowhere_in_a_file():
    note = "stratified by digit, and a long_name_of_one_word that would be cut in two"
    table = Table("title", ("method",), ((Entry("a"),),), (note,), "name")
    out = io.StringIO()
    _print(Console(file=out, width=30, force_terminal=True, color_system=None), table)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("  ")]
    assert " ".join(line.strip() for line in lines) == note and max(map(len, lines)) <= 30
    assert f"  {note}\n" in to_text([table])
