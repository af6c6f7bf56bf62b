"""Files of answers: the same rows from every format, and one clear line for each that is malformed."""

from __future__ import annotations

import hashlib
import json

import pytest

from mmbench.errors import UsageError
from mmbench.running.answer_files import read_answer_file, shown

ROWS = [{"id": "a", "topic": "flood, or so"}, {"id": "b", "topic": ""}]
SAME = {
    "x.csv": 'id,topic\r\na,"flood, or so"\r\nb,""\r\n',
    "bom.csv": '\ufeffid,topic\na,"flood, or so"\n\nb,\n',
    "index.csv": ',id,topic\n0,a,"flood, or so"\n1,b,\n',
    "x.tsv": "id\ttopic\na\tflood, or so\nb\t\n",
    "x.JSON": json.dumps(ROWS),
    "keyed.json": json.dumps({row["id"]: {"topic": row["topic"]} for row in ROWS}),
    "bom.json": "\ufeff" + json.dumps(ROWS),
    "x.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "crlf.ndjson": "\r\n".join(map(json.dumps, ROWS)),
}


@pytest.mark.parametrize("name", SAME)
def test_every_format_gives_the_same_rows(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SAME[name].encode())
    file = read_answer_file(path)
    assert list(file.rows) == ROWS
    assert file.id_field == "id"
    assert file.sha256 == hashlib.sha256(SAME[name].encode()).hexdigest()
    assert file.format == name.rpartition(".")[2].lower()


def test_an_object_from_id_to_answer_calls_a_bare_answer_answer(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": "flood", "b": null}')
    assert list(read_answer_file(path).rows) == [{"id": "a", "answer": "flood"}, {"id": "b", "answer": None}]


def test_a_line_separator_inside_a_text_ends_no_line_of_json(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "one\u2028two"}, ensure_ascii=False) + "\n")
    assert read_answer_file(path).rows[0]["text"] == "one\u2028two"


@pytest.mark.parametrize("field", ["image_path", "image"])
def test_an_image_path_serves_as_id_and_id_goes_first(tmp_path, field):
    path = tmp_path / "x.csv"
    path.write_text(f"{field},topic\na.jpg,flood\n")
    assert read_answer_file(path).id_field == field
    path.write_text(f"{field},id,topic\na.jpg,a,flood\n")
    assert read_answer_file(path).id_field == "id"


MALFORMED = [
    ("x.csv", b"", "is empty"),
    ("x.json", b" \n\t ", "is empty"),
    ("x.csv", b"id,topic\n", "has no rows"),
    ("x.json", b"[]", "has no rows"),
    ("x.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8 (byte 0x89 at 0)"),
    ("x.csv", b"id\x00,topic\na,b\n", "NUL"),
    ("x.csv", "id,topic\na,flood\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    ("x.jsonl", "{}".encode("utf-16-be"), "NUL"),
    ("x.txt", b"id,topic\na,flood\n", "expected .csv, .tsv"),
    ("x", b"id,topic\na,flood\n", "expected .csv, .tsv"),
    ("x.csv", b"id,topic,topic\na,flood,fire\n", "has 1 columns of one name: 'topic'"),
    ("x.csv", b"id,topic\na,flood\nb\nc,fire,9\n", "has 2 rows of another length than its header: line 3 has 1"),
    ("x.csv", b'id,topic\na,"flood\n', "cannot be read as a table: line 2"),
    ("x.csv", b"name,topic\na,flood\n", "has no column of ids"),
    ("x.csv", b"id,topic\na,flood\n,fire\n", "has 1 rows without an id: the first is row 2"),
    ("x.csv", b"id,topic\na," + b"x" * 200_000 + b"\n", "field larger than field limit"),
    ("x.json", b'[{"id": "a", "topic": "flood"}, {"id": "b"', "is not JSON: "),
    ("x.json", b'{"a": "flood", "b": "fire", "a": "fire"}', "gives 1 keys of an object twice: 'a'"),
    ("x.json", b"17", "holds 17, expected a list of objects"),
    ("x.json", b'["flood", "fire"]', "has 2 rows that are no objects: row 1 is 'flood'"),
    ("x.json", b"[" * 100_000, "nested too deeply"),
    ("x.json", b'[{"id": ' + b"9" * 5000 + b"}]", "is not JSON"),
    ("x.jsonl", b'{"id": "a"}\n{"id": "b", \n', "is not JSON, line 2"),
    ("x.jsonl", b"[1, 2]\n", "row 1 is a list of 2"),
    ("x.parquet", b"id,topic\na,flood\n", "Parquet|needs pyarrow"),
]


@pytest.mark.parametrize(("name", "content", "said"), MALFORMED)
def test_a_malformed_file_is_one_line_that_names_it(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_answer_file(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert any(part in line for part in said.split("|")), line
    assert line.isprintable()
    assert len(line) < 400


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("nowhere.csv", "folder.csv"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_answer_file(tmp_path / name)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"id": "a", "topic": ["flood"], "informative/yes": 0.5}, {"id": "b", "topic": None, "informative/yes": 1.0}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert list(read_answer_file(tmp_path / "x.parquet").rows) == rows


def test_what_is_shown_of_a_stranger_s_value_is_short_and_printable():
    assert shown("a\x1b[31m\nb").isprintable()
    assert len(shown("x" * 1000)) <= 60
    assert shown([[[]]]) == "a list of 1"
