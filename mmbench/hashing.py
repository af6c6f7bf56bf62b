"""Content digests: data fingerprints, cache keys, run names and derived seeds all come from here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def digest(parts: Iterable[str | bytes | NDArray[np.generic]]) -> str:
    """SHA-256 hex digest of a sequence of parts; lengths are hashed too, so no two sequences collide by joining."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode("utf-8", "surrogatepass")
        elif not isinstance(part, bytes):
            part = f"{part.dtype.str}{part.shape}".encode() + part.tobytes()
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def derive_seed(seed: int, axis: str) -> int:
    """A 63-bit seed for one axis of randomness ("init", "batches", "dropout"), independent between axes and seeds."""
    return int(digest([str(seed), axis])[:16], 16) >> 1
