"""The data of a task card: the table and its files as a data set, checked cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.card_checks import with_columns
from mmbench.card_features import Arrays, Read, read_features
from mmbench.card_files import find_files, read_texts
from mmbench.card_schema import (
    Card,
    ExclusiveLabels,
    FeatureInput,
    Labels,
    MultiLabels,
    ScoreLabels,
    SequenceInput,
    TabularInput,
    TextInput,
)
from mmbench.card_sequences import read_sequences
from mmbench.contracts import SPLITS, Concept, Dataset, LoadRequest, Problem, known
from mmbench.errors import UsageError, unknown
from mmbench.hashing import digest
from mmbench.locate import cache_folder
from mmbench.splits import grouped_split
from mmbench.tables import Table, distinct, numbers, read_table, separated

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "te"), "test"),
    "": "",
}
IntArray = NDArray[np.int64]
Targets = Mapping[str, NDArray[Any]]
BINS = 5  # of a score, from the lowest fifth to the highest, that a drawn split is balanced over
Array = NDArray[np.float64]


def load_card(card: Card, root: Path, request: LoadRequest) -> Dataset:
    """Read the table and files that a card names, below ``root``.

    Raises:
        UsageError: a file, row or column that does not fit, in one line that names it.
    """
    table = read_table(root / card.table, card.separator, card.quotes, card.encoding).without(card.missing)
    card = with_columns(card, table.columns, f"task card {card.name}")
    ids = _ids(card, table)
    groups = np.array(table.texts(card.group)) if card.group else ids
    for row in np.flatnonzero(groups == ""):
        raise table.error(int(row), card.group, "is empty: every row needs a group")
    read_labels = {name: _labels(table, name, labels) for name, labels in card.targets.items()}
    concepts = tuple(concept for concept, _ in read_labels.values())
    targets = {name: target for name, (_, target) in read_labels.items()}
    split, notes = _split(card, table, groups, targets, request.split_seed)
    inputs: dict[str, Any] = {}
    parts: list[str | NDArray[np.generic]] = ["\n".join(ids.tolist()), "\n".join(groups.tolist())]
    for concept in concepts:
        parts += [concept.name, concept.kind, "\n".join(concept.labels), targets[concept.name]]
    absent: dict[str, Mapping[int, str]] = {}
    for name in request.modalities:
        read = _input(card, name, table, root, ids, split)
        inputs[name] = read.values
        parts += [name, *read.parts]
        notes += read.notes
        absent[name] = read.absent
    split, lines = _without_files(split, absent, request.options.get("missing_images", "error"), table, card)
    return Dataset(
        ids=ids,
        groups=groups,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=(Problem("joint", tuple(targets), split),),
        fingerprint=digest(parts),
        title=card.title or card.name,
        notes=(*card.notes, *notes, *_label_notes(concepts, targets), *lines),
    )


def _ids(card: Card, table: Table) -> NDArray[np.str_]:
    if not card.id:
        return np.array([f"row{row + 1:07d}" for row in range(table.n)])
    ids = table.texts(card.id)
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name:
            raise table.error(row, card.id, "is empty: every row needs an id")
        if name in first:
            raise table.error(row, card.id, f"is '{name}', which row {first[name] + 1} has as well: ids must differ")
        first[name] = row
    return np.array(ids)


def _labels(table: Table, name: str, labels: Labels) -> tuple[Concept, NDArray[Any]]:
    if isinstance(labels, ScoreLabels):
        return _score(table, name, labels)
    if isinstance(labels, ExclusiveLabels):
        return _exclusive(table, name, labels)
    if labels.columns:
        return _indicators(table, name, labels)
    return _separated(table, name, labels)


def _score(table: Table, name: str, labels: ScoreLabels) -> tuple[Concept, Array]:
    target = np.array(numbers(table, labels.column), dtype=np.float64)
    lowest, highest = labels.bounds or (-np.inf, np.inf)
    for row in np.flatnonzero(np.isinf(target) | (target < lowest) | (target > highest)).tolist():
        what = "a finite number" if labels.bounds is None else f"one from {lowest:g} to {highest:g}"
        raise table.error(row, labels.column, f"is {target[row]:g}, expected {what}")
    if np.isnan(target).all():
        raise UsageError(f"{table.path}: column '{labels.column}' has no number in any row")
    return Concept(name, (labels.column,), "score", bounds=labels.bounds), target


def _concept(table: Table, name: str, labels: ExclusiveLabels | MultiLabels, names: tuple[str, ...]) -> Concept:
    if len(names) < (2 if labels.kind == "exclusive" else 1):
        raise UsageError(f"{table.path}: concept {name} has {len(names)} labels, expected at least two different ones")
    if labels.background is not None and labels.background not in names:
        raise unknown(f"background of concept {name}", labels.background, names)
    return Concept(name, names, labels.kind, labels.background)


def _code(table: Table, row: int, column: str, label: str, codes: Mapping[str, int]) -> int:
    if label not in codes:
        known = ", ".join(list(codes)[:12]) + (", …" if len(codes) > 12 else "")
        raise table.error(row, column, f"holds '{label[:40]}', which is not among the labels {known}")
    return codes[label]


def _exclusive(table: Table, name: str, labels: ExclusiveLabels) -> tuple[Concept, IntArray]:
    cells = [cell.strip() for cell in table.texts(labels.column)]
    concept = _concept(table, name, labels, labels.labels or tuple(distinct(cells)))
    codes = {label: code for code, label in enumerate(concept.labels)}
    target = [_code(table, row, labels.column, cell, codes) if cell else -1 for row, cell in enumerate(cells)]
    return concept, np.array(target, dtype=np.int64)


def _separated(table: Table, name: str, labels: MultiLabels) -> tuple[Concept, IntArray]:
    rows = [
        cell if isinstance(cell, list) else separated(cell or "", labels.separator)
        for cell in table.column(labels.column)
    ]
    held = [[label for label in row if label] for row in rows]
    concept = _concept(table, name, labels, labels.labels or tuple(distinct(label for row in held for label in row)))
    codes = {label: code for code, label in enumerate(concept.labels)}
    target = np.zeros((table.n, len(codes)), dtype=np.int64)
    for row, names in enumerate(held):
        if not names and labels.empty == "unlabelled":
            target[row] = -1
        for label in names:
            target[row, _code(table, row, labels.column, label, codes)] = 1
    return concept, target


def _indicators(table: Table, name: str, labels: MultiLabels) -> tuple[Concept, IntArray]:
    """A column a label; a row with an empty cell is unlabelled as a whole."""
    concept = _concept(table, name, labels, labels.labels or labels.columns)
    target = np.zeros((table.n, len(labels.columns)), dtype=np.int64)
    words = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1, "": -1}
    for place, column in enumerate(labels.columns):
        for row, cell in enumerate(table.texts(column)):
            if cell.strip().lower() not in words:
                raise table.error(row, column, f"is '{cell[:40]}', expected 0 or 1")
            target[row, place] = words[cell.strip().lower()]
    target[(target < 0).any(axis=1)] = -1
    return concept, target


def _strata(target: NDArray[Any]) -> NDArray[np.bool_]:
    """What a drawn split is balanced over, (n, L): which labels a row holds, or in which part of a scale it is."""
    if target.ndim == 2:
        return target > 0
    if target.dtype.kind == "f":
        edges = np.nanquantile(target, np.arange(1, BINS) / BINS)
        target = np.where(np.isnan(target), -1, np.searchsorted(edges, target, side="right"))
    strata: NDArray[np.bool_] = target[:, None] == np.arange(target.max() + 1)
    return strata


def _split(
    card: Card, table: Table, groups: NDArray[np.str_], targets: Targets, seed: int
) -> tuple[NDArray[np.str_], list[str]]:
    """The split of each row, and what there is to say of it."""
    held = np.concatenate([_strata(target) for target in targets.values()], axis=1)
    asked = card.split
    if not asked.column:
        return grouped_split(groups, held, asked.fractions, seed), []
    split = np.empty(table.n, dtype="<U5")
    for row, cell in enumerate(table.texts(asked.column)):
        word = cell.strip().lower()
        if word not in SPLIT_WORDS:
            raise table.error(row, asked.column, f"is '{cell[:40]}', expected train, val, test or nothing")
        split[row] = SPLIT_WORDS[word]
    if asked.val_fraction and not (split == "val").any():
        rows = np.flatnonzero(split == "train")
        kept = 1 - asked.val_fraction
        split[rows] = grouped_split(groups[rows], held[rows], (kept, asked.val_fraction, 0.0), seed)
    for part in SPLITS:
        if not (split == part).any():
            more = "; [split] val_fraction = 0.2 takes some of train" if part == "val" else ""
            raise UsageError(f"{table.path}: column '{asked.column}' has no {part} rows{more}")
    pairs = {(group, part) for group, part in zip(groups.tolist(), split.tolist(), strict=True) if part}
    torn = sorted(group for group, parts in Counter(group for group, _ in pairs).items() if parts > 1)
    if torn and not asked.leaks:
        raise UsageError(
            f"{table.path}: {len(torn)} groups are in two splits (first: '{torn[0]}'), so the split leaks: "
            f"mend column '{asked.column}', or allow it with [split] leaks = true"
        )
    return split, [f"{len(torn)} groups are in two splits: the split leaks"] if torn else []


def _input(card: Card, name: str, table: Table, root: Path, ids: NDArray[np.str_], split: NDArray[np.str_]) -> Read:
    item = card.inputs[name]
    match item:
        case TextInput():
            return _texts(item, name, table, root, card.encoding)
        case TabularInput():
            return _tabular(item, name, table, split)
        case FeatureInput() | SequenceInput():
            found = find_files(table, item.column, root / item.root, item.suffix) if item.column else None
            arrays = Arrays(name, table, root, ids, found, cache_folder())
            return read_features(item, arrays) if isinstance(item, FeatureInput) else read_sequences(item, arrays)
    files = find_files(table, item.column, root / item.root, item.suffix)
    notes = (f"column '{item.column}': {files.empty} rows have no {item.kind}: masked",) if files.empty else ()
    return Read(files.paths, ("\n".join(table.texts(item.column)), files.sizes), notes, files.absent)


def _texts(item: TextInput, name: str, table: Table, root: Path, encoding: str) -> Read:
    columns: list[Sequence[str | None]] = []
    absent: dict[int, str] = {}
    for column in item.columns:
        if item.root:
            files = find_files(table, column, root / item.root, item.suffix)
            absent = files.absent | absent
            columns.append(read_texts(files, encoding))
        else:
            columns.append(table.texts(column))
    texts = ["\n".join(filter(None, cells)) or None for cells in zip(*columns, strict=True)]
    missing = texts.count(None) - sum(texts[row] is None for row in absent)
    notes = (f"{name}: {missing} rows have no text: masked",) if missing else ()
    return Read(texts, ("\x00".join(text or "" for text in texts),), notes, absent)


def _tabular(item: TabularInput, name: str, table: Table, split: NDArray[np.str_]) -> Read:
    """Numbers, then a column a category; the categories are declared, or those of the training rows alone."""
    blocks: list[Array] = [np.array(numbers(table, column))[:, None] for column in item.numeric]
    notes = []
    train = split == "train"
    for column in item.categorical:
        cells = np.array([cell.strip() for cell in table.texts(column)])
        levels = list(item.levels.get(column) or distinct(cells[train].tolist()))
        new = ~np.isin(cells, [*levels, ""])
        if new.any() and column in item.levels:
            row = int(new.argmax())
            raise table.error(row, column, f"is '{cells[row]}', which is not among its levels {', '.join(levels)}")
        if new.any():
            notes.append(
                f"{name}: column '{column}' holds a category that train has not in {new.sum()} rows: no category"
            )
        block = (cells[:, None] == np.array(levels)).astype(np.float64) if levels else np.zeros((table.n, 0))
        block[cells == ""] = np.nan
        blocks.append(block)
    values = np.concatenate(blocks, axis=1)
    values[~np.isfinite(values)] = np.nan
    if values.shape[1] == 0:
        raise UsageError(f"{table.path}: modality {name} has no category in the training rows")
    return Read(values, (values,), tuple(notes))


def _without_files(
    split: NDArray[np.str_], absent: Mapping[str, Mapping[int, str]], policy: str, table: Table, card: Card
) -> tuple[NDArray[np.str_], list[str]]:
    """The split under a policy for files that are not there, and a note for each modality that lacks some.

    ``absent`` has by modality the rows, each with the column that names its file.
    """
    kept, notes = split.copy(), []
    for name, columns in absent.items():
        rows = sorted(row for row in columns if split[row] != "")
        if not rows:
            continue
        count = f"{len(rows):,} of {(split != '').sum():,} rows have no {card.inputs[name].kind} file"
        if policy == "error":
            column = columns[rows[0]]
            cell, suffix = table.texts(column)[rows[0]].strip(), getattr(card.inputs[name], "suffix", "")
            told = f"names {cell[:60]}{suffix}, which is not there; {count}: choose --missing-images drop or mask"
            raise table.error(rows[0], column, told)
        if policy == "drop":
            kept[rows] = ""
        notes.append(f"{count}: {name} is masked there" if policy == "mask" else f"{count}: dropped from every split")
    return kept, notes


def _label_notes(concepts: tuple[Concept, ...], targets: Targets) -> list[str]:
    lines = []
    for concept in concepts:
        target = targets[concept.name]
        unlabelled = int((~known(target)).sum())
        if unlabelled:
            lines.append(f"{concept.name}: {unlabelled:,} rows have no label: masked")
        if concept.kind == "multilabel":
            none = int((target == 0).all(axis=1).sum())
            if none:
                lines.append(f"{concept.name}: {none:,} rows hold none of its labels")
    return lines
