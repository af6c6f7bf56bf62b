"""Features that tell a label alone, against scikit-learn and against planted ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mmbench import giveaway


def test_auc_and_balanced_accuracy_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (80, 5)).astype(np.float64)  # ties
    held = rng.random((80, 3)) < (0.2, 0.5, 0.7)
    area, accuracy = giveaway.auc(values, held), giveaway.balanced_accuracy(values > 2, held)
    for column in range(5):
        for label in range(3):
            assert area[column, label] == pytest.approx(roc_auc_score(held[:, label], values[:, column]), abs=1e-12)
            expected = balanced_accuracy_score(held[:, label], values[:, column] > 2)
            assert accuracy[column, label] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(giveaway.auc(values, np.zeros((80, 1), bool))).all()


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    held = label[:, None] == np.arange(3)
    values = rng.normal(size=(n, 300))
    values[:, 4] = 0.1 * rng.random(n) - held[:, 1]  # falls with label 1
    values[:, 270] = np.array([7, 2, 5])[label]  # in the middle: no order tells label 2
    values[held[:, 0], 9] = np.nan  # missing exactly where label 0 holds
    return values, held


def test_planted_columns_are_found_and_no_other() -> None:
    (train, train_held), (val, val_held) = planted(300, 1), planted(90, 2)
    found = giveaway.in_columns(train, train_held, val, val_held)
    assert {(hit.feature, hit.label) for hit in found} == {
        ("4", 1), ("270", 0), ("270", 1), ("270", 2), ("9", 0),
    }  # fmt: skip
    assert next(hit.how for hit in found if hit.feature == "270" and hit.label == 2).endswith("one value")


def test_val_has_to_confirm_and_few_rows_are_not_judged() -> None:
    train, train_held = planted(300, 1)
    val, val_held = planted(90, 2)
    assert giveaway.in_columns(train, train_held, val[::-1], val_held) == []
    assert giveaway.in_columns(train[:12], train_held[:12], val, val_held) == []


def test_a_word_that_tells_a_label() -> None:
    rng = np.random.default_rng(5)

    def texts(n: int) -> tuple[list[str], np.ndarray]:
        held = rng.random((n, 2)) < 0.4
        return [f"some words {'about dogs' if a else ''} number{rng.integers(3)}" for a, _ in held], held

    (train, train_held), (val, val_held) = texts(120), texts(60)
    found = giveaway.in_words(train, train_held, val, val_held)
    assert {(hit.feature, hit.label) for hit in found} == {("about", 0), ("dogs", 0)}
    assert giveaway.in_words([""] * 120, train_held, [""] * 60, val_held) == []
