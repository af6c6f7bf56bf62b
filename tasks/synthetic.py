"""Vectors from a known law: what each modality tells alone, what all tell alike, and what only several tell together.

A unit is a concept with K exclusive classes, or one label of a multi-label concept (K = 2). Its class y is drawn from
the prior; three cues in {0, …, K - 1} point at it, each equal to y with its strength q and uniform otherwise:

- the ``unique`` cue is shown by one modality, its owner (unit u belongs to modality u mod N);
- the ``redundant`` cue is shown by every modality, each with noise of its own;
- the ``synergy`` cue is the sum modulo K of shares that ``order`` neighbouring modalities show, one each (for K = 2 the
  exclusive or): fewer of them than all tell nothing at all.

A modality shows a cue as a one-hot block of its vector; where it has none to show, the block holds a random one, so
that all modalities look alike. Gaussian noise and a random rotation follow. Given the class the cues are independent,
so the posterior is a product of three sums, exactly:

    p(y | x_S) ∝ prior(y) · Π_cue (q l(y) + (1 - q) / K),   l(c) ∝ p(x_S | cue = c)

where l multiplies over modalities for the redundant cue and is a circular convolution over the shares for the synergy
cue. A modality that is not seen, or missing, has a flat l. The scores of the posterior are the ceilings.

    mmbench run synthetic --protocol synergy --method 'linear:all,late,concat,tensor'
    mmbench run synthetic --set task.samples=5000 --set task.synergy=0.5 --set task.unique=0.5

Under ``synergy`` the linear row and ``late``, which adds up what each modality says, stay near chance, and ``concat``
(whose trunk is not linear), ``tensor`` and ``lowrank`` come near the ceiling; under ``unique`` all do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmbench.contracts import Concept, Dataset, LoadRequest, Modality, Option, Problem, Protocol, Task
from mmbench.errors import UsageError
from mmbench.hashing import derive_seed, digest
from mmbench.splits import grouped_split

NAME = "synthetic"
SUMMARY = "generated vectors with a known law: unique, redundant and synergistic information, with the best scores"

Array = NDArray[np.float64]
CUES = ("unique", "redundant", "synergy")
MOST_TENSOR = 3  # beyond so many modalities the outer product has a million entries: run it by name
ALL_SUBSETS = 3  # up to so many modalities every subset gets a ceiling, beyond it each alone and all together


class Law(BaseModel):
    """The parameters of the law; every one is an option of the task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int = Field(default=1500, ge=50, le=5_000_000, description="rows")
    modalities: int = Field(default=3, ge=2, description="how many modalities tell something; further ones are noise")
    concepts: int = Field(default=2, ge=1, le=50, description="concepts")
    labels: int = Field(default=2, ge=2, le=50, description="labels of each concept")
    kind: Literal["exclusive", "multilabel"] = Field(default="exclusive", description="of the concepts")
    unique: float = Field(default=0.8, ge=0, le=1, description="how often the cue of one modality is right")
    redundant: float = Field(default=0.0, ge=0, le=1, description="how often the cue that all modalities show is right")
    synergy: float = Field(
        default=0.0, ge=0, le=1, description="how often the cue that takes several modalities is right"
    )
    order: int = Field(default=2, ge=2, description="how many modalities a synergy cue takes")
    noise: float = Field(default=0.3, ge=0.1, le=10, description="standard deviation of the noise; cues are 1.41 apart")
    imbalance: float = Field(
        default=1.0, ge=1, le=1000, description="how much more frequent the first class is than the last"
    )
    label_noise: float = Field(default=0.0, ge=0, le=0.5, description="how often a label is replaced by another one")
    missing: float = Field(
        default=0.0, ge=0, le=0.9, description="how often a modality is missing; one is always there"
    )
    seed: int = Field(default=0, ge=0, description="another seed is another data set of the same law")

    @property
    def classes(self) -> int:
        """K of a unit."""
        return self.labels if self.kind == "exclusive" else 2

    @property
    def units(self) -> int:
        """How many units there are: concepts, or labels of multi-label concepts."""
        return self.concepts if self.kind == "exclusive" else self.concepts * self.labels

    @property
    def prior(self) -> Array:
        """(K,): a geometric series from the first class to the last."""
        weights = self.imbalance ** -np.linspace(0, 1, self.classes)
        prior: Array = weights / weights.sum()
        return prior

    def sharers(self, unit: int) -> tuple[int, ...]:
        """The modalities that hold a share of the unit's synergy cue."""
        return tuple((unit + step) % self.modalities for step in range(self.order))


def read_law(options: Mapping[str, str], declared: int) -> Law:
    """The law of the task's options.

    Raises:
        UsageError: a value that is no number or out of range, more modalities than are declared, or an order that
            does not fit them.
    """
    try:
        law = Law.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"task.{first['loc'][0]} was given '{first['input']}': {first['msg']}") from None
    if law.modalities > declared:
        raise UsageError(f"task.modalities={law.modalities}: expected 2 to {declared}; `synthetic8` has 8 modalities")
    if law.order > law.modalities:
        raise UsageError(f"task.order={law.order}: expected at most task.modalities={law.modalities}")
    return law


@dataclass(frozen=True)
class Draw:
    """Rows of a law, before the rotation.

    ``shown`` float64 (N, n, units, 3, K) holds the noisy one-hot blocks by cue, ``present`` bool (N, n), ``classes``
    int64 (n, units) the labels as observed, label noise included.
    """

    shown: Array
    present: NDArray[np.bool_]
    classes: NDArray[np.int64]


def draw(law: Law, declared: int) -> Draw:
    """Draw the rows of a law for so many declared modalities."""
    rng = np.random.default_rng(derive_seed(law.seed, "rows"))
    n, k = law.samples, law.classes
    y = rng.choice(k, size=(n, law.units), p=law.prior)
    cue = np.where(
        rng.random((3, n, law.units)) < _strengths(law)[:, None, None], y, rng.integers(k, size=(3, *y.shape))
    )
    code = rng.integers(k, size=(declared, n, law.units, 3))
    for unit in range(law.units):
        code[unit % law.modalities, :, unit, 0] = cue[0, :, unit]
        code[: law.modalities, :, unit, 1] = cue[1, :, unit]
        *others, last = law.sharers(unit)
        code[last, :, unit, 2] = (cue[2, :, unit] - code[others, :, unit, 2].sum(axis=0)) % k
    shown = np.eye(k)[code] + rng.normal(0, law.noise, (*code.shape, k))
    present = rng.random((declared, n)) >= law.missing
    present[rng.integers(declared, size=n), np.arange(n)] = True
    observed = np.where(rng.random(y.shape) < law.label_noise, (y + rng.integers(1, k, size=y.shape)) % k, y)
    return Draw(shown, present, observed)


def posterior(law: Law, drawn: Draw, seen: Collection[int]) -> Array:
    """p(observed class | the modalities ``seen`` that are present): float64 (n, units, K)."""
    k = law.classes
    log_p = np.tile(np.log(law.prior), (*drawn.classes.shape, 1))
    strength = _strengths(law)
    for unit in range(law.units):
        told = [drawn.shown[m, :, unit] / law.noise**2 for m in range(law.modalities)]
        for m, values in enumerate(told):
            values[~drawn.present[m] if m in seen else slice(None)] = 0.0
        share = _softmax(told[(sharers := law.sharers(unit))[0]][:, 2])
        for m in sharers[1:]:
            share = _convolve(share, _softmax(told[m][:, 2]))
        likelihoods = (_softmax(told[unit % law.modalities][:, 0]), _softmax(np.sum(told, axis=0)[:, 1]), share)
        for q, likelihood in zip(strength, likelihoods, strict=True):
            log_p[:, unit] += np.log(q * likelihood + (1 - q) / k)
    p = _softmax(log_p)
    return (1 - law.label_noise) * p + law.label_noise * (1 - p) / (k - 1)


def _strengths(law: Law) -> Array:
    return np.array([getattr(law, cue) for cue in CUES])


def _softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def _convolve(p: Array, q: Array) -> Array:
    """The law of a + b modulo K for independent a and b: (n, K) each."""
    k = p.shape[1]
    return np.stack([sum(p[:, a] * q[:, (c - a) % k] for a in range(k)) for c in range(k)], axis=1)


def vectors(law: Law, drawn: Draw, modality: int) -> Array:
    """What a modality is as an input: its blocks rotated, (n, 3 · units · K), a missing row all NaN."""
    flat = drawn.shown[modality].reshape(len(drawn.classes), -1)
    rng = np.random.default_rng(derive_seed(law.seed, f"rotation {modality}"))
    rotation, _ = np.linalg.qr(rng.normal(size=(flat.shape[1], flat.shape[1])))
    return np.where(drawn.present[modality][:, None], flat @ rotation, np.nan)


def load(request: LoadRequest, declared: int) -> Dataset:
    """Draw the data set and compute its ceilings.

    Raises:
        UsageError: an option out of range, or a data folder.
    """
    if request.root is not None:
        raise UsageError("synthetic has no data folder: leave --data out, its law is set by --set task.NAME=VALUE")
    law = read_law(request.options, declared)
    drawn = draw(law, declared)
    concepts, columns = _concepts(law)
    seen = {name: int(name[1:]) - 1 for name in request.modalities}
    targets = {name: drawn.classes[:, units] for name, units in columns.items()}
    inputs = {name: vectors(law, drawn, m) for name, m in seen.items()}
    if law.kind == "exclusive":
        targets = {name: target[:, 0] for name, target in targets.items()}
    ids = np.array([f"{row:07d}" for row in range(law.samples)])
    held = np.concatenate([drawn.classes == c for c in range(law.classes)], axis=1)
    return Dataset(
        ids=ids,
        groups=ids,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=(Problem("joint", tuple(targets), grouped_split(ids, held, (0.6, 0.2, 0.2), request.split_seed)),),
        fingerprint=digest([law.model_dump_json(), *targets.values(), *inputs.values()]),
        title="synthetic (generated)",
        generated=True,
        notes=(
            "ceiling rows are the scores of the true posterior; decided at the largest score (exclusive) or at .5 "
            "(multi-label) they are the Bayes classifier: none has a better expected accuracy (exclusive) or Hamming "
            "loss; for macro F1, and for any metric on one finite test set, they are not exactly the optimum",
        ),
        ceilings={
            "+".join(names): _scores(law, posterior(law, drawn, [seen[name] for name in names]), columns)
            for names in _subsets(request.modalities)
        },
    )


def _concepts(law: Law) -> tuple[tuple[Concept, ...], dict[str, list[int]]]:
    """The concepts, and by concept its units."""
    if law.kind == "exclusive":
        names = [f"concept-{number + 1}" for number in range(law.concepts)]
        labels = tuple(f"class-{number + 1}" for number in range(law.labels))
        return tuple(Concept(name, labels) for name in names), {name: [unit] for unit, name in enumerate(names)}
    names = [f"tags-{number + 1}" for number in range(law.concepts)]
    labels = tuple(f"tag-{number + 1}" for number in range(law.labels))
    units = np.arange(law.units).reshape(law.concepts, law.labels).tolist()
    return tuple(Concept(name, labels, "multilabel") for name in names), dict(zip(names, units, strict=True))


def _scores(law: Law, p: Array, columns: Mapping[str, list[int]]) -> dict[str, Array]:
    """The posterior as scores (n, K) by concept."""
    if law.kind == "exclusive":
        return {name: p[:, unit] for name, (unit,) in columns.items()}
    return {name: p[:, units, 1] for name, units in columns.items()}


def _subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    sizes = range(1, len(names) + 1) if len(names) <= ALL_SUBSETS else sorted({1, len(names)})
    return [subset for size in sizes for subset in combinations(names, size)]


def _protocol(name: str, summary: str, names: tuple[str, ...], **defaults: str) -> Protocol:
    product = ("tensor",) if len(names) <= MOST_TENSOR else ()
    suite = (
        *(f"{fusion}+equal" for fusion in ("concat", "late", *product, "lowrank", "graph", "igfn")),
        *(f"concat+{strategy}" for strategy in ("moo", "dmtl", "single")),
        "igfn+dmtl",
        "majority",
        *(f"linear:{m}" for m in (*names, "all")),
        *(f"only:{m}" for m in names),
    )
    return Protocol(name, summary, "", "60/20/20 by row, stratified by all labels", suite, defaults=defaults)


def make_task(declared: int) -> Task:
    """The task with modalities m1, m2, … of this number."""
    names = tuple(f"m{number + 1}" for number in range(declared))
    defaults = Law().model_dump(mode="json") | {"modalities": declared}
    return Task(
        title="Generated vectors with a known law",
        licence="none needed: generated",
        citation="",
        homepage="",
        group="row",
        modalities=tuple(Modality(name, "vector", "standardize") for name in names),
        protocols=(
            _protocol("mixed", "all three kinds of information", names, unique="0.5", redundant="0.5", synergy="0.7"),
            _protocol("unique", "each concept is told by one modality alone", names, unique="0.9"),
            _protocol("redundant", "every modality tells every concept", names, unique="0", redundant="0.9"),
            _protocol("synergy", "it takes two modalities: one alone tells nothing", names, unique="0", synergy="0.95"),
        ),
        load=partial(load, declared=declared),
        proposed="igfn+dmtl",
        options=tuple(
            Option(
                name,
                str(defaults[name]),
                ("exclusive", "multilabel") if name == "kind" else (),
                field.description or "",
            )
            for name, field in Law.model_fields.items()
        ),
        embedded="sample",
        recognises=lambda root: False,
        facts=(
            "the ceiling row of a set of modalities is what the true posterior given those modalities scores",
            "given too few of its modalities, a synergy cue says exactly nothing: the posterior is the prior",
            "--modalities leaves modalities unseen, it does not change the law",
        ),
    )


TASK = make_task(3)
