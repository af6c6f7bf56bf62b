"""Frozen encoders by kind of modality, their output cached by content.

A selector is ``name[:parameter=value]…``, or ``hf:<name or folder>[:parameter=value]…``. Nothing heavy is imported
until a modality is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mmbench.contracts import InputKind
from mmbench.errors import UsageError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Encoded:
    """A modality's features.

    ``values`` float32 (n, d), rows of missing or unreadable inputs zero; ``bad`` says by row why an input could not be
    read.
    """

    values: NDArray[np.float32]
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """An encoder as listed: ``module`` has ``VERSION`` and ``encode``, ``packages`` are part of the cache key."""

    kinds: tuple[InputKind, ...]
    summary: str
    module: str
    packages: tuple[str, ...]
    fitted: bool = False
    named: bool = False
    parameters: dict[str, tuple[Any, Any]] = field(default_factory=dict)


Pool = Literal["auto", "mean", "cls", "max", "pooler"]
TABLE = {
    "tfidf-svd": Encoder(
        ("text",),
        "word 1-2-grams and character 2-5-grams, weighted, reduced; fitted on train",
        "text",
        ("scikit-learn", "scipy"),
        fitted=True,
        parameters={"dim": (Positive, 768)},
    ),
    "hog-color": Encoder(("image",), "gradient histograms and colour statistics", "image", ("pillow", "scikit-image")),
    "standardize": Encoder(
        ("vector",), "zero mean and unit variance by column; fitted on train", "vector", ("numpy",), fitted=True
    ),
    "hf": Encoder(
        ("text", "image"),
        "a transformers checkpoint, by name or folder: hf:bert-base-uncased",
        "huggingface",
        ("transformers", "tokenizers", "torch", "pillow"),
        named=True,
        parameters={"pool": (Pool, "auto"), "max_length": (Positive, 128), "batch_size": (Positive, 32)},
    ),
}
ENCODERS: dict[str, tuple[tuple[str, ...], str]] = {n: (e.kinds, e.summary) for n, e in TABLE.items()}


@dataclass(frozen=True)
class Selector:
    """A parsed selector."""

    name: str
    checkpoint: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        defaults = TABLE[self.name].parameters
        shown = [f"{k}={v}" for k, v in self.parameters.items() if v != defaults[k][1]]
        return ":".join([self.name, *([self.checkpoint] if self.checkpoint else []), *shown])


def parse(selector: str, kind: InputKind) -> Selector:
    """Parse and validate a selector for a modality of this kind.

    Raises:
        UsageError: an unknown encoder or parameter, a value out of range, an encoder of another kind.
    """
    name, *rest = selector.split(":")
    if name not in TABLE:
        raise unknown("encoder", name, TABLE)
    encoder = TABLE[name]
    if kind not in encoder.kinds:
        fitting = [n for n, e in TABLE.items() if kind in e.kinds]
        raise UsageError(
            f"encoder {name} is for {'/'.join(encoder.kinds)}, this modality is {kind}: use {' or '.join(fitting)}"
        )
    checkpoint = ""
    if encoder.named:
        if not rest or not rest[0] or "=" in rest[0]:
            raise UsageError(f"encoder '{selector}' needs a checkpoint: {name}:<name or folder>")
        checkpoint = rest.pop(0)
    parameters = {key: default for key, (_, default) in encoder.parameters.items()}
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in parameters or not equals:
            raise unknown(f"parameter of encoder {name}", key, parameters)
        try:
            parameters[key] = TypeAdapter(encoder.parameters[key][0]).validate_python(value)
        except ValidationError as error:
            raise UsageError(f"encoder {name}: {key} was given '{value}': {error.errors()[0]['msg']}") from None
    return Selector(name, checkpoint, parameters)


def check(selector: str, kind: InputKind) -> str:
    """The canonical form of a selector; raises as :func:`parse` does."""
    return str(parse(selector, kind))


def is_fitted(selector: str) -> bool:
    """Whether the encoder learns from train rows, so that each problem has features of its own."""
    return TABLE[selector.split(":")[0]].fitted


def encode(
    selector: str, kind: InputKind, values: Sequence[Any] | NDArray[Any], fit_rows: NDArray[np.int64], cache: Path
) -> Encoded:
    """Encode a modality, from the cache where it can be.

    Everything runs on one thread, so that bits do not depend on the machine's cores.

    Args:
        selector: see the module.
        kind: of the modality.
        values: n inputs; a missing one is None (or a row of NaN).
        fit_rows: int64, the only rows that a fitted encoder learns from.
        cache: the cache folder.

    Raises:
        UsageError: a wrong selector, an absent checkpoint, a cache that cannot be written.
    """
    import torch
    from threadpoolctl import threadpool_limits

    chosen = parse(selector, kind)
    encoder = TABLE[chosen.name]
    # Imported before the limit, which binds only the libraries that are loaded.
    module = import_module(f"mmbench.features.{encoder.module}")
    identity = [str(chosen), kind, str(module.VERSION), *(f"{p}={version(p)}" for p in encoder.packages)]
    if encoder.named:
        arguments: dict[str, Any] = {"checkpoint": chosen.checkpoint, "kind": kind, **chosen.parameters}
    else:
        arguments = dict(chosen.parameters)
    if encoder.fitted:
        arguments["fit_rows"] = fit_rows
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            encoded: Encoded = module.encode(values, cache=cache, identity=identity, **arguments)
    finally:
        torch.set_num_threads(threads)
    return encoded
