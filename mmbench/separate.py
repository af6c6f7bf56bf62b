"""Near-duplicates made groups: rows that repeat each other are kept together, and on one side of a split.

Rows are joined that share a group, a normalised text, or a picture within a few bits of the difference hash, and what
joined rows join is joined too. Test rows stay: what they repeat leaves val and train, so that scores stay comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import SPLITS, Dataset, InputKind
from mmbench.duplicates import close_pairs, image_hashes, row_keys, text_keys
from mmbench.hashing import digest


def joined_groups(dataset: Dataset, kinds: Mapping[str, InputKind], cache: Path) -> NDArray[np.str_]:
    """The group of each row once near-duplicates are joined, (n,): the name of the first row's among those joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(dataset.ids)
    pairs = [np.empty((2, 0), dtype=np.int64), _same([str(group) for group in dataset.groups])]
    vectors = []
    for name, values in dataset.inputs.items():
        if kinds[name] == "text":
            pairs.append(_same(text_keys([value or "" for value in values])))
        elif kinds[name] == "image":
            hashes, usable, _ = image_hashes(list(values), cache)
            pairs.append(_same([str(one) if ok else "" for one, ok in zip(hashes.tolist(), usable, strict=True)]))
            rows = np.flatnonzero(usable)
            first_ones = rows[np.unique(hashes[rows], return_index=True)[1]]
            pairs += [np.stack(found) for found in close_pairs(hashes, first_ones, first_ones)]
        elif kinds[name] in ("vector", "sequence"):  # a step that is not there is as equal as one that is
            flat = np.asarray(values, dtype=np.float64).reshape(n, -1)
            vectors.append(np.nan_to_num(flat) if kinds[name] == "sequence" else flat)
    if vectors:
        pairs.append(_same(row_keys(np.hstack(vectors))))
    a, b = np.concatenate(pairs, axis=1)
    _, component = connected_components(
        coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n, n)), directed=False
    )
    _, first, place = np.unique(component, return_index=True, return_inverse=True)
    joined: NDArray[np.str_] = dataset.groups[first][place]
    return joined


def _same(keys: list[str]) -> NDArray[np.int64]:
    """Pairs (2, m) of each row with the first one of its key; an empty key is nobody's."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(key, row), row) for row, key in enumerate(keys) if key]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def separate(dataset: Dataset, kinds: Mapping[str, InputKind], cache: Path) -> tuple[Dataset, str]:
    """The data set with near-duplicates as groups, each group on one side of every split, and what that changed."""
    groups = joined_groups(dataset, kinds, cache)
    place = np.unique(groups, return_inverse=True)[1]
    left = np.zeros(len(groups), dtype=np.bool_)
    problems = []
    for problem in dataset.problems:
        later = np.zeros(place.max() + 1, dtype=np.int64)
        rank = np.array([SPLITS.index(part) + 1 if part else 0 for part in problem.split.tolist()], dtype=np.int64)
        np.maximum.at(later, place, rank)
        out = (rank > 0) & (rank < later[place])
        left |= out
        problems.append(replace(problem, split=np.where(out, "", problem.split)))
    line = (
        f"near_duplicates=group ({len(np.unique(dataset.groups)):,} groups became {place.max() + 1:,}; "
        f"{left.sum():,} rows left train or val)"
    )
    fingerprint = digest([dataset.fingerprint, "near-duplicates", "\n".join(groups.tolist())])
    return replace(dataset, groups=groups, problems=tuple(problems), fingerprint=fingerprint), line
