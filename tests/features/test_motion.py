"""The sound that is made of a vehicle's motion, and its spectrogram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.errors import UsageError
from mmbench.features import encode, motion, parse
from mmbench.features.audio import RATE
from mmbench.streams import Motion

NOTHING = np.empty(0, dtype=np.int64)


def constant(
    speed: float, acceleration: float = 0.0, turn: float = 0.0, clip: str = "a", seconds: float = 1.0
) -> Motion:
    steps = round(20 * seconds) + 1
    return Motion(clip, seconds, np.full(steps, speed), np.full(steps, acceleration), np.full(steps, turn))


def waves(*frequencies: float) -> np.ndarray[Any, Any]:
    """Sine and cosine of each frequency over a second, (16,000, 2 n)."""
    time = np.arange(1, RATE + 1) / RATE
    return np.stack([f(2 * np.pi * frequency * time) for frequency in frequencies for f in (np.sin, np.cos)], axis=1)


def test_a_constant_speed_is_one_ridge_at_its_frequency() -> None:
    peaks = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130)[1:-1] / 2595) - 1)
    ridges = []
    for speed in (0.0, 5.0, 15.0, 30.0, 60.0):
        spectra = motion.spectrogram(constant(speed), noise=0.0)
        (band,) = set(spectra.argmax(axis=1).tolist())  # the same at each of the 98 steps
        assert abs(peaks[band] - (60 + 8 * speed)) < 16_000 / 1024
        ridges.append(band)
    assert ridges == sorted(set(ridges))


@pytest.mark.parametrize(("seconds", "steps"), [(1.0, 98), (2.0, 198), (0.1, 8)])
def test_a_second_is_98_steps_of_128_standardised_bands(seconds: float, steps: int) -> None:
    spectra = motion.spectrogram(constant(10, 1, 0.3, seconds=seconds), noise=0.05)
    assert spectra.shape == (steps, 128) and spectra.dtype == np.float32
    assert abs(float(spectra.mean())) < 1e-5 and float(spectra.std()) == pytest.approx(1, abs=1e-4)


def test_the_phase_is_the_integral_of_the_frequency() -> None:
    rising = Motion("a", 1.0, np.linspace(0, 20, 21), np.zeros(21), np.zeros(21))
    n = np.arange(RATE)
    # the frequency of sample n is 60 + 160 n / RATE: summed up to n in closed form
    phase = 2 * np.pi * ((n + 1) * 60 / RATE + 160 * n * (n + 1) / 2 / RATE**2)
    np.testing.assert_allclose(motion.sound(rising, noise=0.0), np.sin(phase) / np.abs(np.sin(phase)).max(), atol=1e-6)


def test_amplitudes_follow_acceleration_and_turn_rate() -> None:
    sound = motion.sound(constant(10, acceleration=-2, turn=-0.5), noise=0.0)
    found = np.linalg.lstsq(waves(140, 350), sound, rcond=None)[0]
    assert found[[1, 3]] == pytest.approx(0, abs=1e-9)
    assert found[2] / found[0] == pytest.approx(0.2 * np.tanh(0.5) / (0.5 + 0.1 * 2))
    assert np.abs(sound).max() == pytest.approx(1)


@pytest.mark.parametrize("speed", [0.0, 30.0])
def test_noise_grows_with_the_speed_and_is_drawn_from_the_clips_name(speed: float) -> None:
    one, again, other = (motion.sound(constant(speed, clip=clip), noise=0.05) for clip in ("a", "a", "b"))
    assert (one == again).all() and not np.allclose(one, other)
    tone = np.linalg.lstsq(waves(60 + 8 * speed), one, rcond=None)[0]
    rest = one - waves(60 + 8 * speed) @ tone
    assert rest.std() / np.hypot(*tone) == pytest.approx(0.05 * np.sqrt(1 + speed / 30) / 0.5, rel=0.03)
    silent = [motion.sound(constant(speed, clip=clip), noise=0.0) for clip in ("a", "b")]
    assert (silent[0] == silent[1]).all()


@pytest.mark.parametrize("count", [1, 7, 14, 30, 98, 500])
def test_steps_are_averaged_by_count(count: int) -> None:
    steps = np.random.default_rng(0).normal(size=(98, 4)).astype(np.float32)
    expected = [steps[start : start + count].mean(axis=0) for start in range(0, 98, count)]
    np.testing.assert_allclose(motion.averaged(steps, count), expected, atol=1e-6)


def test_the_encoder_gives_steps_and_none_where_there_is_no_motion(tmp_path: Path) -> None:
    values = [constant(5), None, constant(9, clip="b"), constant(5, clip="c", seconds=0.5)]
    encoded = encode("synthetic-motion:average=14", "motion", values, NOTHING, tmp_path)
    assert encoded.values.shape == (4, 7, 128) and encoded.steps is not None and not encoded.bad
    assert encoded.steps.sum(axis=1).tolist() == [7, 0, 7, 4]
    assert not encoded.values[~encoded.steps].any()
    np.testing.assert_array_equal(encoded.values[2], motion.averaged(motion.spectrogram(values[2], 0.05), 14))
    again = encode("synthetic-motion:average=14", "motion", values[::-1], NOTHING, tmp_path)
    assert (again.values[::-1] == encoded.values).all()
    nobody = encode("synthetic-motion", "motion", [None, None], NOTHING, tmp_path)
    assert nobody.values.shape == (2, 1, 1) and nobody.steps is not None and not nobody.steps.any()


@pytest.mark.parametrize(
    ("selector", "kind", "told"),
    [
        ("synthetic-motion", "audio", "encoder synthetic-motion is for motion, this modality is audio"),
        ("logmel", "motion", "this modality is motion: use synthetic-motion"),
        ("synthetic-motion:noise=-1", "motion", "noise was given '-1'"),
        ("synthetic-motion:noise=nan", "motion", "noise was given 'nan'"),
        ("synthetic-motion:average=0", "motion", "average was given '0'"),
    ],
)
def test_a_wrong_selector_is_told(selector: str, kind: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse(selector, kind)
