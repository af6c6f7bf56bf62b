"""Several tasks in one table: each method's value a task, its average rank, and Friedman's test where it is allowed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from mmbench.evaluation.metrics import METRICS, applies
from mmbench.evaluation.significance import friedman
from mmbench.reporting.records import Collection
from mmbench.reporting.tables import Entry, Table, number, p_text
from mmbench.running.store import CEILING


def across_table(collections: Sequence[Collection]) -> Table | None:
    """One row a method that every task has, the best average rank first; None where no two methods are in all.

    A task counts once, with the mean over its problems and concepts of its protocol's primary metric: concepts of one
    task share their rows, and are not further data sets. Concepts of the other kind, scores beside labels, stay out.
    """
    by_task = [_means(collection) for collection in collections]
    methods = [m for m in by_task[0] if all(m in means for means in by_task)]
    if len(methods) < 2:
        return None
    primaries = [c.info["protocol"]["primary_metric"] for c in collections]
    values = np.array([[means[m] for m in methods] for means in by_task])
    signs = np.array([1 if METRICS[metric].better == "higher" else -1 for metric in primaries])
    ranks = scipy.stats.rankdata(-values * signs[:, None], axis=1)
    names = [f"{c.info['task']['name']} ({metric})" for c, metric in zip(collections, primaries, strict=True)]
    average, wins = ranks.mean(axis=0), (ranks == ranks.min(axis=1, keepdims=True)).sum(axis=0)
    rows = tuple(
        (
            Entry(methods[i]),
            Entry(f"{average[i]:.2f}"),
            Entry(str(wins[i])),
            *(Entry(number(value)) for value in values[:, i]),
        )
        for i in np.argsort(average, kind="stable")
    )
    test = friedman(values * signs[:, None])
    told = test.reason or f"Kendall's W {number(test.effect, 2)}, p {p_text(test.p)}"
    left_out = sorted({m for means in by_task for m in means} - set(methods))
    notes = [
        *(
            f"GENERATED DATA: {c.info['task']['title']} says nothing about any method, and no rank that counts it does"
            for c in collections
            if c.info["task"]["generated"]
        ),
        "a task counts once: the mean over its problems and concepts of its primary metric, over seeds; ranks among "
        "the methods that every task has, ties share; wins: tasks in which no method is better",
        f"Friedman's test (Iman–Davenport), unit: data set, n = {len(collections)}, null: {test.null}: {told}",
    ]
    notes += [f"not in every task, left out: {', '.join(left_out)}"] if left_out else []
    apart = [
        f"{concept['name']} of {c.info['task']['name']}"
        for c, metric in zip(collections, primaries, strict=True)
        for concept in c.info["concepts"]
        if not applies(metric, concept["kind"])
    ]
    notes += [f"concepts that the primary metric is not of, left out: {', '.join(apart)}"] if apart else []
    columns = ("method", "average rank", "wins", *names)
    return Table(f"{len(collections)} tasks", columns, rows, tuple(notes), "across tasks")


def _means(collection: Collection) -> dict[str, float]:
    """Each method's mean over concepts; methods that lack one, and ceilings, are left out."""
    primary = collection.info["protocol"]["primary_metric"]
    here = [r for r in collection.records if r["label"] == "" and r["metric"] == primary]
    places = {(r["problem"], r["concept"]) for r in here}
    found: dict[str, dict[tuple[str, str], float]] = {}
    for record in here:
        if record["mean"] is not None and not record["method"].startswith(CEILING):
            found.setdefault(record["method"], {})[record["problem"], record["concept"]] = record["mean"]
    return {
        method: float(np.mean(list(means.values()))) for method, means in found.items() if len(means) == len(places)
    }
