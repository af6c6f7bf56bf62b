"""Task cards: a data set of one's own described in TOML, without code.

A card names a table and says which columns are inputs, labels, groups and split; files are relative to the card. See
``docs/own-data.md``. This module is what a card may say and the task it becomes; :mod:`mmbench.card_data` reads.
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmbench.contracts import Dataset, InputKind, LoadRequest, Modality, Option, Protocol, Task
from mmbench.errors import UsageError, unknown

Names = tuple[str, ...]
MOST_TENSOR = 3  # beyond so many modalities the outer product has a million entries: run it by name


class Section(BaseModel):
    """A part of a card; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextInput(Section):
    """One text: the columns joined by a line break, empty ones left out; with ``root``, what the files that they name
    below it hold. ``suffix`` is put behind each name.
    """

    kind: Literal["text"]
    columns: Names = Field(min_length=1)
    root: str = ""
    suffix: str = ""
    encoder: str = "tfidf-svd"


class ImageInput(Section):
    """One image a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["image"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "hog-color"


class AudioInput(Section):
    """One recording a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["audio"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "logmel"


class VideoInput(Section):
    """One video a row: paths below ``root``, each with ``suffix`` behind it."""

    kind: Literal["video"]
    column: str
    root: str = "."
    suffix: str = ""
    encoder: str = "hog-color"


class TabularInput(Section):
    """Columns of numbers as they are, and of categories one-hot; ``x_*`` is every column that begins with ``x_``.

    ``levels`` names the categories of a column; by default they are those that the training rows hold.
    """

    kind: Literal["tabular"]
    numeric: Names = ()
    categorical: Names = ()
    levels: dict[str, Names] = {}
    encoder: str = "standardize"


class Arrays(Section):
    """Where the arrays of a modality are: in one ``file``, or in a file for each row, a ``column`` of paths below
    ``root``, each with ``suffix`` behind it.

    ``array`` names the array of an ``.npz`` or ``.safetensors`` file; its rows are those of the table, or have their
    ids in the array ``ids`` of the same ``.npz`` file. Without ``array``, a file of several has one for each row, named
    by the row's id.
    """

    file: str = ""
    array: str = ""
    ids: str = ""
    column: str = ""
    root: str = "."
    suffix: str = ""
    encoder: str = "standardize"


class FeatureInput(Arrays):
    """A vector a row."""

    kind: Literal["features"]


class SequenceInput(Arrays):
    """A sequence of vectors a row, as many steps as it has.

    ``lengths`` is an array of the same ``.npz`` file: how many steps each row has, where all steps stand one after
    another or rows are padded. Steps of nothing but 0 are padding where ``zero_padded`` says so. What is longer than
    ``max_steps`` is averaged into as many.
    """

    kind: Literal["sequence"]
    lengths: str = ""
    zero_padded: bool = False
    max_steps: int = Field(default=0, ge=0)


class ExclusiveLabels(Section):
    """One label a row; an empty cell is no label. ``background`` is the label that means none of it."""

    kind: Literal["exclusive"]
    column: str
    labels: Names = ()
    background: str | None = None


class MultiLabels(Section):
    """Any number of labels a row: names in one column with a separator between them, or a column of 0 and 1 a label.

    ``empty`` says what an empty cell is: a row without any of the labels, or one that nobody labelled.
    """

    kind: Literal["multilabel"]
    column: str = ""
    separator: str = Field(default=";", min_length=1)
    columns: Names = ()
    labels: Names = ()
    background: str | None = None
    empty: Literal["none", "unlabelled"] = "none"


class ScoreLabels(Section):
    """One number a row; an empty cell is none. ``bounds`` is the scale that it was rated on."""

    kind: Literal["score"]
    column: str
    bounds: tuple[float, float] | None = None


class Split(Section):
    """A column with train, val and test in it, or the shares of a split drawn by group and balanced by label.

    ``val_fraction`` takes validation rows from train where the column has none. ``leaks`` allows a column that has a
    group in two splits; every table then says so.
    """

    column: str = ""
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    val_fraction: float = Field(default=0.0, ge=0, lt=1)
    leaks: bool = False


MediaInput = ImageInput | AudioInput | VideoInput
ArrayInput = FeatureInput | SequenceInput
Input = TextInput | MediaInput | TabularInput | ArrayInput
Labels = ExclusiveLabels | MultiLabels | ScoreLabels
INPUTS: dict[str, type[Section]] = {
    "text": TextInput,
    "image": ImageInput,
    "audio": AudioInput,
    "video": VideoInput,
    "tabular": TabularInput,
    "features": FeatureInput,
    "sequence": SequenceInput,
}
LABELS: dict[str, type[Section]] = {"exclusive": ExclusiveLabels, "multilabel": MultiLabels, "score": ScoreLabels}
KINDS: dict[str, InputKind] = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "video": "video",
    "tabular": "vector",
    "features": "vector",
    "sequence": "sequence",
}


class Card(Section):
    """A whole card."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    summary: str = ""
    title: str = ""
    table: str
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    quotes: bool = True
    encoding: str = "utf-8"
    missing: Names = ()
    id: str = ""
    group: str = ""
    licence: str
    citation: str = ""
    homepage: str = ""
    primary_metric: str = "macro_f1"
    notes: Names = ()
    modalities: dict[str, Any]
    concepts: dict[str, Any]
    split: Split = Split()

    @property
    def inputs(self) -> dict[str, Input]:
        """The modalities, validated by :func:`read_card`."""
        return self.modalities

    @property
    def targets(self) -> dict[str, Labels]:
        """The concepts, validated by :func:`read_card`."""
        return self.concepts


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"task card {path} is not TOML: {error}") from None


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
    _check(card, where)
    return card


def _check(card: Card, where: str) -> None:
    """What the sections must be together."""
    for name, labels in card.targets.items():
        place = f"{where} [concepts.{name}]"
        if isinstance(labels, ScoreLabels):
            if labels.bounds is not None and labels.bounds[0] >= labels.bounds[1]:
                raise UsageError(
                    f"{place}: bounds was given {list(labels.bounds)}: expected the lowest, then the highest"
                )
            continue
        if isinstance(labels, MultiLabels):
            if bool(labels.column) == bool(labels.columns):
                raise UsageError(f"{place}: give either column (with a separator) or columns (of 0 and 1)")
            if labels.columns and labels.labels and len(labels.labels) != len(labels.columns):
                raise UsageError(f"{place}: {len(labels.labels)} labels for {len(labels.columns)} columns")
        if len(set(labels.labels)) < len(labels.labels):
            raise UsageError(f"{place}: a label stands twice in labels")
        if labels.background is not None and labels.labels and labels.background not in labels.labels:
            raise unknown(f"background of {place}", labels.background, labels.labels)
    for name, item in card.inputs.items():
        place = f"{where} [modalities.{name}]"
        if isinstance(item, TabularInput):
            if not item.numeric and not item.categorical:
                raise UsageError(f"{place}: give columns in numeric or categorical")
            for column in item.levels:
                if column not in item.categorical:
                    raise unknown(f"column in levels of {place}", column, item.categorical)
        if isinstance(item, TextInput) and item.suffix and not item.root:
            raise UsageError(f"{place}: suffix goes with root, the folder of the texts")
        if isinstance(item, ArrayInput):
            _check_arrays(item, card.id, place)
        _check_inside(place, {key: getattr(item, key, "") for key in ("file", "root")})
    check_answers(card, where)
    _check_inside(where, {"table": card.table})
    shares = card.split.fractions
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"{where} [split]: fractions was given {list(shares)}: expected three shares with sum 1")


def check_answers(card: Card, where: str) -> None:
    """Raise a UsageError where a column is a label, or the split, and an input as well."""
    answers = {column: name for name, labels in card.targets.items() for column in columns_of(labels)}
    for name, item in card.inputs.items():
        place = f"{where} [modalities.{name}]"
        for column in columns_of(item):
            if column in answers:
                raise UsageError(
                    f"{place}: column '{column}' is the label of {answers[column]}: an input would be its answer"
                )
            if column == card.split.column:
                raise UsageError(f"{place}: column '{column}' is the split: it must not be an input")


def with_columns(card: Card, columns: Iterable[str], where: str) -> Card:
    """The card with every ``*`` in the columns of a table of numbers and categories replaced by what it stands for.

    Raises:
        UsageError: it stands for no column, or for one that is a label or the split.
    """
    known = list(columns)

    def all_of(names: Names, place: str) -> Names:
        found: list[str] = []
        for name in names:
            meant = fnmatch.filter(known, name) if "*" in name and name not in known else [name]
            if not meant:
                raise unknown(f"columns of {place}", name, known)
            found += [column for column in meant if column not in found]
        return tuple(found)

    inputs = dict(card.inputs)
    for name, item in inputs.items():
        if isinstance(item, TabularInput):
            place = f"{where} [modalities.{name}]"
            keys = {key: all_of(getattr(item, key), place) for key in ("numeric", "categorical")}
            inputs[name] = item.model_copy(update=keys)
    complete = card.model_copy(update={"modalities": inputs})
    check_answers(complete, where)
    return complete


def _check_arrays(item: ArrayInput, id_column: str, place: str) -> None:
    if bool(item.file) == bool(item.column):
        raise UsageError(f"{place}: give either file, or column (of paths, a file a row)")
    for key in ("array", "ids", "lengths"):
        if item.column and getattr(item, key, ""):
            raise UsageError(f"{place}: {key} goes with file, not with column")
    if item.file and item.suffix:
        raise UsageError(f"{place}: suffix goes with column, not with file")
    if item.ids and not id_column:
        raise UsageError(f'{place}: ids needs the table\'s id column: give id = "COLUMN" at the top')


def _check_inside(where: str, paths: Mapping[str, str]) -> None:
    """A card reads nothing outside its own folder, or the one that ``--data`` names."""
    for key, given in paths.items():
        plain = Path(os.path.normpath(given or "."))
        if "\0" in given or plain.is_absolute() or plain.parts[:1] == (os.pardir,):
            raise UsageError(
                f"{where}: {key} was given {given!r}, which is not below the card's folder: name the folder that holds "
                "everything with --data"
            )


def names_files(item: Input) -> bool:
    """Whether the cells of the modality's columns are paths."""
    match item:
        case TextInput():
            return bool(item.root)
        case FeatureInput() | SequenceInput():
            return bool(item.column)
        case TabularInput():
            return False
    return True


def columns_of(section: Input | Labels) -> Names:
    """The columns of the table that a section reads."""
    match section:
        case TabularInput():
            return (*section.numeric, *section.categorical)
        case ImageInput() | AudioInput() | VideoInput() | ExclusiveLabels() | ScoreLabels():
            return (section.column,)
        case FeatureInput() | SequenceInput():
            return (section.column,) if section.column else ()
        case TextInput():
            return section.columns
        case MultiLabels():
            return section.columns or (section.column,)


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
