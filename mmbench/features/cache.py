"""The feature cache: arrays under the digest of everything they depend on.

A file is the SHA-256 of what follows, then safetensors: what does not match its digest is never parsed and is built
again. It is written to a temporary name, flushed and renamed, so that it exists whole or not at all, and processes that
build the same entry at once do no harm.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mmbench.errors import UsageError
from mmbench.hashing import digest

DIGEST = 64  # hex digits
BLOCK = 256  # inputs


def cached(cache: Path, key: str, build: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The array under ``key`` (a hex digest), built and stored where it is absent or damaged.

    Raises:
        UsageError: the cache folder cannot be written, said before anything is built.
    """
    path = cache / "features" / key[:2] / key
    stored = _load(path, key)
    if stored is not None:
        return stored["values"]
    _prepare(cache, path.parent)
    values = np.ascontiguousarray(build(), dtype=np.float32)
    _store(cache, path, key, {"values": values})
    return values


def cached_rows(
    cache: Path,
    key: str,
    contents: Sequence[str],
    encode: Callable[[list[str]], Iterator[tuple[str, NDArray[np.float32]]]],
) -> dict[str, NDArray[np.float32]]:
    """The feature vectors of an encoder without memory, by the digest of the input.

    The folder of ``key`` (encoder, parameters, versions) holds blocks of up to 256 vectors, so that another protocol, a
    data set that grew or a run that was interrupted encodes only what no block has. One matrix for a list of inputs
    would be built anew for every list, one file for each input would make thousands, and a database is not safe on the
    file systems that clusters share.

    Args:
        cache: the cache folder.
        key: hex digest of all that the vectors depend on but the input.
        contents: digests of the distinct inputs that are wanted.
        encode: given the missing ones, sorted, yields digest and vector, (d,) float32, in any order; what it leaves out
            (an input that cannot be read) is neither stored nor returned.

    Raises:
        UsageError: the cache folder cannot be written, said before anything is encoded.
    """
    folder = cache / "features" / key[:2] / key
    wanted = set(contents)
    rows: dict[str, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("[0-9a-f]*")):
        block = _load(path, key) or {}
        rows.update((content, block[content]) for content in block.keys() & wanted)
    missing = sorted(wanted - rows.keys())
    if not missing:
        return rows
    _prepare(cache, folder)
    block = {}
    for content, vector in encode(missing):
        block[content] = np.ascontiguousarray(vector, dtype=np.float32)
        if len(block) == BLOCK:
            _store(cache, folder / digest(sorted(block)), key, block)
            rows |= block
            block = {}
    if block:
        _store(cache, folder / digest(sorted(block)), key, block)
    return rows | block


def _load(path: Path, key: str) -> dict[str, NDArray[np.float32]] | None:
    """The arrays of a file, or None where there is none or its digest does not match."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    expected, payload = content[:DIGEST], content[DIGEST:]
    return load(payload) if expected == digest([key, payload]).encode() else None


def _store(cache: Path, path: Path, key: str, arrays: dict[str, NDArray[np.float32]]) -> None:
    payload = save(arrays)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(digest([key, payload]).encode() + payload)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _refused(cache, error) from None


def _prepare(cache: Path, folder: Path) -> None:
    """Make the folder and see that it takes a file, before hours are spent on what could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _refused(cache, error) from None


def _refused(cache: Path, error: OSError) -> UsageError:
    reason = (error.strerror or type(error).__name__).lower()
    return UsageError(f"cannot write the feature cache in {cache} ({reason}): choose another folder with MMBENCH_CACHE")
