"""What is wrong with a data set before anything is trained on it: leaks, duplicates, labels, files and features.

Each check is a function of a loaded data set and yields findings. A finding counts rows, names at most three of them by
id, and never shows what a row holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmbench import duplicates, giveaway
from mmbench.contracts import SPLITS, Concept, Dataset, InputKind, Problem
from mmbench.naming import Names

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SHOWN = 3
FEW = 10  # rows with a label in a split; below, its scores say little
NAMED = 0.1  # share of labels that texts name from which on it is a warning
PAIRS = (("train", "test"), ("train", "val"), ("val", "test"))


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        where: the problem, concept or modality it is about; empty for the whole data set.
        splits: the pair of splits (``train, test``) or the split.
        count, of: how many rows (labels, columns) of how many.
        examples: at most three ids (labels, columns).
    """

    severity: Severity
    check: str
    where: str
    splits: str
    count: int
    of: int
    detail: str
    examples: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def audit(dataset: Dataset, kinds: Mapping[str, InputKind], group: str, cache: Path) -> list[Finding]:
    """Every check that needs only the data set as loaded, the gravest findings first.

    Args:
        dataset: as loaded under one protocol.
        kinds: by modality what it is; only those in ``dataset.inputs`` are looked at.
        group: the word for the unit that stays together.
        cache: where hashes of images are kept.
    """
    kinds = {name: kind for name, kind in kinds.items() if name in dataset.inputs}
    findings = [*shared_groups(dataset, group), *cross_problem(dataset), *balance(dataset)]
    for name, kind in kinds.items():
        values = dataset.inputs[name]
        if kind == "text":
            findings += _texts(dataset, name, list(values))
        elif kind == "image":
            findings += _images(dataset, name, list(values), cache)
        else:
            findings += _vectors(dataset, name, np.asarray(values, dtype=np.float64))
    vectors = [np.asarray(dataset.inputs[name], dtype=np.float64) for name, kind in kinds.items() if kind == "vector"]
    if vectors:
        keys = duplicates.row_keys(np.hstack(vectors))
        findings += _near(
            dataset,
            "features",
            "have the very features, in every modality of numbers,",
            lambda earlier, later: duplicates.repeated(keys, dataset.groups, earlier, later),
        )
    findings += [Finding("info", "note of the task", "", "", 0, 0, note) for note in dataset.notes]
    return in_order(findings)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, otherwise as they come."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def first_ids(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """At most three ids of these rows."""
    return tuple(str(name) for name in dataset.ids[rows[:SHOWN]])


def _used(dataset: Dataset) -> NDArray[np.bool_]:
    used: NDArray[np.bool_] = np.logical_or.reduce([problem.split != "" for problem in dataset.problems])
    return used


def shared_groups(dataset: Dataset, group: str) -> Iterator[Finding]:
    """Rows whose group stands in an earlier split too, by problem; an error where the earlier one is train."""
    for problem in dataset.problems:
        for earlier, later in PAIRS:
            rows = problem.split == later
            shared = np.flatnonzero(rows & np.isin(dataset.groups, dataset.groups[problem.split == earlier]))
            if len(shared):
                yield Finding(
                    "error" if earlier == "train" else "warning",
                    "group in two splits",
                    problem.name,
                    f"{earlier}, {later}",
                    len(shared),
                    int(rows.sum()),
                    f"{later} rows share their {group} with {earlier}",
                    first_ids(dataset, shared),
                )


def cross_problem(dataset: Dataset) -> Iterator[Finding]:
    """Val and test rows of one problem that another one, on other concepts, trains on.

    Harmless while each problem has a model of its own, a leak as soon as one model learns both. Problems on the same
    concepts are folds, which share rows by design.
    """
    for a in dataset.problems:
        for b in dataset.problems:
            if set(a.concepts) & set(b.concepts):
                continue
            for later in ("test", "val"):
                rows = a.split == later
                shared = np.flatnonzero(rows & (b.split == "train"))
                if len(shared):
                    yield Finding(
                        "warning",
                        "row in another problem's train",
                        a.name,
                        f"train, {later}",
                        len(shared),
                        int(rows.sum()),
                        f"{later} rows of {a.name} are train rows of {b.name}: a joint model would have seen them",
                        first_ids(dataset, shared),
                    )


def held_labels(dataset: Dataset, concept: Concept) -> NDArray[np.bool_]:
    """Which labels each row holds, (n, K); an unlabelled row holds none."""
    target = dataset.targets[concept.name]
    held: NDArray[np.bool_] = target == 1 if target.ndim == 2 else target[:, None] == np.arange(len(concept.labels))
    return held


def _posed(dataset: Dataset) -> Iterator[tuple[Problem, Concept, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Each problem's concepts with the labels held, (n, K), and the labelled rows, (n,)."""
    for concept in dataset.concepts:
        held, labelled = held_labels(dataset, concept), dataset.labelled(concept.name)
        for problem in dataset.problems:
            if concept.name in problem.concepts:
                yield problem, concept, held, labelled


def _where(problem: Problem, concept: Concept) -> str:
    return concept.name if problem.name in (concept.name, "joint") else f"{problem.name} {concept.name}"


def balance(dataset: Dataset) -> Iterator[Finding]:
    """Labels that a split holds fewer than ten times, an error where train never does; and each concept's extremes."""
    for problem, concept, held, labelled in _posed(dataset):
        for part in SPLITS:
            rows = labelled & (problem.split == part)
            support = held[rows].sum(axis=0)
            unheld: Severity = "error" if part == "train" else "warning"
            looks: tuple[tuple[Severity, NDArray[np.bool_], str], ...] = (
                (unheld, support == 0, f"labels that no {part} row holds"),
                ("warning", (support > 0) & (support < FEW), f"labels that fewer than {FEW} {part} rows hold"),
            )
            for severity, chosen, words in looks:
                if chosen.any():
                    yield Finding(
                        severity, "class balance", _where(problem, concept), part, int(chosen.sum()), len(support),
                        words, tuple(concept.labels[k] for k in np.flatnonzero(chosen)[:SHOWN]),
                    )  # fmt: skip
            if part == "train" and support.max() > support.min():
                least, most = int(support.argmin()), int(support.argmax())
                yield Finding(
                    "info", "class balance", _where(problem, concept), part, int(support.max()), int(rows.sum()),
                    f"train rows hold {concept.labels[most]}, the commonest label; {support.min():,} hold "
                    f"{concept.labels[least]}, the rarest",
                )  # fmt: skip


def _absent(dataset: Dataset, name: str, absent: Any, check: str, words: str) -> Iterator[Finding]:
    used = _used(dataset)
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


def _texts(dataset: Dataset, name: str, values: Sequence[str | None]) -> Iterator[Finding]:
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
    for problem, concept, held, labelled in _posed(dataset):
        train, val = (np.flatnonzero(labelled & (problem.split == part)) for part in ("train", "val"))
        seen = [[texts[row] for row in rows.tolist()] for rows in (train, val)]
        hits = giveaway.in_words(seen[0], held[train], seen[1], held[val])
        yield from _given_away(f"{_where(problem, concept)} {name}", hits, concept, 0, "words")

    for concept in dataset.concepts:
        yield from _named(dataset, concept, name, values)


def _named(dataset: Dataset, concept: Concept, name: str, texts: Sequence[str | None]) -> Iterator[Finding]:
    """How many labels are named in their text: those named twice as often where they hold, of three letters or more."""
    spoken = {label.replace("_", " "): label for label in concept.labels if len(label) > 2}
    finder = Names(spoken)
    held, rows = held_labels(dataset, concept), np.flatnonzero(_used(dataset) & dataset.labelled(concept.name))
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


def _images(dataset: Dataset, name: str, paths: Sequence[Path | None], cache: Path) -> Iterator[Finding]:
    missing = np.array([path is None for path in paths], dtype=np.bool_)
    yield from _absent(dataset, name, missing, "missing input", "rows have no image file")
    used = _used(dataset)
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


def _vectors(dataset: Dataset, name: str, values: NDArray[np.float64]) -> Iterator[Finding]:
    missing = np.isnan(values).all(axis=1)
    yield from _absent(dataset, name, missing, "missing input", "rows have no features")
    there = _used(dataset) & ~missing
    broken = (~np.isfinite(values[there])).any(axis=0)
    yield from _columns("non-finite feature", name, broken, "columns hold NaN or infinity", "error")
    for problem in dataset.problems:
        train = values[there & (problem.split == "train")]
        if len(train):
            constant = (train == train[:1]).all(axis=0)
            yield from _columns("constant feature", f"{problem.name} {name}", constant, "columns are constant in train")
    for problem, concept, held, labelled in _posed(dataset):
        train, val = (np.flatnonzero(labelled & (problem.split == part)) for part in ("train", "val"))
        hits = giveaway.in_columns(values[train], held[train], values[val], held[val])
        yield from _given_away(f"{_where(problem, concept)} {name}", hits, concept, values.shape[1], "columns")


def _columns(check: str, where: str, chosen: Any, words: str, severity: Severity = "warning") -> Iterator[Finding]:
    if chosen.any():
        names = tuple(str(column) for column in np.flatnonzero(chosen)[:SHOWN])
        yield Finding(severity, check, where, "", int(chosen.sum()), len(chosen), words, names)
