"""CMU's computational sequences: HDF5 files ``<root>/data/<video>/{intervals, features}``, one a modality.

Files that the SDK has aligned to the labels have a key ``video[k]`` a segment; the plain ones have a key a video, and a
segment is what overlaps its label's interval. Everything is checked before it is read: links that leave a file, data
kept elsewhere, and sizes that no video has are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError, reason

from .steps import Array, Frames, Segments, binned, by_word, padded, within

LABELS = "CMU_MOSEI_Labels.csd"
VISUAL = {"facet": "CMU_MOSEI_VisualFacet42.csd", "openface": "CMU_MOSEI_VisualOpenFace2.csd"}
FILES = {"text": "CMU_MOSEI_TimestampedWordVectors.csd", "audio": "CMU_MOSEI_COVAREP.csd", "video": VISUAL["facet"]}
SEGMENT = re.compile(r"(.+)\[(\d+)\]")
LARGEST = 2**26  # numbers of one video: a quarter of an hour of the largest features has a third of it
BROKEN = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError, MemoryError)


def find(root: Path, name: str) -> Path | None:
    """A file in the folder or in a folder of it."""
    return next((path for where in (name, f"*/{name}") for path in sorted(root.glob(where)) if path.is_file()), None)


class Csd:
    """One open file: its entries by key, checked as they are read. ``features`` is the width that all of them have."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        roots = [name for name in file if _group(file, name) is not None]
        data = _group(file[roots[0]], "data") if len(roots) == 1 else None
        if data is None or not len(data):
            raise UsageError(f"{path} is no computational sequence: expected one group with data/<video> in it")
        self.data, self.keys = data, tuple(data)
        metadata = _group(file[roots[0]], "metadata")
        self.generated = metadata is not None and "generated" in metadata
        self.features = self._dataset(self.keys[0], "features").shape[1]

    def entry(self, key: str) -> Frames:
        """The intervals and features of a key; values that are not finite stay so."""
        features, intervals = (self._dataset(key, name) for name in ("features", "intervals"))
        where = f"{self.path}: video {told(key)}"
        if features.shape[1] != self.features:
            raise UsageError(f"{where} has {features.shape[1]} features, others {self.features}")
        if intervals.shape != (len(features), 2):
            raise UsageError(f"{where} has intervals {intervals.shape} for features {features.shape}")
        times = np.asarray(intervals[()], dtype=np.float64)
        if not np.isfinite(times).all():
            raise UsageError(f"{where} has an interval that is not finite")
        return Frames(times, np.asarray(features[()], dtype=np.float32))

    def _dataset(self, key: str, name: str) -> Any:
        group = _group(self.data, key)
        where = f"{self.path}: video {told(key)}"
        if group is None or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UsageError(f"{where} has no {name} in this file")
        found = group[name]
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu" or found.ndim != 2:
            raise UsageError(f"{where}: {name} is no table of numbers")
        if found.is_virtual or found.external or found.size > LARGEST or found.shape[1] == 0:
            raise UsageError(f"{where}: {name} of shape {found.shape} is not read: it is too large, or kept elsewhere")
        return found


def _group(parent: Any, name: str) -> Any:
    """The group of that name that lies in this file, or None."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return None
    found = parent[name]
    return found if isinstance(found, h5py.Group) else None


def told(key: str) -> str:
    """A key as part of a line."""
    text = key.encode("unicode_escape", "replace").decode()
    return text if len(text) <= 40 else f"{text[:40]}…"


@contextmanager
def opened(path: Path) -> Iterator[Csd]:
    """An open file.

    Raises:
        UsageError: whatever is wrong with it, while it is open too: one line that names it.
    """
    try:
        with h5py.File(path, "r") as file:
            yield Csd(path, file)
    except BROKEN as error:
        raise UsageError(f"{path} cannot be read as HDF5 ({type(error).__name__}: {reason(error, 80)})") from None


@dataclass(frozen=True)
class _Segment:
    """A labelled segment: ``key`` is its entry where files are aligned to labels, else ``video`` and its interval."""

    video: str
    key: str
    interval: NDArray[np.float64]
    label: NDArray[np.float64]


def read_segments(
    root: Path, modalities: tuple[str, ...], folds: dict[str, str], visual: str, word: bool, most: int
) -> Segments:
    """All labelled segments, in the order of the labels file.

    Args:
        root: the folder.
        modalities: some of text, audio, video.
        folds: the split of each video; others are in none.
        visual: which visual features, ``"facet"`` or ``"openface"``.
        word: whether audio and video are averaged over each word, else every modality has steps of its own.
        most: steps; longer sequences are averaged into so many.

    Raises:
        UsageError: a file that is missing or not of this layout.
    """
    segments, generated = _labels(path_of(root, "labels", visual))
    notes: list[str] = []
    words: list[NDArray[np.float64]] | None = None
    if word:
        read = _Reading(path_of(root, "text", visual), segments, None)
        words = [frames.intervals if len(frames.values) else s.interval[None] for s, frames in read.each()]
    sequences = {}
    for name in modalities:
        read = _Reading(path_of(root, name, visual), segments, words if name != "text" else None)
        steps = [binned(values, most) for values in read.steps(word)]
        sequences[name] = padded(steps, read.features)
        notes += read.notes(name)
    labels = np.stack([segment.label for segment in segments])
    videos = np.array([segment.video for segment in segments])
    return Segments(
        ids=np.array([segment.key for segment in segments]),
        videos=videos,
        sequences=sequences,
        sentiment=labels[:, 0],
        emotions=labels[:, 1:],
        split=np.array([folds.get(video, "") for video in videos.tolist()], dtype="<U5"),
        source="computational sequences",
        generated=generated,
        notes=tuple(notes),
    )


def path_of(root: Path, name: str, visual: str) -> Path:
    """The file of a modality, or of the labels.

    Raises:
        UsageError: it is not there; names the other visual features where those are.
    """
    file = {**FILES, "video": VISUAL[visual], "labels": LABELS}[name]
    path = find(root, file)
    if path is None:
        other = next((o for o in VISUAL if o != visual and find(root, VISUAL[o])), None) if name == "video" else None
        hint = f"; {VISUAL[other]} is there: --set task.visual={other}" if other else ""
        raise UsageError(f"{root} has no {file}, nor has a folder in it{hint}")
    return path


def _labels(path: Path) -> tuple[list[_Segment], bool]:
    """The labelled segments, and whether the file says that it was generated."""
    segments = []
    with opened(path) as csd:
        if csd.features != 7:
            raise UsageError(f"{path} has {csd.features} labels a segment, expected 7: sentiment and six emotions")
        for key in csd.keys:
            entry, split = csd.entry(key), SEGMENT.fullmatch(key)
            if split is not None and len(entry.values) != 1:
                raise UsageError(f"{path}: segment {told(key)} has {len(entry.values)} rows of labels, expected one")
            for k, (interval, label) in enumerate(zip(entry.intervals, entry.values.astype(np.float64), strict=True)):
                video = key if split is None else split[1]
                segments.append(_Segment(video, f"{key}[{k}]" if split is None else key, interval, label))
        return segments, csd.generated


class _Reading:
    """One modality's file read segment by segment, a video at a time."""

    def __init__(self, path: Path, segments: list[_Segment], words: list[NDArray[np.float64]] | None) -> None:
        self.path, self.segments, self.words = path, segments, words
        self.features = self.zeroed = self.absent = 0

    def each(self) -> Iterator[tuple[_Segment, Frames]]:
        """Every segment with its frames, made finite."""
        with opened(self.path) as csd:
            self.features, known = csd.features, frozenset(csd.keys)
            nothing = Frames(np.zeros((0, 2)), np.zeros((0, csd.features), dtype=np.float32))
            at, video = "", nothing
            for segment in self.segments:
                if segment.key in known:
                    frames = csd.entry(segment.key)
                elif segment.video in known:
                    if at != segment.video:
                        at, video = segment.video, csd.entry(segment.video)
                    frames = within(video, *segment.interval)
                else:
                    frames = nothing
                self.absent += not len(frames.values)
                wrong = ~np.isfinite(frames.values)
                self.zeroed += int(wrong.sum())
                yield segment, Frames(frames.intervals, np.where(wrong, np.float32(0), frames.values))

    def steps(self, word: bool) -> Iterator[Array]:
        """Every segment's steps, (T, d): its frames, or their means over its words; without a word one step."""
        for number, (_, frames) in enumerate(self.each()):
            if self.words is not None:
                yield by_word(self.words[number], frames)
            elif word and not len(frames.values):
                yield np.full((1, self.features), np.nan, dtype=np.float32)
            else:
                yield frames.values

    def notes(self, name: str) -> list[str]:
        """What a reader of the results must know of it."""
        lines = [f"{name}: {self.zeroed:,} values are not finite: set to 0"] if self.zeroed else []
        return lines + ([f"{name}: {self.absent:,} segments have none: masked"] if self.absent else [])
