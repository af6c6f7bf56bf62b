"""Files of predictions with anything anywhere: matched to samples and concepts, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mmbench.contracts import Concept, Dataset
from mmbench.running.answer_files import read_answer_file
from mmbench.running.answers import match_answers

from .conftest import ODD, altered, damaged, hunt, told

CONCEPTS = (
    Concept("topic", ("not_urgent", "flood", "fire")),
    Concept("needs", ("food", "clean water"), "multilabel"),
    Concept("rating", ("stars",), "score", bounds=(-3.0, 3.0)),
)
IDS = np.array([f"img/{n}.jpg" for n in range(5)])
TARGETS = {"topic": np.zeros(5, np.int64), "needs": np.zeros((5, 2), np.int64), "rating": np.zeros(5)}
DATASET = Dataset(IDS, IDS, {}, CONCEPTS, TARGETS, (), "0", "t")
LABELS: list[Any] = [
    {"id": name, "topic": "flood", "needs": ["food"] * (n % 2), "rating": n / 2} for n, name in enumerate(IDS.tolist())
]
SCORES: list[Any] = [
    {
        "id": name,
        "topic/not_urgent": 0.2,
        "topic/flood": 0.5,
        "topic/fire": 0.3,
        "needs/food": 0.1,
        "needs/clean water": 1,
    }
    for name in IDS.tolist()
]


def as_csv(rows: Any, separator: str = ",") -> bytes:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    writer = csv.writer(stream, delimiter=separator)
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] if isinstance(row, dict) else [row] for row in rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def as_tsv(rows: Any) -> bytes:
    return as_csv(rows, "\t")


def as_json(rows: Any) -> bytes:
    return json.dumps(rows).encode()


def as_object(rows: Any) -> bytes:
    """From id to answer, where rows have an id."""
    return json.dumps({str(row["id"]): row for row in rows if isinstance(row, dict) and "id" in row}).encode()


def as_json_lines(rows: Any) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def as_parquet(rows: Any) -> bytes:
    """Nothing where Arrow does not take the rows."""
    stream = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    except (pyarrow.ArrowException, UnicodeError, OverflowError, ValueError, TypeError, AttributeError, KeyError):
        return b""
    return stream.getvalue()


@pytest.mark.parametrize("rows", [LABELS, SCORES], ids=["labels", "scores"])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("p.json", as_json), ("p.json", as_object), ("p.jsonl", as_json_lines), ("p.csv", as_csv), ("p.tsv", as_tsv),
        ("p.parquet", as_parquet),
    ],
)  # fmt: skip
def test_predictions(tmp_path: Path, name: str, form: Any, rows: list[Any]) -> None:
    path = tmp_path / name

    def attempt(content: bytes) -> str:
        path.write_bytes(content)

        def read() -> None:
            matched = match_answers(read_answer_file(path), DATASET, CONCEPTS)
            for concept in CONCEPTS:
                if concept.name in matched.answers:
                    found = matched.answers[concept.name]
                    assert found.scores.shape == (5, len(concept.labels))
                    assert np.isfinite(found.scores[found.given & ~found.unparsed]).all()

        line = told(read)
        assert not line or name in line
        return line

    names = ("topic", "needs", "rating", "topic/flood", "answer", "image_path", "id")
    odd = (
        *ODD,
        "flood",
        ["flood"],
        "food|clean water",
        {"flood": 1},
        {"flood": 0.1, "fire": 0.2, "not_urgent": 0.7},
    )
    hunt(60, altered(rows, odd, names).map(form) | damaged(form(rows)), attempt)
