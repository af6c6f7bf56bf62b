"""Near-duplicates: texts that are the same once normalised, pictures whose difference hashes nearly agree.

The difference hash of a picture is 64 bits: whether brightness rises from each cell of a 9 x 8 grid to the next one on
its right. It survives scaling, recompression and a change of brightness, not a crop.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
CHUNK = 128  # rows whose distances to all others are held at once


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


def near(
    hashes: NDArray[np.uint64],
    groups: NDArray[np.str_],
    earlier: NDArray[np.bool_],
    later: NDArray[np.bool_],
    distance: int = DISTANCE,
) -> NDArray[np.int64]:
    """The rows of ``later`` within ``distance`` bits of a row of another group in ``earlier``; all pairs, by blocks."""
    group = np.unique(groups, return_inverse=True)[1]
    sources, rows = np.flatnonzero(earlier), np.flatnonzero(later)
    found: list[NDArray[Any]] = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(rows), CHUNK):
        block = rows[start : start + CHUNK]
        close = np.bitwise_count(hashes[block, None] ^ hashes[None, sources]) <= distance
        if close.any():
            close &= group[block, None] != group[None, sources]
            found.append(block[close.any(axis=1)])
    return np.concatenate(found)
