"""What was recorded beside a clip (``info/100k``): which ride it is of, and how the car moved around its frame.

Nothing in these files can be relied on: they may be absent or no JSON, and a list may be missing, empty or hold what is
no number. What cannot be used is left out, and a clip without a speed near its frame has no motion. Of the recording
only speed, course, gyroscope and accelerometer are used, neither places nor times of day.

Speed is that of ``locations``, else of ``gps``; acceleration is its slope; the turn rate is the gyroscope's part around
the direction of gravity (the mean of the accelerometer: a phone is mounted as it is), else the slope of the course.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.arrays import read_npz, write_npz
from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.streams import Motion

VERSION = 1
FRAME = 10.0  # the second of a clip that its image shows
CLIP = 40.0  # seconds
STEPS = 20  # a second
NEAR = 2.0  # seconds from the window within which a speed must have been measured
LARGEST = 2**26  # bytes
FASTEST, HARDEST, QUICKEST = 120.0, 20.0, 35.0  # m/s, m/s², rad/s: what is beyond is no measurement of a car
SLOW = 1.0  # m/s: a course below that is noise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """Of n clips the ride, empty where it is not known, the motion, and why there is none in words, else empty."""

    rides: tuple[str, ...]
    motions: tuple[Motion | None, ...]
    reasons: tuple[str, ...]

    def why_missing(self) -> str:
        """How many clips lack motion for which reason, the commonest first."""
        counted = Counter(reason for reason in self.reasons if reason)
        return ", ".join(f"{count:,} {reason}" for reason, count in counted.most_common())


def read_recordings(home: Path, clips: Sequence[tuple[str, str]], seconds: float, scratch: Path) -> Recording:
    """The recordings of clips, given as (name, part); kept below ``scratch``, since reading 80,000 files takes minutes.

    Raises:
        UsageError: ``scratch`` cannot be written.
    """
    paths = [home / "info" / "100k" / part / f"{name}.json" for name, part in clips]
    stamps = [f"{name} {_stamp(path)}" for (name, _), path in zip(clips, paths, strict=True)]
    kept = scratch / f"bdd100k-info-{digest([str(VERSION), repr(seconds), str(home), *stamps])[:16]}.npz"
    count = round(STEPS * seconds) + 1
    shapes = {"ride": ("U", ("clips",)), "reason": ("U", ("clips",)), "series": ("f", ("clips", 3, count))}
    try:
        arrays = read_npz(kept, shapes)
    except UsageError:
        arrays = _read_all(paths, seconds, count)
        write_npz(kept, arrays)
    reasons = tuple(arrays["reason"].tolist())
    motions = [
        None if reason else Motion(name, seconds, *series)
        for (name, _), reason, series in zip(clips, reasons, arrays["series"], strict=True)
    ]
    return Recording(tuple(arrays["ride"].tolist()), tuple(motions), reasons)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "none"
    return f"{status.st_size} {status.st_mtime_ns}"


def _read_all(paths: Sequence[Path], seconds: float, count: int) -> dict[str, NDArray[Any]]:
    rides, reasons, series = [], [], np.zeros((len(paths), 3, count))
    for row, path in enumerate(paths):
        content, reason = read_info(path)
        rides.append(_ride(content))
        if not reason:
            found = motion(content, seconds)
            reason = "" if found is not None else "no speed near the frame"
            series[row] = 0.0 if found is None else found
        reasons.append(reason)
    return {"ride": np.array(rides), "reason": np.array(reasons), "series": series}


def read_info(path: Path) -> tuple[dict[str, Any], str]:
    """The object in a file, and in words why there is none."""
    try:
        if path.stat().st_size > LARGEST:
            return {}, "info too large"
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, "no info file"
    except OSError:
        return {}, "info unreadable"
    except (ValueError, RecursionError):
        return {}, "invalid JSON"
    return (content, "") if isinstance(content, dict) else ({}, "invalid JSON")


def _ride(content: dict[str, Any]) -> str:
    ride = content.get("rideID")
    known = isinstance(ride, str | int) and not isinstance(ride, bool)
    return str(ride)[:100].strip().encode("ascii", "backslashreplace").decode() if known else ""


def motion(content: dict[str, Any], seconds: float) -> Array | None:
    """Speed, acceleration and turn rate at equal steps of the window around the frame, (3, 20 · seconds + 1).

    None where no speed was measured in the window or within two seconds of it.
    """
    begin = min(max(FRAME - seconds / 2, 0.0), max(CLIP - seconds, 0.0))
    moments = begin + np.linspace(0, seconds, round(STEPS * seconds) + 1)
    locations, gps = (_series(content, name, "speed") for name in ("locations", "gps"))
    speed = _plausible(locations, FASTEST) if len(_plausible(locations, FASTEST)) else _plausible(gps, FASTEST)
    start = _number(content.get("startTime")) or (speed[0, 0] if len(speed) else 0.0)
    time = (speed[:, 0] - start) / 1000
    if not ((time >= begin - NEAR) & (time <= begin + seconds + NEAR)).any():
        return None
    slope = np.gradient(speed[:, 1], time) if len(time) > 1 else np.zeros(1)
    turning = _turn_rate(content, start)
    return np.stack(
        [
            np.interp(moments, time, speed[:, 1]),
            np.interp(moments, time, slope.clip(-HARDEST, HARDEST)),
            np.interp(moments, *turning) if len(turning[0]) else np.zeros(len(moments)),
        ]
    )


def _turn_rate(content: dict[str, Any], start: float) -> tuple[Array, Array]:
    """Times in seconds and turn rates in rad/s, empty where neither gyroscope nor course tells any."""
    gyro, pull = (_series(content, name, "x", "y", "z") for name in ("gyro", "accelerometer"))
    gyro = gyro[(np.abs(gyro[:, 1:]) <= QUICKEST).all(axis=1)]
    pull = pull[(np.abs(pull[:, 1:]) <= 1000).all(axis=1)]
    if len(gyro) and len(pull):
        down = pull[:, 1:].mean(axis=0)
        if np.linalg.norm(down) > 0:
            return (gyro[:, 0] - start) / 1000, gyro[:, 1:] @ (down / np.linalg.norm(down))
    course = _series(content, "locations", "course", "speed")
    course = course[(course[:, 1] >= 0) & (course[:, 1] <= 360) & (course[:, 2] >= SLOW)]
    if len(course) < 2:
        return np.empty(0), np.empty(0)
    time = (course[:, 0] - start) / 1000
    slope = np.gradient(np.unwrap(np.deg2rad(course[:, 1])), time)
    return time, slope.clip(-QUICKEST, QUICKEST)


def _series(content: dict[str, Any], name: str, *fields: str) -> Array:
    """The entries of a list with a time, in ms, and these fields as finite numbers, (m, 1 + fields), each time once."""
    entries = content.get(name)
    rows = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            row = [_number(entry.get(field)) for field in ("timestamp", *fields)]
            if None not in row:
                rows.append(row)
    found = np.array(rows, dtype=np.float64).reshape(-1, 1 + len(fields))
    found = found[np.abs(found[:, 0]) < 1e15]
    found[:, 0] = np.round(found[:, 0])
    return found[np.unique(found[:, 0], return_index=True)[1]]


def _plausible(series: Array, most: float) -> Array:
    """The rows whose value is between 0 and ``most``: a phone without a fix writes -1."""
    return series[(series[:, 1] >= 0) & (series[:, 1] <= most)]


def _number(value: Any) -> float | None:
    """A finite number, also one that is written as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def join_rides(names: Sequence[str], rides: Sequence[str]) -> list[str]:
    """The ride of each clip; where it is not known, that of the clips whose name begins alike (``b1c66a42-…``).

    Where clips of one beginning are of several known rides, an unknown one joins them all: no ride is ever cut.
    """
    joined: dict[str, str] = {}

    def root(key: str) -> str:
        while joined.setdefault(key, key) != key:
            key = joined[key]
        return key

    beginnings = [f"name {name.split('-')[0]}" for name in names]
    open_ones = {start for start, ride in zip(beginnings, rides, strict=True) if not ride}
    keys = []
    for start, ride in zip(beginnings, rides, strict=True):
        key = f"ride {ride}" if ride else start
        if ride and start in open_ones:
            first, second = sorted((root(key), root(start)), reverse=True)
            joined[second] = first
        keys.append(key)
    return [root(key) for key in keys]
