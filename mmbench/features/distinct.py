"""What encoders of texts and files share: each distinct input once, in batches whose shape depends on nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.features import Encoded
from mmbench.features.cache import stream_rows
from mmbench.features.padding import in_rows
from mmbench.features.sharing import share_out
from mmbench.hashing import digest

Rows = Iterator[tuple[int, NDArray[np.float32]]]


def encode_distinct(
    values: Sequence[str | None], cache: Path, key: str, encode: Callable[[list[str]], Rows]
) -> Encoded:
    """Encode each distinct text once.

    Args:
        values: n texts; a missing one is None.
        cache: the cache folder.
        key: hex digest of the encoder and all its vectors depend on but the text.
        encode: given the texts that no cache has, yields place and vector, float32 (d,), or a vector a token, (T, d);
            what it leaves out is zeros.

    Returns:
        (n, d), or (n, T, d) with steps; (n, 0) where no text at all has a vector.
    """
    text_of = {digest([text]): text for text in set(values) if text is not None}

    def encode_missing(contents: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for row, vector in encode([text_of[content] for content in contents]):
            yield contents[row], vector

    def elsewhere(contents: list[str]) -> bool:
        return share_out([text_of[content] for content in contents])

    rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(values):
        if text is not None:
            rows_of.setdefault(text, []).append(row)
    vectors = stream_rows(cache, key, list(text_of), encode_missing, elsewhere)
    found, steps = in_rows(len(values), ((rows_of[text_of[content]], v) for content, v in vectors), 0, cache)
    return Encoded(found, steps=steps)


def full_batches(lengths: Sequence[int], batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Places of inputs of one length, shortest first, ``batch_size`` at a time, and how many of them are new.

    The last batch of a length is filled up with its own inputs: nothing is padded and every batch has the same shape,
    so that a vector does not depend on what is encoded with it. Inputs of length 0 are left out.
    """
    same_length = defaultdict(list)
    for row, length in enumerate(lengths):
        same_length[length].append(row)
    for length in sorted(same_length.keys() - {0}):
        rows = same_length[length]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            yield [batch[place % len(batch)] for place in range(batch_size)], len(batch)
