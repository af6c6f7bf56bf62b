"""What was found out before, under the digest of all that it follows from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.running.store import write_atomically


def remember(key: str, compute: Callable[[], Any], keep: Callable[[Any], bool] = lambda content: True) -> Any:
    """What ``compute`` gives, as JSON has it: kept in the cache under ``key``, a digest of all that it follows from.

    What ``keep`` refuses is computed anew each time.
    """
    path = cache_folder() / "records" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["digest"] == digest([json.dumps(stored["content"])]):
            return stored["content"]
    content = json.loads(json.dumps(compute()))
    if not keep(content):
        return content
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no result
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"digest": digest([json.dumps(content)]), "content": content}))
    return content
