"""The feature cache: arrays under the digest of everything they depend on.

An entry is written to a temporary name, flushed and renamed, so that it exists whole or not at all, and processes that
build the same entry at once do no harm. It carries the digest of its key and values: what does not match is built
again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmbench.errors import UsageError
from mmbench.hashing import digest


def cached(cache: Path, key: str, build: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The array under ``key`` (a hex digest), built and stored where it is absent or damaged.

    Raises:
        UsageError: the cache folder cannot be written.
    """
    path = cache / "features" / key[:2] / f"{key}.safetensors"
    stored = _load(path, key)
    if stored is not None:
        return stored
    values = np.ascontiguousarray(build(), dtype=np.float32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, save({"values": values}, {"digest": digest([key, values])}))
    except OSError as error:
        raise UsageError(
            f"cannot write the feature cache {cache}: {error.strerror}; choose another folder with MMBENCH_CACHE"
        ) from None
    return values


def _load(path: Path, key: str) -> NDArray[np.float32] | None:
    """The stored array, or None where there is none or its digest does not match."""
    try:
        with safe_open(path, framework="numpy") as file:
            values: NDArray[np.float32] = file.get_tensor("values")
            expected = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    return values if expected == digest([key, values]) else None


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
