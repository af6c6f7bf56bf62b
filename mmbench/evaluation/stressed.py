"""A cell's predictions on stressed test inputs, stored beside its clean ones.

A scenario whose level is a share of the rows is stored once, with every row stressed and the share from which on each
row is: the scores of a smaller share are the stressed ones of its rows and the clean ones of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import MmbenchError
from mmbench.evaluation.predictions import UNREADABLE

Scores = NDArray[np.float64]
AXES = ("noise", "missing", "conflict")
VERSION = 1  # of how inputs are stressed: predictions under another one are made again
WHOLE = 1.0  # the level at which scenarios of shares are stored


@dataclass(frozen=True, order=True)
class Scenario:
    """What is done to which modality, and how much of it; see :mod:`mmbench.running.stress`."""

    axis: str
    modality: str
    level: float


@dataclass(frozen=True)
class Stressed:
    """The scores of a scenario.

    Attributes:
        since: (n,) float64, the share from which on a test row is stressed; inf where it never is.
        scores: by concept (n, K), every row stressed that can be.
    """

    scenario: Scenario
    since: Scores
    scores: dict[str, Scores]


def at_level(clean: Scores, stressed: tuple[Scores, Scores], level: float) -> Scores:
    """The scores (n, K) at a level, of what :func:`read_stressed` gives for its scenario; level 0 is ``clean``."""
    since, scores = stressed
    touched: NDArray[np.bool_] = (since <= level) & (level > 0)
    return np.where(touched[:, None], scores, clean)


def write_stressed(path: Path, ids: NDArray[np.str_], found: Sequence[Stressed]) -> None:
    """Write ``version`` and ``id``; ``axis``, ``modality`` and ``level`` of each scenario; by its place ``since/0`` and
    ``scores/0/…``. No pickle; the same content gives the same bytes.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "version": np.array(VERSION),
        "id": ids,
        "axis": np.array([s.scenario.axis for s in found]),
        "modality": np.array([s.scenario.modality for s in found]),
        "level": np.array([s.scenario.level for s in found], dtype=np.float64),
    }
    for place, stressed in enumerate(found):
        arrays[f"since/{place}"] = stressed.since
        arrays |= {f"scores/{place}/{concept}": scores for concept, scores in stressed.scores.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # its allow_pickle came after NumPy 2.1


def stored_scenarios(path: Path) -> frozenset[Scenario]:
    """The scenarios of a file; none where it is absent, damaged or of another version, so that it is made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return frozenset(_scenarios(file) if file["version"] == VERSION else ())
    except UNREADABLE:
        return frozenset()


def read_stressed(
    path: Path, scenarios: Collection[Scenario], ids: NDArray[np.str_], concept: str
) -> dict[Scenario, tuple[Scores, Scores]]:
    """By scenario that the file holds ``since`` (n,) and the concept's scores (n, K), in the order of ``ids``.

    Raises:
        MmbenchError: a file that is damaged, or of other rows.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            rows = {sample: row for row, sample in enumerate(file["id"].tolist())}
            order = np.array([rows[sample] for sample in ids.tolist()], dtype=np.int64)
            places = {scenario: place for place, scenario in enumerate(_scenarios(file))}
            return {
                scenario: (file[f"since/{place}"][order], file[f"scores/{place}/{concept}"][order])
                for scenario, place in ((scenario, places[scenario]) for scenario in scenarios)
            }
    except UNREADABLE as error:
        raise MmbenchError(
            f"{path} is damaged ({type(error).__name__}): delete it, and the same command with --stress makes it again"
        ) from None


def _scenarios(file: np.lib.npyio.NpzFile) -> list[Scenario]:
    named = zip(file["axis"].tolist(), file["modality"].tolist(), file["level"].tolist(), strict=True)
    return [Scenario(axis, modality, level) for axis, modality, level in named]
