"""``standardize``: closed forms, hostile cells, and that other rows than train teach it nothing."""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path

import numpy as np
import pytest

from mmbench.features import encode


def standardize(cache: Path, x: np.ndarray, fit: list[int]) -> np.ndarray:
    return encode("standardize", "vector", x, np.array(fit, dtype=np.int64), cache).values


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, (20, 4))


def test_closed_form(tmp_path: Path, x: np.ndarray) -> None:
    fit = [0, 2, 3, 5, 8, 13]
    encoded = standardize(tmp_path, x, fit)
    assert encoded.dtype == np.float32 and encoded.shape == x.shape
    for column in range(4):
        train = [float(x[row, column]) for row in fit]
        mean, sd = statistics.fmean(train), statistics.pstdev(train)
        for row in range(20):
            assert encoded[row, column] == pytest.approx((x[row, column] - mean) / sd, rel=1e-6, abs=1e-6)
    assert encoded[fit].mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert encoded[fit].std(axis=0) == pytest.approx(1, abs=1e-6)


def test_equals_scikit_learn_with_gaps(tmp_path: Path, x: np.ndarray) -> None:
    from sklearn.preprocessing import StandardScaler

    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    fit = list(range(12))
    expected = np.nan_to_num(StandardScaler().fit(x[fit]).transform(x))
    np.testing.assert_allclose(standardize(tmp_path, x, fit), expected, atol=1e-6)


def test_other_rows_than_train_change_no_bit_of_the_train_rows(tmp_path: Path, x: np.ndarray) -> None:
    fit = list(range(0, 20, 2))
    clean = standardize(tmp_path, x, fit)
    poisoned = x.copy()
    poisoned[1::2] = [np.nan, np.inf, -1e30, 1e30]
    assert standardize(tmp_path, poisoned, fit)[fit].tobytes() == clean[fit].tobytes()
    poisoned[fit[0]] += 1
    assert standardize(tmp_path, poisoned, fit)[fit[1]].tobytes() != clean[fit[1]].tobytes()


def test_shift_and_scale_of_a_column_change_nothing(tmp_path: Path, x: np.ndarray) -> None:
    fit = list(range(10))
    encoded = standardize(tmp_path, x, fit)
    np.testing.assert_allclose(standardize(tmp_path, x * 8 + 5, fit), encoded, atol=1e-6)
    # powers of two lose no bit, however small or large the unit
    for power in (-50, 50):
        assert standardize(tmp_path, x * 2.0**power, fit).tobytes() == encoded.tobytes()
    np.testing.assert_allclose(standardize(tmp_path, -x, fit), -encoded, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e9, 1e-30])
def test_a_column_that_is_constant_on_train_is_zero_everywhere(tmp_path: Path, x: np.ndarray, constant: float) -> None:
    x[:10, 1] = constant
    encoded = standardize(tmp_path, x, list(range(10)))
    assert (encoded[:, 1] == 0).all()
    assert (encoded[:, 0] != 0).all()


def test_a_cell_that_is_not_finite_becomes_the_train_mean_and_a_missing_row_zero(tmp_path: Path, x: np.ndarray) -> None:
    fit = list(range(10))
    for row, value in ((0, np.nan), (1, np.inf), (2, -np.inf), (15, np.nan)):
        x[row, 2] = value
    x[4] = x[17] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = standardize(tmp_path, x, fit)
    assert (encoded[[0, 1, 2, 15], 2] == 0).all()
    assert (encoded[[4, 17]] == 0).all()
    assert np.isfinite(encoded).all()
    known = [float(x[row, 2]) for row in (3, 5, 6, 7, 8, 9)]
    expected = (x[12, 2] - statistics.fmean(known)) / statistics.pstdev(known)
    assert encoded[12, 2] == pytest.approx(expected, rel=1e-6)


def test_a_column_or_a_modality_that_is_missing_throughout_is_zero(tmp_path: Path, x: np.ndarray) -> None:
    x[:, 0] = np.nan
    x[:10, 1] = np.nan
    encoded = standardize(tmp_path, x, list(range(10)))
    assert (encoded[:, :2] == 0).all() and encoded[:, 2:].any()
    assert (standardize(tmp_path, np.full((5, 3), np.nan), [0, 1]) == np.zeros((5, 3))).all()


def test_one_train_row_gives_zeros(tmp_path: Path, x: np.ndarray) -> None:
    assert (standardize(tmp_path, x, [3]) == 0).all()


def test_extreme_values_stay_finite(tmp_path: Path, x: np.ndarray) -> None:
    x[15] = 1e300
    x[3, 0], x[4, 0] = 1e200, -1e200
    x[:4, 1] = np.finfo(np.float64).max
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = standardize(tmp_path, x, list(range(10)))
    assert np.isfinite(encoded).all()
    assert encoded[15, 2] == encoded[15, 3] >= 1e3


def test_whole_numbers_and_booleans_are_numbers(tmp_path: Path) -> None:
    x = np.array([[0, 1], [2, 0], [4, 1], [6, 0]])
    expected = np.array([[-3, 1], [-1, -1], [1, 1], [3, -1]]) / np.array([5**0.5, 1])
    np.testing.assert_allclose(standardize(tmp_path, x, [0, 1, 2, 3]), expected, rtol=1e-6)
    np.testing.assert_allclose(standardize(tmp_path, x[:, 1:] > 0, [0, 1, 2, 3]), expected[:, 1:], rtol=1e-6)


def test_nothing_stale(tmp_path: Path, x: np.ndarray) -> None:
    first = standardize(tmp_path, x, [0, 1, 2])
    assert standardize(tmp_path, x, [0, 1, 2]).tobytes() == first.tobytes()
    assert standardize(tmp_path, x, [0, 1, 3]).tobytes() != first.tobytes()
    x[9, 3] = np.nextafter(x[9, 3], np.inf) + 1e-3
    assert standardize(tmp_path, x, [0, 1, 2]).tobytes() != first.tobytes()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3
