"""BDD100K: clips of driving, each told by its labelled frame and by how the car moved (Yu et al., CVPR 2020).

A row is a clip with labels, its id the clip's name, its group the ride. The official test clips have no public labels:
test is the official validation part, as the field reports it, and validation rows are drawn from train. Without a
folder, a generated sample in the same layout is written and read by the same code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import sample_folder
from mmbench.absent import BAD_IMAGES, MISSING_IMAGES, without_files
from mmbench.contracts import Dataset, LoadRequest, Modality, Option, Problem, Task
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.streams import Motion

from . import sample
from .concepts import CYCLIST, concepts_of, official_split, target_of
from .info import CLIP, Recording, join_rides, read_recordings
from .labels import SOURCES, Clip, Labels, read_labels
from .protocols import FACTS, MOTION, PROTOCOLS, TELEMETRY

NAME = "bdd100k"
SUMMARY = "clips of driving: weather, scene and time of day, or the objects seen, from frame or video and motion"

FOLDER = "bdd100k"
OFFICIAL = {"train": 69_863, "val": 10_000}
FILES = {
    "image": ("jpg", ("images/100k",), "unpack the 100K Images"),
    "video": ("mov", ("videos", "videos/100k"), "unpack the video parts"),
}


def load(request: LoadRequest) -> Dataset:
    """Read BDD100K, or the generated sample where ``request.root`` is None.

    Raises:
        UsageError: a folder, file or option that does not fit; files that are missing under ``missing_images=error``;
            no motion at all where it is asked for.
    """
    options, modalities = request.options, request.modalities
    home = sample.ensure(request.scratch) if request.root is None else find_home(request.root)
    version = sample_folder.version_of(home)
    labels = read_labels(home, options["labels"])
    concepts = concepts_of(request.protocol.name)
    targets = {concept.name: target_of(concept, labels.clips, options["cyclist"]) for concept in concepts}
    recording = read_recordings(
        home, [(clip.name, clip.part) for clip in labels.clips], _seconds(options["motion_seconds"]), request.scratch
    )
    ids = np.array([clip.name for clip in labels.clips])
    rides = np.array(join_rides(ids.tolist(), recording.rides))
    split, lines = official_split(labels.clips, rides, targets, request.split_seed)
    lines += _notes(labels, targets, recording)
    problems: tuple[Problem, ...] = (Problem("joint", tuple(targets), split),)
    inputs: dict[str, Any] = {}
    described: list[str | NDArray[np.generic]] = ["\n".join(ids.tolist()), "\n".join(rides.tolist())]
    for concept in concepts:
        described += [concept.name, "\n".join(concept.labels), targets[concept.name]]
    for name in (name for name in FILES if name in modalities):
        inputs[name], sizes = _files(home, labels.clips, name)
        problems, more = _present(problems, sizes > 0, name, options["missing_images"], home, ids)
        lines += more
        if version is None:
            described += [name, sizes]
    if MOTION in modalities or TELEMETRY in modalities:
        lines += _motion_notes(recording, home, options["missing_images"])
        inputs |= {
            name: values
            for name, values in ((MOTION, recording.motions), (TELEMETRY, _telemetry(recording.motions)))
            if name in modalities
        }
        described += ["motion", _series(recording.motions)]
    if version is not None:
        described.append(f"sample {version}")  # not its sizes: the bytes of a picture depend on the image library
    return Dataset(
        ids=ids,
        groups=rides,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=problems,
        fingerprint=digest(described),
        title=_title(labels, version),
        generated=version is not None,
        notes=tuple(lines),
        facets={
            name: np.array([clip.attributes[name] or "" for clip in labels.clips]) for name in ("timeofday", "weather")
        },
    )


def find_home(root: Path) -> Path:
    """The folder with ``labels/``: ``root`` or the ``bdd100k`` in it.

    Raises:
        UsageError: neither has one.
    """
    for home in (root, root / FOLDER):
        if (home / "labels").is_dir():
            return home
    raise UsageError(
        f"{root} is not BDD100K: expected labels/, images/100k/ and info/100k/ in it; give --data the folder bdd100k"
    )


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = float("nan")
    if not 0.1 <= seconds <= CLIP:
        raise UsageError(f"--set task.motion_seconds={given}: expected a number from 0.1 to {CLIP:g}, a clip's length")
    return seconds


def _notes(labels: Labels, targets: dict[str, NDArray[np.int64]], recording: Recording) -> list[str]:
    lines = []
    unlabelled = [f"{name} {(t < 0).sum():,}" for name, t in targets.items() if t.ndim == 1]
    if unlabelled:
        lines.append(f"'undefined' is no label: {', '.join(unlabelled)} of {len(labels.clips):,} clips are masked")
    if labels.unknown:
        named = ", ".join(repr(name[:30]) for name in sorted(labels.unknown)[:3])
        lines.append(f"{sum(labels.unknown.values()):,} boxes are of no category of BDD100K ({named}): passed over")
    without = sum(not ride for ride in recording.rides)
    if without:
        lines.append(
            f"{without:,} of {len(labels.clips):,} clips have no rideID: their ride is told by the name before the dash"
        )
    return lines


def _files(home: Path, clips: tuple[Clip, ...], name: str) -> tuple[list[Path | None], NDArray[np.int64]]:
    """The file of each clip, None where it is missing or empty, and its size in bytes, (n,)."""
    ending, folders, _ = FILES[name]
    folder = next(
        (home / f for f in folders if any((home / f / part).is_dir() for part in OFFICIAL)), home / folders[0]
    )
    paths: list[Path | None] = []
    sizes = np.zeros(len(clips), dtype=np.int64)
    for row, clip in enumerate(clips):
        path = folder / clip.part / f"{clip.name}.{ending}"
        sizes[row] = path.stat().st_size if path.is_file() else 0
        paths.append(path if sizes[row] else None)
    return paths, sizes


def _present(
    problems: tuple[Problem, ...], present: NDArray[np.bool_], name: str, policy: str, home: Path, ids: NDArray[np.str_]
) -> tuple[tuple[Problem, ...], list[str]]:
    ending, folders, remedy = FILES[name]

    def refuse(reason: str, row: int) -> UsageError:
        return UsageError(
            f"{reason} below {home / folders[0]} (first: {ids[row]}.{ending}): {remedy}, choose --missing-images drop "
            f"or mask, or leave {name} out with --modalities"
        )

    return without_files(problems, present, policy, name, refuse)


def _motion_notes(recording: Recording, home: Path, policy: str) -> list[str]:
    """That motion is no recording, and how many clips have none.

    Raises:
        UsageError: no clip has any, unless what is missing is to be masked.
    """
    total, missing = len(recording.motions), sum(motion is None for motion in recording.motions)
    why = f"{missing:,} of {total:,} clips have no motion ({recording.why_missing()})"
    if missing == total and policy != "mask":
        raise UsageError(
            f"{why}: unpack Info below {home / 'info' / '100k'}, or give the modalities without it: --modalities image"
        )
    lines = [
        f"{MOTION} is a sound made of speed, acceleration and turn rate, not a recording; telemetry is the numbers"
    ]
    return [*lines, f"{why}: it is missing there"] if missing else lines


def _series(motions: tuple[Motion | None, ...]) -> NDArray[np.float64]:
    """All motions side by side, (n, 3, steps); NaN where there is none."""
    steps = max([1, *(len(motion.speed) for motion in motions if motion is not None)])
    nothing = np.full((3, steps), np.nan)
    return np.stack([nothing if m is None else np.stack([m.speed, m.acceleration, m.turn_rate]) for m in motions])


def _telemetry(motions: tuple[Motion | None, ...]) -> NDArray[np.float64]:
    """Mean and deviation of speed, acceleration and turn rate, and the largest of each without its sign, (n, 9)."""
    series = _series(motions)
    return np.concatenate([series.mean(axis=2), series.std(axis=2), np.abs(series).max(axis=2)], axis=1)


def _title(labels: Labels, version: int | None) -> str:
    if version is not None:
        return "BDD100K sample (generated)"
    sizes = {part: sum(clip.part == part for clip in labels.clips) for part in OFFICIAL}
    if sizes == OFFICIAL:
        return "BDD100K"
    return "BDD100K, " + " and ".join(f"{size:,} clips of {part}" for part, size in sizes.items() if size)


TASK = Task(
    title="BDD100K",
    licence="labels: BSD-3-Clause; images, videos and info: the BDD100K licence (research and education)",
    citation=(
        "Yu, Chen, Wang, Xian, Chen, Liu, Madhavan & Darrell. BDD100K: A Diverse Driving Dataset for Heterogeneous "
        "Multitask Learning. CVPR 2020."
    ),
    homepage="https://bdd-data.berkeley.edu",
    group="ride",
    modalities=(
        Modality("image", "image", "hog-color"),
        Modality("video", "video", "hog-color:frames=steps"),
        Modality(MOTION, "motion", "synthetic-motion:average=14"),
        Modality(TELEMETRY, "vector", "standardize"),
    ),
    protocols=PROTOCOLS,
    load=load,
    proposed="hybrid",
    options=(
        Option(
            "labels", "auto", ("auto", *SOURCES), "which release of the labels; auto takes the first with both parts"
        ),
        Option("cyclist", "rider", tuple(CYCLIST), "which boxes make a cyclist: of riders, of bicycles, or of either"),
        Option("motion_seconds", "1", (), "how much of the motion around the frame is used, 0.1 to 40 seconds"),
        MISSING_IMAGES,
        BAD_IMAGES,
    ),
    embedded="sample",
    recognises=lambda root: any((home / "labels").is_dir() for home in (root, root / FOLDER)),
    obtain=(
        "get 100K Images (5.3 GB), Info (3.9 GB) and Labels (107 MB) or Detection 2020 Labels (53 MB) from "
        "bdd-data.berkeley.edu, where an account is needed, unpack all in one place, give the folder bdd100k as --data"
    ),
    facts=FACTS,
)
