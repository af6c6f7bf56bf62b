"""The feature cache: arrays under the digest of everything they depend on.

A file is the SHA-256 of what follows, then safetensors: what does not match its digest is never parsed and is built
again. It is written to a temporary name, flushed and renamed, so that it exists whole or not at all, and processes that
build the same entry at once do no harm.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mmbench import bulk
from mmbench.errors import UsageError
from mmbench.hashing import digest, running

DIGEST = 64  # hex digits
BLOCK = 256  # inputs
PIECE = 2**20  # bytes that are checked at a time


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
    _store_arrays(cache, path, key, {"values": values})
    return values


def cached_blocks(
    cache: Path, key: str, shape: tuple[int, ...], build: Callable[[], Iterator[NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """The array of that shape under ``key``, built block by block: one that is large is never in memory as a whole.

    Its file is checked piece by piece before it is mapped, for reading alone.

    Raises:
        UsageError: see :func:`cached`.
    """
    if 4 * math.prod(shape) < bulk.LARGE:
        return cached(cache, key, lambda: np.concatenate(list(build())))
    path = cache / "features" / key[:2] / key
    stored = _map(path, key, shape)
    if stored is None:
        _prepare(cache, path.parent)
        header, size = _header(shape)
        _store(
            cache,
            path,
            key,
            size,
            chain([header], (block.astype(np.float32, copy=False).tobytes() for block in build())),
        )
        stored = _map(path, key, shape)
    if stored is None:
        raise UsageError(f"{path} was damaged as it was written: see to the disk, or choose another with MMBENCH_CACHE")
    return stored


def stream_rows(
    cache: Path,
    key: str,
    contents: Sequence[str],
    encode: Callable[[list[str]], Iterator[tuple[str, NDArray[np.float32]]]],
    elsewhere: Callable[[list[str]], bool] = lambda contents: False,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The feature vectors of an encoder without memory, by the digest of the input, in no order.

    The folder of ``key`` (encoder, parameters, versions) holds blocks of up to 256 vectors, so that another protocol, a
    data set that grew or a run that was interrupted encodes only what no block has. One matrix for a list of inputs
    would be built anew for every list, one file for each input would make thousands, and a database is not safe on the
    file systems that clusters share.

    Args:
        cache: the cache folder.
        key: hex digest of all that the vectors depend on but the input.
        contents: digests of the distinct inputs that are wanted.
        encode: given the missing ones, sorted, yields digest and vector, (d,) float32, in any order; what it leaves out
            (an input that cannot be read) is neither stored nor yielded.
        elsewhere: given the missing ones, has others put what they can of them into the cache; whether it has.

    Raises:
        UsageError: the cache folder cannot be written, said before anything is encoded.
    """
    folder = cache / "features" / key[:2] / key
    missing = set(contents)
    yield from _stored(folder, key, missing)
    if not missing:
        return
    _prepare(cache, folder)
    if elsewhere(sorted(missing)):
        yield from _stored(folder, key, missing)
        if not missing:
            return
    block: dict[str, NDArray[np.float32]] = {}
    for content, vector in encode(sorted(missing)):
        block[content] = np.ascontiguousarray(vector, dtype=np.float32)
        if len(block) == BLOCK:
            _store_arrays(cache, folder / digest(sorted(block)), key, block)
            yield from block.items()
            block = {}
    if block:
        _store_arrays(cache, folder / digest(sorted(block)), key, block)
        yield from block.items()


def _stored(folder: Path, key: str, missing: set[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What the blocks of a folder hold of the missing ones, which are taken out of them."""
    for path in sorted(folder.glob("[0-9a-f]*")):
        block = _load(path, key) or {}
        for content in block.keys() & missing:
            yield content, block[content]
        missing.difference_update(block)


def cached_rows(
    cache: Path,
    key: str,
    contents: Sequence[str],
    encode: Callable[[list[str]], Iterator[tuple[str, NDArray[np.float32]]]],
) -> dict[str, NDArray[np.float32]]:
    """:func:`stream_rows` of inputs that are few enough to be held all at once."""
    return dict(stream_rows(cache, key, contents, encode))


def _load(path: Path, key: str) -> dict[str, NDArray[np.float32]] | None:
    """The arrays of a file, or None where there is none or its digest does not match."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    expected, payload = content[:DIGEST], content[DIGEST:]
    return load(payload) if expected == digest([key, payload]).encode() else None


def _header(shape: tuple[int, ...]) -> tuple[bytes, int]:
    """How safetensors begins a file with the one array ``values``, float32 in that shape; and the size of the whole."""
    size = 4 * math.prod(shape)
    described = {"values": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}}
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + size


def _map(path: Path, key: str, shape: tuple[int, ...]) -> bulk.Mapped | None:
    """The array of a file, mapped; None where there is none or its digest does not match."""
    header, size = _header(shape)
    try:
        file = path.open("rb")
        expected, begins = file.read(DIGEST), file.read(len(header))
        total = running(key, size)
        total.update(begins)
        while piece := file.read(PIECE):
            total.update(piece)
    except OSError:
        return None
    if begins != header or expected != total.hexdigest().encode():
        file.close()
        return None
    return bulk.mapped(file, shape, DIGEST + len(header))


def _store_arrays(cache: Path, path: Path, key: str, arrays: dict[str, NDArray[np.float32]]) -> None:
    payload = save(arrays)
    _store(cache, path, key, len(payload), [payload])


def _store(cache: Path, path: Path, key: str, size: int, payload: Iterable[bytes]) -> None:
    """Write the digest and what it is of, ``size`` bytes that come in pieces, whole or not at all."""
    total = running(key, size)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(DIGEST))
                for piece in payload:
                    total.update(piece)
                    file.write(piece)
                file.seek(0)
                file.write(total.hexdigest().encode())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise bulk.unwritable(cache, error) from None


def _prepare(cache: Path, folder: Path) -> None:
    """Make the folder and see that it takes a file, before hours are spent on what could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise bulk.unwritable(cache, error) from None
