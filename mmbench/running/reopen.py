"""The plug-ins of a run that is there: its own task card is found again, a stranger's code is never.

A card is data, so that ``run.json`` may say where it lies, relative to the run. A plug-in file is code: no path to one
is kept, and it is given again with ``--plugin``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmbench.errors import UsageError
from mmbench.hashing import digest
from mmbench.plugins import CARD, Registry
from mmbench.running.store import RunFolder


def describe_card(path: Path, folder: Path) -> dict[str, str] | None:
    """What ``run.json`` in ``folder`` says of the file that defined its task: of a card its place and digest."""
    if path.suffix != CARD:
        return None
    return {"path": os.path.relpath(path, folder.resolve()), "digest": digest([path.read_bytes()])}


def registry_of(folder: RunFolder, extra: Sequence[Path]) -> Registry:
    """The plug-ins that are found anywhere, those of the files ``extra``, and the run's own card where it is unchanged.

    Raises:
        UsageError: the run's card is gone or another one, and none of the plug-ins is its task.
    """
    info = folder.info()
    match info["task"].get("card"):
        case {"path": str(place), "digest": str(stamp)}:
            path = folder.path.resolve() / place
        case _:
            return Registry(extra)
    there = path.suffix == CARD and path.is_file()
    if there and digest([path.read_bytes()]) == stamp:
        return Registry([path, *extra])
    registry, name = Registry(extra), info["config"]["task"]
    if all(plugin.name != name for plugin in registry.list("task")):
        what = "has changed since" if there else "is not there"
        raise UsageError(
            f"the task card of {folder.path}, {path}, {what}: give the one that it was run with as --plugin FILE.toml"
        )
    return registry
