"""MMSA's pickles: ``{train, valid, test} -> {id, text, audio, vision, regression_labels, …}``, padded with zeros.

They hold BERT's vectors of the text, and sentiment only. A step is there where any of its features is not 0 and, of the
text, where ``text_bert`` attends to it: whether the zeros stand before or after differs between the files, and only the
unaligned ones tell lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import UsageError
from mmbench.pickles import read_pickle

from .steps import Array, Segments, binned, padded

FILES = {True: "aligned_50.pkl", False: "unaligned_50.pkl"}
KEYS = {"text": "text", "audio": "audio", "video": "vision"}
FOLDS = {"train": "train", "valid": "val", "test": "test"}
BETWEEN = "$_$"


@dataclass(frozen=True)
class _Fold:
    """One fold: by modality values (n, T, d), the steps that are there (n, T), and how many values were not finite."""

    ids: list[str]
    sentiment: NDArray[np.float64]
    values: dict[str, Array]
    there: dict[str, NDArray[np.bool_]]
    zeroed: dict[str, int]


def read_segments(path: Path, modalities: tuple[str, ...], word: bool, most: int) -> Segments:
    """All segments of the three folds.

    Args:
        path: the pickle.
        modalities: some of text, audio, video.
        word: whether the steps of the modalities belong together.
        most: steps; longer sequences are averaged into so many.

    Raises:
        UsageError: a pickle that is not read, or not of this layout.
    """
    data = read_pickle(path)
    folds = {fold: _fold(path, data, fold, modalities, word) for fold in FOLDS}
    ids = [name for fold in folds.values() for name in fold.ids]
    if len(set(ids)) < len(ids):
        raise UsageError(f"{path}: an id stands twice, expected one row a segment")
    sequences, notes = {}, ["MMSA's pickles have no emotion labels: sentiment only"]
    for name in modalities:
        widths = {fold.values[name].shape[2] for fold in folds.values()}
        if len(widths) > 1:
            raise UsageError(f"{path}: {KEYS[name]} has {sorted(widths)} features in its folds, expected one number")
        steps = [binned(values, most) for fold in folds.values() for values in _steps(fold, name, word)]
        sequences[name] = padded(steps, widths.pop())
        if zeroed := sum(fold.zeroed[name] for fold in folds.values()):
            notes.append(f"{name}: {zeroed:,} values are not finite: set to 0")
    return Segments(
        ids=np.array(ids),
        videos=np.array([name.split(BETWEEN)[0] for name in ids]),
        sequences=sequences,
        sentiment=np.concatenate([fold.sentiment for fold in folds.values()]),
        emotions=None,
        split=np.repeat(list(FOLDS.values()), [len(fold.ids) for fold in folds.values()]),
        source=f"MMSA {path.name}",
        generated=False,
        notes=tuple(notes),
    )


def _steps(fold: _Fold, name: str, word: bool) -> list[Array]:
    """Each row's steps (T, d): those of this modality, or where steps belong together those of any, NaN where none."""
    kept = np.logical_or.reduce(list(fold.there.values())) if word else fold.there[name]
    masked = np.where(fold.there[name][..., None], fold.values[name], np.float32(np.nan))
    return [values[rows] for values, rows in zip(masked, kept, strict=True)]


def _fold(path: Path, data: Any, fold: str, modalities: tuple[str, ...], word: bool) -> _Fold:
    part = data.get(fold) if isinstance(data, dict) else None
    if not isinstance(part, dict):
        raise UsageError(f"{path} has no fold '{fold}': expected MMSA's train, valid and test")
    missing = [key for key in ("id", "regression_labels", *(KEYS[m] for m in modalities)) if key not in part]
    if missing:
        raise UsageError(f"{path}: {fold} has no {', '.join(missing)}; it has {', '.join(map(str, part))[:80]}")
    where = f"{path}: {fold}"
    ids = _ids(where, part["id"])
    sentiment = _numbers(f"{where}: regression_labels", part["regression_labels"], (len(ids),)).astype(np.float64)
    values, there, zeroed = {}, {}, {}
    for name in modalities:
        raw = _numbers(f"{where}: {KEYS[name]}", part[KEYS[name]], (len(ids), "steps", "features"))
        wrong = ~np.isfinite(raw)
        zeroed[name] = int(wrong.sum())
        values[name] = np.where(wrong, 0, raw).astype(np.float32)
        there[name] = (values[name] != 0).any(axis=2)
        if name == "text" and "text_bert" in part:
            there[name] &= _attended(f"{where}: text_bert", part["text_bert"], there[name].shape)
    lengths = {mask.shape[1] for mask in there.values()}
    if word and len(lengths) > 1:
        raise UsageError(
            f"{where} has {sorted(lengths)} steps by modality, which are not aligned: --set task.align=none"
        )
    return _Fold(ids, sentiment, values, there, zeroed)


def _ids(where: str, value: Any) -> list[str]:
    found = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise UsageError(f"{where}: id is no list of texts")
    wrong = next((name for name in found if BETWEEN not in name), None)
    if wrong is not None:
        raise UsageError(f"{where}: id '{wrong[:40]}' is not of the form video{BETWEEN}clip")
    return found


def _numbers(where: str, value: Any, shape: tuple[int | str, ...]) -> NDArray[Any]:
    """An array of numbers of this shape, in which a text is any number above 0; lists of numbers are taken too."""
    try:
        found = np.asarray(value)
    except ValueError:
        raise UsageError(f"{where} is no array of numbers") from None
    if found.dtype.kind not in "fiu":
        raise UsageError(f"{where} is no array of numbers")
    if len(shape) == 1 and found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    fits = found.ndim == len(shape) and all(
        length > 0 if isinstance(asked, str) else length == asked
        for length, asked in zip(found.shape, shape, strict=True)
    )
    if not fits:
        raise UsageError(f"{where} has shape {found.shape}, expected ({', '.join(map(str, shape))})")
    return found


def _attended(where: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The attention mask of BERT's input, row 1 of (n, 3, T)."""
    mask: NDArray[np.bool_] = _numbers(where, value, (shape[0], 3, shape[1]))[:, 1] > 0
    return mask
