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
        if isinstance(part, str | bytes):
            content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            total.update(len(content).to_bytes(8, "little"))
            total.update(content)
        else:
            from mmbench.bulk import blocks

            head = f"{part.dtype.str}{part.shape}".encode()
            total.update((len(head) + part.nbytes).to_bytes(8, "little"))
            total.update(head)
            for _, block in blocks(part if part.ndim else part.reshape(1)):
                total.update(block.tobytes())
    return total.hexdigest()


def running(key: str, size: int) -> hashlib._Hash:
    """``digest([key, payload])``, to be updated with the ``size`` bytes of the payload as they come."""
    total = hashlib.sha256()
    for length, head in ((len(key), key.encode()), (size, b"")):
        total.update(length.to_bytes(8, "little"))
        total.update(head)
    return total


def derive_seed(seed: int, axis: str) -> int:
    """A 63-bit seed for one axis of randomness ("init", "batches", "dropout"), independent between axes and seeds."""
    return int(digest([str(seed), axis])[:16], 16) >> 1
