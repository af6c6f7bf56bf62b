"""Tables: every format says the same, and whatever is wrong is one line with the row or line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbench.errors import UsageError
from mmbench.tables import distinct, numbers, read_table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_formats_agree(tmp_path: Path) -> None:
    expected = {"a": ["x", None, 'say "no"'], "b": ["1", "2.5", None]}
    csv = write(tmp_path / "t.csv", '\ufeffa,b\nx,1\n,2.5\n"say ""no""",\n')
    tsv = write(tmp_path / "t.tsv", 'a\tb\nx\t1\n\t2.5\nsay "no"\t\n')
    lines = [{"a": "x", "b": 1}, {"b": 2.5, "a": None}, {"a": 'say "no"'}]
    jsonl = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    for table in (read_table(csv), read_table(tsv, quotes=False), read_table(jsonl)):
        assert table.columns == expected and table.n == 3


def test_parquet_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    frame = pd.DataFrame({"a": ["x", None], "n": [1, None], "f": [1.5, 2.0], "l": [["u", "v"], []], "t": [True, False]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns == {
        "a": ["x", None], "n": ["1", None], "f": ["1.5", "2"], "l": [["u", "v"], []], "t": ["true", "false"],
    }  # fmt: skip


def test_a_broken_parquet_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"t\.parquet") as raised:
        read_table(write(tmp_path / "t.parquet", b"PAR1 no"))
    assert "\n" not in str(raised.value)


def test_json_values_and_a_column_that_starts_late(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"a": true, "l": ["u", 2, null]}\n{"b": 3.0}\n')
    assert read_table(path).columns == {"a": ["true", None], "l": [["u", "2"], None], "b": [None, "3"]}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "a,b\n1,2\n3\n", r"row 2 \(line 3\) has 1 fields, the header 2"),
        ("t.csv", "a,a\n1,2\n", "column 'a' stands twice"),
        ("t.csv", "a,b\n", "no rows"),
        ("t.csv", "", "no rows"),
        ("t.csv", 'a,b\n1,"2\n', "line 2"),
        ("t.csv", b"a,b\n1,\xff\n", "byte 6 is not utf-8"),
        ("t.jsonl", '{"a": 1}\nnot\n', "line 2 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 is not an object"),
        ("t.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("t.xlsx", "", r"expected a table \(.csv"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str, content: str | bytes, told: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UsageError, match=told) as raised:
        read_table(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_no_file_no_encoding_no_separator(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_table(tmp_path / "t.csv")
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    with pytest.raises(UsageError, match="no known encoding"):
        read_table(path, encoding="klingon")
    with pytest.raises(UsageError, match="separator"):
        read_table(path, separator="\n")


def test_another_encoding_and_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a;b\né;2\n".encode("cp1252"))
    assert read_table(path, ";", encoding="cp1252").columns == {"a": ["é"], "b": ["2"]}


def test_columns_and_numbers_name_the_cell(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", "age,name\n1,x\n,y\nold,z\n"))
    with pytest.raises(UsageError, match=r"row 3, column 'age' is 'old', expected a number"):
        numbers(table, "age")
    with pytest.raises(UsageError, match="did you mean name"):
        table.column("nam")
    table = read_table(write(tmp_path / "t.csv", "age\n1\n-2.5e1\n"))
    assert numbers(table, "age") == [1, -25]


def test_distinct_sorts_numbers_as_numbers() -> None:
    assert distinct(["10", "9", "", "9"]) == ["9", "10"]
    assert distinct(["b", "10", "9"]) == ["10", "9", "b"]


def test_columns_that_hold_what_no_cell_can_stop_only_who_asks_for_them(tmp_path: Path) -> None:
    lines = '{"a": 1, "b": {"c": 2}, "d": [1]}\n{"a": 2, "b": null, "d": [1, [2]]}\n'
    read = read_table(write(tmp_path / "t.jsonl", lines))
    assert read.columns == {"a": ["1", "2"]} and read.n == 2
    for name, told in (("b", "row 1, column 'b' holds a dict"), ("d", "row 2, column 'd' holds a list")):
        with pytest.raises(UsageError, match=told):
            read.texts(name)


def test_nested_columns_of_parquet(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": [1, 2], "b": [{"c": 1}, {"c": 2}]}).to_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert read.texts("a") == ["1", "2"]
    with pytest.raises(UsageError, match="row 1, column 'b' holds a dict"):
        read.column("b")


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    """As an index that was written along, and as the commas that a spreadsheet leaves at the end of its lines."""
    read = read_table(write(tmp_path / "t.csv", ",a,b,,\n0,1,2,,\n1,3,4,,\n"))
    assert read.columns == {"a": ["1", "3"], "b": ["2", "4"]} and read.n == 2


def test_marks_of_nothing_are_nothing(tmp_path: Path) -> None:
    read = read_table(write(tmp_path / "t.csv", "a,b\nNA,NA b\n1, ? \n"))
    assert read.without(("NA", "?")).columns == {"a": [None, "1"], "b": ["NA b", None]}
    assert read.without(()) is read
