"""Generated sequences whose information is known: a cue that takes two modalities at one moment, and a cue that lasts.

A sample has a sequence a modality, all of one length. A concept has K exclusive classes; its class y is drawn evenly,
and two cues in {0, …, K - 1} point at it, each equal to y with its strength q and uniform otherwise:

- the ``moment`` cue is what one modality shows at the step at which another one raises a flag, and nobody else knows
  when that is: it takes both modalities, at the same time;
- the ``lasting`` cue is shown by one modality at every step: when does not matter, nor do the others.

Concept c has modality c mod 2 raise the flag, and the other show both cues. At all other steps, and in the modality
that has none to show, symbols are random and so is the moment of a flag: both modalities look alike, and alone they
tell little of the moment cue. Gaussian noise and a random rotation follow. The posterior is exact:

    p(y | x_S) ∝ Π_cue (q l(y) + (1 - q) / K)
    l_moment(c) = Σ_t w_t p_t(c),  w = softmax over t of flag / σ²,  p_t = softmax of the symbol's evidence at step t
    l_lasting(c) ∝ exp(Σ_t symbol_t(c) / σ²)

w is flat where the modality with the flag is not seen, and l where the one with the symbols is not. The scores of the
posterior are the ceilings.

    mmbench run synthetic-sequences --method hybrid,classical+equal,mfn+equal --seeds 5
    mmbench run synthetic-sequences --protocol lasting --method hybrid,classical+equal

Under ``moment`` a method has to look at two modalities at each step (``hybrid``, ``mfn``); one that reads each on its
own (``classical``) would have to remember every symbol. Under ``lasting`` there is nothing that it could miss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Option, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import derive_seed, digest
from mmbench.splits import grouped_split

NAME = "synthetic-sequences"
SUMMARY = "generated sequences with a known law: cues across modalities at one moment, or lasting, with the best scores"

Array = NDArray[np.float64]
NAMES = ("m1", "m2")


class Law(BaseModel):
    """The parameters of the law; every one is an option of the task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int = Field(default=4000, ge=50, le=1_000_000, description="rows")
    steps: int = Field(default=6, ge=2, le=500, description="the most steps of a sample")
    shortest: int = Field(default=4, ge=1, description="the fewest steps of a sample")
    concepts: int = Field(default=1, ge=1, le=20, description="concepts")
    labels: int = Field(default=2, ge=2, le=20, description="classes of each concept")
    moment: float = Field(default=0.95, ge=0, le=1, description="how often the cue across modalities is right")
    lasting: float = Field(default=0.0, ge=0, le=1, description="how often the cue that lasts is right")
    noise: float = Field(
        default=0.3, ge=0.05, le=10, description="standard deviation of the noise; cues are 1.41 apart"
    )
    missing: float = Field(
        default=0.0, ge=0, le=0.9, description="how often a modality is missing; one is always there"
    )
    seed: int = Field(default=0, ge=0, description="another seed is another data set of the same law")

    @model_validator(mode="after")
    def _check(self) -> Law:
        if self.shortest > self.steps:
            raise ValueError(f"shortest={self.shortest} is more than steps={self.steps}")
        return self


def read_law(options: Mapping[str, str]) -> Law:
    """The law of the task's options.

    Raises:
        UsageError: a value that is no number or out of range.
    """
    try:
        return Law.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"task.{first['loc'][0]} was given '{first['input']}'" if first["loc"] else "task"
        raise UsageError(f"{where}: {first['msg']}") from None


@dataclass(frozen=True)
class Draw:
    """Rows of a law, before the rotation; C concepts, N modalities.

    ``flags`` float64 (N, n, T, C) and ``symbols`` (N, n, T, C, 2, K), one-hot, those of the moment cue and of the
    lasting one, both with noise; ``there`` bool (n, T) the steps of a row, ``present`` bool (N, n), ``classes`` int64
    (n, C).
    """

    flags: Array
    symbols: Array
    there: NDArray[np.bool_]
    present: NDArray[np.bool_]
    classes: NDArray[np.int64]


def draw(law: Law) -> Draw:
    """Draw the rows of a law."""
    rng = np.random.default_rng(derive_seed(law.seed, "rows"))
    n, steps, k, modalities = law.samples, law.steps, law.labels, len(NAMES)
    lengths = rng.integers(law.shortest, steps + 1, size=n)
    y = rng.integers(k, size=(n, law.concepts))
    cues = [
        np.where(rng.random(y.shape) < strength, y, rng.integers(k, size=y.shape))
        for strength in (law.moment, law.lasting)
    ]
    moments = rng.integers(lengths[:, None, None], size=(n, law.concepts, modalities))
    codes = rng.integers(k, size=(modalities, n, steps, law.concepts, 2))
    for concept in range(law.concepts):
        raises, shows = speakers(concept)
        codes[shows, np.arange(n), moments[:, concept, raises], concept, 0] = cues[0][:, concept]
        codes[shows, :, :, concept, 1] = cues[1][:, None, concept]
    flags = (np.arange(steps)[:, None, None] == moments[:, None]).transpose(3, 0, 1, 2).astype(np.float64)
    symbols = np.eye(k)[codes]
    for shown in (flags, symbols):
        shown += rng.normal(0, law.noise, shown.shape)
    present = rng.random((modalities, n)) >= law.missing
    present[rng.integers(modalities, size=n), np.arange(n)] = True
    return Draw(flags, symbols, np.arange(steps) < lengths[:, None], present, y)


def speakers(concept: int) -> tuple[int, int]:
    """The modality that raises a concept's flag, and the one that shows its cues."""
    return concept % len(NAMES), (concept + 1) % len(NAMES)


def posterior(law: Law, drawn: Draw, seen: Collection[int]) -> Array:
    """p(class | the modalities ``seen`` that are present): float64 (n, C, K)."""
    k = law.labels
    scores = np.empty((*drawn.classes.shape, k))
    for concept in range(law.concepts):
        raises, shows = speakers(concept)
        flagged, shown = ((m in seen) * drawn.present[m] for m in (raises, shows))
        evidence = drawn.symbols[shows, :, :, concept] * shown[:, None, None, None] / law.noise**2
        flag = drawn.flags[raises, :, :, concept] * flagged[:, None] / law.noise**2
        when = _softmax(np.where(drawn.there, flag, -np.inf))
        moment = (when[..., None] * _softmax(evidence[:, :, 0])).sum(axis=1)
        lasting = _softmax((evidence[:, :, 1] * drawn.there[..., None]).sum(axis=1))
        p = (law.moment * moment + (1 - law.moment) / k) * (law.lasting * lasting + (1 - law.lasting) / k)
        scores[:, concept] = p / p.sum(axis=1, keepdims=True)
    return scores


def _softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def sequences(law: Law, drawn: Draw, modality: int) -> Array:
    """What a modality is as an input: (n, T, C · (1 + 2 K)), rotated; steps that are not there are NaN."""
    n, steps = drawn.there.shape
    parts = [drawn.flags[modality], drawn.symbols[modality].reshape(n, steps, -1)]
    flat = np.concatenate(parts, axis=2)
    rng = np.random.default_rng(derive_seed(law.seed, f"rotation {modality}"))
    rotation, _ = np.linalg.qr(rng.normal(size=(flat.shape[2], flat.shape[2])))
    return np.where((drawn.there & drawn.present[modality][:, None])[..., None], flat @ rotation, np.nan)


def load(request: LoadRequest) -> Dataset:
    """Draw the data set and compute its ceilings.

    Raises:
        UsageError: an option out of range, or a data folder.
    """
    if request.root is not None:
        raise UsageError(f"{NAME} has no data folder: leave --data out, its law is set by --set task.NAME=VALUE")
    law = read_law(request.options)
    drawn = draw(law)
    concepts = tuple(
        Concept(f"concept-{number + 1}", tuple(f"class-{label + 1}" for label in range(law.labels)))
        for number in range(law.concepts)
    )
    seen = {name: NAMES.index(name) for name in request.modalities}
    targets = {concept.name: drawn.classes[:, place] for place, concept in enumerate(concepts)}
    inputs = {name: sequences(law, drawn, m) for name, m in seen.items()}
    ids = np.array([f"{row:07d}" for row in range(law.samples)])
    held = np.concatenate([drawn.classes == c for c in range(law.labels)], axis=1)
    subsets = [names for size in range(1, len(seen) + 1) for names in combinations(seen, size)]
    best = {names: posterior(law, drawn, [seen[name] for name in names]) for names in subsets}
    return Dataset(
        ids=ids,
        groups=ids,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=(Problem("joint", tuple(targets), grouped_split(ids, held, (0.6, 0.2, 0.2), request.split_seed)),),
        fingerprint=digest([law.model_dump_json(), *targets.values(), *inputs.values()]),
        title=f"{NAME} (generated)",
        generated=True,
        notes=(
            "ceiling rows are the scores of the true posterior; decided at the largest score they are the Bayes "
            "classifier: none has a better expected accuracy; on one finite test set they are not exactly the optimum",
        ),
        ceilings={
            "+".join(names): {concept.name: scores[:, place] for place, concept in enumerate(concepts)}
            for names, scores in best.items()
        },
    )


def _protocol(name: str, summary: str, **defaults: str) -> Protocol:
    suite = (
        *("hybrid", "xattn"),
        *(f"{fusion}+equal" for fusion in ("classical", "mfn", "concat", "late", "tensor")),
        *("majority", "linear:all"),
        *(f"only:{m}" for m in NAMES),
    )
    return Protocol(name, summary, "", "60/20/20 by row, stratified by all labels", suite, defaults=defaults)


TASK = Task(
    title="Generated sequences with a known law",
    licence="none needed: generated",
    citation="",
    homepage="",
    group="row",
    modalities=tuple(Modality(name, "sequence", "standardize") for name in NAMES),
    protocols=(
        _protocol("moment", "it takes two modalities at the same moment"),
        _protocol(
            "lasting", "one modality tells at every step: no structure in time or across", moment="0", lasting="0.9"
        ),
        _protocol("mixed", "both cues", moment="0.7", lasting="0.5"),
    ),
    load=load,
    proposed="hybrid",
    options=tuple(
        Option(name, str(field.default), (), field.description or "") for name, field in Law.model_fields.items()
    ),
    embedded="sample",
    recognises=lambda root: False,
    facts=(
        "the ceiling row of a set of modalities is what the true posterior given those modalities scores",
        "sequences of a row have the same length, drawn evenly from shortest to steps",
        "--modalities leaves modalities unseen, it does not change the law",
    ),
)
