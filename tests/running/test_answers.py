"""Answers matched to samples and labels: what is accepted, what counts as unread, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbench.contracts import Concept, Dataset
from mmbench.errors import UsageError
from mmbench.evaluation.decisions import NO_ANSWER
from mmbench.running.answer_files import AnswerFile
from mmbench.running.answers import match_answers, normal

TOPIC = Concept("topic", ("not_urgent", "flood", "fire"))
NEEDS = Concept("needs", ("food", "clean water", "shelter"), "multilabel")
IDS = ("img/a.jpg", "img/b.jpg", "img/c.jpg")
UNREAD = [NO_ANSWER] * 3


def dataset(ids=IDS, **inputs) -> Dataset:
    names = np.array(ids)
    targets = {"topic": np.zeros(len(ids), np.int64), "needs": np.zeros((len(ids), 3), np.int64)}
    return Dataset(names, names, inputs, (TOPIC, NEEDS), targets, (), "0", "t")


def answers(*rows, concepts=(TOPIC, NEEDS), data=None):
    """Match rows given as fields; a row without an id gets the next one."""
    rows = [{"id": IDS[n % 3]} | row for n, row in enumerate(rows)]
    return match_answers(AnswerFile(Path("x.json"), "json", "", "id", tuple(rows)), data or dataset(), concepts)


def one(concept, value):
    """The scores that one answer gets, and whether its label was matched by normal form."""
    good = {"topic": "flood", "needs": "food"}[concept.name]
    found = answers({concept.name: value}, {concept.name: good}).answers[concept.name]
    assert found.given.tolist() == [True, True, False]
    assert found.unparsed[0] == (found.scores[0].tolist() == UNREAD)
    return found.scores[0].tolist(), bool(found.normalised[0])


@pytest.mark.parametrize(
    ("value", "scores", "normalised"),
    [
        ("flood", [0, 1, 0], False),
        ("not_urgent", [1, 0, 0], False),
        (["fire"], [0, 0, 1], False),
        (" Flood\n", [0, 1, 0], True),
        ("'Not Urgent'.", [1, 0, 0], True),
        ('"not urgent."', [1, 0, 0], True),
        ("**FIRE**", [0, 0, 1], True),
        ("“fire”", [0, 0, 1], True),
        ("I think it is about a flood", UNREAD, False),
        ("", UNREAD, False),
        (None, UNREAD, False),
        (float("nan"), UNREAD, False),
        (True, UNREAD, False),
        (10**400, UNREAD, False),
        (["flood", "fire"], UNREAD, False),
        ([], UNREAD, False),
        ([["flood"]], UNREAD, False),
        ("flood, fire", UNREAD, False),
    ],
)
def test_the_label_of_an_exclusive_concept(value, scores, normalised):
    assert one(TOPIC, value) == (scores, normalised)


@pytest.mark.parametrize(
    ("value", "scores", "normalised"),
    [
        ("", [0, 0, 0], False),
        ([], [0, 0, 0], False),
        ("[]", [0, 0, 0], False),
        ("food", [1, 0, 0], False),
        ("food|shelter", [1, 0, 1], False),
        ("food; Shelter.", [1, 0, 1], True),
        ("clean_water,food", [1, 1, 0], True),
        (["clean water", "clean water"], [0, 1, 0], False),
        ("['food', 'shelter']", [1, 0, 1], True),
        ("food, a boat", UNREAD, False),
        ("Food, a boat", UNREAD, False),
        (None, UNREAD, False),
        ([None], UNREAD, False),
    ],
)
def test_the_labels_of_a_multilabel_concept(value, scores, normalised):
    assert one(NEEDS, value) == (scores, normalised)


def test_labels_that_are_numbers_match_as_text():
    digit = Concept("digit", ("0", "7"))
    found = answers({"digit": 7}, {"digit": 7.0}, {"digit": "0"}, concepts=(digit,)).answers["digit"]
    assert found.scores.tolist() == [[0, 1], [0, 1], [1, 0]]


def test_labels_that_differ_by_case_only_match_as_written_only():
    c = Concept("c", ("US", "us", "them"))
    found = answers({"c": "us"}, {"c": "Us"}, {"c": "Them"}, concepts=(c,)).answers["c"]
    assert found.scores.tolist() == [[0, 1, 0], UNREAD, [0, 0, 1]]


def test_scores_from_fields_and_from_an_object_are_taken_as_they_are():
    in_fields = answers({"topic/not_urgent": "0.2", "topic/flood": "0.9", "topic/fire": "1e-1"}).answers["topic"]
    dotted = answers({"topic.fire": 0.1, "topic.not_urgent": 0.2, "topic.flood": 0.9}).answers["topic"]
    nested = answers({"topic": {"flood": 0.9, "Not urgent": 0.2, "fire": 0.1}}).answers["topic"]
    for found in (in_fields, dotted, nested):
        assert found.scores[0].tolist() == [0.2, 0.9, 0.1]
        assert not found.hard
        assert found.given.tolist() == [True, False, False]


def test_scores_that_prefer_no_label_or_are_not_there_are_no_answer():
    rows = [{"topic": dict.fromkeys(TOPIC.labels, score)} for score in (0, None, "")]
    with pytest.raises(UsageError, match="none of the 3 answers to topic can be read"):
        answers(*rows)
    found = answers(*rows[:2], {"topic": {"not_urgent": 0, "flood": 0, "fire": 0.001}}).answers["topic"]
    assert found.unparsed.tolist() == [True, True, False]
    none_needed = answers({"needs": dict.fromkeys(NEEDS.labels, 0)}).answers["needs"]
    assert none_needed.scores[0].tolist() == [0, 0, 0]


def test_a_row_without_the_field_is_not_given_and_one_with_null_is():
    found = answers({"topic": "fire"}, {"needs": "food"}, {"topic": None, "needs": "food"}).answers
    assert found["topic"].given.tolist() == [True, False, True]
    assert found["topic"].unparsed.tolist() == [False, False, True]


def test_a_sole_concept_is_answered_by_answer():
    assert answers({"answer": "fire"}, concepts=(TOPIC,)).answers["topic"].scores[0].tolist() == [0, 0, 1]
    with pytest.raises(UsageError, match="no answers: expected fields topic"):
        answers({"answer": "fire"})


def test_ids_are_found_by_name_by_a_path_that_opens_and_below_a_dot():
    data = dataset(image=[Path("/data") / name for name in IDS[:2]] + [None])
    rows = [{"id": "/data/img/b.jpg"}, {"id": " ./img/c.jpg"}, {"id": "img/a.jpg"}]
    found = answers(*[row | {"topic": label} for row, label in zip(rows, TOPIC.labels, strict=True)], data=data)
    assert found.answers["topic"].scores.argmax(1).tolist() == [2, 0, 1]


def test_fields_that_say_nothing_are_named_but_not_what_an_export_holds():
    exported = {"group": "g", "text": {"text": "t"}, "media": {}, "concepts": {}}
    assert answers({"topic": "fire", "model": "m", "topics": "?"} | exported).ignored == ("model", "topics")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "x", "topic": "fire"}], "1 of 1 ids in field id are unknown: 'x' (expected ids such as 'img/a.jpg'"),
        ([{"id": f"{n}", "topic": "fire"} for n in range(5)], "5 of 5 ids in field id are unknown: '0', '1', '2', …"),
        ([{"id": IDS[0], "topic": "fire"}] * 2, "1 ids are there more than once: 'img/a.jpg'"),
        ([{"tropic": "fire"}], "no answers: expected fields topic, topic/not_urgent … or needs, needs/food …"),
        ([{"topic": "storm"}] * 3, "none of the 3 answers to topic can be read: 'storm', 'storm', 'storm'; expected"),
        ([{"topic": {"storm": 1, "hail": 0}}], "2 labels of topic are unknown: 'storm', 'hail' (expected not_urgent"),
        ([{"topic/storm": "1"}], "1 labels of topic are unknown: 'storm'"),
        ([{"topic": {"flood": 1}}], "1 rows do not score every label of topic once: 'img/a.jpg'"),
        ([{"topic": {"flood": 1, "Flood": 0, "fire": 0, "not_urgent": 0}}], "do not score every label of topic once"),
        ([{"topic": {"flood": 1.7, "fire": 0, "not_urgent": 0}}], "[0, 1]: 'img/a.jpg' gives 'flood' 1.7"),
        ([{"topic": {"flood": float("nan"), "fire": 0, "not_urgent": 0}}], "gives 'flood' nan"),
        ([{"topic": {"flood": 10**400, "fire": 0, "not_urgent": 0}}], "gives 'flood' 1000"),
        ([{"topic": {"flood": "high", "fire": 0, "not_urgent": 0}}], "gives 'flood' 'high'"),
        ([{"topic": {"flood": "0_1", "fire": 0, "not_urgent": 0}}], "gives 'flood' '0_1'"),
        ([{"topic": {"flood": True, "fire": 0, "not_urgent": 0}}], "gives 'flood' True"),
        ([{"topic": {"flood": [1], "fire": 0, "not_urgent": 0}}], "gives 'flood' a list of 1"),
        ([{"topic": {"flood": -0.1, "fire": 0, "not_urgent": 0}}], "gives 'flood' -0.1"),
        ([{"topic": {"labels": {"flood": 1}}}], "1 labels of topic are unknown: 'labels'"),
        ([{"topic": "fire", "topic/fire": "1"}], "topic is answered by more than one field: 'topic', 'topic/fire'"),
        ([{"topic/fire": "1", "topic.fire": "1"}], "topic is answered by more than one field"),
        ([{"topic": "fire"}, {"topic": dict.fromkeys(TOPIC.labels, 1)}], "1 answers as labels and 1 as scores"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_and_counted(rows, said):
    with pytest.raises(UsageError) as caught:
        answers(*rows)
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.json: ")
    assert len(str(caught.value)) < 400


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError, match=r"unknown: 'x'.*more than once.*unknown: 'storm'"):
        answers({"id": "x"}, {"id": IDS[0]}, {"id": IDS[0], "topic": {"storm": 1}})


def test_normal_form():
    assert normal(" `Not\tUrgent.` ") == normal("not_urgent") == "not_urgent"
    assert normal("u.s.") == "u.s"
