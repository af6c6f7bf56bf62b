"""Task cards: a data set of one's own described in TOML, without code.

A card names a table and says which columns are inputs, labels, groups and split; files are relative to the card. See
``docs/own-data.md``. This module reads a card (:mod:`mmbench.card_schema`, :mod:`mmbench.card_checks`) and makes it a
task; :mod:`mmbench.card_data` reads what it names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmbench.card_checks import check_card
from mmbench.card_schema import INPUTS, KINDS, LABELS, Card, Names, Section, Split, names_files
from mmbench.contracts import Dataset, LoadRequest, Modality, Option, Protocol, Task
from mmbench.errors import UsageError, reason, unknown

MOST_TENSOR = 3  # beyond so many modalities the outer product has a million entries: run it by name


def _validate(model: type[Section], values: object, where: str) -> Any:
    """One section; an unknown key or a wrong value is one line."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} was given {values!r}: expected a section with {', '.join(model.model_fields)}")
    for key in values:
        if key not in model.model_fields:
            raise unknown(f"key in {where}", str(key), model.model_fields)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise UsageError(f"{where} has no '{key}'") from None
        if first["type"] == "missing":
            outer, inner = str(first["loc"][0]), ".".join(str(part) for part in first["loc"][1:])
            raise UsageError(f"{where}: {outer} was given {values[outer]!r}: {inner} is missing") from None
        raise UsageError(f"{where}: {key} was given {first['input']!r}: {first['msg']}") from None


def _sections(values: Mapping[str, Any], key: str, models: Mapping[str, type[Section]], where: str) -> dict[str, Any]:
    """The named sections of a card, each by its ``kind``."""
    named = values.get(key)
    if not isinstance(named, Mapping) or not named:
        raise UsageError(f"{where} has no [{key}.NAME]: expected at least one, with kind = {' or '.join(models)}")
    found = {}
    for name, section in named.items():
        place = f"{where} [{key}.{name}]"
        if any(character in name for character in ",+:=/*?[] ") or name in ("", "all"):
            raise UsageError(f"{place}: a name may not be empty or 'all', nor hold a space or any of ,+:=/*?[]")
        kind = section.get("kind") if isinstance(section, Mapping) else None
        if kind is None:
            raise UsageError(f"{place} has no kind: expected {' or '.join(models)}")
        kind = str(kind)
        if kind not in models:
            raise unknown(f"kind of {place}", kind, models)
        found[name] = _validate(models[kind], section, place)
    return found


def parse_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"task card {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of too many digits
        raise UsageError(f"task card {path} is not TOML: {reason(error)}") from None


def read_card(path: Path) -> Card:
    """Read and validate a card; the table is not opened.

    Raises:
        UsageError: what is wrong with it, in one line that names the file and the key.
    """
    values = parse_toml(path)
    where = f"task card {path}"
    for key in values:
        if key not in Card.model_fields:
            raise unknown(f"key in {where}", key, Card.model_fields)
    values["modalities"] = _sections(values, "modalities", INPUTS, where)
    values["concepts"] = _sections(values, "concepts", LABELS, where)
    if "split" in values:
        values["split"] = _validate(Split, values["split"], f"{where} [split]")
    card: Card = _validate(Card, values, where)
    check_card(card, where)
    return card


def _suite(modalities: Names) -> Names:
    several = len(modalities) > 1
    fusions: Names = ("concat", "late", "tensor", "lowrank", "graph", "igfn") if several else ("concat",)
    if len(modalities) > MOST_TENSOR:
        fusions = tuple(fusion for fusion in fusions if fusion != "tensor")
    return (
        *(f"{fusion}+equal" for fusion in fusions),
        *(f"concat+{strategy}" for strategy in ("moo", "dmtl", "single")),
        *(("igfn+dmtl",) if several else ()),
        "majority",
        *(f"linear:{name}" for name in modalities),
        *(("linear:all", *(f"only:{name}" for name in modalities)) if several else ()),
    )


def card_task(path: Path) -> Task:
    """The task that a card describes.

    Raises:
        UsageError: see :func:`read_card`.
    """
    from mmbench.evaluation.metrics import check_metrics

    path = path.resolve()
    card = read_card(path)
    try:
        check_metrics([card.primary_metric])
    except UsageError as error:
        raise UsageError(f"task card {path}: primary_metric: {error}") from None
    files = any(names_files(item) for item in card.inputs.values())
    drawn = "/".join(f"{100 * share:g}" for share in card.split.fractions)
    unit = card.group or "row"
    split = f"column {card.split.column}" if card.split.column else f"{drawn} by {unit}, stratified"
    warning = "the split of the card has groups in two splits: it leaks" if card.split.leaks else ""
    options = (
        Option(
            "missing_images",
            "error",
            ("drop", "mask", "error"),
            "what to do with rows whose image, recording or other file is not there",
        ),
        Option(
            "bad_images", "error", ("drop", "error"), "what to do with images, recordings or videos that cannot be read"
        ),
    )
    suite = _suite(tuple(card.inputs))
    return Task(
        title=card.title or card.name,
        licence=card.licence,
        citation=card.citation,
        homepage=card.homepage,
        group=unit,
        modalities=tuple(Modality(name, KINDS[item.kind], item.encoder) for name, item in card.inputs.items()),
        protocols=(Protocol("card", "all concepts in one model", "", split, suite, card.primary_metric, {}, warning),),
        load=partial(_load, card, path),
        proposed="igfn+dmtl" if len(card.inputs) > 1 else "concat+dmtl",
        options=options if files else (),
        embedded="real",
        recognises=lambda root: (root / card.table).is_file(),
        obtain=f"the card expects {card.table} beside it, or in the folder given with --data",
        facts=card.notes,
    )


def _load(card: Card, path: Path, request: LoadRequest) -> Dataset:
    from mmbench.card_data import load_card

    return load_card(card, request.root or path.parent, request)
