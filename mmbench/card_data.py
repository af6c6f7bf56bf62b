"""The data of a task card: the table and its files as a data set, checked cell by cell."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.arrays import npz_names, read_npy, read_npz
from mmbench.card import (
    Card,
    ExclusiveLabels,
    FeatureInput,
    Input,
    Labels,
    MediaInput,
    MultiLabels,
    TabularInput,
    TextInput,
)
from mmbench.contracts import SPLITS, Concept, Dataset, LoadRequest, Problem
from mmbench.errors import UsageError, unknown
from mmbench.hashing import digest
from mmbench.splits import grouped_split
from mmbench.tables import Table, distinct, numbers, read_table

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    "test": "test",
    "": "",
}
IntArray = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Read:
    """A modality as read: its values, its parts of the fingerprint, notes, and the rows whose file is absent."""

    values: Any
    parts: tuple[str | NDArray[np.generic], ...]
    notes: tuple[str, ...] = ()
    absent: tuple[int, ...] = ()


def load_card(card: Card, root: Path, request: LoadRequest) -> Dataset:
    """Read the table and files that a card names, below ``root``.

    Raises:
        UsageError: a file, row or column that does not fit, in one line that names it.
    """
    table = read_table(root / card.table, card.separator, card.quotes, card.encoding)
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
    absent: dict[int, str] = {}
    for name in request.modalities:
        read = _input(card.inputs[name], name, table, root, ids, split)
        inputs[name] = read.values
        parts += [name, *read.parts]
        notes += read.notes
        absent |= dict.fromkeys(read.absent, name)
    split, line = _without_files(split, absent, request.options.get("missing_images", "error"), table, card)
    return Dataset(
        ids=ids,
        groups=groups,
        inputs=inputs,
        concepts=concepts,
        targets=targets,
        problems=(Problem("joint", tuple(targets), split),),
        fingerprint=digest(parts),
        title=card.title or card.name,
        notes=(*card.notes, *notes, *_label_notes(concepts, targets), *line),
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


def _labels(table: Table, name: str, labels: Labels) -> tuple[Concept, IntArray]:
    if isinstance(labels, ExclusiveLabels):
        return _exclusive(table, name, labels)
    if labels.columns:
        return _indicators(table, name, labels)
    return _separated(table, name, labels)


def _concept(table: Table, name: str, labels: Labels, names: tuple[str, ...]) -> Concept:
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
        cell if isinstance(cell, list) else [part.strip() for part in (cell or "").split(labels.separator)]
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


def _split(
    card: Card, table: Table, groups: NDArray[np.str_], targets: Mapping[str, IntArray], seed: int
) -> tuple[NDArray[np.str_], list[str]]:
    """The split of each row, and what there is to say of it."""
    held = np.concatenate(
        [t > 0 if t.ndim == 2 else t[:, None] == np.arange(t.max() + 1) for t in targets.values()], axis=1
    )
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


def _input(item: Input, name: str, table: Table, root: Path, ids: NDArray[np.str_], split: NDArray[np.str_]) -> Read:
    match item:
        case TextInput():
            return _texts(item, name, table)
        case TabularInput():
            return _tabular(item, name, table, split)
        case FeatureInput():
            return _features(item, name, table, root, ids)
    return _files(item, table, root)


def _texts(item: TextInput, name: str, table: Table) -> Read:
    columns = [table.texts(column) for column in item.columns]
    texts = ["\n".join(filter(None, cells)) or None for cells in zip(*columns, strict=True)]
    missing = texts.count(None)
    notes = (f"{name}: {missing} rows have no text: masked",) if missing else ()
    return Read(texts, ("\x00".join(text or "" for text in texts),), notes)


def _files(item: MediaInput, table: Table, root: Path) -> Read:
    """Paths of media below their root; an empty cell is none, a path without a file is absent."""
    media = Path(os.path.normpath(root / item.root))
    values: list[Path | None] = []
    sizes = np.zeros(table.n, dtype=np.int64)
    absent = []
    for row, cell in enumerate(table.texts(item.column)):
        if not cell.strip():
            values.append(None)
            continue
        path = Path(os.path.normpath(media / cell.strip()))
        if "\0" in cell or not path.is_relative_to(media):
            raise table.error(row, item.column, f"is '{cell[:60]!s}', which is not below {media}")
        try:
            found = path.stat()
            sizes[row] = found.st_size if stat.S_ISREG(found.st_mode) else 0
        except OSError:
            pass
        values.append(path if sizes[row] else None)
        if not sizes[row]:
            absent.append(row)
    empty = sum(value is None for value in values) - len(absent)
    notes = (f"column '{item.column}': {empty} rows have no {item.kind}: masked",) if empty else ()
    return Read(values, ("\n".join(table.texts(item.column)), sizes), notes, tuple(absent))


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


def _features(item: FeatureInput, name: str, table: Table, root: Path, ids: NDArray[np.str_]) -> Read:
    """The rows of a matrix in the order of the table; a row that the file has not is missing."""
    path = root / item.file
    matrix = _matrix(item, path)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub" or matrix.shape[1] == 0:
        raise UsageError(f"{path}: shape {matrix.shape} of {matrix.dtype}, expected (rows, features) of numbers")
    values = matrix.astype(np.float64)
    notes = []
    if item.ids:
        found = [str(one) for one in read_npz(path, {item.ids: ("Ui", (len(values),))})[item.ids].tolist()]
        place = {one: row for row, one in enumerate(found)}
        if len(place) < len(found):
            raise UsageError(f"{path}: array '{item.ids}' holds an id twice")
        rows = np.array([place.get(one, -1) for one in ids.tolist()])
        if (rows < 0).all():
            raise UsageError(f"{path}: no id in '{item.ids}' is in column of ids of {table.path}")
        if (rows < 0).any():
            notes.append(f"{name}: {(rows < 0).sum()} rows have no features in {path.name}: masked")
        values = np.where((rows >= 0)[:, None], values[rows], np.nan)
    elif len(values) != table.n:
        raise UsageError(f"{path} has {len(values)} rows, {table.path} has {table.n}: expected as many, or ids")
    wrong = ~np.isfinite(values) & ~np.isnan(values).all(axis=1, keepdims=True)
    if wrong.any():
        columns = np.flatnonzero(wrong.any(axis=0))
        notes.append(f"{name}: {wrong.sum()} cells in {len(columns)} columns (first: {columns[0]}) are not finite")
    values[wrong] = np.nan
    return Read(values, (values,), tuple(notes))


def _matrix(item: FeatureInput, path: Path) -> NDArray[Any]:
    match path.suffix.lower():
        case ".npy":
            return read_npy(path)
        case ".npz":
            names = npz_names(path)
            array = item.array or (names[0] if len(names) == 1 else "")
            if array not in names:
                raise unknown(f"array of {path}", array, names, "" if array else '(give array = "NAME")')
            return read_npz(path, {array: ("fiub", ("rows", "features"))})[array]
        case ".safetensors":
            return _safetensors(path, item.array)
        case suffix:
            raise UsageError(f"{path}: expected features as .npy, .npz or .safetensors, found '{suffix}'")


def _safetensors(path: Path, array: str) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            name = array or (names[0] if len(names) == 1 else "")
            if name not in names:
                raise unknown(f"tensor of {path}", name, names, "" if name else '(give array = "NAME")')
            tensor: NDArray[Any] = file.get_tensor(name)
            return tensor
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not a safetensors file that can be read: {error}") from None


def _without_files(
    split: NDArray[np.str_], absent: Mapping[int, str], policy: str, table: Table, card: Card
) -> tuple[NDArray[np.str_], list[str]]:
    """The split under a policy for files that are not there, and a note where there are any."""
    rows = [row for row in sorted(absent) if split[row] != ""]
    if not rows:
        return split, []
    item = card.inputs[absent[rows[0]]]
    assert isinstance(item, MediaInput)
    count = f"{len(rows):,} of {(split != '').sum():,} rows have no {item.kind} file"
    if policy == "mask":
        return split, [f"{count}: the {item.kind} is masked there"]
    if policy == "error":
        cell = table.texts(item.column)[rows[0]]
        raise table.error(
            rows[0],
            item.column,
            f"names {cell[:60]}, which is not there; {count}: choose --missing-images drop or mask",
        )
    kept = split.copy()
    kept[rows] = ""
    return kept, [f"{count}: they are dropped from every split"]


def _label_notes(concepts: tuple[Concept, ...], targets: Mapping[str, IntArray]) -> list[str]:
    lines = []
    for concept in concepts:
        target = targets[concept.name]
        unlabelled = int(((target if target.ndim == 1 else target[:, 0]) < 0).sum())
        if unlabelled:
            lines.append(f"{concept.name}: {unlabelled:,} rows have no label: masked")
        if concept.kind == "multilabel":
            none = int((target == 0).all(axis=1).sum())
            if none:
                lines.append(f"{concept.name}: {none:,} rows hold none of its labels")
    return lines
