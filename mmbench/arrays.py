"""NumPy archives (``.npz``) read without trust: no pickle, no surprise in name, type, shape or size.

Everything is checked on the header of an array before its data is read.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any

from mmbench.errors import UsageError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 8 * 2**30  # bytes of one array
LONGEST_COLUMN = 2**28  # bytes of one that is made a column of texts
BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
HEADERS = (SyntaxError, TokenError, LookupError, TypeError, RecursionError, MemoryError)  # of what is no Python literal
KINDS = {"f": "floats", "i": "whole numbers", "U": "texts", "b": "true or false"}
Shape = tuple["int | str", ...]


def read_npz(path: Path, expected: Mapping[str, tuple[str, Shape]]) -> dict[str, NDArray[Any]]:
    """The named arrays of an archive, each of the kind and shape that is expected; others are passed over.

    Args:
        path: the ``.npz`` file.
        expected: by name the kinds allowed (letters of NumPy's ``dtype.kind``: ``"f"``, ``"i"``, ``"U"``, ``"b"``) and
            the shape, where a text stands for any number that is the same wherever it stands.

    Raises:
        UsageError: no such file or not an archive, an array missing, or of another kind or shape.
    """
    sizes: dict[str, int] = {}
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name, (kinds, shape) in expected.items():
                if name not in names:
                    raise UsageError(f"{path} has no array '{name}': it has {', '.join(sorted(names)) or 'none'}")
                with archive.open(names[name]) as file:
                    arrays[name] = _read(file, names[name].file_size, f"{path}: array '{name}'", kinds, shape, sizes)
    except UsageError:
        raise
    except BROKEN as error:
        raise UsageError(f"{path} is not a NumPy archive that can be read: {reason(error)}") from None
    return arrays


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive that have one dimension and hold texts or numbers; others are passed over.

    Raises:
        UsageError: no such file or not an archive.
    """
    columns = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                what = f"{path}: array '{name}'"
                with archive.open(info) as file, suppress(UsageError):
                    shape, fortran, dtype = read_header(file, what, "fiuUSb")
                    if len(shape) == 1 and math.prod(shape) * dtype.itemsize <= LONGEST_COLUMN:
                        columns[name] = read_data(file, info.file_size, what, shape, fortran, dtype)
    except BROKEN as error:
        raise UsageError(f"{path} is not a NumPy archive that can be read: {reason(error)}") from None
    return columns


def npz_names(path: Path) -> list[str]:
    """The names of an archive's arrays.

    Raises:
        UsageError: no such file or not an archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except BROKEN as error:
        raise UsageError(f"{path} is not a NumPy archive that can be read: {reason(error)}") from None


def read_header(file: IO[bytes], what: str, kinds: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it lies column by column, and type of the array that begins where a file stands.

    Raises:
        UsageError: another version of the format, a header that is none, or a type that is not of ``kinds``, letters of
            ``dtype.kind``.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise UsageError(f"{what} is of NumPy format {version}, expected 1.0 or 2.0")
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        found, fortran, dtype = reader(file)
    except HEADERS as error:
        raise UsageError(f"{what} has a header that cannot be read: {reason(error)}") from None
    if dtype.hasobject or dtype.kind not in kinds:
        words = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
        raise UsageError(f"{what} holds {dtype}, expected {words}")
    return found, fortran, dtype


def read_data(
    file: IO[bytes], size: int, what: str, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """What follows a header, no more than the ``size`` of its file."""
    import numpy as np

    length = math.prod(shape) * dtype.itemsize
    if length > min(size, LARGEST):
        raise UsageError(f"{what} says it has shape {shape}, which is more than the file holds")
    data = file.read(length)
    if len(data) < length:
        raise UsageError(f"{what} ends early")
    return np.frombuffer(bytearray(data), dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _read(
    file: IO[bytes], size: int, what: str, kinds: str, shape: Shape, sizes: dict[str, int]
) -> NDArray[np.generic]:
    """One array, its header checked first; ``sizes`` are the numbers that the texts in shapes stand for."""
    found, fortran, dtype = read_header(file, what, kinds)
    _fit(what, found, shape, sizes)
    return read_data(file, size, what, found, fortran, dtype)


def _fit(what: str, found: tuple[int, ...], shape: Shape, sizes: dict[str, int]) -> None:
    told = tuple(sizes.get(length, length) if isinstance(length, str) else length for length in shape)
    fits = len(found) == len(told) and all(isinstance(b, str) or a == b for a, b in zip(found, told, strict=True))
    if not fits:
        raise UsageError(f"{what} has shape {found}, expected ({', '.join(map(str, told))})")
    for length, name in zip(found, shape, strict=True):
        if isinstance(name, str):
            sizes[name] = length


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an archive whole or not at all, making its folder.

    Raises:
        UsageError: the folder cannot be written.
    """
    import numpy as np

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **dict(arrays))
            Path(made).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(made).unlink()
            raise
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; free space, or set MMBENCH_CACHE to a folder that can be"
        ) from None
