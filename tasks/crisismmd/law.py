"""The law of the generated sample: a finite table of what can happen in a row, so that its ceilings are exact.

A row has a text cue and an image cue, and the annotations a (of the text) and b (of the image). Given the tweet's
text cue and a, its images are drawn independently, so every row follows the same law whatever the number of images.
Each cue shows a topic clearly, shows half of a code, or is vague:

========  =====  ==========================================================================================
share     cues   labels
========  =====  ==========================================================================================
text      .27    the text shows h (a wrong topic in 6 %), the image is vague
image     .23    the image shows h (a wrong topic in 6 %), the text is vague
either    .10    both show h
two       .12    the text shows h and the image another positive h': two labels
both      .20    h is one of a pair: the text holds the pair and a bit, the image a bit, their XOR chooses
neither   .08    both are vague: h is not to be known
========  =====  ==========================================================================================

Damage has a law of its own, independent of the topic, with the shares text .25, image .35, both .20, neither .20.
What a model can see beside the cues (wording, noise, event) is drawn independently of the labels, so the posterior
given the cues is the best that can be said, up to how well the cues can be read off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept

from .labels import DAMAGE, HUMANITARIAN, memberships, targets

TOPIC_SHARES = {"text": 0.27, "image": 0.23, "either": 0.10, "two": 0.12, "both": 0.20, "neither": 0.08}
DAMAGE_SHARES = {"text": 0.25, "image": 0.35, "both": 0.20, "neither": 0.20}
TOPICS = len(HUMANITARIAN)
TOPIC_PRIOR = (0.32, 0.075, 0.14, 0.065, 0.05, 0.135, 0.15, 0.065)
DAMAGE_PRIOR = (0.26, 0.32, 0.42)
WRONG_TOPIC = 0.06
PAIRS = ((0, 2), (5, 6))
DAMAGE_PAIR = (1, 2)
SOURCES = {"text": ("text",), "image": ("image",), "text+image": ("text", "image")}

VAGUE = 0


def clear(label: int) -> int:
    """The cue that shows a label; 0 is the vague cue."""
    return 1 + label


def code(n_labels: int, index: int) -> int:
    """The cue that holds a part of a code: in a text ``2 * pair + bit``, in an image the bit."""
    return 1 + n_labels + index


@dataclass(frozen=True)
class Law:
    """A finite joint distribution, one entry an atom, all (A,).

    Attributes:
        probability: float64, sums to 1.
        cues: by modality, int64.
        labels: by modality, int64 label codes.
    """

    probability: NDArray[np.float64]
    cues: Mapping[str, NDArray[np.int64]]
    labels: Mapping[str, NDArray[np.int64]]


Atom = tuple[float, int, int, int, int]


def _law(atoms: Iterator[Atom]) -> Law:
    probability, text_cue, image_cue, text_label, image_label = zip(*atoms, strict=True)
    return Law(
        np.array(probability),
        {"text": np.array(text_cue), "image": np.array(image_cue)},
        {"text": np.array(text_label), "image": np.array(image_label)},
    )


@cache
def topic_law() -> Law:
    """The law of the humanitarian annotations; informative follows from them."""
    return _law(_topic_atoms())


@cache
def damage_law() -> Law:
    """The law of the severity, which both label columns hold."""
    return _law(_damage_atoms())


def _annotated(p: float, text_cue: int, image_cue: int, h: int, unseen: str = "") -> Iterator[Atom]:
    """Annotations of h: both see it, or the annotator of the ``unseen`` modality (either, where "") sees nothing."""
    if h == 0:
        yield p, text_cue, image_cue, 0, 0
        return
    yield 0.5 * p, text_cue, image_cue, h, h
    if unseen != "text":
        yield (0.5 if unseen else 0.25) * p, text_cue, image_cue, h, 0
    if unseen != "image":
        yield (0.5 if unseen else 0.25) * p, text_cue, image_cue, 0, h


def _topic_atoms() -> Iterator[Atom]:
    share = TOPIC_SHARES
    positive = 1 - TOPIC_PRIOR[0]
    for h, prior in enumerate(TOPIC_PRIOR):
        for shown in range(TOPICS):
            seen = prior * (1 - WRONG_TOPIC if shown == h else WRONG_TOPIC / (TOPICS - 1))
            yield from _annotated(share["text"] * seen, clear(shown), VAGUE, h, unseen="image")
            yield from _annotated(share["image"] * seen, VAGUE, clear(shown), h, unseen="text")
        yield share["either"] * prior, clear(h), clear(h), h, h
        yield from _annotated(share["neither"] * prior, VAGUE, VAGUE, h)
        for other, weight in enumerate(TOPIC_PRIOR):
            if h and other and other != h:
                p = prior / positive * weight / (positive - prior)
                yield share["two"] * p, clear(h), clear(other), h, other
    for pair, alternatives in enumerate(PAIRS):
        for bit in (0, 1):
            for key in (0, 1):
                cues = code(TOPICS, 2 * pair + bit), code(TOPICS, key)
                yield from _annotated(share["both"] / (4 * len(PAIRS)), *cues, alternatives[bit ^ key])


def _damage_atoms() -> Iterator[Atom]:
    share, n = DAMAGE_SHARES, len(DAMAGE)
    for severity, prior in enumerate(DAMAGE_PRIOR):
        yield share["text"] * prior, clear(severity), VAGUE, severity, severity
        yield share["image"] * prior, VAGUE, clear(severity), severity, severity
        yield share["neither"] * prior, VAGUE, VAGUE, severity, severity
    for bit in (0, 1):
        for key in (0, 1):
            severity = DAMAGE_PAIR[bit ^ key]
            yield share["both"] / 4, code(n, bit), code(n, key), severity, severity


def posterior(
    concept: Concept, mode: str, cues: Mapping[str, NDArray[np.int64]], given: tuple[str, ...]
) -> NDArray[np.float64]:
    """P(label | the cues of some modalities, the row is labelled), (n, K) float64; multi-label: by label.

    Args:
        concept: as :func:`labels.concepts` declares it under ``mode``.
        mode: how two annotations become a target.
        cues: by modality, (n,): topic cues, or severity cues where the concept is damage.
        given: the modalities that are seen.
    """
    law = damage_law() if concept.name == "damage" else topic_law()
    a, b = law.labels["text"], law.labels["image"]
    columns = {"text_human": a, "image_human": b, "text_info": np.sign(a), "image_info": np.sign(b), "image_damage": a}
    held = memberships(targets(columns, mode)[concept.name], len(concept.labels))
    # an atom that the mode masks holds no label; its rows leave the metric, and the posterior
    mass = held * law.probability[:, None]
    labelled = law.probability * held.any(axis=1)
    size = 1 + max(int(values.max()) for values in law.cues.values())
    key = np.zeros(len(law.probability), dtype=np.int64)
    seen = np.zeros(len(cues["text"]), dtype=np.int64)
    for modality in given:
        key = key * size + law.cues[modality]
        seen = seen * size + cues[modality]
    total = np.bincount(key, weights=labelled, minlength=size**2)
    table = np.stack([np.bincount(key, weights=column, minlength=size**2) for column in mass.T], axis=1)
    prior = mass.sum(axis=0) / labelled.sum()
    table = np.where(total[:, None] > 0, table / np.where(total > 0, total, 1)[:, None], prior)
    return np.asarray(table[seen], dtype=np.float64)
