"""The vector encoder: equal to scikit-learn where that is defined, and defined where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from mmbench.features import encode
from mmbench.features.vector import LARGEST, standardize

TRAIN = np.arange(12)


@pytest.fixture
def x() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(3, 5, (20, 4))


def test_it_equals_scikit_learn(x: NDArray[np.float64]) -> None:
    expected = StandardScaler().fit(x[TRAIN]).transform(x)
    assert np.allclose(standardize(x, TRAIN), expected, rtol=0, atol=1e-6)


def test_cells_that_are_not_finite_leave_the_fit_and_become_the_train_mean(x: NDArray[np.float64]) -> None:
    for row, value in ((2, np.nan), (5, np.inf), (15, -np.inf)):
        x[row, 1] = value
    known = np.delete(x[TRAIN, 1], [2, 5])
    found = standardize(x, TRAIN)[:, 1]
    expected = (x[:, 1] - known.mean()) / known.std()
    expected[[2, 5, 15]] = 0
    assert np.allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-30])
def test_a_constant_column_is_zero_everywhere(value: float) -> None:
    x = np.full((50_000, 2), value)
    x[-1, 0] = value + 1  # not a train row
    assert not standardize(x, np.arange(49_000)).any()


def test_a_tiny_scale_is_still_a_scale() -> None:
    x = np.array([[1e-20], [2e-20], [3e-20]])
    assert np.allclose(standardize(x, np.arange(3))[:, 0], [-(1.5**0.5), 0, 1.5**0.5])


def test_missing_rows_and_columns_are_zero(x: NDArray[np.float64]) -> None:
    x[[3, 17]] = np.nan
    x[TRAIN, 2] = np.nan
    found = standardize(x, TRAIN)
    assert not found[[3, 17]].any()
    assert not found[:, 2].any()
    assert found[[4, 16]][:, [0, 1, 3]].all()


def test_one_absurd_cell_is_bounded(x: NDArray[np.float64]) -> None:
    x[15, 0], x[16, 0] = 1e300, -1e300
    assert standardize(x, TRAIN)[[15, 16], 0].tolist() == [LARGEST, -LARGEST]


def test_rows_outside_the_fit_change_nothing_else(x: NDArray[np.float64], tmp_path: Path) -> None:
    poisoned = x.copy()
    poisoned[15:] = [np.nan, 1e9, -np.inf, 0]
    before, after = (encode("standardize", "vector", v, TRAIN, tmp_path).values for v in (x, poisoned))
    assert before[:15].tobytes() == after[:15].tobytes()
    assert before[15:].tobytes() != after[15:].tobytes()


def test_the_fit_rows_are_part_of_the_key(x: NDArray[np.float64], tmp_path: Path) -> None:
    a, b, c = (encode("standardize", "vector", x, rows, tmp_path).values for rows in (TRAIN, TRAIN[:8], TRAIN))
    assert a.tobytes() == c.tobytes() != b.tobytes()
    assert np.allclose(b[:8].mean(axis=0), 0, atol=1e-6)
    assert a.dtype == np.float32
    assert a.shape == x.shape
