"""Reads the official layout of COCO: ``annotations/{instances,captions}_<part><year>.json``, a folder of images a part.

A file is checked field by field before anything of it is used; whatever differs from the layout is a
:class:`UsageError` that names the file and the place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.errors import UsageError

INSTANCES = re.compile(r"instances_(train|val)(\d{4})\.json")
PREFERRED = "2017"
AGAIN = "unpack annotations_trainval2017.zip again"
LARGEST_ID = 2**63
UNUSED = ("segmentation", "bbox", "url", "flickr_url", "coco_url", "date_captured")


@dataclass(frozen=True)
class Part:
    """The images of one official part, in the order of the file.

    Attributes:
        name: ``train2017``.
        files: n names of files in the part's folder.
        labels: n sets of category names, empty where no object was marked.
        captions: n tuples of captions in the order of their ids, empty where there are none.
    """

    name: str
    files: tuple[str, ...]
    labels: tuple[frozenset[str], ...]
    captions: tuple[tuple[str, ...], ...]


def parts_of(root: Path) -> dict[str, str]:
    """The official parts whose object annotations are there, as ``{"train": "train2017"}``, all of one year."""
    try:
        found = [m for path in (root / "annotations").iterdir() if (m := INSTANCES.fullmatch(path.name)) is not None]
    except OSError:
        return {}
    years = sorted({m[2] for m in found}, key=lambda year: (year == PREFERRED, year))
    return {m[1]: m[1] + m[2] for m in found if m[2] == years[-1]}


def read_parts(root: Path) -> tuple[tuple[str, ...], dict[str, Part]]:
    """The categories in the order of their ids, and the parts that are there.

    Raises:
        UsageError: no annotations, a file that cannot be read or is not of the layout, or parts of other categories.
    """
    names = parts_of(root)
    if not names:
        raise UsageError(
            f"{root} is not COCO: expected annotations/instances_train2017.json or …_val2017.json in it; {AGAIN}"
        )
    read = {kind: _part(root / "annotations", name) for kind, name in sorted(names.items())}
    categories = {kind: names for kind, (names, _) in read.items()}
    if len(set(categories.values())) > 1:
        raise UsageError(f"{root}: the annotations of train and val have other categories; {AGAIN}")
    return next(iter(categories.values())), {kind: part for kind, (_, part) in read.items()}


def _part(folder: Path, name: str) -> tuple[tuple[str, ...], Part]:
    path = folder / f"instances_{name}.json"
    content = _read(path)
    category: dict[int, str] = {}
    for where, entry in _entries(content, "categories", path):
        number, text = _id(entry, "id", where), _text(entry, "name", where)
        if number in category or text in category.values():
            raise UsageError(f"{where}: category {number} '{text[:40]}' stands twice; {AGAIN}")
        category[number] = text
    row_of: dict[int, int] = {}
    files: list[str] = []
    for where, entry in _entries(content, "images", path):
        number, file = _id(entry, "id", where), _text(entry, "file_name", where)
        if number in row_of:
            raise UsageError(f"{where}: image {number} stands twice; {AGAIN}")
        if file in (".", "..") or not file.isprintable() or "/" in file or "\\" in file:
            raise UsageError(f"{where}: file_name {file[:80]!r} is no plain name of a file; {AGAIN}")
        row_of[number] = len(files)
        files.append(file)
    if not files or not category:
        raise UsageError(f"{path} has no {'categories' if files else 'images'}; {AGAIN}")
    if len(set(files)) < len(files):
        raise UsageError(f"{path}: two images have one file_name; {AGAIN}")
    labels: list[set[str]] = [set() for _ in files]
    for where, entry in _entries(content, "annotations", path):
        image, kind = _id(entry, "image_id", where), _id(entry, "category_id", where)
        if image not in row_of or kind not in category:
            raise UsageError(f"{where}: image {image} or category {kind} is not in the file; {AGAIN}")
        labels[row_of[image]].add(category[kind])
    captions = _captions(folder / f"captions_{name}.json", row_of)
    part = Part(name, tuple(files), tuple(map(frozenset, labels)), captions)
    return tuple(category[number] for number in sorted(category)), part


def _captions(path: Path, row_of: dict[int, int]) -> tuple[tuple[str, ...], ...]:
    found: list[list[tuple[int, str]]] = [[] for _ in row_of]
    for where, entry in _entries(_read(path), "annotations", path):
        image = _id(entry, "image_id", where)
        if image not in row_of:
            raise UsageError(f"{where}: image {image} is not in the instances file; both must be of one release")
        found[row_of[image]].append((_id(entry, "id", where), _text(entry, "caption", where)))
    return tuple(tuple(" ".join(text.split()) for _, text in sorted(texts)) for texts in found)


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file, without the fields that are not used, which are most of its bytes."""
    try:
        content = json.loads(path.read_bytes(), object_hook=_slim)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply to be COCO; {AGAIN}") from None
    except ValueError as error:  # not JSON, not UTF-8, a number of too many digits
        raise UsageError(f"{path} is not JSON: {str(error)[:120]}; {AGAIN}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no JSON object; {AGAIN}")
    return content


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    for name in UNUSED:
        entry.pop(name, None)
    return entry


def _entries(content: dict[str, Any], key: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its place in words."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UsageError(f"{path} has no list '{key}'; {AGAIN}")
    for number, entry in enumerate(entries):
        where = f"{path}, {key}[{number}]"
        if not isinstance(entry, dict):
            raise UsageError(f"{where} is no object; {AGAIN}")
        yield where, entry


def _id(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < LARGEST_ID:
        raise UsageError(f"{where}: {key} is {str(value)[:40]!r}, expected a whole number; {AGAIN}")
    return value


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key} is no text; {AGAIN}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {key} holds half a character; {AGAIN}") from None
    return value
