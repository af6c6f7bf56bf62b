"""What is wrong with a data set before anything is trained on it: leaks, duplicates, labels, files and features.

Each check is a function of a loaded data set and yields findings. A finding counts rows, names at most three of them by
id, and never shows what a row holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.audit_inputs import of_equal_features, of_images, of_others, of_texts, of_vectors
from mmbench.contracts import SPLITS, Dataset, InputKind
from mmbench.findings import PAIRS, SHOWN, Finding, Severity, first_ids, in_order, place_of, posed

FEW = 10  # rows with a label in a split; below, its scores say little


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
            findings += of_texts(dataset, name, list(values))
        elif kind == "image":
            findings += of_images(dataset, name, list(values), cache)
        elif kind == "vector":
            findings += of_vectors(dataset, name, np.asarray(values, dtype=np.float64))
        elif kind != "sequence":
            findings += of_others(dataset, name, list(values), kind)
    findings += of_equal_features(dataset, [name for name, kind in kinds.items() if kind == "vector"])
    findings += [Finding("info", "note of the task", "", "", 0, 0, note) for note in dataset.notes]
    return in_order(findings)


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


def balance(dataset: Dataset) -> Iterator[Finding]:
    """Labels that a split holds fewer than ten times, an error where train never does; and each concept's extremes."""
    for problem, concept, held, labelled in posed(dataset):
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
                        severity, "class balance", place_of(problem, concept), part, int(chosen.sum()), len(support),
                        words, tuple(concept.labels[k] for k in np.flatnonzero(chosen)[:SHOWN]),
                    )  # fmt: skip
            if part == "train" and support.max() > support.min():
                least, most = int(support.argmin()), int(support.argmax())
                yield Finding(
                    "info", "class balance", place_of(problem, concept), part, int(support.max()), int(rows.sum()),
                    f"train rows hold {concept.labels[most]}, the commonest label; {support.min():,} hold "
                    f"{concept.labels[least]}, the rarest",
                )  # fmt: skip
