"""Concepts of CrisisMMD, and how two annotations a row, one of the text and one of the image, become a target.

The modes are those of ``--labels``. *union*: informative if either annotation says so; humanitarian is multi-label,
the positive categories of both, and ``not_humanitarian`` only if both say it. *text* and *image*: that annotation
alone, 8 exclusive classes. *agreed*: the 8 classes are merged to 5 first (Ofli et al. 2020), and rows whose two
annotations then differ are masked, each concept by itself. Damage is annotated on the image only, so it is the same
in every mode; ``nan`` and ``dont_know_or_cant_judge`` are masked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, ConceptKind

INFORMATIVE = ("not_informative", "informative")
HUMANITARIAN = (
    "not_humanitarian",
    "affected_individuals",
    "infrastructure_and_utility_damage",
    "injured_or_dead_people",
    "missing_or_found_people",
    "other_relevant_information",
    "rescue_volunteering_or_donation_effort",
    "vehicle_damage",
)
MERGED_INTO = {
    "vehicle_damage": "infrastructure_and_utility_damage",
    "injured_or_dead_people": "affected_individuals",
    "missing_or_found_people": "affected_individuals",
}
MERGED = tuple(label for label in HUMANITARIAN if label not in MERGED_INTO)
DAMAGE = ("little_or_no_damage", "mild_damage", "severe_damage")
NO_DAMAGE_LABEL = ("nan", "dont_know_or_cant_judge")
MODES = ("union", "text", "image", "agreed")

_MERGED_CODE = np.array([MERGED.index(MERGED_INTO.get(label, label)) for label in HUMANITARIAN])


def concepts(mode: str, *, damage: bool = True) -> tuple[Concept, ...]:
    """The concepts under a label mode."""
    labels = MERGED if mode == "agreed" else HUMANITARIAN
    kind: ConceptKind = "multilabel" if mode == "union" else "exclusive"
    two = (
        Concept("informative", INFORMATIVE, background="not_informative"),
        Concept("humanitarian", labels, kind, background="not_humanitarian"),
    )
    return (*two, Concept("damage", DAMAGE, background="little_or_no_damage")) if damage else two


def merged(humanitarian: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes of the 8 classes to codes of the 5 classes."""
    return _MERGED_CODE[humanitarian]


def union_humanitarian(text: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.int64]:
    """The multi-label target (n, 8) of 0/1 from two class codes (n,)."""
    target = np.zeros((len(text), len(HUMANITARIAN)), dtype=np.int64)
    rows = np.arange(len(text))
    target[rows, text] = 1
    target[rows, image] = 1
    target[:, 0] = (text == 0) & (image == 0)
    return target


def targets(annotated: Mapping[str, NDArray[np.int64]], mode: str) -> dict[str, NDArray[np.int64]]:
    """Targets by concept from the annotation columns.

    Args:
        annotated: codes (n,) of ``text_info``, ``image_info``, ``text_human``, ``image_human`` (8 classes) and
            ``image_damage`` (-1 where there is no label).
        mode: one of :data:`MODES`.
    """
    text_info, image_info = annotated["text_info"], annotated["image_info"]
    text_human, image_human = annotated["text_human"], annotated["image_human"]
    match mode:
        case "union":
            informative = text_info | image_info
            humanitarian = union_humanitarian(text_human, image_human)
        case "text":
            informative, humanitarian = text_info, text_human
        case "image":
            informative, humanitarian = image_info, image_human
        case _:
            informative = np.where(text_info == image_info, text_info, -1)
            humanitarian = np.where(merged(text_human) == merged(image_human), merged(text_human), -1)
    return {"informative": informative, "humanitarian": humanitarian, "damage": annotated["image_damage"]}


def memberships(target: NDArray[np.int64], n_labels: int) -> NDArray[np.bool_]:
    """Which labels each row holds, (n, K) bool; a row without a label holds none."""
    held: NDArray[np.bool_] = target == 1 if target.ndim == 2 else target[:, None] == np.arange(n_labels)
    return held
