"""The generated sample of CMU-MOSEI: computational sequences in the official layout, read by the official reader.

A video has a mood, a segment a sentiment near it and emotions that go with it. Each word shows the segment's state in a
few directions of its vector, in the voice (louder where the sentiment is strong) and in the face, all with much noise.
``metadata/generated`` in the labels file marks it wherever it is read from.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError

from . import csd

VERSION = 1
FOLDS = "standard_folds.json"  # written last: with it the sample is whole
VIDEOS, SEGMENTS = 80, 5
ROOTS = {"text": "glove_vectors", "audio": "COAVAREP", "video": "FACET 4.2", "labels": "All Labels"}
FEATURES = {"text": 300, "audio": 74, "video": 35}
STRENGTH = {"text": 0.06, "audio": 0.05, "video": 0.06}
RATES = {"audio": 10, "video": 5}  # frames a second
BASE = (0.0, -1.3, -1.5, -2.2, -1.6, -2.4)  # log-odds of happy, sad, anger, surprise, disgust, fear without a sentiment
LEAN = (0.9, -0.8, -0.8, 0.1, -0.8, -0.2)

Array = NDArray[np.float64]
Entry = tuple[Array, Array]  # intervals and features


def ensure(scratch: Path) -> Path:
    """The folder of the sample below ``scratch``: written where it is not there whole, else used as it is.

    Raises:
        UsageError: ``scratch`` cannot be written.
    """
    home = scratch / f"mosei-sample-v{VERSION}"
    if (home / FOLDS).is_file():
        return home
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=scratch))
        try:
            generate(made)
            shutil.rmtree(home, ignore_errors=True)  # one that was left unfinished
            with suppress(OSError):  # another process was first
                made.rename(home)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"the sample cannot be written to {scratch}: {error.strerror or error}; free space, or set MMBENCH_CACHE"
        ) from None
    return home


def generate(folder: Path, videos: int = VIDEOS) -> None:
    """Write the files of a sample of so many videos into ``folder``."""
    rng = np.random.default_rng(5)
    maps = {name: rng.normal(0, strength, (8, FEATURES[name])) for name, strength in STRENGTH.items()}
    entries: dict[str, dict[str, Entry]] = {name: {} for name in ROOTS}
    names = [f"video{number:03d}" for number in range(videos)]
    for name in names:
        for modality, entry in _video(rng, maps).items():
            entries[modality][name] = entry
    for modality, root in ROOTS.items():
        file = csd.LABELS if modality == "labels" else csd.FILES[modality]
        write(folder / file, root, entries[modality], {"generated": "by mmbench: no person, no video"})
    cut = round(0.6 * videos), round(0.75 * videos)
    folds = {"train": names[: cut[0]], "valid": names[cut[0] : cut[1]], "test": names[cut[1] :]}
    (folder / FOLDS).write_text(json.dumps({"mosei": folds}, indent=1) + "\n", encoding="utf-8")


def _video(rng: np.random.Generator, maps: Mapping[str, Array]) -> dict[str, Entry]:
    """One video's entries by modality: words of a third of a second, frames at a steady rate."""
    mood, labels, intervals, words, states = rng.normal(0.3, 1), [], [], [], []
    start = 0.5
    for _ in range(SEGMENTS):
        sentiment = np.clip(np.rint((mood + rng.normal(0, 1.0)) * 3) / 3, -3, 3)
        chance = 1 / (1 + np.exp(-(np.array(BASE) + np.array(LEAN) * sentiment)))
        emotions = (rng.random(6) < chance) * rng.integers(1, 7, 6) / 3
        count = int(rng.integers(3, 7))
        end = start + count / 3
        labels.append([sentiment, *np.minimum(emotions, 3)])
        intervals.append([start, end])
        words += [[start + n / 3, start + (n + 1) / 3] for n in range(count)]
        shown = np.array([sentiment, abs(sentiment) - 1, *(emotions > 0)])
        states += [shown * (rng.random() < 0.8) for _ in range(count)]  # some words say nothing
        start = end + rng.uniform(0.2, 1.5)
    spans, state = np.array(words), np.array(states, dtype=np.float64)
    found = {
        "labels": (np.array(intervals), np.array(labels)),
        "text": (spans, state @ maps["text"] + rng.normal(0, 1, (len(state), FEATURES["text"]))),
    }
    for modality, rate in RATES.items():
        first = np.arange(0, start, 1 / rate)
        place = np.searchsorted(spans[:, 0], first, side="right") - 1
        spoken = (place >= 0) & (first < spans[np.maximum(place, 0), 1])
        shown = np.where(spoken[:, None], state[np.maximum(place, 0)], 0)
        values = shown @ maps[modality] + rng.normal(0, 1, (len(first), FEATURES[modality]))
        found[modality] = (np.stack([first, first + 1 / rate], axis=1), values)
    found["audio"][1][rng.random(len(found["audio"][1])) < 0.02, 7] = -np.inf  # as COVAREP has it
    return found


def write(path: Path, root: str, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
    """A computational sequence: ``<root>/data/<key>/{intervals, features}`` and ``<root>/metadata``."""
    with h5py.File(path, "w") as file:
        for key, (intervals, features) in entries.items():
            group = file.create_group(f"{root}/data/{key}")
            group["intervals"] = np.asarray(intervals, dtype=np.float64)
            group["features"] = np.asarray(features, dtype=np.float32)
        for name, text in {"root name": root, "dataset name": "CMU-MOSEI", **metadata}.items():
            file[f"{root}/metadata/{name}"] = text
