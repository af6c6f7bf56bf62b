"""Files (images, recordings) to vectors: each distinct content once, and what cannot be read told by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.features import Encoded
from mmbench.features.cache import stream_rows
from mmbench.features.padding import in_rows
from mmbench.features.sharing import share_out
from mmbench.hashing import digest


class UnreadableError(Exception):
    """Why a file cannot be used, in a few words."""


def encode_files(
    values: Sequence[Path | None], cache: Path, key: str, encode_bytes: Callable[[bytes], NDArray[np.float32]]
) -> Encoded:
    """Encode each distinct file once, by the bytes it holds now.

    Args:
        values: n paths, None where the file is missing.
        cache: the cache folder.
        key: hex digest of the encoder and all its vectors depend on but the file.
        encode_bytes: what a file holds to a float32 vector (d,) or to steps (T, d); raises UnreadableError.

    Returns:
        (n, d), or (n, T, d) with steps; (n, 1) where no file at all can be read.
    """
    bad: dict[int, str] = {}
    rows_of: dict[str, list[int]] = {}
    file_of: dict[str, Path] = {}
    for row, path in enumerate(values):
        if path is not None:
            try:
                content = digest([path.read_bytes()])
            except OSError as error:
                bad[row] = (error.strerror or type(error).__name__).lower()
                continue
            rows_of.setdefault(content, []).append(row)
            file_of.setdefault(content, path)
    unreadable: dict[str, str] = {}

    def encode_missing(contents: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for content in contents:
            try:
                data = file_of[content].read_bytes()
                if digest([data]) != content:
                    raise UnreadableError("it changed while it was being read")
                yield content, encode_bytes(data)
            except UnreadableError as error:
                unreadable[content] = str(error)
            except OSError as error:
                unreadable[content] = (error.strerror or type(error).__name__).lower()

    def elsewhere(contents: list[str]) -> bool:
        return share_out([file_of[content] for content in contents])

    vectors = stream_rows(cache, key, list(file_of), encode_missing, elsewhere)
    encoded, steps = in_rows(len(values), ((rows_of[content], vector) for content, vector in vectors), 1, cache)
    for content, reason in unreadable.items():
        bad |= dict.fromkeys(rows_of[content], reason)
    return Encoded(encoded, bad, steps)
