"""Histories of trainings: read as the contract says, and of any other shape none, whatever a plug-in returned."""

from __future__ import annotations

import math

import pytest

from mmbench.reporting.evidence import _losses
from mmbench.reporting.histories import read_histories
from mmbench.running.store import Cell

ONE = {
    "epochs": 2,
    "best_epoch": 2,
    "objectives": ["a", "b", "a@x"],
    "joint": 2,
    "train": [[1.0, None, 9.0], [0.5, 0.25, 9.0]],
    "val": [1.5, 1],
    "weights": [[1, 1, 1], [None, 2, 1]],
}


def test_losses_are_those_of_the_joint_objectives() -> None:
    (loss,) = _losses([(Cell("p", "m", 3), {"history": ONE})])
    assert (loss.seed, loss.val, loss.best_epoch, loss.train[1]) == (3, (1.5, 1.0), 2, 0.75)
    assert math.isnan(loss.train[0])


def test_networks_of_their_own_are_read_one_by_one() -> None:
    alone = {"objectives": ["a"], "val": [2.0], "train": [[2.0]], "best_epoch": 1}
    assert [h.val for h in read_histories({"history": {"networks": {"a": alone, "b": ONE}}})] == [[2.0], [1.5, 1.0]]


@pytest.mark.parametrize("history", [None, {}, {"loss": [1.0, 2.0]}, {"val": []}])
def test_without_losses_there_is_nothing_to_draw(history: object) -> None:
    assert _losses([(Cell("p", "m", 0), {"history": history})]) == ()


@pytest.mark.parametrize(
    "odd",
    [
        {"val": 0.5},
        {"val": [1.0, None]},
        {"train": [1.0, 0.5]},
        {"train": [[1.0, 1.0, 1.0]]},
        {"best_epoch": 3},
        {"best_epoch": -1},
        {"best_epoch": "last"},
        {"weights": [[1, 2]]},
        {"weights": [1, 2]},
        {"objectives": "ab"},
        {"networks": [ONE]},
        {"networks": {"a": 1}},
    ],
)
def test_what_is_of_another_shape_is_no_history(odd: dict) -> None:
    assert read_histories({"history": ONE | odd}) == []
