"""The audit of what models are given: texts, images and vectors, one modality at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench import duplicates, giveaway
from mmbench.contracts import Concept, Dataset
from mmbench.findings import PAIRS, SHOWN, Finding, Severity, first_ids, held_labels, place_of, posed, used_rows
from mmbench.naming import Names

NAMED = 0.1  # share of labels that texts name from which on it is a warning


def _absent(dataset: Dataset, name: str, absent: Any, check: str, words: str) -> Iterator[Finding]:
    used = used_rows(dataset)
    rows = np.flatnonzero(absent & used)
    if len(rows):
        yield Finding("warning", check, name, "", len(rows), int(used.sum()), words, first_ids(dataset, rows))


def _near(dataset: Dataset, name: str, words: str, repeats: Any) -> Iterator[Finding]:
    """A finding a problem and pair of splits; ``repeats(earlier, later)`` gives the rows of ``later``."""
    for problem in dataset.problems:
        for earlier, later in PAIRS:
            rows = problem.split == later
            found = repeats(problem.split == earlier, rows)
            if len(found):
                yield Finding(
                    "warning",
                    "near-duplicate",
                    f"{problem.name} {name}",
                    f"{earlier}, {later}",
                    len(found),
                    int(rows.sum()),
                    f"{later} rows {words} of {earlier}, of another group",
                    first_ids(dataset, found),
                )


def _given_away(
    where: str, hits: Sequence[giveaway.Giveaway], concept: Concept, features: int, what: str
) -> Iterator[Finding]:
    if hits:
        best = max(hits, key=lambda hit: hit.val)
        yield Finding(
            "warning",
            "single feature tells a label",
            where,
            "train, val",
            len({hit.feature for hit in hits}),
            features,
            f"{what} tell a label alone; the best tells {concept.labels[best.label]} with {best.how} "
            f"{best.train:.3f} on train, {best.val:.3f} on val",
            tuple(f"{hit.feature}: {concept.labels[hit.label]}" for hit in hits[:SHOWN]),
        )


def of_texts(dataset: Dataset, name: str, values: Sequence[str | None]) -> Iterator[Finding]:
    """Texts that are missing or stand in two splits, words that tell a label, labels that texts name."""
    texts = [value or "" for value in values]
    empty = np.array([not text.strip() for text in texts], dtype=np.bool_)
    yield from _absent(dataset, name, empty, "missing input", "rows have no text")
    keys = duplicates.text_keys(texts)
    yield from _near(
        dataset,
        name,
        "repeat a text",
        lambda earlier, later: duplicates.repeated(keys, dataset.groups, earlier, later),
    )
    for problem, concept, held, labelled in posed(dataset):
        train, val = (np.flatnonzero(labelled & (problem.split == part)) for part in ("train", "val"))
        seen = [[texts[row] for row in rows.tolist()] for rows in (train, val)]
        hits = giveaway.in_words(seen[0], held[train], seen[1], held[val])
        yield from _given_away(f"{place_of(problem, concept)} {name}", hits, concept, 0, "words")

    for concept in dataset.concepts:
        if concept.kind != "score":
            yield from _named(dataset, concept, name, values)


def _named(dataset: Dataset, concept: Concept, name: str, texts: Sequence[str | None]) -> Iterator[Finding]:
    """How many labels are named in their text: those named twice as often where they hold, of three letters or more."""
    spoken = {label.replace("_", " "): label for label in concept.labels if len(label) > 2}
    finder = Names(spoken)
    held, rows = held_labels(dataset, concept), np.flatnonzero(used_rows(dataset) & dataset.labelled(concept.name))
    place = {label: column for column, label in enumerate(concept.labels)}
    said = np.zeros_like(held)
    for row in rows.tolist():
        said[row, [place[spoken[label]] for label in finder.named(texts[row] or "")]] = True
    held, said = held[rows], said[rows]
    told, positives = (held & said).sum(axis=0), held.sum(axis=0)
    where, elsewhere = told / np.maximum(positives, 1), (said & ~held).sum(axis=0) / np.maximum((~held).sum(axis=0), 1)
    telling = where >= 2 * elsewhere
    count, of = int(told[telling].sum()), int(positives.sum())
    if count:
        most = np.argsort(-told * telling, kind="stable")[:SHOWN]
        yield Finding(
            "warning" if count >= NAMED * of else "info",
            "label named in the text",
            f"{concept.name} {name}",
            "",
            count,
            of,
            "labels that hold are named in their own text",
            tuple(concept.labels[column] for column in most if told[column] and telling[column]),
        )


def of_images(dataset: Dataset, name: str, paths: Sequence[Path | None], cache: Path) -> Iterator[Finding]:
    """Files that are missing or cannot be read, and pictures that stand in two splits."""
    missing = np.array([path is None for path in paths], dtype=np.bool_)
    yield from _absent(dataset, name, missing, "missing input", "rows have no image file")
    used = used_rows(dataset)
    hashes, usable, bad = duplicates.image_hashes(
        [path if kept else None for path, kept in zip(paths, used, strict=True)], cache
    )
    if bad:
        rows = np.array(sorted(bad), dtype=np.int64)
        yield Finding(
            "error", "unreadable input", name, "", len(rows), int(used.sum()), f"images cannot be read: {bad[rows[0]]}",
            first_ids(dataset, rows),
        )  # fmt: skip
    yield from _near(
        dataset,
        name,
        f"look like a picture (difference hash within {duplicates.DISTANCE} of 64 bits)",
        lambda earlier, later: duplicates.near(hashes, dataset.groups, earlier & usable, later & usable),
    )


def of_others(dataset: Dataset, name: str, values: Sequence[object], kind: str) -> Iterator[Finding]:
    """Recordings, videos and motions that are missing."""
    missing = np.array([value is None for value in values], dtype=np.bool_)
    yield from _absent(dataset, name, missing, "missing input", f"rows have no {kind}")


def of_vectors(dataset: Dataset, name: str, values: NDArray[np.float64]) -> Iterator[Finding]:
    """Rows that are missing; columns that are not finite, constant in train, or tell a label."""
    missing = np.isnan(values).all(axis=1)
    yield from _absent(dataset, name, missing, "missing input", "rows have no features")
    there = used_rows(dataset) & ~missing
    broken = (~np.isfinite(values[there])).any(axis=0)
    yield from _columns("non-finite feature", name, broken, "columns hold NaN or infinity", "error")
    for problem in dataset.problems:
        train = values[there & (problem.split == "train")]
        if len(train):
            constant = (train == train[:1]).all(axis=0)
            yield from _columns("constant feature", f"{problem.name} {name}", constant, "columns are constant in train")
    for problem, concept, held, labelled in posed(dataset):
        train, val = (np.flatnonzero(labelled & (problem.split == part)) for part in ("train", "val"))
        hits = giveaway.in_columns(values[train], held[train], values[val], held[val])
        yield from _given_away(f"{place_of(problem, concept)} {name}", hits, concept, values.shape[1], "columns")


def of_equal_features(dataset: Dataset, names: Sequence[str]) -> Iterator[Finding]:
    """Rows that are equal in all modalities of numbers: one alone, such as counts, is equal by chance."""
    if names:
        keys = duplicates.row_keys(np.hstack([np.asarray(dataset.inputs[name], dtype=np.float64) for name in names]))
        yield from _near(
            dataset,
            "features",
            "have the very features, in every modality of numbers,",
            lambda earlier, later: duplicates.repeated(keys, dataset.groups, earlier, later),
        )


def _columns(check: str, where: str, chosen: Any, words: str, severity: Severity = "warning") -> Iterator[Finding]:
    if chosen.any():
        names = tuple(str(column) for column in np.flatnonzero(chosen)[:SHOWN])
        yield Finding(severity, check, where, "", int(chosen.sum()), len(chosen), words, names)
