"""From the rows of a file of answers to scores by concept, over all samples of a data set.

An answer is a label's name, for a multi-label concept some of them, or a score in [0, 1] for each label; to a score
concept it is a number. Names are
matched as they are written; else without regard to case, quotes, surrounding space, a final period, and spaces for
underscores. Scores are taken as they are: those of an exclusive concept need not sum to 1. What cannot be read as an
answer stays one that is wrong (:data:`mmbench.evaluation.decisions.NO_ANSWER`); where a number is asked for nothing
says how wrong, and it is refused.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Dataset
from mmbench.errors import UsageError
from mmbench.evaluation.decisions import NO_ANSWER
from mmbench.running.answer_files import ANSWER_FIELD, AnswerFile, first, shown

EXPORTED = ("group", "text", "media", "concepts")  # what an exported row has beside its id
AROUND = " \t\r\n\"'`“”‘’«»*"
SAID = 3  # kinds of mistakes that one line holds
SEPARATORS = re.compile(r"[|;,]")


@dataclass(frozen=True)
class Answers:
    """One concept's answers, a row a sample of the data set.

    Attributes:
        scores: (n, K) float64; :data:`NO_ANSWER`, of a score NaN, in rows that were not given or cannot be read.
        given: (n,) bool: the file has an answer, readable or not.
        unparsed: (n,) bool: given, but not readable.
        normalised: (n,) bool: a label was matched by its normal form only.
        hard: whether the answers are labels, not scores.
        unread: the answers that are not readable, as a line shows them, by row.
    """

    scores: NDArray[np.float64]
    given: NDArray[np.bool_]
    unparsed: NDArray[np.bool_]
    normalised: NDArray[np.bool_]
    hard: bool
    unread: dict[int, str]


@dataclass(frozen=True)
class Matched:
    """What a file says of a data set: answers by concept (only those that the file has), and fields that say nothing.

    ``rows`` (n,) bool: the samples the file has a row of.
    """

    answers: dict[str, Answers]
    ignored: tuple[str, ...]
    rows: NDArray[np.bool_]


def match_answers(file: AnswerFile, dataset: Dataset, concepts: Sequence[Concept]) -> Matched:
    """Find each row's sample and each concept's answers.

    Raises:
        UsageError: ids that are unknown or given twice, labels that do not exist, scores that are no finite numbers in
            [0, 1] or not there for every label, answers to a score concept that are no numbers, no answer to any
            concept, or none of a concept that can be read: named (the first three) and counted.
    """
    places, wrong = _places(file, dataset)
    fields = dict.fromkeys(name for row in file.rows for name in row)
    answers, used = {}, {file.id_field}
    for concept in concepts:
        names = _fields_of(concept, list(fields), alone=len(concepts) == 1)
        used |= names.keys()
        if names:
            found, reasons = _answers_of(concept, names, file, places, len(dataset.ids))
            wrong += reasons
            answers[concept.name] = found
    ignored = [name for name in fields if name not in used and name not in EXPORTED]
    if not answers:
        expected = " or ".join(f"{c.name}, {c.name}/{c.labels[0]} …" for c in concepts[:2])
        wrong.append(f"no answers: expected fields {expected}, found {first(fields)}")
    if wrong:
        more = f"; and {len(wrong) - SAID} more of the kind" if len(wrong) > SAID else ""
        raise UsageError(f"{file.path}: {'; '.join(wrong[:SAID])}{more}")
    rows = np.zeros(len(dataset.ids), dtype=np.bool_)
    rows[places] = True
    return Matched(answers, tuple(ignored), rows)


def _places(file: AnswerFile, dataset: Dataset) -> tuple[list[int], list[str]]:
    """Each row's place in the data set (-1 where there is none), and what is wrong with the ids."""
    known = {str(sample): place for place, sample in enumerate(dataset.ids)}
    paths: dict[str, int] = {}
    for values in (v for v in dataset.inputs.values() if not isinstance(v, np.ndarray)):
        paths |= {str(value): place for place, value in enumerate(values) if isinstance(value, Path)}
    given = [str(row[file.id_field]).strip() for row in file.rows]
    places = [known.get(sample, paths.get(sample, known.get(sample.removeprefix("./"), -1))) for sample in given]
    lost = [sample for sample, place in zip(given, places, strict=True) if place < 0]
    counts = Counter(place for place in places if place >= 0)
    twice = [str(dataset.ids[place]) for place, count in counts.items() if count > 1]
    reasons = []
    if lost:
        reasons.append(
            f"{len(lost)} of {len(given)} ids in field {file.id_field} are unknown: {first(lost)} (expected ids such "
            f"as {shown(str(dataset.ids[0]))}; `mmbench data export` writes them)"
        )
    if twice:
        reasons.append(f"{len(twice)} ids are there more than once: {first(twice)}")
    return places, reasons


def _fields_of(concept: Concept, fields: Sequence[str], *, alone: bool) -> dict[str, str | None]:
    """The fields that answer a concept: by name the label that a field scores, or None where it holds the answer."""
    found: dict[str, str | None] = {}
    for field in fields:
        if field == concept.name or (alone and field == ANSWER_FIELD):
            found[field] = None
        elif field.startswith((f"{concept.name}/", f"{concept.name}.")):
            found[field] = field[len(concept.name) + 1 :]
    return found


def _answers_of(
    concept: Concept, fields: Mapping[str, str | None], file: AnswerFile, places: Sequence[int], n: int
) -> tuple[Answers, list[str]]:
    """One concept's answers, and what is wrong with them."""
    whole = [field for field, label in fields.items() if label is None]
    by_label = {label: field for field, label in fields.items() if label is not None}
    if len(whole) > 1 or (whole and by_label) or len(by_label) < len(fields) - len(whole):
        return _nothing(concept, n), [f"{concept.name} is answered by more than one field: {first(fields)}; keep one"]
    reader = _Reader(concept)
    found = _nothing(concept, n)
    for row, place in zip(file.rows, places, strict=True):
        if place < 0 or not any(field in row for field in fields):
            continue
        value = row[whole[0]] if whole else {label: row.get(field) for label, field in by_label.items()}
        if concept.kind == "score" and _is_blank(value):
            continue  # left out, not answered wrongly
        scores = reader.read(str(row[file.id_field]), value)
        found.given[place] = True
        found.normalised[place] = reader.normalised
        if scores is None:
            found.unparsed[place] = True
            found.unread[place] = shown(value)
        else:
            found.scores[place] = scores
    reasons = reader.complaints()
    some = ", ".join(list(found.unread.values())[:3]) + ", …" * (len(found.unread) > 3)
    if not reasons and found.unread and concept.kind == "score":
        reasons = [
            f"{len(found.unread)} answers to {concept.name} are no finite numbers: {some}; a score has no wrong to "
            "count them as: give numbers, or leave these rows out with --allow-partial"
        ]
    if not reasons and found.given.any() and found.unparsed.sum() == found.given.sum():
        reasons = [
            f"none of the {len(found.unread)} answers to {concept.name} can be read: {some}; "
            f"expected {', '.join(concept.labels)}"
        ]
    return replace(found, hard=reader.hard > 0), reasons


def _is_blank(value: Any) -> bool:
    return all(part in (None, "") for part in (value.values() if isinstance(value, dict) else [value]))


def _nothing(concept: Concept, n: int) -> Answers:
    given, unparsed, normalised = (np.zeros(n, dtype=np.bool_) for _ in range(3))
    nothing = np.nan if concept.kind == "score" else NO_ANSWER
    return Answers(np.full((n, len(concept.labels)), nothing), given, unparsed, normalised, hard=False, unread={})


def normal(text: str) -> str:
    """A label's normal form: ``" 'Not Informative.' "`` is ``not_informative``."""
    return re.sub(r"\s+", "_", text.strip(AROUND).rstrip(".").strip(AROUND).casefold())


class _Reader:
    """Reads the answers to one concept and remembers what no row may have."""

    def __init__(self, concept: Concept) -> None:
        self.concept = concept
        self.columns = {label: column for column, label in enumerate(concept.labels)}
        forms = Counter(map(normal, concept.labels))
        self.forms = {normal(label): column for label, column in self.columns.items() if forms[normal(label)] == 1}
        self.hard = self.soft = 0
        self.normalised = False
        self.unknown: dict[str, None] = {}
        self.incomplete: list[str] = []
        self.bad: list[str] = []

    def read(self, sample: str, value: Any) -> NDArray[np.float64] | None:
        """A row's scores (K,), or None where they cannot be read."""
        self.normalised = False
        if self.concept.kind == "score":
            if isinstance(value, dict):
                self.unknown |= {label: None for label in value if self._column(label) is None}
                value = next(iter(value.values()), None)
            number = _number(value, -math.inf, math.inf)
            return None if number is None else np.array([number])
        if isinstance(value, dict):
            return self._scores(sample, value)
        columns = self._labels(value)
        if columns is None:
            return None
        self.hard += 1
        scores = np.zeros(len(self.columns))
        scores[list(columns)] = 1
        return scores

    def _labels(self, value: Any) -> set[int] | None:
        """The columns that an answer names; None where it is none."""
        several = self.concept.kind == "multilabel"
        if isinstance(value, str) and several and self._column(value) is None:
            value = [
                part for part in SEPARATORS.split(value.strip().removeprefix("[").removesuffix("]")) if part.strip()
            ]
        if not isinstance(value, list):
            value = [value]
        columns = [self._column(part) for part in value]
        if (not several and len(columns) != 1) or None in columns:
            self.normalised = False
            return None
        return {column for column in columns if column is not None}

    def _column(self, value: Any) -> int | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(int(value) if isinstance(value, float) and value.is_integer() else value)
        if not isinstance(value, str):
            return None
        if value in self.columns:
            return self.columns[value]
        column = self.forms.get(normal(value))
        self.normalised |= column is not None
        return column

    def _scores(self, sample: str, value: Mapping[str, Any]) -> NDArray[np.float64] | None:
        columns = {label: self.columns.get(label, self.forms.get(normal(label))) for label in value}
        self.unknown |= {label: None for label, column in columns.items() if column is None}
        if all(score in (None, "") for score in value.values()):
            return None
        if Counter(columns.values()) - Counter([None] * len(columns)) != Counter(self.columns.values()):
            self.incomplete.append(sample)
        self.soft += 1
        scores = np.zeros(len(self.columns))
        for label, column in columns.items():
            number = _number(value[label])
            if number is None:
                self.bad.append(f"{shown(sample)} gives {shown(label)} {shown(value[label])}")
            elif column is not None:
                scores[column] = number
        if self.concept.kind == "exclusive" and not scores.any():
            return None  # no label before the others
        return scores

    def complaints(self) -> list[str]:
        """What no row may have, counted; of what follows from one mistake only the mistake."""
        name, expected = self.concept.name, f"(expected {', '.join(self.columns)})"
        if self.unknown:
            return [f"{len(self.unknown)} labels of {name} are unknown: {first(self.unknown)} {expected}"]
        if self.incomplete:
            rows = f"{len(self.incomplete)} rows do not score every label of {name} once"
            return [f"{rows}: {first(self.incomplete)} {expected}"]
        if self.bad:
            shown_first = "; ".join(self.bad[:3]) + "; …" * (len(self.bad) > 3)
            return [f"{len(self.bad)} scores of {name} are no finite numbers in [0, 1]: {shown_first}"]
        if self.hard and self.soft:
            return [f"{name} has {self.hard} answers as labels and {self.soft} as scores: give one kind"]
        return []


def _number(value: Any, low: float = 0.0, high: float = 1.0) -> float | None:
    """A finite number within these bounds, or None; text is read as JSON and CSV write numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and low <= number <= high else None
