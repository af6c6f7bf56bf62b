"""Segments as steps: frames that lie in an interval, averaged by word or in even bins, and padded to one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
EPSILON = 1e-5  # seconds: intervals that touch do not overlap


@dataclass(frozen=True)
class Frames:
    """What a modality has of a segment: ``intervals`` (m, 2) in seconds and ``values`` (m, d), all finite."""

    intervals: NDArray[np.float64]
    values: Array


@dataclass(frozen=True)
class Segments:
    """All segments as read from whatever files.

    ``sequences`` by modality (n, T, d), a step that is not there all NaN; ``sentiment`` (n,), NaN where unlabelled;
    ``emotions`` (n, 6), NaN rows where unlabelled, or None where the files have none; ``split`` (n,), ``""`` for a
    video of no fold; ``source`` says in words what was read.
    """

    ids: NDArray[np.str_]
    videos: NDArray[np.str_]
    sequences: dict[str, Array]
    sentiment: NDArray[np.float64]
    emotions: NDArray[np.float64] | None
    split: NDArray[np.str_]
    source: str
    generated: bool
    notes: tuple[str, ...]


def within(frames: Frames, start: float, end: float) -> Frames:
    """The frames that overlap an interval."""
    chosen = (frames.intervals[:, 1] > start + EPSILON) & (frames.intervals[:, 0] < end - EPSILON)
    return Frames(frames.intervals[chosen], frames.values[chosen])


def by_word(words: NDArray[np.float64], frames: Frames) -> Array:
    """The mean of the frames that overlap each word's interval: words (w, 2) to (w, d); NaN where there is none."""
    first, last = frames.intervals[:, 0], frames.intervals[:, 1]
    overlap = (last > words[:, :1] + EPSILON) & (first < words[:, 1:] - EPSILON)
    count = overlap.sum(axis=1, keepdims=True)
    mean = overlap.astype(np.float32) @ frames.values / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan).astype(np.float32)


def binned(values: Array, most: int) -> Array:
    """At most so many steps: (T, d) to (S, d), step t of T averaged into step floor(t S / T), NaN steps left out."""
    if len(values) <= most:
        return values
    there = ~np.isnan(values).all(axis=1)
    place = (np.arange(len(values)) * most // len(values))[there]
    sums = np.zeros((most, values.shape[1]))
    np.add.at(sums, place, values[there])
    count = np.bincount(place, minlength=most)[:, None]
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan).astype(np.float32)


def padded(sequences: Sequence[Array], features: int) -> Array:
    """Sequences (T_i, d) as one array (n, T, d), NaN after the end of each."""
    longest = max([len(values) for values in sequences], default=0)
    array = np.full((len(sequences), max(longest, 1), features), np.nan, dtype=np.float32)
    for row, values in enumerate(sequences):
        array[row, : len(values)] = values
    return array
