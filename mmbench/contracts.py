"""What plug-ins implement and exchange: tasks, data sets, fusions, strategies and models.

Arrays of a data set are NumPy arrays with one row per sample, in one order everywhere. Networks see
:class:`Inputs` and :class:`Examples`, which hold tensors. A target of -1, or of NaN where it is a score, means "no
label": such a row is masked for that concept and never guessed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mmbench.bulk import Pages
    from mmbench.config import Training
    from mmbench.training.checkpoint import Checkpoint

ConceptKind = Literal["exclusive", "multilabel", "score"]
InputKind = Literal["text", "image", "audio", "video", "vector", "sequence", "motion"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Concept:
    """A group of labels that one table reports, or one number a row: a score.

    ``background`` names the label that means "none of it" (``not_informative``); it is left out when
    positives are counted. A score has one label, which says what is scored, and ``bounds``, the scale that it was rated
    on, where it has one; predictions may leave it.
    """

    name: str
    labels: tuple[str, ...]
    kind: ConceptKind = "exclusive"
    background: str | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind == "score" and len(self.labels) != 1:
            raise ValueError(f"concept {self.name} is a score with {len(self.labels)} labels: expected one")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Concept:
        """The concept that :meth:`record` describes."""
        bounds = record.get("bounds")
        fields = {"labels": tuple(record["labels"]), "bounds": None if bounds is None else tuple(bounds)}
        return cls(**{**record, **fields})

    def record(self) -> dict[str, Any]:
        """JSON-ready; ``bounds`` only where there are some."""
        fields = {"name": self.name, "labels": list(self.labels), "kind": self.kind, "background": self.background}
        return fields if self.bounds is None else fields | {"bounds": list(self.bounds)}


@dataclass(frozen=True)
class Modality:
    """One input stream of a task and the encoder it gets unless ``--encoders`` says otherwise."""

    name: str
    kind: InputKind
    encoder: str


@dataclass(frozen=True)
class Option:
    """A setting of one task, given by ``--set task.NAME=VALUE``; no ``choices`` means free text."""

    name: str
    default: str
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Protocol:
    """A named, citable way to evaluate a task.

    ``suite`` holds selectors; ``only:*`` is one for each modality in use. ``defaults`` are the values of the task's
    options under this protocol. ``warning`` is printed with every table. ``modalities`` are those in use unless
    ``--modalities`` says otherwise; none means all of the task's.
    """

    name: str
    summary: str
    citation: str
    split: str
    suite: tuple[str, ...]
    primary_metric: str = "macro_f1"
    defaults: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """The concepts that one model is trained on together, on one split.

    ``split`` has shape (n,): ``"train"``, ``"val"``, ``"test"`` or ``""`` for rows this problem does not use.
    """

    name: str
    concepts: tuple[str, ...]
    split: NDArray[np.str_]


@dataclass(frozen=True)
class Dataset:
    """A task as loaded under one protocol.

    Attributes:
        ids, groups: shape (n,), str; the sample id, and the unit that must not be split or resampled apart.
        inputs: by modality, n values: ``str`` (text, :class:`mmbench.streams.TimedText` where words have
            times), ``Path`` or ``None`` when missing (files), :class:`mmbench.streams.Motion` or ``None`` (motion), a
            float array (n, d) whose all-NaN rows are missing (vector), or a float array (n, T, d) where a step whose
            features are all NaN is not there (sequence; a row without a step is missing). An array too large
            for memory may be mapped for reading (``np.load(path, mmap_mode="r")``), in its own precision.
        targets: by concept, int64: exclusive (n,) class index, multi-label (n, K) of 0/1; -1 where unlabelled
            (a multi-label row is -1 as a whole). A score is float64 (n,), NaN where unlabelled.
        fingerprint: hex digest of everything a result depends on in the data.
        title: the name printed everywhere; a generated sample says "(generated)" in it.
        notes: lines about the data that a reader of the results must know.
        facets: by name (``"event"``), (n,) str: what a report sums errors up by; ``""`` where it is not known.
        ceilings: for generated data, by name (``"text"``, ``"text+image"``) and concept the best possible scores
            (n, K) given only those modalities.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    inputs: Mapping[str, Sequence[Any] | NDArray[np.floating]]
    concepts: tuple[Concept, ...]
    targets: Mapping[str, NDArray[Any]]
    problems: tuple[Problem, ...]
    fingerprint: str
    title: str
    generated: bool = False
    notes: tuple[str, ...] = ()
    facets: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    ceilings: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)

    def labelled(self, concept: str) -> NDArray[np.bool_]:
        """Rows with a label for ``concept``: shape (n,), bool."""
        return known(self.targets[concept])


def known(target: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of a target, (n,) or (n, K), have a label: bool (n,)."""
    first = target if target.ndim == 1 else target[:, 0]
    rows: NDArray[np.bool_] = first == first if first.dtype.kind == "f" else first >= 0  # only NaN differs from itself
    return rows


def unlabelled(target: NDArray[Any]) -> float:
    """What stands in a target for "no label": NaN in a score, else -1."""
    return float("nan") if target.dtype.kind == "f" else -1


@dataclass(frozen=True)
class LoadRequest:
    """What a task is asked to load.

    ``root`` is the data set's folder, or None where the task carries its data or shall use its generated sample
    (written below ``scratch``). ``options`` holds a value for every option the task declares.
    """

    root: Path | None
    scratch: Path
    protocol: Protocol
    options: Mapping[str, str]
    modalities: tuple[str, ...]
    split_seed: int = 0


@dataclass(frozen=True)
class DataFile:
    """An archive of a data set as its authors serve it, for ``mmbench data fetch``.

    Attributes:
        name, url: what it is called, and where it is.
        size: of the archive in bytes, 0 where nobody published it.
        digest: ``"sha256:…"`` or ``"md5:…"``, empty where nobody published one.
        digest_by: who published the digest.
        makes: the folders that it unpacks to; where they are there it is not fetched again.
        unpacked: the most bytes that it may unpack to.
    """

    name: str
    url: str
    size: int
    digest: str
    digest_by: str
    makes: tuple[str, ...]
    unpacked: int


@dataclass(frozen=True)
class Task:
    """A data set posed as classification.

    Attributes:
        title, licence, citation, homepage: for ``mmbench info`` and every table.
        group: the word for the unit that stays together (``tweet``, ``video``).
        protocols: the first is the default.
        load: reads the data; raises :class:`mmbench.errors.UsageError` on a folder it cannot read.
        proposed: the method that is the default reference of comparisons.
        embedded: what is loaded without ``--data``: ``"sample"`` (generated), ``"real"`` (carried by a library),
            or ``"none"``.
        recognises: whether a folder looks like this data set's root.
        obtain: one line that says how to get the real data.
        facts: lines that whoever uses the data must know, for ``mmbench info``.
        files: what ``mmbench data fetch`` gets; none where the files cannot be got without a person.
    """

    title: str
    licence: str
    citation: str
    homepage: str
    group: str
    modalities: tuple[Modality, ...]
    protocols: tuple[Protocol, ...]
    load: Callable[[LoadRequest], Dataset]
    proposed: str
    options: tuple[Option, ...] = ()
    embedded: Literal["sample", "real", "none"] = "none"
    recognises: Callable[[Path], bool] = lambda root: root.is_dir()
    obtain: str = ""
    facts: tuple[str, ...] = ()
    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Encoded modalities of n samples.

    Attributes:
        values: by modality, float32 (n, d_m), or (n, T_m, d_m) for a sequence; what is missing is zero.
        present: by modality, bool (n,).
        steps: by modality that is a sequence, bool (n, T_m): the steps that are there.
        raw: by modality that a model asked for (:meth:`Model.wants_raw`), (n,) objects: what was encoded (text, path),
            None where it is missing. Its ``values`` may then be without features.
        pages: where values lie in files, what keeps them out of memory; rows that are taken come into memory.
    """

    values: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]
    steps: dict[str, torch.Tensor] = field(default_factory=dict)
    raw: dict[str, NDArray[np.object_]] = field(default_factory=dict)
    pages: Pages | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def rows(self, index: torch.Tensor | slice) -> Inputs:
        """The samples at ``index`` (int64, bool, or a slice)."""
        if self.pages is None:
            values, pages = {name: value[index] for name, value in self.values.items()}, None
        else:
            values, pages = self.pages.rows(self.values, index)
        return Inputs(
            values,
            {name: value[index] for name, value in self.present.items()},
            {name: value[index] for name, value in self.steps.items()},
            {name: value[index if isinstance(index, slice) else index.numpy()] for name, value in self.raw.items()},
            pages=pages,
        )

    def to(self, device: torch.device) -> Inputs:
        """The same on a device; what is raw stays where it is."""
        values, present, steps = (
            {name: value.to(device) for name, value in part.items()} for part in (self.values, self.present, self.steps)
        )
        return Inputs(values, present, steps, self.raw)

    def only(self, modalities: Sequence[str]) -> Inputs:
        """The same samples with only these modalities."""
        return Inputs(
            {m: self.values[m] for m in modalities},
            {m: self.present[m] for m in modalities},
            {m: self.steps[m] for m in modalities if m in self.steps},
            {m: self.raw[m] for m in modalities if m in self.raw},
            pages=self.pages,
        )


@dataclass(frozen=True)
class Examples:
    """Inputs with targets by concept: int64 (n,) or (n, K), -1 where unlabelled; a score float64 (n,), NaN there."""

    inputs: Inputs
    targets: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: torch.Tensor | slice) -> Examples:
        """The samples at ``index`` (int64, bool, or a slice)."""
        return Examples(self.inputs.rows(index), {name: target[index] for name, target in self.targets.items()})

    def to(self, device: torch.device) -> Examples:
        """The same on a device."""
        targets = {name: target.to(device) for name, target in self.targets.items()}
        return Examples(self.inputs.to(device), targets)


@dataclass(frozen=True)
class Objective:
    """One loss term: an exclusive concept or a score (``label`` None), or one label of a concept.

    ``index`` is the label's column. ``n_labelled`` and ``n_positive`` count training rows; for an exclusive concept
    the positives are the rows that are not background, for a score all that are labelled. With a ``modality`` it is the
    same loss of a prediction from that modality alone.
    """

    concept: str
    label: str | None
    index: int | None
    n_labelled: int
    n_positive: int
    modality: str = ""

    @property
    def name(self) -> str:
        """``concept`` or ``concept/label``, of one modality ``concept@modality``."""
        name = self.concept if self.label is None else f"{self.concept}/{self.label}"
        return f"{name}@{self.modality}" if self.modality else name


@dataclass(frozen=True)
class FitContext:
    """What a model is told besides the data.

    ``report`` takes (epoch, of, validation objective) after each epoch. ``modalities`` are those of the run, with the
    encoders that it uses. ``device`` is where networks are trained; inputs come on the CPU. ``checkpoint`` keeps the
    state of a long training.
    """

    concepts: tuple[Concept, ...]
    seed: int
    settings: Training
    report: Callable[[int, int, float], None] = lambda epoch, of, loss: None
    modalities: tuple[Modality, ...] = ()
    device: str = "cpu"
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Inside:
    """One thing that a trained network shows of itself, sample by sample.

    Attributes:
        says: what the numbers are, in a line, with the equation they belong to.
        values: float32 (n), with an axis for ``places`` and one for ``steps`` where there are such; NaN where a sample
            has nothing to show (a missing modality, a step that is not there).
        places: the names along the axis of places: modalities, pairs of them, layers.
        steps: the modalities whose steps the last axis runs over: one, and they are that modality's own (tokens,
            patches); several, and they are the common steps of all.
        shares: whether the numbers along the last axis sum to one.
    """

    says: str
    values: NDArray[np.float32]
    places: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    shares: bool = False


class Model(ABC):
    """A whole method: it is fitted on train and val, then asked for scores without targets.

    ``deterministic`` says that the seed changes nothing, so that one fit serves every seed; ``device`` where it was
    trained.
    """

    deterministic: bool = False
    device: str = "cpu"

    def wants_raw(self, modalities: tuple[Modality, ...]) -> frozenset[str]:
        """The modalities whose inputs it wants as they are, besides or in place of their features.

        ``modalities`` are those of the run with its encoders. Raises :class:`mmbench.errors.UsageError` where the
        model cannot be trained on them.
        """
        return frozenset()

    @abstractmethod
    def fit(self, train: Examples, val: Examples, context: FitContext) -> dict[str, Any]:
        """Train; return a JSON-ready history (``epochs``, ``best_epoch``, ``train``, ``val``, ``weights``) or {}."""

    @abstractmethod
    def predict(self, inputs: Inputs) -> dict[str, NDArray[np.float64]]:
        """Scores by concept, float64 (n, K): in [0, 1], softmax for exclusive concepts, sigmoid for multi-label ones;
        of a score (n, 1) on its own scale."""

    def look(self, inputs: Inputs) -> dict[str, Inside]:
        """What the fitted model shows of its inside on these samples, by name; {} where it shows nothing."""
        return {}

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """The number of trained parameters."""
