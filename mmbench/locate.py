"""Where things are on a user's machine: data sets and the cache."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from mmbench.contracts import Task
from mmbench.errors import UsageError


def cache_folder() -> Path:
    """``MMBENCH_CACHE``, else the user's cache folder: encoded features and generated samples."""
    given = os.environ.get("MMBENCH_CACHE")
    return Path(given) if given else Path(user_cache_path("mmbench", appauthor=False))


def find_data(name: str, task: Task, given: Path | None, require: bool) -> Path | None:
    """The data set's root: ``--data``, else ``MMBENCH_DATA/<task>``, else the user cache; None means the task's own.

    Raises:
        UsageError: a given folder that is not there, a found one of another layout, or no data where ``require`` asks
            for it.
    """
    if given is not None:
        if not given.is_dir():
            raise UsageError(
                f"--data {given}: no such folder; expected the root of {task.title}. {task.obtain}".strip()
            )
        return given.resolve()
    places = [Path(os.environ["MMBENCH_DATA"]) / name] if "MMBENCH_DATA" in os.environ else []
    for place in [*places, cache_folder() / "data" / name]:
        if place.is_dir() and task.recognises(place):
            return place.resolve()
        if place.is_dir() and any(place.iterdir()):
            raise UsageError(
                f"{place} holds no {task.title} in a layout that is read: mend it or give --data. {task.obtain}"
            )
    if task.embedded == "none" or (require and task.embedded != "real"):
        raise UsageError(f"no data found for task {name}: give its folder with --data. {task.obtain}".strip())
    return None
