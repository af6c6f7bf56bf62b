"""Ties as letters: methods share a letter exactly where they are not separated."""

from __future__ import annotations

from string import ascii_letters

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError


def letters(separated: NDArray[np.bool_]) -> list[str]:
    """Compact letter display by insert and absorb (Piepho 2004).

    Args:
        separated: (k, k) bool, symmetric: whether two methods are told apart. Give the methods best first, so that
            the best has an ``a``.

    Returns:
        by method its letters.
    """
    k = len(separated)
    if separated.shape != (k, k) or (separated != separated.T).any() or separated.diagonal().any():
        raise UsageError("ties expect a symmetric table of pairs in which no method is separated from itself")
    columns = [frozenset(range(k))] if k else []
    for first, second in zip(*np.nonzero(np.triu(separated)), strict=True):
        split = [c - {gone} for c in columns if {first, second} <= c for gone in (first, second)]
        kept = [c for c in columns if not {first, second} <= c]
        found = list(dict.fromkeys(kept + split))
        columns = [c for c in found if not any(c < other for other in found)]
    columns.sort(key=sorted)
    names = ascii_letters + "".join(map(chr, range(0x0100, 0x0100 + max(0, len(columns) - len(ascii_letters)))))
    return ["".join(name for name, column in zip(names, columns, strict=False) if m in column) for m in range(k)]
