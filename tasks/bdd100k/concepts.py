"""What is predicted, for which clips, and who is train, val and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.splits import grouped_split

from .labels import ATTRIBUTES, Clip

PARTS_OF_TRAIN = (0.9, 0.1, 0.0)  # train and val of the official train part
PARTS_OF_ONE = (0.6, 0.2, 0.2)  # where one part is there alone
OBJECTS: dict[str, tuple[str, ...]] = {
    "car": ("car",),
    "pedestrian": ("pedestrian",),
    "cyclist": ("rider",),
    "road sign": ("traffic sign",),
    "truck": ("truck",),
    "motorcycle": ("motorcycle",),
}
CYCLIST = {"rider": ("rider",), "bicycle": ("bicycle",), "either": ("rider", "bicycle")}
CONCEPTS = {
    **{name: Concept(name, labels) for name, labels in ATTRIBUTES.items()},
    "objects": Concept("objects", tuple(OBJECTS), "multilabel"),
}


def concepts_of(protocol: str) -> tuple[Concept, ...]:
    """What a protocol predicts."""
    names = {"scene": tuple(ATTRIBUTES), "mr26": ("objects",), "joint": tuple(CONCEPTS)}[protocol]
    return tuple(CONCEPTS[name] for name in names)


def target_of(concept: Concept, clips: tuple[Clip, ...], cyclist: str) -> NDArray[np.int64]:
    """The label of each clip, -1 where it has none, or which objects its frame holds, (n, 6)."""
    if concept.kind == "exclusive":
        code = {None: -1} | {label: place for place, label in enumerate(concept.labels)}
        return np.array([code[clip.attributes[concept.name]] for clip in clips], dtype=np.int64)
    wanted = [set(CYCLIST[cyclist] if name == "cyclist" else names) for name, names in OBJECTS.items()]
    return np.array([[bool(clip.categories & names) for names in wanted] for clip in clips], dtype=np.int64)


def official_split(
    clips: tuple[Clip, ...], rides: NDArray[np.str_], targets: dict[str, NDArray[np.int64]], seed: int
) -> tuple[NDArray[np.str_], list[str]]:
    """Who is train, val and test, (n,), ``""`` for train clips whose ride is in test; and what to know of it.

    Test is the official val part, since the official test part has no public labels. Where one part is there alone all
    three are drawn from it.
    """
    held = np.concatenate(
        [
            target == 1 if target.ndim == 2 else target[:, None] == np.arange(len(CONCEPTS[name].labels))
            for name, target in targets.items()
        ],
        axis=1,
    )
    test = np.array([clip.part == "val" for clip in clips])
    if test.all() or not test.any():
        line = (
            f"only the official {clips[0].part} part is here: train, val and test are drawn from it, 60/20/20 by ride"
        )
        return grouped_split(rides, held, PARTS_OF_ONE, seed), [f"{line}, and no score compares with the field's"]
    split = np.where(test, "test", "").astype("<U5")
    seen = np.isin(rides, rides[test]) & ~test
    rest = ~test & ~seen
    split[rest] = grouped_split(rides[rest], held[rest], PARTS_OF_TRAIN, seed)
    lines = ["test is the official val part; val is a tenth of the official train part, drawn by ride"]
    if seen.any():
        lines.append(f"{seen.sum():,} clips of the official train part are of a ride that test holds: left out")
    return split, lines
