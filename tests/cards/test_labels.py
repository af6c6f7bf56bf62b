"""What a card predicts, and on which split: labels, scores, and who is train, val and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.card import card_task

from .conftest import CARD, TABLE, load, refused


def test_declared_labels_keep_their_order_and_bind(tmp_path: Path) -> None:
    card = CARD.replace('column = "mood"', 'column = "mood"\nlabels = ["sad", "odd", "glad"]\nbackground = "odd"')
    dataset = load(tmp_path, card)
    assert dataset.targets["mood"].tolist() == [2, 0, -1, 2, 0]
    assert dataset.concepts[0].background == "odd"
    refused(tmp_path, r"row 1, column 'mood' holds 'great', which is not among the labels sad, odd, glad", card,
            TABLE.replace("red,glad,x;y", "red,great,x;y"))  # fmt: skip


def test_an_empty_list_of_labels_is_what_the_card_says(tmp_path: Path) -> None:
    card = CARD.replace('column = "tags"', 'column = "tags"\nempty = "unlabelled"')
    assert load(tmp_path, card).targets["tags"][1].tolist() == [-1, -1]


def test_a_column_a_label(tmp_path: Path) -> None:
    card = CARD.replace('column = "tags"', 'columns = ["hot", "wet"]')
    extra = ["hot,wet", "1,0", "0,0", "true,False", "1,", "0.0,1.0"]
    table = "\n".join(f"{line},{more}" for line, more in zip(TABLE.splitlines(), extra, strict=True))
    dataset = load(tmp_path, card, table)
    assert dataset.targets["tags"].tolist() == [[1, 0], [0, 0], [1, 0], [-1, -1], [0, 1]]
    assert dataset.concepts[1].labels == ("hot", "wet")
    refused(tmp_path, r"row 1, column 'wet' is '2', expected 0 or 1", card, table.replace("train,1,0", "train,1,2"))


SCORED = CARD.replace(
    '[concepts.mood]\nkind = "exclusive"\ncolumn = "mood"', '[concepts.size]\nkind = "score"\ncolumn = "size"'
)
SCORED = SCORED.replace('numeric = ["size"]\n', "")


def test_a_score_is_a_number_a_row_and_nothing_where_the_cell_is_empty(tmp_path: Path) -> None:
    dataset = load(tmp_path, SCORED)
    np.testing.assert_array_equal(dataset.targets["size"], [1.5, np.nan, -2, 3, 4])
    assert dataset.targets["size"].dtype == np.float64
    assert dataset.labelled("size").tolist() == [True, False, True, True, True]
    concept = dataset.concepts[0]
    assert (concept.name, concept.kind, concept.labels, concept.bounds) == ("size", "score", ("size",), None)
    assert "size: 1 rows have no label: masked" in dataset.notes
    bounded = load(tmp_path, SCORED.replace('column = "size"', 'column = "size"\nbounds = [-2, 4]'))
    assert bounded.concepts[0].bounds == (-2, 4)


@pytest.mark.parametrize(
    ("bounds", "cell", "told"),
    [
        ("", "inf", r"t\.csv: row 3, column 'size' is -inf, expected a finite number"),
        ("", "much", r"row 3, column 'size' is '-much', expected a number"),
        ("bounds = [-1.5, 4]", "2", r"row 3, column 'size' is -2, expected one from -1\.5 to 4"),
        ("bounds = [4, -2]", "2", r"\[concepts\.size\]: bounds was given \[4\.0, -2\.0\]: expected the lowest"),
        ("bounds = [1, 1]", "2", "expected the lowest, then the highest"),
        ("bounds = [1]", "2", r"\[concepts\.size\]: bounds was given \[1\]: 1 is missing"),
        ("bounds = [1, inf]", "2", r"\[concepts\.size\]: bounds"),
        ('labels = ["a"]', "2", r"unknown key in .*\[concepts\.size\] 'labels'"),
    ],
)
def test_a_score_that_is_none_is_one_line(tmp_path: Path, bounds: str, cell: str, told: str) -> None:
    card = SCORED.replace('column = "size"', f'column = "size"\n{bounds}')
    refused(tmp_path, told, card, TABLE.replace(",-2,", f",-{cell},"))


def test_a_column_without_any_score_is_one_line(tmp_path: Path) -> None:
    rows = "\n".join(",".join("" if place == 4 else cell for place, cell in enumerate(line.split(",")))
                     for line in TABLE.replace('"a, b"', "a").splitlines()[1:])  # fmt: skip
    refused(tmp_path, "column 'size' has no number in any row", SCORED, TABLE.splitlines()[0] + "\n" + rows + "\n")


def many(n: int, part: str = "") -> str:
    rows = [f"r{i},g{i // 3},t{i},,{i},red,{'glad' if i % 3 else 'sad'},x,{part}" for i in range(n)]
    return "\n".join([TABLE.splitlines()[0], *rows, ""])


def test_a_drawn_split_keeps_groups_and_follows_the_seed(tmp_path: Path) -> None:
    card = CARD.replace('column = "part"', "fractions = [0.5, 0.25, 0.25]")
    first, second = load(tmp_path, card, many(240)), load(tmp_path, card, many(240), seed=1)
    split = first.problems[0].split
    assert [(split == part).sum() for part in ("train", "val", "test")] == [120, 60, 60]
    assert all(len(set(split[first.groups == g].tolist())) == 1 for g in set(first.groups.tolist()))
    assert (split != second.problems[0].split).any()
    assert first.fingerprint == second.fingerprint


def test_a_drawn_split_is_balanced_over_the_parts_of_a_scale(tmp_path: Path) -> None:
    lines = [f"r{k},g{k},t{k},,{k % 100},red,glad,x;y," for k in range(500)]
    table = "\n".join([TABLE.splitlines()[0], *lines, ""])
    dataset = load(tmp_path, SCORED.replace('column = "part"', "fractions = [0.5, 0.25, 0.25]"), table)
    target, split = dataset.targets["size"], dataset.problems[0].split
    for part, share in (("train", 50), ("val", 25), ("test", 25)):
        counts = np.histogram(target[split == part], bins=5)[0]
        assert abs(counts - share).max() <= 3, part


def test_validation_rows_are_taken_from_train_on_request(tmp_path: Path) -> None:
    table = (
        many(60, "train")
        .replace("g19,", "last,")
        .replace("r57,last,t57,,57,red,sad,x,train", "r57,z,t,,57,red,sad,x,test")
    )
    refused(tmp_path, r"column 'part' has no val rows; \[split\] val_fraction = 0.2", CARD, table)
    dataset = load(tmp_path, CARD + "val_fraction = 0.25\n", table)
    split = dataset.problems[0].split
    assert (split == "test").sum() == 1
    assert 12 <= (split == "val").sum() <= 18
    assert all(len(set(split[dataset.groups == g].tolist())) == 1 for g in set(dataset.groups.tolist()))


def test_a_split_that_tears_a_group_is_refused_or_said_everywhere(tmp_path: Path) -> None:
    table = TABLE.replace("d,u3", "d,u1")
    refused(tmp_path, r"1 groups are in two splits \(first: 'u1'\), so the split leaks", table=table)
    dataset = load(tmp_path, CARD + "leaks = true\n", table)
    assert any("the split leaks" in note for note in dataset.notes)
    assert "leaks" in card_task(tmp_path / "mine.toml").protocols[0].warning


@pytest.mark.parametrize(
    ("word", "part"), [("trn", "train"), ("Training", "train"), ("DEV", "val"), (" testing ", "test")]
)
def test_words_for_a_split(tmp_path: Path, word: str, part: str) -> None:
    dataset = load(tmp_path, table=TABLE.replace("y;x,", f"y;x,{word}"))
    assert dataset.problems[0].split.tolist()[4] == part
