"""Arrays that are too large to hold: written block by block into files, and read by mapping them.

What is smaller than ``LARGE`` stays in memory. A mapped page counts as resident until it is given back, which costs
nothing but reading it again: whoever walks a mapped array gives its pages back as it goes.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmbench.errors import UsageError

if TYPE_CHECKING:
    import torch

LARGE = 2**26  # bytes from which on an array is kept in a file
BLOCK = 2**22  # numbers of an array that are worked on at a time


class Mapped(np.memmap[Any, np.dtype[Any]]):
    """An array that lies in an open file, read only.

    Handed to a process that is being started it is not copied: that process maps the same file.
    """

    file: IO[bytes] | None = None  # of the whole array; a part of it has none

    def __reduce__(self) -> Any:
        if self.file is None or get_spawning_popen() is None:
            return np.asarray(self).__reduce__()
        from multiprocessing.reduction import DupFd

        return _inherited, (DupFd(self.file.fileno()), self.shape, self.offset, self.dtype.str)

    def writable(self) -> tuple[NDArray[Any], mmap.mmap]:
        """The array mapped once more, and that mapping: what is written to it is seen by nobody else, nor kept."""
        assert self.file is not None
        before = self.offset % mmap.ALLOCATIONGRANULARITY
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        pages = mmap.mmap(self.file.fileno(), before + self.nbytes, flags=flags, offset=self.offset - before)
        return np.frombuffer(pages, self.dtype, self.size, before).reshape(self.shape), pages


def mapped(file: IO[bytes], shape: tuple[int, ...], offset: int = 0, dtype: DTypeLike = np.float32) -> Mapped:
    """The array at ``offset`` of an open file, which has to stay as it is."""
    array = Mapped(file, dtype, "r", offset, shape)
    array.file = file
    return array


def _inherited(descriptor: Any, shape: tuple[int, ...], offset: int, dtype: str) -> Mapped:
    return mapped(os.fdopen(descriptor.detach(), "rb"), shape, offset, dtype)


def give_back(values: NDArray[Any] | mmap.mmap) -> None:
    """Take pages out of this process: a mapping's, or those of an array that is mapped for reading alone.

    What was written to a private mapping is lost; an array in memory stays as it is.
    """
    pages = values if isinstance(values, mmap.mmap) else None
    if isinstance(values, np.memmap) and values.mode == "r":
        pages = values._mmap  # type: ignore[attr-defined]
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def blocks(
    values: NDArray[Any], rows: NDArray[np.int64] | None = None, pages: mmap.mmap | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """``values``, or their ``rows``, a few megabytes at a time: the place of the first row, and the block.

    ``pages`` are given back after each block; of a file mapped for reading alone they are so anyway.
    """
    n = len(values) if rows is None else len(rows)
    step = max(1, BLOCK // max(math.prod(values.shape[1:]), 1))
    for start in range(0, n, step):
        chosen = rows[start : start + step] if rows is not None else None
        if chosen is None or (np.diff(chosen) == 1).all():  # rows that follow each other need no copy
            first = start if chosen is None else int(chosen[0])
            yield start, values[first : first + min(step, n - start)]
        else:
            yield start, values[chosen]
        give_back(values if pages is None else pages)


class Rows:
    """An array that is filled in any order, zero at first: in memory, or if it is large in a nameless file.

    Raises:
        UsageError: the folder of the file cannot be written.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path, dtype: DTypeLike = np.float32) -> None:
        self.shape, self.folder, self.dtype = shape, folder, np.dtype(dtype)
        self.width = self.dtype.itemsize * math.prod(shape[1:])
        self.file: IO[bytes] | None = None
        if self.width * shape[0] < LARGE:
            self.values = np.zeros(shape, dtype)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it lives as long as what is mapped from it
            self.file.truncate(self.width * shape[0])
        except OSError as error:
            raise unwritable(folder, error) from None

    def write(self, start: int, block: NDArray[Any]) -> None:
        """Put rows in their place.

        Raises:
            UsageError: the disk is full.
        """
        if self.file is None:
            self.values[start : start + len(block)] = block
            return
        content = np.ascontiguousarray(block, dtype=self.dtype).data.cast("B")
        place = start * self.width
        try:
            while content:
                done = os.pwrite(self.file.fileno(), content, place)
                content, place = content[done:], place + done
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def array(self) -> NDArray[Any]:
        """What was written."""
        return self.values if self.file is None else mapped(self.file, self.shape, dtype=self.dtype)


def take(
    values: NDArray[np.float32], rows: NDArray[np.int64], folder: Path, pages: mmap.mmap | None = None
) -> NDArray[np.float32]:
    """The rows of an array at ``rows``: in memory, or if they are large in a file in ``folder``."""
    shape = (len(rows), *values.shape[1:])
    if pages is None and not isinstance(values, np.memmap) and 4 * math.prod(shape) < LARGE:
        return values[rows]
    taken = Rows(shape, folder)
    for start, block in blocks(values, rows, pages):
        taken.write(start, block)
    return taken.array()


def spread(n: int, vectors: Iterable[tuple[Sequence[int], NDArray[np.float32]]], folder: Path) -> NDArray[np.float32]:
    """Vectors (d,), each with the rows where it stands, as an array (n, d), zero elsewhere; (n, 0) without any."""
    spread: Rows | None = None
    for rows, vector in vectors:
        spread = spread or Rows((n, len(vector)), folder)
        for row in rows:
            spread.write(row, vector[None])
    return np.zeros((n, 0), dtype=np.float32) if spread is None else spread.array()


class Pages:
    """What lets tensors over mapped files cost no memory: their pages are given back once rows have been taken.

    ``kept`` leaves the pages where they are, for a method that may write to what it is given.
    """

    def __init__(self, folder: Path, kept: bool = False) -> None:
        self.folder, self.kept = folder, kept
        self.maps: dict[str, mmap.mmap] = {}

    def tensor(self, name: str, values: NDArray[np.float32]) -> torch.Tensor:
        """An array as a tensor that may be written to; what is mapped is not copied."""
        import torch

        if isinstance(values, Mapped) and values.file is not None:
            values, self.maps[name] = values.writable()
        return torch.from_numpy(np.ascontiguousarray(values))

    def rows(
        self, values: Mapping[str, torch.Tensor], index: torch.Tensor | slice
    ) -> tuple[dict[str, torch.Tensor], Pages]:
        """The rows of each tensor at ``index``, and their pages: many rows of a file are put into a file again."""
        import torch

        found, pages = {}, Pages(self.folder, self.kept)
        for name, value in values.items():
            if name not in self.maps:
                found[name] = value[index]
            elif isinstance(index, slice):
                found[name], pages.maps[name] = value[index], self.maps[name]
            else:
                rows = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
                taken = take(value.numpy(), rows.numpy(), self.folder, None if self.kept else self.maps[name])
                found[name] = pages.tensor(name, taken)
        return found, pages


def unwritable(folder: Path, error: OSError) -> UsageError:
    """One line about a cache that takes no file."""
    reason = (error.strerror or type(error).__name__).lower()
    return UsageError(
        f"cannot write the feature cache in {folder} ({reason}): choose another folder with MMBENCH_CACHE"
    )
