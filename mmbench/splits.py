"""Splitting rows into train, val and test so that groups stay whole and labels stay balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmbench.contracts import SPLITS, Problem
from mmbench.hashing import derive_seed, digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BESIDE = 10  # groups of which each holds labels that no other does, and that are drawn among each other


def grouped_split(
    groups: NDArray[np.str_], strata: NDArray[np.generic], fractions: Sequence[float], seed: int
) -> NDArray[np.str_]:
    """Deal whole groups to train, val and test, balanced over strata as far as groups allow.

    Groups are ordered by the labels they hold, the rarest label first and by a seeded hash of their name within equal
    labels, and each in turn goes to the split that is furthest behind its share. Neighbours in that order hold alike
    labels, so every label is dealt in proportion (implicit stratification of systematic sampling), and the sizes are
    exact to within a group. Where no two groups hold the same labels, so that none of them could be exchanged, the hash
    orders ten neighbours at a time. The order of the rows changes nothing.

    Args:
        groups: (n,) the name of each row's group; unique names split by row.
        strata: (n,) one label a row, or (n, L) bool, which of L labels a row holds.
        fractions: the shares of train, val and test, summing to 1; 0 leaves a split empty.
        seed: another seed is another split.

    Returns:
        (n,) of ``"train"``, ``"val"`` and ``"test"``.
    """
    import numpy as np

    names, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    split_of_group = np.empty(len(names), dtype=np.int64)
    dealt = [0] * len(fractions)
    seen = 0
    for group in _alike_beside(names, group_of_row, strata, seed):
        size = int(sizes[group])
        seen += size
        behind = [fraction * seen - count for fraction, count in zip(fractions, dealt, strict=True)]
        choice = behind.index(max(behind))
        split_of_group[group] = choice
        dealt[choice] += size
    return np.array(SPLITS)[split_of_group[group_of_row]]


def _alike_beside(
    names: NDArray[np.str_], group_of_row: NDArray[np.int64], strata: NDArray[np.generic], seed: int
) -> NDArray[np.int64]:
    """The groups in order of the labels they hold, rarest label first, and of a seeded hash of their name."""
    import numpy as np

    held_by_row = strata if strata.ndim == 2 else strata[:, None] == np.unique(strata)
    rarest_first = np.argsort(held_by_row.sum(axis=0), kind="stable")
    held = np.zeros((len(names), held_by_row.shape[1]), dtype=bool)
    np.logical_or.at(held, group_of_row, held_by_row[:, rarest_first].astype(bool))
    drawn = np.array([derive_seed(seed, str(name)) for name in names], dtype=np.int64)
    order: NDArray[np.int64] = np.lexsort((drawn, *(~held).T[::-1]))
    if len(np.unique(held, axis=0)) == len(names):
        order = order[np.lexsort((drawn[order], np.arange(len(names)) // BESIDE))]
    return order


def nested_share(
    groups: NDArray[np.str_], strata: NDArray[np.generic], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Whole groups that hold a share of the rows; a smaller share is a subset of a larger one.

    Groups that hold alike labels stand side by side, as in :func:`grouped_split`, and are taken in the order of the
    reversed bits of their places (van der Corput's sequence): any number of them is spread evenly over all, and so over
    the labels. Taken are the first groups whose rows come closest to the share, one at the least.

    Args:
        groups: (n,) the name of each row's group.
        strata: (n,) one label a row, or (n, L) bool, which of L labels a row holds.
        fraction: the share of the rows, above 0 and at most 1.
        seed: another seed is another share.

    Returns:
        (n,) bool, the rows that are taken.
    """
    import numpy as np

    names, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    bits = max(1, (len(names) - 1).bit_length())
    turned = [int(f"{place:0{bits}b}"[::-1], 2) for place in range(len(names))]
    taken = _alike_beside(names, group_of_row, strata, seed)[np.argsort(turned)]
    rows = np.cumsum(sizes[taken])
    count = 1 + int(np.argmin(np.abs(rows - fraction * len(groups))))
    chosen: NDArray[np.bool_] = np.isin(group_of_row, taken[:count])
    return chosen


def leaks(problems: list[dict[str, Any]], group: str) -> list[str]:
    """A line for each concept that has validation or test rows whose group is in train as well."""
    lines = []
    for problem in problems:
        for concept, sizes in problem["concepts"].items():
            shared = [
                f"{count} of {sizes[f'n_{name}']} {name} rows"
                for name, count in sizes.get("shared_with_train", {}).items()
                if count
            ]
            if shared:
                where = concept if concept == problem["name"] else f"{problem['name']} {concept}"
                lines.append(f"{where}: {' and '.join(reversed(shared))} share their {group} with train")
    return lines


def usable_split(problem: Problem, bad: Mapping[int, str]) -> NDArray[np.str_]:
    """The problem's split with unreadable rows taken out."""
    split = problem.split.copy()
    split[list(bad)] = ""
    return split


def split_digest(ids: NDArray[np.str_], split: NDArray[np.str_]) -> str:
    """Of which sample is in which split: cells of one problem are compared only where it agrees."""
    used = split != ""
    return digest([ids[used].astype(str), split[used].astype("<U5")])[:16]
