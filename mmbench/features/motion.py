"""``synthetic-motion``: the motion of a vehicle as the spectrogram of a sound that is made of it (MR26).

It is a re-encoding of speed, acceleration and turn rate and no recording of anything. The paper names the steps and no
number; with v, a and ω interpolated to 16 kHz the sound here is

    x = (.5 + .1 |a|) sin 2π∫f_v + .2 tanh|ω| sin 2π∫f_ω + ε,  f_v = 60 + 8 v,  f_ω = 200 + 300 |ω|  (Hz)

with ε normal of deviation ``noise`` · √(1 + v / 30), seeded by the clip's name; its peak is scaled to 1. The
spectra are those of ``logmel`` (25 ms every 10 ms, 128 bands), standardised over the whole clip: a second is 98
steps of 128 numbers. With ``average=14`` it is 7 steps of 140 ms, which is about as fine as a car's motion is measured
and spares a recurrent network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmbench.features import Encoded
from mmbench.features.audio import RATE, log_mel
from mmbench.features.cache import cached_rows
from mmbench.features.padding import pad
from mmbench.hashing import derive_seed, digest
from mmbench.streams import Motion

VERSION = 1


def encode(values: Sequence[Motion | None], *, cache: Path, identity: list[str], noise: float, average: int) -> Encoded:
    """Motions to (n, T, 128) with their steps, ``average`` of the spectra in each; a missing one has none."""
    contents = ["" if motion is None else _content(motion) for motion in values]
    motion_of = {content: motion for content, motion in zip(contents, values, strict=True) if motion is not None}

    def encode_missing(missing: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for content in missing:
            yield content, averaged(spectrogram(motion_of[content], noise), average)

    vectors = cached_rows(cache, digest(identity), list(motion_of), encode_missing)
    padded, steps = pad([vectors.get(content) for content in contents])
    return Encoded(padded, steps=steps)


def _content(motion: Motion) -> str:
    return digest([motion.clip, repr(motion.seconds), motion.speed, motion.acceleration, motion.turn_rate])


def spectrogram(motion: Motion, noise: float) -> NDArray[np.float32]:
    """The standardised log-mel spectra of a motion's sound, float32 (steps, 128)."""
    spectra = log_mel(torch.from_numpy(sound(motion, noise))).T
    return ((spectra - spectra.mean()) / spectra.std(correction=0)).numpy().astype(np.float32)


def averaged(steps: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The means of ``count`` steps each, (T, d) to (⌈T / count⌉, d); the last is of those that are left."""
    starts = np.arange(0, len(steps), count)
    sizes = np.diff([*starts, len(steps)])[:, None]
    return (np.add.reduceat(steps, starts) / sizes).astype(np.float32)


def sound(motion: Motion, noise: float) -> NDArray[np.float64]:
    """The sound of a motion at 16 kHz, float64 (seconds · 16,000,), between -1 and 1."""
    samples = round(motion.seconds * RATE)
    given = np.linspace(0, motion.seconds, len(motion.speed))
    moments = np.arange(samples) / RATE
    v, a, turn = (
        np.interp(moments, given, series) for series in (motion.speed, motion.acceleration, np.abs(motion.turn_rate))
    )
    x = (0.5 + 0.1 * np.abs(a)) * _tone(60 + 8 * v) + 0.2 * np.tanh(turn) * _tone(200 + 300 * turn)
    if noise > 0:
        drawn = np.random.default_rng(derive_seed(0, f"synthetic-motion {motion.clip}")).standard_normal(samples)
        x += noise * np.sqrt(1 + v / 30) * drawn
    scaled: NDArray[np.float64] = x / np.abs(x).max()
    return scaled


def _tone(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sine whose frequency is this at each sample: its phase is the sum of what each sample adds."""
    return np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
