"""What the sections of a task card must be together, once each is valid alone."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmbench.card_schema import (
    ArrayInput,
    Card,
    MultiLabels,
    Names,
    ScoreLabels,
    TabularInput,
    TextInput,
    columns_of,
)
from mmbench.errors import UsageError, unknown


def check_card(card: Card, where: str) -> None:
    """Raise a UsageError where sections do not go together."""
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
