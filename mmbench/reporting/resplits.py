"""Methods over several splits of one data set: the mean, and the corrected resampled t-test of Nadeau and Bengio."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbench.errors import NotComparableError, UsageError, unknown
from mmbench.evaluation.bootstrap import holm
from mmbench.evaluation.metrics import METRICS
from mmbench.evaluation.significance import Test, nadeau_bengio
from mmbench.reporting.comparison import primary_of
from mmbench.reporting.merging import check_alike, differences
from mmbench.reporting.records import Question, read_rows
from mmbench.reporting.tables import Entry, Table, decimals, number, p_text, signed
from mmbench.reporting.verdicts import ALPHA
from mmbench.running.store import CEILING, RunFolder
from mmbench.splits import leaks

Place = tuple[str, str]  # problem and concept
FEWEST_SPLITS = 2


def resplit_tables(folders: Sequence[RunFolder], question: Question) -> list[Table]:
    """One table a problem and concept: each method's mean over the splits, and its differences to the reference.

    Each folder is one split, with its own seeds; a split counts once, with the mean over its seeds.

    Raises:
        UsageError: fewer than two runs, no reference.
        NotComparableError: runs that differ in more than their split, or two of the same split.
    """
    infos = [folder.info() for folder in folders]
    _check(folders, infos)
    info = infos[0]
    if question.metric is not None:
        info = info | {"protocol": info["protocol"] | {"primary_metric": question.metric}}
    values: dict[Place, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for (problem, concept), rows in read_rows(folder, question.methods).items():
            metric = primary_of(info, concept)
            for row in rows:
                found = [value[metric].value for value in row.values]
                if None not in found:
                    values[problem, concept][row.method].append(float(np.mean(np.array(found, dtype=np.float64))))
    present = {method for by_method in values.values() for method in by_method}
    reference = question.reference or info["task"]["proposed"]
    if reference not in present:
        raise unknown("reference", reference, sorted(present))
    tests = {
        (place, method): _test(infos, place, np.array(found), np.array(by_method[reference]))
        for place, by_method in values.items()
        for method, found in by_method.items()
        if method != reference
        and not method.startswith(CEILING)
        and len(found) == len(by_method.get(reference, ())) == len(folders)
    }
    known = {key: test.p for key, test in tests.items() if test.p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return [
        _table(infos, place, by_method, primary_of(info, place[1]), reference,
               {m: t for (p, m), t in tests.items() if p == place},
               {m: p for (q, m), p in adjusted.items() if q == place}, len(adjusted))
        for place, by_method in values.items()
    ]  # fmt: skip


def _check(folders: Sequence[RunFolder], infos: Sequence[dict[str, Any]]) -> None:
    if len(folders) < FEWEST_SPLITS:
        raise UsageError(f"{len(folders)} run was given: --resplit compares over two splits or more, a run each")
    for folder, info in zip(folders[1:], infos[1:], strict=True):
        check_alike(folders[0], infos[0], folder, info)
        other = [line for line in differences(infos[0], info) if not line.startswith("split_seed=")]
        if other:
            raise NotComparableError(f"{folder.path.name} is more than another split: {', '.join(other)}")
    seeds = [info["config"]["split_seed"] for info in infos]
    if len(set(seeds)) < len(seeds):
        raise NotComparableError(f"split seeds {', '.join(map(str, seeds))}: expected a different split in each run")


def _sizes(infos: Sequence[dict[str, Any]], place: Place) -> dict[str, int]:
    """Mean sizes over the splits."""
    sizes = [next(p for p in info["problems"] if p["name"] == place[0])["concepts"][place[1]] for info in infos]
    return {key: round(float(np.mean([size[key] for size in sizes]))) for key in ("n_train", "n_test")}


def _test(infos: Sequence[dict[str, Any]], place: Place, ours: Any, reference: Any) -> Test:
    return nadeau_bengio(ours - reference, **_sizes(infos, place))


def _table(
    infos: Sequence[dict[str, Any]],
    place: Place,
    by_method: dict[str, list[float]],
    metric: str,
    reference: str,
    tests: dict[str, Test],
    adjusted: dict[str, float],
    family: int,
) -> Table:
    info, (problem, concept) = infos[0], place
    generated = info["task"]["generated"]
    sign = 1 if METRICS[metric].better == "higher" else -1
    rows = []
    for method in sorted(by_method, key=lambda m: -sign * float(np.mean(by_method[m]))):
        found, test = by_method[method], tests.get(method)
        sd = float(np.std(found, ddof=1)) if len(found) > 1 else None
        digits = decimals(-sd, sd) if sd is not None else 3
        delta, p, verdict = "–", "–", "reference" if method == reference else "–"
        if len(found) < len(infos):
            verdict += f"; {len(found)} of {len(infos)} splits"
        if test is not None and test.effect is not None:
            places = decimals(test.low, test.high)
            bounds = "" if test.low is None else f" [{signed(test.low, places)}, {signed(test.high, places)}]"
            delta, p = signed(test.effect, places) + bounds, p_text(test.p)
            verdict = test.reason or ("–" if generated else _verdict(test.effect * sign, adjusted[method]))
        mean = number(float(np.mean(found)), digits)
        texts = (method, mean, number(sd, digits), delta, p, p_text(adjusted.get(method)), verdict)
        rows.append(tuple(Entry(text) for text in texts))
    sizes = _sizes(infos, place)
    leaking = leaks(
        [{"name": problem, "concepts": {concept: _concept(i, place)}} for i in infos], info["task"]["group"]
    )
    notes = [f"WARNING: {line}" for line in (info["protocol"]["warning"], *dict.fromkeys(leaking)) if line]
    notes += ["GENERATED DATA: these numbers say nothing about any method"] if generated else []
    notes += [
        f"{len(infos)} splits, seeds {', '.join(str(i['config']['split_seed']) for i in infos)}; "
        f"about {sizes['n_train']:,} training and {sizes['n_test']:,} test rows a split",
        "Δ, interval and p: Nadeau–Bengio's corrected resampled t-test; null: equal in expectation over splits of this "
        f"data set; unit: split, n = {len(infos)}; it says nothing about another data set",
        f"p (Holm): over {family} comparisons with {reference}; sd: over splits, which overlap",
    ]
    title = f"{concept} · {metric} over splits, against {reference} · {info['task']['title']} · protocol "
    title += info["protocol"]["name"] + (f" · {problem}" if len(info["problems"]) > 1 and problem != concept else "")
    columns = ("method", metric, "sd", f"Δ to {reference} [95 %]", "p", "p (Holm)", "verdict")
    return Table(title, columns, tuple(rows), tuple(notes), f"resplit {problem} {concept}")


def _concept(info: dict[str, Any], place: Place) -> dict[str, Any]:
    sizes: dict[str, Any] = next(p for p in info["problems"] if p["name"] == place[0])["concepts"][place[1]]
    return sizes


def _verdict(effect: float, p: float) -> str:
    if p >= ALPHA:
        return "not distinguishable"
    return "better" if effect > 0 else "worse"
