"""Near-duplicates: texts that are the same once normalised, pictures whose difference hashes nearly agree.

The difference hash of a picture is 64 bits: whether brightness rises from each cell of a 9 x 8 grid to the next one on
its right. It survives scaling, recompression and a change of brightness, not a crop.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_WORDS = 3  # a shorter text repeats by chance
MIN_CONTRAST = 8  # of 255, between the darkest and the brightest cell; the hash of a flatter picture is noise
DISTANCE = 4  # bits of 64 in which near-duplicates may differ
LINK = re.compile(r"(?:https?://|www\.)\S+")
MENTION = re.compile(r"(?:\brt\s+)?@\w+:?")
WORD = re.compile(r"[^\W_]+")
PAIRS = 2**20  # that are compared at once


def normalise(text: str) -> str:
    """A text in lower case without links, mentions ("RT @name" as a whole) and punctuation, white space folded.

    >>> normalise("RT @ann: The river&nbsp;is OVER the road! https://t.co/x")
    'the river is over the road'
    """
    plain = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    return " ".join(WORD.findall(MENTION.sub(" ", LINK.sub(" ", plain))))


def text_keys(texts: Sequence[str]) -> list[str]:
    """What near-duplicate texts share; empty where a text has less than three words."""
    return [key if key.count(" ") >= MIN_WORDS - 1 else "" for key in map(normalise, texts)]


def row_keys(values: NDArray[np.float64]) -> list[str]:
    """What equal rows of a feature matrix (n, d) share; empty where a row is constant or holds NaN."""
    varied = (values != values[:, :1]).any(axis=1) & ~np.isnan(values).any(axis=1)
    return [
        hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() if ok else ""
        for row, ok in zip(values, varied, strict=True)
    ]


def repeated(
    keys: Sequence[str], groups: NDArray[np.str_], earlier: NDArray[np.bool_], later: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The rows of ``later`` whose key a row of another group in ``earlier`` has too."""
    groups_of: dict[str, set[str]] = {}
    for row in np.flatnonzero(earlier).tolist():
        if keys[row]:
            groups_of.setdefault(keys[row], set()).add(str(groups[row]))
    found = [row for row in np.flatnonzero(later).tolist() if groups_of.get(keys[row], set()) - {str(groups[row])}]
    return np.array(found, dtype=np.int64)


def difference_bits(image: Image) -> NDArray[np.float32]:
    """The hash of an RGB picture as (65,) float32 of 0/1: 64 bits, then whether it has contrast enough to count."""
    from PIL.Image import Resampling

    grey = np.asarray(image.convert("L").resize((9, 8), Resampling.BOX), dtype=np.int64)
    rising = (grey[:, 1:] > grey[:, :-1]).ravel()
    return np.append(rising, np.ptp(grey) >= MIN_CONTRAST).astype(np.float32)


def image_hashes(
    values: Sequence[Path | None], cache: Path
) -> tuple[NDArray[np.uint64], NDArray[np.bool_], dict[int, str]]:
    """Difference hashes of the files, kept in the feature cache.

    Returns:
        hashes (n,); which rows have one, (n,); and by row why a file cannot be read.
    """
    from mmbench.features.files import encode_files
    from mmbench.features.image import reader
    from mmbench.hashing import digest

    key = digest(["difference-hash", "1", str(MIN_CONTRAST)])
    encoded = encode_files(values, cache, key, reader("image", difference_bits))
    n = len(values)
    bits = encoded.values[:, :-1] if encoded.values.shape[1] == 65 else np.zeros((n, 64))
    usable: NDArray[np.bool_] = encoded.values[:, -1] > 0
    packed = np.packbits(bits.astype(np.bool_), axis=1)
    return packed.view(np.uint64).ravel(), usable, dict(encoded.bad)


def close_pairs(
    hashes: NDArray[np.uint64], rows: NDArray[np.int64], sources: NDArray[np.int64], distance: int = DISTANCE
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of a row and a source within ``distance`` bits, some at a time; a pair may come more than once.

    Two such hashes agree in one of ``distance`` + 1 bands of their bits at least: only what shares a band is compared
    (Norouzi, Punjani & Fleet, CVPR 2012).
    """
    for band in np.array_split(np.arange(64), distance + 1):
        mask = np.uint64(sum(1 << bit for bit in band.tolist()))
        sorted_sources = sources[np.argsort(hashes[sources] & mask, kind="stable")]
        keys, wanted = hashes[sorted_sources] & mask, hashes[rows] & mask
        first = np.searchsorted(keys, wanted)
        counts = np.searchsorted(keys, wanted, side="right") - first
        upto = np.cumsum(counts)
        start = 0
        while start < len(rows):
            done = upto[start] - counts[start]
            stop = max(start + 1, int(np.searchsorted(upto, done + PAIRS, side="right")))
            many, begins = counts[start:stop], upto[start:stop] - counts[start:stop] - done
            a = np.repeat(rows[start:stop], many)
            b = sorted_sources[np.arange(len(a)) + np.repeat(first[start:stop] - begins, many)]
            close = np.bitwise_count(hashes[a] ^ hashes[b]) <= distance
            yield a[close], b[close]
            start = stop


def near(
    hashes: NDArray[np.uint64],
    groups: NDArray[np.str_],
    earlier: NDArray[np.bool_],
    later: NDArray[np.bool_],
    distance: int = DISTANCE,
) -> NDArray[np.int64]:
    """The rows of ``later`` within ``distance`` bits of a row of another group in ``earlier``."""
    group = np.unique(groups, return_inverse=True)[1]
    found = np.zeros(len(hashes), dtype=np.bool_)
    sources = _two_of_each(hashes, group, np.flatnonzero(earlier))
    for a, b in close_pairs(hashes, np.flatnonzero(later), sources, distance):
        found[a[group[a] != group[b]]] = True
    return np.flatnonzero(found)


def _two_of_each(hashes: NDArray[np.uint64], group: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of the rows with one hash a row of each of two groups at most: one of them is of another group than any row."""
    rows = rows[np.lexsort((group[rows], hashes[rows]))]
    again = (hashes[rows][1:] == hashes[rows][:-1]) & (group[rows][1:] == group[rows][:-1])
    rows = rows[np.append(True, ~again)[: len(rows)]]
    third = hashes[rows][2:] == hashes[rows][:-2]
    kept: NDArray[np.int64] = rows[np.append([True, True], ~third)[: len(rows)]]
    return kept
