"""The protocols of CrisisMMD: which labels and which split, and which concepts are trained together.

Where a paper or the official files are silent, this is what we do:

- ``mt25``, ``mt25-rows`` and ``event`` stratify by the union labels of humanitarian and by damage whatever
  ``--labels`` says, so that one split seed means one split and label modes can be compared on the same tweets.
- Under ``--labels agreed`` these three mask the rows whose annotations disagree, they do not drop them.
- ``agreed`` and ``joint-agreed`` have no damage: there are no agreed files for it.
- ``official`` and ``joint-official`` take damage from its own files, for text and image labels alike.
- ``event`` tests on one event and splits the tweets of the others 3:1 into train and val, the ratio of ``mt25``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept, Problem, Protocol
from mmbench.errors import UsageError
from mmbench.splits import grouped_split

from . import official
from .files import Annotations
from .labels import DAMAGE, HUMANITARIAN, MODES, concepts, memberships, targets, union_humanitarian

FRACTIONS = (0.6, 0.2, 0.2)
EVENT_FRACTIONS = (0.75, 0.25, 0.0)
REFERENCE = ("majority", "linear:text", "linear:image", "linear:all", "only:text", "only:image")
MT25_SUITE = (
    "concat+equal",
    "tensor+equal",
    "graph+equal",
    "igfn+equal",
    "concat+moo",
    "concat+mti",
    "concat+dmtl",
    "igfn+dmtl",
    *REFERENCE,
    "concat+single",
)
FUSION_SUITE = (
    "concat+equal",
    "late+equal",
    "tensor+equal",
    "lowrank+equal",
    "graph+equal",
    "igfn+equal",
    "igfn+dmtl",
    *REFERENCE,
)
MT25 = "Merkotan & Trotsko 2025"
OFLI = "Ofli, Alam & Imran, ISCRAM 2020"
ALAM = "Alam, Ofli & Imran, ICWSM 2018"

PROTOCOLS = (
    Protocol(
        "mt25",
        "three concepts in one model, union labels, 60/20/20 by tweet",
        MT25,
        "60/20/20 by tweet, stratified",
        MT25_SUITE,
        defaults={"labels": "union", "split": "grouped"},
    ),
    Protocol(
        "mt25-rows",
        "as mt25, but 60/20/20 by row, as the paper says",
        MT25,
        "60/20/20 by row, stratified",
        MT25_SUITE,
        defaults={"labels": "union", "split": "rows"},
        warning="rows of one tweet are in train and in test: this split leaks, use mt25 to compare methods",
    ),
    Protocol(
        "agreed",
        "one model a concept on the official agreed-label files; humanitarian has 5 classes",
        OFLI,
        "official, agreed labels",
        FUSION_SUITE,
        primary_metric="weighted_f1",
        defaults={"labels": "agreed", "split": "official"},
    ),
    Protocol(
        "official",
        "one model a concept on the official files of all rows, --labels text or image",
        ALAM,
        "official, all rows",
        FUSION_SUITE,
        defaults={"labels": "text", "split": "official"},
    ),
    Protocol(
        "joint-agreed",
        "the concepts of agreed in one model; a tweet that any test file holds is only test",
        OFLI,
        "official, agreed labels, joined by tweet",
        MT25_SUITE,
        primary_metric="weighted_f1",
        defaults={"labels": "agreed", "split": "official"},
    ),
    Protocol(
        "joint-official",
        "the concepts of official in one model; a tweet that any test file holds is only test",
        ALAM,
        "official, all rows, joined by tweet",
        MT25_SUITE,
        defaults={"labels": "text", "split": "official"},
    ),
    Protocol(
        "event",
        "leave one event out: one problem an event, three concepts in one model, union labels",
        ALAM,
        "one event is test, the others 75/25 by tweet",
        MT25_SUITE,
        defaults={"labels": "union", "split": "event"},
    ),
)
SPLIT_CHOICES = ("grouped", "rows", "official", "event")
ALLOWED = {
    "mt25": (MODES, ("grouped", "rows")),
    "mt25-rows": (MODES, ("grouped", "rows")),
    "agreed": (("agreed",), ("official",)),
    "official": (("text", "image"), ("official",)),
    "joint-agreed": (("agreed",), ("official",)),
    "joint-official": (("text", "image"), ("official",)),
    "event": (MODES, ("event",)),
}

Posed = tuple[tuple[Concept, ...], dict[str, NDArray[np.int64]], tuple[Problem, ...]]


def check_options(protocol: str, labels: str, split: str) -> None:
    """Refuse labels or a split that a protocol does not have.

    Raises:
        UsageError: names the protocol, what was given and what it has.
    """
    allowed_labels, allowed_splits = ALLOWED[protocol]
    for option, given, allowed in (("labels", labels, allowed_labels), ("split", split, allowed_splits)):
        if given not in allowed:
            raise UsageError(
                f"--{option} {given} does not exist under protocol {protocol}: it has {' or '.join(allowed)}; "
                f"choose one of these or another --protocol"
            )


def pose(home: Path, annotations: Annotations, protocol: str, labels: str, split: str, seed: int) -> Posed:
    """The concepts, targets by concept and problems of a protocol, over all annotated rows.

    Raises:
        UsageError: an option that the protocol does not have; official files that are missing or malformed.
    """
    check_options(protocol, labels, split)
    if split == "official":
        return _pose_official(home, annotations, protocol, labels)
    declared = concepts(labels)
    names = tuple(concept.name for concept in declared)
    strata = _strata(annotations)
    if split == "event":
        events = [str(event) for event in np.unique(annotations.event)]
        if len(events) < 2:
            raise UsageError(f"protocol event needs two events or more, the annotations hold only {events[0]}")
        problems = tuple(Problem(event, names, _leave_out(annotations, strata, event, seed)) for event in events)
    else:
        groups = annotations.image if split == "rows" else annotations.tweet
        problems = (Problem("joint", names, grouped_split(groups, strata, FRACTIONS, seed)),)
    return declared, targets(annotations.labels, labels), problems


def _strata(annotations: Annotations) -> NDArray[np.bool_]:
    """Which labels each row holds, (n, 8 + 3): humanitarian by union, and damage."""
    human = union_humanitarian(annotations.labels["text_human"], annotations.labels["image_human"])
    damage = annotations.labels["image_damage"]
    return np.hstack([memberships(human, len(HUMANITARIAN)), memberships(damage, len(DAMAGE))])


def _leave_out(annotations: Annotations, strata: NDArray[np.bool_], event: str, seed: int) -> NDArray[np.str_]:
    """One event as test, the other events' tweets as train and val; other rows of a test tweet are not used."""
    test = annotations.event == event
    rest = ~np.isin(annotations.tweet, annotations.tweet[test])
    split = np.where(test, "test", "").astype("<U5")
    split[rest] = grouped_split(annotations.tweet[rest], strata[rest], EVENT_FRACTIONS, seed)
    return split


def _pose_official(home: Path, annotations: Annotations, protocol: str, labels: str) -> Posed:
    declared = concepts(labels, damage=labels != "agreed")
    read = {c.name: official.read_concept(home, annotations, c.name, labels) for c in declared}
    target = {name: codes for name, (_, codes) in read.items()}
    if protocol.startswith("joint-"):
        split = official.joint_split([rows for rows, _ in read.values()], annotations.tweet)
        return declared, target, (Problem("joint", tuple(read), split),)
    return declared, target, tuple(Problem(name, (name,), split) for name, (split, _) in read.items())
