"""The labels of BDD100K in each of the layouts in which they were released: attributes of the frame, objects in it.

- ``labels_images``: ``labels/bdd100k_labels_images_{train,val}.json``, lists of frames (2018);
- ``det_20``: ``labels/det_20/det_{train,val}.json``, the same with revised boxes and new names (2020);
- ``100k``: ``labels/100k/{train,val}/*.json``, a file a clip: a frame whose objects lie below ``frames``, or a list of
  frames as Scalabel writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmbench.errors import UsageError

from .json_list import read_objects

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "weather": ("rainy", "snowy", "clear", "overcast", "partly cloudy", "foggy"),
    "scene": ("tunnel", "residential", "parking lot", "city street", "gas stations", "highway"),
    "timeofday": ("daytime", "night", "dawn/dusk"),
}
NO_LABEL = ("undefined", "", None)
# Both releases' names, to those of 2020, as the toolkit of the data set maps them.
CATEGORIES = {
    **{name: name for name in ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")},
    **{name: name for name in ("traffic light", "traffic sign")},
    **{"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle", "caravan": "car", "van": "car"},
}
# Regions, lanes, and what the detection benchmark ignores.
PASSED_OVER = ("area/", "lane/", "area", "lane", "drivable area", "other person", "other vehicle", "trailer")
SOURCES = ("labels_images", "det_20", "100k")
PARTS = ("train", "val")
AGAIN = "unpack the labels of BDD100K again"


@dataclass
class Clip:
    """What is known of a clip's frame: by attribute its label, None where it has none, and the categories in it."""

    name: str
    part: str
    attributes: dict[str, str | None]
    categories: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Labels:
    """Labelled clips in the order of the files, where they are from, and how often categories are of no release."""

    source: str
    clips: tuple[Clip, ...]
    unknown: Mapping[str, int]


def paths_of(home: Path, source: str) -> dict[str, Path]:
    """By official part the label file, or the folder of them, that is there."""
    names = {
        "labels_images": "bdd100k_labels_images_{}.json",
        "det_20": "det_20/det_{}.json",
        "100k": "100k/{}",
    }
    found = {part: home / "labels" / names[source].format(part) for part in PARTS}
    return {part: path for part, path in found.items() if (path.is_dir() if source == "100k" else path.is_file())}


def find_source(home: Path, asked: str) -> str:
    """The labels to read: the ones asked for, or under ``auto`` the first that have both parts, else one.

    Raises:
        UsageError: there are none.
    """
    there = {source: paths_of(home, source) for source in (SOURCES if asked == "auto" else (asked,))}
    for parts in (2, 1):
        for source, paths in there.items():
            if len(paths) >= parts:
                return source
    wanted = "bdd100k_labels_images_train.json and …_val.json, det_20/ or 100k/" if asked == "auto" else asked
    raise UsageError(f"{home / 'labels'} has no {wanted}: {AGAIN}, or choose other ones with --labels")


def read_labels(home: Path, asked: str) -> Labels:
    """Every labelled clip of the parts that are there.

    Raises:
        UsageError: no labels, a file that is not of the layout, an unknown attribute, or a clip that stands twice.
    """
    source = find_source(home, asked)
    clips: dict[str, Clip] = {}
    unknown: Counter[str] = Counter()
    for part, path in paths_of(home, source).items():
        for where, entry in _entries(path):
            clip, is_video = _clip(entry, part, where, unknown)
            before = clips.setdefault(clip.name, clip)
            if before is clip:
                continue
            if before.part != part or not is_video:
                raise UsageError(f"{where}: {clip.name} stands twice, in {before.part} and in {part}; {AGAIN}")
            before.categories |= clip.categories
            for name, label in clip.attributes.items():
                before.attributes[name] = before.attributes[name] or label
    if not clips:
        raise UsageError(f"{home / 'labels'}: the labels ({source}) hold no frame; {AGAIN}")
    return Labels(source, tuple(clips.values()), unknown)


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The frames of a list, or of each file of a folder, each with its place in words."""
    if not path.is_dir():
        yield from read_objects(path, AGAIN)
        return
    try:
        files = sorted(file for file in path.iterdir() if file.suffix == ".json")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from None
    for file in files:
        yield from ((where, {"name": file.stem} | entry) for where, entry in read_objects(file, AGAIN))


def _clip(entry: dict[str, Any], part: str, where: str, unknown: Counter[str]) -> tuple[Clip, bool]:
    """The clip of a frame, and whether the frame is one of several of a video."""
    is_video = entry.get("videoName") is not None
    clip = Clip(_name(entry, "videoName" if is_video else "name", where), part, {})
    attributes = entry.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise UsageError(f"{where}: attributes is no object; {AGAIN}")
    for name, known in ATTRIBUTES.items():
        label = attributes.get(name)
        if label not in NO_LABEL and label not in known:
            raise UsageError(
                f"{where}: {name} is {str(label)[:40]!r}, expected undefined or one of {', '.join(known)}; {AGAIN}"
            )
        clip.attributes[name] = None if label in NO_LABEL else label
    for category in _categories(entry, where):
        if category in CATEGORIES:
            clip.categories.add(CATEGORIES[category])
        elif not category.startswith(PASSED_OVER[:2]) and category not in PASSED_OVER:
            unknown[category] += 1
    return clip, is_video


def _categories(entry: dict[str, Any], where: str) -> Iterator[str]:
    lists: list[tuple[str, Any]] = [("labels", entry.get("labels"))]
    lists += [("objects", frame.get("objects")) for frame in _objects(entry.get("frames"), f"{where}, frames")]
    for key, found in lists:
        for item in _objects(found, f"{where}, {key}"):
            category = item.get("category")
            if not isinstance(category, str):
                raise UsageError(f"{where}, {key}: a category is {str(category)[:40]!r}, expected a text; {AGAIN}")
            yield category


def _objects(found: Any, where: str) -> Iterable[dict[str, Any]]:
    """A list of objects; none where it is null or not there."""
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise UsageError(f"{where} is no list of objects; {AGAIN}")
    return found


def _name(entry: dict[str, Any], key: str, where: str) -> str:
    """The name of a clip, which is that of its image, video and info but for the ending."""
    name = entry.get(key)
    if not isinstance(name, str):
        raise UsageError(f"{where}: {key} is {str(name)[:40]!r}, expected the name of a clip; {AGAIN}")
    stem = name
    for ending in (".jpg", ".png", ".mov", ".json"):
        stem = stem.removesuffix(ending)
    if stem in ("", ".", "..") or not stem.isascii() or not stem.isprintable() or set(stem) & set("/\\"):
        raise UsageError(f"{where}: {key} {name[:60]!r} is no plain name of a clip; {AGAIN}")
    return stem
