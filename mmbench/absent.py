"""What is done with rows whose file is not there: one policy for every task that reads files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mmbench.contracts import SPLITS, Option, Problem
from mmbench.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING_IMAGES = Option(
    "missing_images", "error", ("drop", "mask", "error"), "what to do with rows whose image or video is not there"
)
BAD_IMAGES = Option(
    "bad_images", "error", ("drop", "error"), "what to do with rows whose image or video cannot be read"
)


def without_files(
    problems: tuple[Problem, ...],
    present: NDArray[np.bool_],
    policy: str,
    word: str,
    refuse: Callable[[str, int], UsageError],
) -> tuple[tuple[Problem, ...], list[str]]:
    """The problems under a policy, and a note where a row that one of them uses has no file.

    Args:
        problems: as posed on all rows.
        present: (n,), whether a row's file is there.
        policy: ``drop`` (the rows leave every split), ``mask`` (they stay, the modality is missing) or ``error``.
        word: what is missing (``image``).
        refuse: makes the error of what is wrong in words and the first row without a file.

    Raises:
        UsageError: as ``refuse`` makes it: under ``error`` a file is missing; under ``drop`` a split is empty then.
    """
    import numpy as np

    used = np.logical_or.reduce([problem.split != "" for problem in problems])
    missing = used & ~present
    if not missing.any():
        return problems, []
    count, first = f"{missing.sum():,} of {used.sum():,} rows have no {word}", int(missing.argmax())
    if policy == "mask":
        return problems, [f"{count}: the {word} is masked there"]
    if policy == "error":
        raise refuse(count, first)
    kept = tuple(replace(problem, split=np.where(present, problem.split, "")) for problem in problems)
    for problem in kept:
        for part in SPLITS:
            if not (problem.split == part).any():
                raise refuse(f"{count}; with --missing-images drop, {problem.name} has no {part} rows", first)
    return kept, [f"{count}: they are dropped from every split"]
