"""A card of scores and classes: from the terminal to every report, the gate and another model's answers."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import numpy as np
import pytest

from mmbench.hashing import digest

CARD = """\
name = "films"
table = "films.csv"
id = "film"
group = "director"
licence = "CC0"
[modalities.facts]
kind = "tabular"
numeric = ["x_*"]
[concepts.rating]
kind = "score"
column = "rating"
bounds = [-3, 3]
[concepts.length]
kind = "score"
column = "minutes"
[concepts.mood]
kind = "exclusive"
column = "mood"
[split]
column = "part"
"""


@pytest.fixture
def films(tmp_path):
    """120 films whose rating and mood follow one number; each seventh has no rating."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    rating = np.clip(2 * x[:, 0], -3, 3).round(2)
    lines = ["film,director,x_1,x_2,x_3,rating,minutes,mood,part"]
    for row, (a, b, c) in enumerate(x):
        told = "" if row % 7 == 3 else f"{rating[row]}"
        part = ("train", "train", "train", "dev", "test")[row // 2 % 5]
        mood = "glad" if a > 0 else "sad"
        lines.append(f"f{row},d{row // 2},{a:.4f},{b:.4f},{c:.4f},{told},{90 + 10 * b:.1f},{mood},{part}")
    (tmp_path / "films.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "films.toml").write_text(CARD, encoding="utf-8")
    return tmp_path


def run(mmbench, *more):
    return mmbench(
        "run", "films", "--plugin", "films.toml", "--method", "concat+equal,linear:all,majority", "--seeds", "2",
        "--epochs", "3", "--no-energy", *more,
    )  # fmt: skip


def test_scores_from_a_card_to_every_report(mmbench, films):
    ran = run(mmbench)
    assert ran.code == 0, ran.err
    heads = {line.split()[0]: after for line, after in pairwise(ran.out.splitlines()) if " · films" in line}
    assert "acc7" in heads["rating"] and "corr" in heads["length"] and "acc7" not in heads["length"]
    folder = next((films / "results" / "runs").iterdir())
    records = json.loads(mmbench("report", "--format", "json").out)
    found = {(r["concept"], r["method"], r["metric"]): r for r in records if r["label"] == ""}
    for method, seeds in (("concat+equal", (0, 1)), ("linear:all", (0,))):
        for concept in ("rating", "length"):
            errors, correlations = [], []
            for seed in seeds:
                cell = folder / "cells" / "joint" / method.replace(":", "%3A") / f"seed-{seed}" / "predictions.npz"
                with np.load(cell) as stored:
                    rows = (stored["split"] == "test") & stored[f"mask/{concept}"]
                    told, true = stored[f"scores/{concept}"][rows, 0], stored[f"targets/{concept}"][rows]
                errors.append(np.abs(told - true).mean())
                correlations.append(np.corrcoef(told, true)[0, 1])
            assert found[concept, method, "mae"]["mean"] == pytest.approx(np.mean(errors), rel=1e-12)
            assert found[concept, method, "corr"]["mean"] == pytest.approx(np.mean(correlations), rel=1e-9)
            assert found[concept, method, "mae"]["n_test"] == rows.sum()
    rated = [row for row in range(120) if row // 2 % 5 == 4 and row % 7 != 3]
    assert found["rating", "concat+equal", "mae"]["n_test"] == len(rated) < 24
    assert ("rating", "concat+equal", "acc7") in found and found["rating", "concat+equal", "acc7"]["mean"] is not None
    assert found.get(("length", "concat+equal", "acc7"), {"mean": None})["mean"] is None  # no scale from -3 to 3
    for shape in ("latex", "html"):
        told = mmbench("report", "--format", shape)
        assert told.code == 0 and "rating" in told.out and "MAE" in told.out.upper(), shape
    rows = list(csv.DictReader(io.StringIO(mmbench("report", "--format", "csv").out)))
    assert {row["metric"] for row in rows if row["concept"] == "rating"} >= {"mae", "corr", "acc7", "acc2_non0"}


def test_a_score_is_gated_where_mae_is_named_and_more_of_it_is_worse(mmbench, films):
    assert run(mmbench).code == 0
    assert mmbench("check", "--against", "f1.json", "--update").code == 0
    assert "not gated" in mmbench("check", "--against", "f1.json").out
    assert mmbench("check", "--against", "mae.json", "--update", "--metric", "mae").code == 0
    assert mmbench("check", "--against", "mae.json").code == 0
    for cell in films.glob("results/runs/*/cells/joint/concat+equal/*/predictions.npz"):
        with np.load(cell) as stored:
            arrays = dict(stored)
        away = np.nan_to_num(np.sign(arrays["scores/rating"][:, 0] - arrays["targets/rating"]))
        arrays["scores/rating"] = arrays["scores/rating"] + away[:, None]  # each error grows by one
        np.savez(cell, **arrays)
    worse = mmbench("check", "--against", "mae.json")
    alarms = [line.split()[:2] for line in worse.out.splitlines() if "REGRESSION" in line]
    assert worse.code == 1 and ["concat+equal", "rating"] in alarms
    assert "a rise of more than 0.01" in worse.out


def test_answers_of_another_model_are_scored(mmbench, films):
    assert run(mmbench).code == 0
    out = mmbench("data", "export", "films", "--plugin", "films.toml", "--output", "rows.jsonl")
    assert out.code == 0, out.err
    asked = [json.loads(line) for line in (films / "rows.jsonl").read_text().splitlines()]
    table = {row["film"]: row for row in csv.DictReader((films / "films.csv").open())}
    with (films / "answers.jsonl").open("w") as file:
        for row in asked:
            truth = table[row["id"]]
            answer = {"rating": float(truth["rating"] or 0), "length": float(truth["minutes"]), "mood": truth["mood"]}
            file.write(json.dumps({"id": row["id"], **answer}) + "\n")
    told = mmbench("score", "films", "--plugin", "films.toml", "--predictions", "answers.jsonl", "--name", "oracle")
    assert told.code == 0, told.err
    records = json.loads(mmbench("report", "--format", "json").out)
    mine = {(r["concept"], r["metric"]): r["mean"] for r in records if r["method"] == "oracle" and r["label"] == ""}
    assert mine["rating", "mae"] == mine["length", "mae"] == 0
    assert mine["rating", "corr"] == pytest.approx(1) and mine["mood", "macro_f1"] == 1


def test_the_proposed_card_of_numbers_is_a_score(mmbench, films):
    (films / "films.toml").unlink()
    told = mmbench("data", "init-card", "films.csv", "--label", "rating", "--label", "mood")
    assert told.code == 0 and '[concepts.rating]\nkind = "score"\ncolumn = "rating"\nbounds = [-3.0, 3.0]' in told.out


def test_a_run_finds_its_own_card_again_while_it_is_unchanged(mmbench, films):
    more = '[modalities.more]\nkind = "tabular"\nnumeric = ["x_1"]\n[concepts.rating]'
    card, text = films / "films.toml", CARD.replace("[concepts.rating]", more)
    card.write_text(text)
    answers = "\n".join(["id,mood", *(f"f{row},glad" for row in range(120)), ""])
    (films / "answers.csv").write_text(answers)
    ran = mmbench(
        "run", "films", "--plugin", "films.toml", "--concepts", "mood", "--method", "igfn", "--seeds", "1",
        "--epochs", "1", "--no-energy",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    asked = (
        ("explain", "--method", "igfn"),
        ("score", "films", "--run", "films", "--predictions", "answers.csv", "--name", "glad"),
    )
    for words in asked:
        done = mmbench(*words)
        assert done.code == 0, done.err
    card.write_text(text + "# another one\n")
    for words in asked:
        assert (
            "films.toml, has changed since: give the one that it was run with as --plugin" in mmbench(*words).complaint
        )
        assert mmbench(*words, "--plugin", "films.toml").code == 0
    card.rename(films / "elsewhere.toml")
    for words in asked:
        assert "films.toml, is not there" in mmbench(*words).complaint
        assert mmbench(*words, "--plugin", "elsewhere.toml").code == 0


def test_no_code_is_run_from_where_a_run_says_that_its_card_lies(mmbench, films):
    assert run(mmbench).code == 0
    (info,) = films.glob("results/runs/*/run.json")
    code = films / "films.py"
    code.write_text('NAME = "films"\nSUMMARY = ""\nopen("ran", "w").close()\n')
    (films / "films.toml").unlink()
    for place in (str(code), "../../../films.py"):
        record = json.loads(info.read_text())
        record["task"]["card"] = {"path": place, "digest": digest([code.read_bytes()])}
        info.write_text(json.dumps(record))
        assert "films.py, is not there" in mmbench("explain", "--method", "concat").complaint
    record["task"]["card"] = [place]
    info.write_text(json.dumps(record))
    assert "unknown task 'films'" in mmbench("explain", "--method", "concat").complaint
    assert not (films / "ran").exists()
