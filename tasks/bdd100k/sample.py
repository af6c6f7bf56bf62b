"""The generated sample of BDD100K: drawn frames, labels and recordings of invented rides, in the official layout.

The frame tells weather and time of day, most of the scene and most objects; the motion tells the scene by its speed,
and of people on the road that the car is slow. A few recordings are damaged, empty or missing and one ride is in both
official parts, as happens in the real files. Everything is drawn from one seed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import sample_folder

from .drawing import draw
from .labels import ATTRIBUTES

VERSION = 1
SIZES = {"train": 360, "val": 160}
SHARES = {
    "weather": (0.15, 0.14, 0.28, 0.2, 0.13, 0.1),
    "scene": (0.08, 0.2, 0.12, 0.28, 0.08, 0.24),
    "timeofday": (0.5, 0.32, 0.18),
}
TOLD = {"weather": 0.9, "scene": 0.6, "timeofday": 0.95}  # chance that a frame shows it
SEEN = 0.85  # chance that an object is drawn
UNDEFINED = 0.04
# official category: its share of frames, in the city, and how much slower the car is then
OBJECTS = {
    "car": (0.75, 0.95, 1.0),
    "person": (0.2, 0.5, 0.6),
    "rider": (0.1, 0.25, 0.7),
    "traffic sign": (0.45, 0.7, 1.0),
    "truck": (0.3, 0.3, 0.9),
    "motor": (0.12, 0.2, 1.0),
}
# scene: usual speed in m/s, and how much the car turns in rad/s
SPEEDS = {
    "tunnel": (17.0, 0.02),
    "residential": (8.0, 0.15),
    "parking lot": (2.5, 0.3),
    "city street": (10.0, 0.08),
    "gas stations": (1.0, 0.1),
    "highway": (28.0, 0.02),
}
CLIP = 40  # seconds
EPOCH = 1_900_000_000_000  # ms
DAMAGED, EMPTY, ABSENT = 0.02, 0.02, 0.01  # shares of the recordings


@dataclass(frozen=True)
class Ride:
    """What the clips of a ride share."""

    prefix: str
    ride: str
    attributes: dict[str, str]


def ensure(scratch: Path) -> Path:
    """The folder of the sample below ``scratch``, written where it is not there whole."""
    return sample_folder.ensure(scratch, "bdd100k", VERSION, generate)


def generate(root: Path) -> list[str]:
    """Write the sample below an empty folder, the same labels, recordings and frames every time; names the frames."""
    rng = np.random.default_rng([VERSION])
    (root / "labels").mkdir()
    pictures = []
    ride = _ride(rng)
    for part, size in SIZES.items():
        frames: list[dict[str, Any]] = []
        for kind in ("images", "info"):
            (root / kind / "100k" / part).mkdir(parents=True)
        while len(frames) < size:
            name = f"{ride.prefix}-{_hex(rng, 8)}"
            frames.append(_clip(root, part, name, ride, rng))
            pictures.append(f"images/100k/{part}/{name}.jpg")
            # the last ride of train goes on in val
            if len(frames) < size and rng.random() < 0.6:
                ride = _ride(rng)
        (root / "labels" / f"bdd100k_labels_images_{part}.json").write_text(json.dumps(frames, indent=1))
    return pictures


def _clip(root: Path, part: str, name: str, ride: Ride, rng: np.random.Generator) -> dict[str, Any]:
    """Write a clip's frame and recording; what the label file says of it."""
    attributes = dict(ride.attributes)
    city = attributes["scene"] == "city street"
    objects = [category for category, shares in OBJECTS.items() if rng.random() < shares[city]]
    shown = {name: label if rng.random() < TOLD[name] else None for name, label in attributes.items()}
    drawn = [category for category in objects if rng.random() < SEEN]
    image, boxes = draw(shown, [c for category in drawn for c in _parts(category)], rng)
    image.save(root / "images" / "100k" / part / f"{name}.jpg", quality=88)
    recording = json.dumps(_recording(name, ride, objects, rng))
    fate = rng.random()
    if fate < DAMAGED:
        recording = recording[: len(recording) // 2]
    elif fate < DAMAGED + EMPTY:
        recording = json.dumps({"rideID": ride.ride, "filename": f"{name}.mov", "locations": [], "gyro": None})
    if not DAMAGED + EMPTY <= fate < DAMAGED + EMPTY + ABSENT:
        (root / "info" / "100k" / part / f"{name}.json").write_text(recording)
    described = {name: "undefined" if rng.random() < UNDEFINED else label for name, label in attributes.items()}
    placed = dict(zip([c for category in drawn for c in _parts(category)], boxes, strict=True))
    labels = [
        {
            "category": category,
            "id": number,
            "attributes": {"occluded": category not in placed, "truncated": False, "trafficLightColor": "none"},
            "box2d": dict(zip(("x1", "y1", "x2", "y2"), placed.get(category, (0.0, 0.0, 1.0, 1.0)), strict=True)),
        }
        for number, category in enumerate(c for category in objects for c in _parts(category))
    ]
    labels.append({"category": "area/drivable", "id": len(labels), "attributes": {"areaType": "direct"}})
    return {"name": f"{name}.jpg", "attributes": described, "timestamp": 10000, "labels": labels}


def _parts(category: str) -> tuple[str, ...]:
    """The boxes of an object: who rides a bicycle is marked beside it."""
    return ("bike", "rider") if category == "rider" else (category,)


def _ride(rng: np.random.Generator) -> Ride:
    drawn = {name: labels[int(rng.choice(len(labels), p=SHARES[name]))] for name, labels in ATTRIBUTES.items()}
    return Ride(_hex(rng, 8), _hex(rng, 32), drawn)


def _hex(rng: np.random.Generator, digits: int) -> str:
    return "".join(f"{int(digit):x}" for digit in rng.integers(0, 16, digits))


def _recording(name: str, ride: Ride, objects: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """A recording in the layout of ``info``: speed and course once a second, the phone's sensors twice."""
    usual, turning = SPEEDS[ride.attributes["scene"]]
    usual *= float(np.prod([OBJECTS[category][2] for category in objects])) * float(rng.lognormal(0, 0.2))
    start = EPOCH + int(rng.integers(0, 10**9))
    seconds = np.arange(CLIP)
    speed = (usual * (1 + 0.15 * np.sin(seconds / rng.uniform(2, 6) + rng.uniform(0, 6)))).clip(0)
    phase, period = rng.uniform(0, 6), rng.uniform(2, 5)
    course = np.rad2deg(np.cumsum(turning * np.sin(seconds / period + phase))) % 360
    twice = np.arange(0, CLIP, 0.5)
    rate = turning * np.sin(twice / period + phase)
    down = np.array([rng.normal(0, 0.1), -1.0, rng.normal(0, 0.1)])
    gyro = rate[:, None] * down / np.linalg.norm(down) + rng.normal(0, 0.005, (len(twice), 3))
    pull = down + rng.normal(0, 0.02, (len(twice), 3))
    locations = [
        {
            "timestamp": start + 1000 * int(t),
            "latitude": 0.0,
            "longitude": 0.0,
            "speed": round(float(v), 3),
            "course": round(float(c), 2),
            "accuracy": 5,
        }
        for t, v, c in zip(seconds, speed, course, strict=True)
    ]
    sensors = {
        kind: [
            {"timestamp": start + int(1000 * t), **dict(zip("xyz", (round(float(v), 4) for v in row), strict=True))}
            for t, row in zip(twice, values, strict=True)
        ]
        for kind, values in (("gyro", gyro), ("accelerometer", pull))
    }
    times = {"startTime": start, "endTime": start + 1000 * CLIP}
    return {
        "id": name,
        "rideID": ride.ride,
        "filename": f"{name}.mov",
        **times,
        "gps": [],
        "locations": locations,
    } | sensors
