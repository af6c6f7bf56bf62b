"""Cards and cells that are wrong: one line that names the card's key, or the file, row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.arrays import write_npz

from .conftest import CARD, TABLE, refused


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('licence = "CC0"', "", "has no 'licence'"),
        ('licence = "CC0"', 'license = "CC0"', "unknown key in task card .*'license': did you mean licence"),
        ('name = "mine"', 'name = "My Data"', "name was given 'My Data'"),
        ("numeric =", "numerics =", r"unknown key in .*\[modalities.facts\] 'numerics': did you mean numeric"),
        ('kind = "tabular"', 'kind = "table"', r"unknown kind of .* 'table'"),
        ('kind = "tabular"', "", r"\[modalities.facts\] has no kind"),
        ('kind = "tabular"', "kind = [1]", r"unknown kind of"),
        ('column = "part"', "fraction = [1]", r"unknown key in .*\[split\] 'fraction': did you mean fractions"),
        ('column = "part"', "fractions = [0.5, 0.5, 0.5]", "three shares with sum 1"),
        ('column = "part"', 'column = "parts"', "unknown column of .*t.csv 'parts': did you mean part"),
        ("[modalities.words]", '[modalities."a,b"]', "may not be empty or 'all'"),
        ('numeric = ["size"]', 'numeric = ["size", "mood"]', "column 'mood' is the label of mood"),
        ('categorical = ["colour"]', 'categorical = ["part"]', "column 'part' is the split"),
        ('column = "tags"', 'column = "tags"\ncolumns = ["x"]', "give either column"),
        ('column = "tags"', 'column = "tags"\nempty = "no"', "empty was given 'no'"),
        ('column = "mood"', 'column = "mood"\nlabels = ["a", "a"]', "a label stands twice"),
        ('id = "id"', 'id = "who"', "row 2, column 'who' is 'u1', which row 1 has as well"),
        ("[concepts.mood]", "primary_metric = 3\n[concepts.mood]", "unknown key in .*facts"),
        ('licence = "CC0"', 'licence = "CC0"\nprimary_metric = "macrof1"', "did you mean macro_f1"),
        ('licence = "CC0"', "licence = ", "is not TOML"),
        ('table = "t.csv"', 'table = "u.csv"', r"u\.csv: no such file"),
    ],
)
def test_a_wrong_card_is_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in CARD
    refused(tmp_path, told, CARD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",1.5,red", ",big,red", r"t\.csv: row 1, column 'size' is 'big', expected a number"),
        ("c,u2", "c,", r"row 3, column 'who' is empty: every row needs a group"),
        ("c,u2", ",u2", r"row 3, column 'id' is empty"),
        (",TEST", ",exam", r"row 4, column 'part' is 'exam', expected train, val, test"),
        ("x,TEST", "x", r"row 4 \(line 5\) has 8 fields, the header 9"),
    ],
)
def test_a_wrong_cell_names_file_row_and_column(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TABLE
    refused(tmp_path, told, table=TABLE.replace(old, new, 1))


def test_a_card_without_modalities_or_concepts(tmp_path: Path) -> None:
    head = CARD.split("[modalities")[0]
    refused(tmp_path, r"has no \[modalities.NAME\]", head)
    refused(tmp_path, r"has no \[concepts.NAME\]", CARD.split("[concepts")[0])


@pytest.mark.parametrize("encoding", ["hex", "no-such", "a\\u0000b", ""])
def test_an_encoding_that_is_none(tmp_path: Path, encoding: str) -> None:
    card = CARD.replace('licence = "CC0"', f'licence = "CC0"\nencoding = "{encoding}"')
    refused(tmp_path, "is no known encoding", card)
    (tmp_path / "t.txt").write_text("x")
    parquet = card.replace("t.csv", "t.npz").replace('columns = ["text", "more"]', 'columns = ["text"]\nroot = "."')
    columns = {name: np.array(["t.txt"] * 5) for name in ("text", "colour")}
    columns |= {
        "id": np.arange(5),
        "who": np.arange(5),
        "size": np.ones(5),
        "mood": np.array(list("ababa")),
        "tags": np.array(["x"] * 5),
    }
    write_npz(tmp_path / "t.npz", columns | {"part": np.array(["train", "train", "val", "test", ""])})
    refused(tmp_path, r"t\.txt: .* is no known encoding", parquet)
