"""The official folds, which are lists of video ids in the CMU Multimodal SDK and are not shipped here.

Read are the SDK's own ``cmu_mosei_std_folds.py``, as text and never run, and JSON: ``{"train": […], "valid": […],
"test": […]}``, also under a key ``"mosei"``.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from mmbench.errors import UsageError

NAMES = {"train": "train", "valid": "val", "validation": "val", "dev": "val", "val": "val", "test": "test"}
PLACES = ("cmu_mosei_std_folds.py", "*folds*.json")
LARGEST = 10_000_000  # bytes
HOW = (
    "put the SDK's cmu_mosei_std_folds.py, or a JSON file *folds*.json with the video ids of train, valid and test, "
    "beside the .csd files, name one with --set task.folds=FILE, or draw a split with --protocol resplit"
)


def find_folds(root: Path, given: str) -> Path:
    """The file that was named, else the one in the folder or in a folder of it.

    Raises:
        UsageError: there is none, or there are several.
    """
    if given:
        path = Path(given) if Path(given).is_file() else root / given
        if not path.is_file():
            raise UsageError(f"task.folds={given}: no such file")
        return path
    found = [path for name in PLACES for where in (name, f"*/{name}") for path in sorted(root.glob(where))]
    if not found:
        raise UsageError(f"{root} has no official folds: {HOW}")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found[:3])
        raise UsageError(f"{root} has several files of folds ({names}): name one with --set task.folds=FILE")
    return found[0]


def read_folds(path: Path) -> dict[str, str]:
    """The split of each video id.

    Raises:
        UsageError: a file that cannot be read, is of another form, lacks a fold, or has a video in two.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than a file of folds can be")
        text = path.read_text(encoding="utf-8")
        lists = _assigned(text) if path.suffix == ".py" else _members(json.loads(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise UsageError(f"{path} is no file of folds: {HOW}") from None
    split: dict[str, str] = {}
    for name, ids in lists.items():
        fold = NAMES.get(name)
        if fold is None:
            continue
        if not isinstance(ids, list) or not all(isinstance(video, str) for video in ids):
            raise UsageError(f"{path}: fold {name} is no list of video ids")
        for video in ids:
            if split.setdefault(video, fold) != fold:
                raise UsageError(f"{path}: video {video} is in {split[video]} and in {fold}")
    missing = {"train", "val", "test"} - set(split.values())
    if missing:
        raise UsageError(f"{path} has no {' and no '.join(sorted(missing))} videos: {HOW}")
    return split


def _assigned(text: str) -> dict[str, Any]:
    """``standard_train_fold = […]`` and its like, by ``train``; only literals, nothing is run."""
    return {
        statement.targets[0].id.removeprefix("standard_").removesuffix("_fold"): ast.literal_eval(statement.value)
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id.endswith("_fold")
    }


def _members(value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("mosei"), dict):
        value = value["mosei"]
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
