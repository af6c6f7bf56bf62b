"""A cell's stored predictions, of which every metric is a pure function."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.errors import MmbenchError

# What NumPy, zipfile and zlib raise on a file that is cut off, overwritten or of another shape.
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, RuntimeError, OverflowError, MemoryError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """One concept on the labelled rows of one split.

    Attributes:
        concept: its labels and kind.
        ids, groups: (n,) str.
        scores: (n, K) float64.
        truth: (n, K) bool, one-hot where the concept is exclusive; of a score (n, 1) float64.
    """

    concept: Concept
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    scores: NDArray[np.float64]
    truth: NDArray[Any]


def shared(predictions: Predictions, held: Predictions) -> Predictions:
    """The same predictions with the arrays of ``held`` that equal theirs: cells of one test set hold its rows once."""
    names = ("ids", "groups", "scores", "truth")
    return replace(
        predictions,
        **{n: getattr(held, n) for n in names if np.array_equal(getattr(held, n), getattr(predictions, n))},
    )


def labelled_rows(
    concept: Concept,
    ids: NDArray[np.str_],
    groups: NDArray[np.str_],
    scores: NDArray[np.float64],
    target: NDArray[Any],
    mask: NDArray[np.bool_],
) -> Predictions:
    """The rows with a label, ``mask`` (n,): scores (n, K), target (n,) or (n, K).

    Raises:
        ValueError: scores of another shape.
    """
    if concept.kind == "score":
        truth = target[:, None]
    else:
        truth = target[:, None] == np.arange(len(concept.labels)) if target.ndim == 1 else target == 1
    if not truth.shape == scores.shape == (len(mask), len(concept.labels)):
        raise ValueError(f"scores of {concept.name} are {scores.shape}, its labels {truth.shape}")
    return Predictions(concept, ids[mask], groups[mask], scores[mask], truth[mask])


def write_predictions(
    path: Path,
    ids: NDArray[np.str_],
    groups: NDArray[np.str_],
    split: NDArray[np.str_],
    scores: Mapping[str, NDArray[np.float64]],
    targets: Mapping[str, NDArray[Any]],
    mask: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Write ``id``, ``group``, ``split`` and by concept ``scores/…``, ``targets/…``, ``mask/…``; no pickle.

    The same content gives the same bytes.
    """
    arrays: dict[str, NDArray[np.generic]] = {"id": ids, "group": groups, "split": split}
    for name in scores:
        arrays |= {f"scores/{name}": scores[name], f"targets/{name}": targets[name], f"mask/{name}": mask[name]}
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("predictions hold strings and numbers, never Python objects")
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # its allow_pickle came after NumPy 2.1


def read_scores(path: Path) -> dict[str, NDArray[np.float64]]:
    """The scores of all rows, val and test, by concept (n, K).

    Raises:
        MmbenchError: a file that is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name.removeprefix("scores/"): file[name] for name in file.files if name.startswith("scores/")}
    except UNREADABLE as error:
        raise _damaged(path, error) from None


def read_predictions(path: Path, concepts: Sequence[Concept], split: Literal["val", "test"]) -> dict[str, Predictions]:
    """The labelled rows of a split by concept; concepts that the file does not hold are left out.

    Raises:
        MmbenchError: a file that is damaged.
    """
    found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, groups, here = file["id"], file["group"], file["split"] == split
            for concept in concepts:
                if f"scores/{concept.name}" not in file.files:
                    continue
                scores, target, mask = (file[f"{kind}/{concept.name}"][here] for kind in ("scores", "targets", "mask"))
                if not np.isfinite(scores).all():
                    raise ValueError(f"scores of {concept.name} that are no numbers")
                found[concept.name] = labelled_rows(concept, ids[here], groups[here], scores, target, mask)
    except UNREADABLE as error:
        raise _damaged(path, error) from None
    return found


def _damaged(path: Path, error: BaseException) -> MmbenchError:
    return MmbenchError(
        f"{path} is damaged ({type(error).__name__}): delete its folder, and the same command runs the cell again"
    )
