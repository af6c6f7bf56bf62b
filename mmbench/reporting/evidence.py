"""What a run's stored predictions and histories show beyond its records: read once, method by method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.contracts import Concept
from mmbench.evaluation.decisions import tune_thresholds
from mmbench.evaluation.predictions import Predictions, read_predictions
from mmbench.reporting import curves, mistakes
from mmbench.reporting.comparison import Record
from mmbench.reporting.curves import Array, Calibration, Cells
from mmbench.reporting.histories import read_histories
from mmbench.reporting.mistakes import Confusion, GroupErrors, Mistake
from mmbench.reporting.records import Collection
from mmbench.running.store import CEILING, Cell, RunFolder


@dataclass(frozen=True)
class LabelScore:
    """F1 of one label: mean over seeds, its 95 % interval where there is one, and the positive test rows."""

    label: str
    f1: float
    low: float | None
    high: float | None
    support: int


@dataclass(frozen=True)
class MethodEvidence:
    """One method on one concept; see :mod:`mmbench.reporting.curves` and :mod:`mmbench.reporting.mistakes`.

    ``fits`` is how many trained cells stand behind it: a deterministic method's one serves every seed. ``constant``
    says that every row is given the same labels, or the same score. Of a score there is the ``scatter`` and nothing of
    what follows it.
    """

    method: str
    fits: int
    constant: bool
    scatter: Array | None = None
    roc: Array | None = None
    pr: Array | None = None
    calibration: Calibration | None = None
    confusion: Array = field(default_factory=lambda: np.zeros((0, 0)))
    binary: Array = field(default_factory=lambda: np.zeros((0, 4)))
    labels: tuple[LabelScore, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    groups: tuple[GroupErrors, ...] = ()
    facets: dict[str, tuple[GroupErrors, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hard:
    """The samples wrong in the largest share of all fits: (id, group, share), and how many are wrong in all."""

    samples: tuple[tuple[str, str, float], ...]
    always: int
    methods: int


@dataclass(frozen=True)
class ConceptEvidence:
    """All methods on one concept of one problem; ``balance`` is the labelled rows by split and label, (K,) each."""

    problem: str
    concept: Concept
    methods: dict[str, MethodEvidence]
    balance: dict[str, NDArray[np.int64]]
    rows: dict[str, int]
    hard: Hard


@dataclass(frozen=True)
class Loss:
    """One network's losses by epoch: ``val`` (epochs,), ``train`` likewise or () and the best epoch, from 1."""

    seed: int
    train: tuple[float, ...]
    val: tuple[float, ...]
    best_epoch: int


@dataclass(frozen=True)
class Evidence:
    """All of a run: its seeds, its concepts, and the losses by (problem, method)."""

    seeds: tuple[int, ...]
    concepts: tuple[ConceptEvidence, ...]
    losses: dict[tuple[str, str], tuple[Loss, ...]]


def gather(folder: RunFolder, collection: Collection) -> Evidence:
    """Read every finished cell of the methods that the records hold."""
    info = collection.info
    concepts = [Concept.of(c) for c in info["concepts"]]
    order = list(dict.fromkeys(record["method"] for record in collection.records))
    cells: dict[tuple[str, str], list[tuple[Cell, dict[str, Any]]]] = defaultdict(list)
    for cell, result in folder.results():
        if result["status"] == "done" and cell.method in order:
            cells[cell.problem, cell.method].append((cell, result))
    made = []
    for problem in info["problems"]:
        here = {method: cells[problem["name"], method] for method in order if (problem["name"], method) in cells}
        used = [concept for concept in concepts if concept.name in problem["concepts"]]
        made += _problem(folder, collection, problem, used, here)
    losses = {place: _losses(found) for place, found in cells.items()}
    seeds = tuple(sorted({cell.seed for found in cells.values() for cell, _ in found}))
    return Evidence(seeds, tuple(made), {place: found for place, found in losses.items() if found})


def _problem(
    folder: RunFolder,
    collection: Collection,
    problem: dict[str, Any],
    concepts: Sequence[Concept],
    by_method: dict[str, list[tuple[Cell, dict[str, Any]]]],
) -> list[ConceptEvidence]:
    """One problem's concepts; only one method's predictions are held at a time."""
    tuned = collection.info["config"]["thresholds"] == "val"
    found: dict[str, dict[str, MethodEvidence]] = {concept.name: {} for concept in concepts}
    wrong: dict[str, list[Array]] = {concept.name: [] for concept in concepts}
    first: dict[str, Predictions] = {}
    facets = folder.facets()
    val: dict[str, Predictions] = {}
    for method, done in by_method.items():
        distinct = [cell for cell, _ in (done[:1] if done[0][1].get("deterministic") else done)]
        loaded: dict[str, list[tuple[Predictions, Array | None]]] = defaultdict(list)
        for cell in distinct:
            path = folder.predictions_path(cell)
            if tuned:
                val = read_predictions(path, concepts, "val")
            for name, predictions in read_predictions(path, concepts, "test").items():
                loaded[name].append((predictions, tune_thresholds(val[name]) if tuned else None))
        for concept in concepts:
            part = loaded[concept.name]
            if part and len(part[0][0].ids):
                records = _records(collection, problem["name"], concept.name, method)
                ranks = not any(concept.name in result.get("hard", ()) for _, result in done)
                found[concept.name][method] = made = _method(method, part, len(done), records, ranks, facets)
                first.setdefault(concept.name, part[0][0])
                if not method.startswith(CEILING) and not made.constant and concept.kind != "score":
                    wrong[concept.name].append(mistakes.wrong_rows(part))
    return [
        _concept(problem, concept, found[concept.name], first[concept.name], wrong[concept.name])
        for concept in concepts
        if concept.name in first
    ]


def _records(collection: Collection, problem: str, concept: str, method: str) -> dict[tuple[str, str], Record]:
    """One method's records by (label, metric)."""
    place = (problem, concept, method)
    return {
        (r["label"], r["metric"]): r for r in collection.records if (r["problem"], r["concept"], r["method"]) == place
    }


def _method(
    method: str,
    cells: Cells,
    n_seeds: int,
    records: dict[tuple[str, str], Record],
    ranks: bool,
    facets: dict[str, dict[str, str]],
) -> MethodEvidence:
    predictions = cells[0][0]
    if predictions.concept.kind == "score":
        return MethodEvidence(method, len(cells), mistakes.is_constant(cells), curves.scatter(cells))
    wrong = mistakes.wrong_rows(cells)
    f1 = [records[label, "f1"] for label in predictions.concept.labels]
    bounds = [(r["ci_low"], r["ci_high"]) for r in f1]
    if all(low is None for low, _ in bounds):
        bounds = [found or (None, None) for found in curves.label_intervals(cells, n_seeds)]
    support = predictions.truth.sum(axis=0)
    labels = tuple(
        LabelScore(label, record["mean"], *bound, int(rows))
        for label, record, bound, rows in zip(predictions.concept.labels, f1, bounds, support, strict=True)
    )
    return MethodEvidence(
        method,
        len(cells),
        mistakes.is_constant(cells),
        None,
        curves.roc_points(cells) if ranks else None,
        curves.pr_points(cells) if ranks else None,
        curves.calibration(cells) if ranks else None,
        curves.confusion(cells),
        curves.binary_counts(cells),
        labels,
        tuple(mistakes.confident_mistakes(cells)) if ranks else (),
        tuple(mistakes.label_confusions(cells)),
        tuple(mistakes.errors_by_group(predictions.groups, wrong)),
        {name: tuple(mistakes.errors_by_facet(predictions.ids, facet, wrong)) for name, facet in facets.items()},
    )


def _concept(
    problem: dict[str, Any],
    concept: Concept,
    methods: dict[str, MethodEvidence],
    test: Predictions,
    wrong: list[Array],
) -> ConceptEvidence:
    sizes = problem["concepts"][concept.name]
    balance = {split: np.array(counts) for split, counts in sizes["support"].items()}
    rows = {"train": sizes["n_train"], "val": sizes["n_val"], "test": len(test.ids)}
    return ConceptEvidence(problem["name"], concept, methods, balance, rows, _hard(test, wrong))


def _hard(test: Predictions, wrong: list[Array]) -> Hard:
    if not wrong:
        return Hard((), 0, 0)
    share = np.mean(wrong, axis=0)
    order = np.lexsort((test.ids, -share))[: mistakes.SHOWN]
    samples = tuple((str(test.ids[i]), str(test.groups[i]), float(share[i])) for i in order if share[i] > 0)
    return Hard(samples, int((share == 1).sum()), len(wrong))


def _losses(done: list[tuple[Cell, dict[str, Any]]]) -> tuple[Loss, ...]:
    """The losses of every seed's networks; a model that keeps no history has none.

    The training loss is the sum over objectives of their mean losses, as the validation objective is, without those of
    one modality alone; an epoch in which an objective had no label has no such sum.
    """
    found = []
    for cell, result in done:
        for history in read_histories(result):
            if history.val:
                train = tuple(sum(row[: history.joint]) for row in history.train)
                found.append(Loss(cell.seed, train, tuple(history.val), history.best_epoch))
    return tuple(found)
