"""Published numbers beside ours: claims under the same protocol, never ranked with what was measured here.

The numbers are in ``results/published/*.csv``, one a row, each with its source, where in it the number was read, the
task and the protocols it belongs to (none where no protocol of ours is comparable), the test size where it is known,
and ``status`` ``claimed``. ``notes.csv`` holds what is inconsistent or unstated in a source.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from math import sqrt
from pathlib import Path

from mmbench.errors import NotComparableError
from mmbench.evaluation.metrics import METRICS
from mmbench.plugins import shipped_folder
from mmbench.reporting.records import Collection
from mmbench.reporting.tables import Entry, Table, with_interval

Claim = dict[str, str]
AVERAGES = ("macro_f1", "micro_f1", "weighted_f1")  # what an F1 without a named averaging stands beside
Z = 1.96


def read_claims(task: str, protocol: str) -> list[Claim]:
    """The published numbers of a protocol."""
    return [row for row in _claims_of(task) if protocol in row["protocol"].split()]


def _claims_of(task: str) -> list[Claim]:
    names = sorted(path.name for path in _folder().glob("*.csv") if path.name != "notes.csv")
    return [row for name in names for row in _read(name) if row["task"] == task]


def _folder() -> Path:
    return shipped_folder("results/published")


def _read(name: str) -> list[Claim]:
    with (_folder() / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published_tables(collection: Collection) -> list[Table]:
    """For each concept of a run a table of the claims beside our figures, and one of the claimed gains.

    Raises:
        NotComparableError: generated data, or no published number under this protocol.
    """
    info = collection.info
    task, protocol = info["task"]["name"], info["protocol"]["name"]
    if info["task"]["generated"]:
        raise NotComparableError(f"{info['task']['title']}: no published number stands beside generated data")
    if info["protocol"]["warning"].startswith("PARTIAL"):
        raise NotComparableError("no published number stands beside a part of a test set")
    claims = read_claims(task, protocol)
    concepts = dict.fromkeys(record["concept"] for record in collection.records)
    if not any(claim["concept"] in concepts for claim in claims):
        elsewhere = len(_claims_of(task)) - len(claims)
        raise NotComparableError(
            f"no published number is known for task {task} under protocol {protocol}"
            + f"; {elsewhere} are claimed under others or none, see docs/reproduction.md" * bool(elsewhere)
        )
    tables = []
    for concept in concepts:
        here = [claim for claim in claims if claim["concept"] == concept]
        if here:
            tables.append(_claims(collection, concept, here))
        gains = list(_gains(collection, concept, here))
        if gains:
            tables.append(_gains_table(collection, concept, gains))
    return tables


def _claims(collection: Collection, concept: str, claims: list[Claim]) -> Table:
    """One row a source, method and label: what is claimed, and our figures of the same method."""
    by_row: dict[tuple[str, ...], dict[str, Claim]] = {}
    for claim in claims:
        key = (
            _short(claim), claim["ours"] or claim["method"], claim["modalities"], claim["label"] or "all",
            claim["n_test"] or "–",
        )  # fmt: skip
        by_row.setdefault(key, {})[claim["metric"]] = claim
    measured = {(r["method"], r["metric"], r["label"]): r for r in collection.records if r["concept"] == concept}
    claimed = list(dict.fromkeys(claim["metric"] for claim in claims))
    counterparts = dict.fromkeys(name for claim in claims for name in _counterparts(claim))
    ours = [name for name in counterparts if any((claim["ours"], name, claim["label"]) in measured for claim in claims)]
    rows = []
    for row, by_metric in by_row.items():
        cells = [*row, *(by_metric[m]["value"] if m in by_metric else "–" for m in claimed)]
        claim = next(iter(by_metric.values()))
        found = [measured.get((claim["ours"], name, claim["label"])) for name in ours]
        cells += ["–" if record is None else with_interval(record) for record in found]
        rows.append(tuple(Entry(cell) for cell in cells))
    title = f"{concept} · published, claimed · {collection.info['task']['title']} · protocol {_protocol(collection)}"
    shown = [f"{_printed(metric)}: claimed" for metric in claimed] + [f"{name}: ours [95 %]" for name in ours]
    columns = ("source", "method", "modalities", "label", "n_test", *shown)
    return Table(title, columns, tuple(rows), _notes(collection, claims), f"published {concept}")


def _counterparts(claim: Claim) -> tuple[str, ...]:
    """Our metrics that a printed one stands beside."""
    metric = claim["metric"]
    if metric == "f1":
        return ("f1",) if claim["label"] else AVERAGES
    return (metric,) if metric in METRICS and not claim["label"] else ()


def _gains(collection: Collection, concept: str, claims: list[Claim]) -> Iterable[tuple[Claim, Claim]]:
    """Each proposed method's claim with the best other one of the same source and metric."""
    for claim in claims:
        if claim["role"] != "proposed" or claim["metric"] not in (*METRICS, "f1"):
            continue
        sign = -1 if claim["metric"] in METRICS and METRICS[claim["metric"]].better == "lower" else 1
        keys = ("source", "where_read", "label", "metric")
        rivals = [c for c in claims if c["role"] == "other" and all(c[key] == claim[key] for key in keys)]
        if rivals:
            yield claim, max(rivals, key=lambda c: sign * float(c["value"]))


def _gains_table(collection: Collection, concept: str, gains: list[tuple[Claim, Claim]]) -> Table:
    rows = []
    for claim, rival in gains:
        gain = float(claim["value"]) - float(rival["value"])
        noise = _noise(claim, rival)
        judged = "test size unknown" if noise is None else "exceeds it" if abs(gain) > noise else "within it"
        cells = (
            _short(claim), _printed(claim["metric"]), " over ".join(c["ours"] or c["method"] for c in (claim, rival)),
            f"{gain:+.3f}", "–" if noise is None else f"±{noise:.3f}", judged,
            _measured(collection, concept, claim, rival),
        )  # fmt: skip
        rows.append(tuple(Entry(text) for text in cells))
    columns = (
        "source",
        "metric",
        "claimed gain over the runner-up",
        "gain",
        "noise of its test set",
        "",
        "ours Δ [95 %]",
    )
    notes = (
        "noise: 95 % half-width of the difference of two shares of n_test independent rows, which is what a single run "
        "without pairing and without seeds supports; training seeds add to it",
        "ours: the same two methods here, paired; a dash where one of them is not in the run or is not the reference",
    )
    return Table(f"{concept} · claimed gains", columns, tuple(rows), notes, f"gains {concept}")


def _noise(claim: Claim, rival: Claim) -> float | None:
    """Half-width of the difference of two unpaired shares of n_test rows each; None where the size is unknown, or the
    metric is no share."""
    if not claim["n_test"] or not rival["n_test"] or claim["metric"] in ("mae", "corr"):
        return None
    parts = [float(c["value"]) * (1 - float(c["value"])) / int(c["n_test"]) for c in (claim, rival)]
    return Z * sqrt(sum(parts))


def _measured(collection: Collection, concept: str, claim: Claim, rival: Claim) -> str:
    """Our difference of the same two methods, where the first is the reference; averages of F1 side by side."""
    if claim["ours"] != collection.reference:
        return "–"
    texts = [
        f"{r['metric']} {-r['delta']:+.3f} [{-r['delta_high']:+.3f}, {-r['delta_low']:+.3f}]"
        for r in collection.records
        if (r["concept"], r["label"], r["method"]) == (concept, "", rival["ours"])
        and r["metric"] in _counterparts(claim)
        and r["delta"] is not None
    ]
    return "; ".join(texts) or "–"


def _notes(collection: Collection, claims: list[Claim]) -> tuple[str, ...]:
    sources = dict.fromkeys(claim["source"] for claim in claims)
    remarks: dict[str, dict[str, None]] = {}
    for claim in claims:
        if claim["note"]:
            remarks.setdefault(claim["note"], {})[_short(claim) if claim["ours"] else claim["method"]] = None
    return (
        "claimed: read in the source, not measured here, and not ranked with our rows",
        f"sources: {'; '.join(sources)}",
        *(f"{', '.join(methods)}: {note}" for note, methods in remarks.items()),
        *(
            f"{note['source'].split(',')[0]}: {note['text']}"
            for note in _read("notes.csv")
            if note["source"] in sources and note["protocol"] in ("", _protocol(collection))
        ),
    )


def _protocol(collection: Collection) -> str:
    return str(collection.info["protocol"]["name"])


def _short(claim: Claim) -> str:
    return claim["source"].split(",")[0]


def _printed(metric: str) -> str:
    return "F1, averaging not stated" if metric == "f1" else metric
