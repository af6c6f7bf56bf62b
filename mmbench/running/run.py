"""Carry out a plan: encode, write ``run.json``, run the missing cells."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from mmbench.contracts import Dataset
from mmbench.locate import cache_folder
from mmbench.plugins import Registry
from mmbench.running.backends import run_in_processes, run_serially
from mmbench.running.energy import Meter
from mmbench.running.execute import Report, Workplace, predictions_writer
from mmbench.running.plan import STUDIES, Plan, describe
from mmbench.running.prepare import Prepared, encode_stateless, name_bad, prepare, refuse_bad
from mmbench.running.provenance import provenance
from mmbench.running.store import CEILING, Cell
from mmbench.running.stress import check_stress, join_levels, list_scenarios


def prepare_run(
    plan: Plan, registry: Registry, jobs: int, energy_source: str | None, say: Callable[[str], None]
) -> Workplace:
    """Encode what the missing cells need and write ``run.json`` and the ceiling rows of generated data.

    ``energy_source`` is what the cells' energy is measured with, or None.

    Raises:
        UsageError: inputs that cannot be read, a split without rows, a folder that cannot be written.
    """
    asked = [plan.raw[method] for method in {cell.method for cell in plan.todo}]
    raw = frozenset[str]().union(*asked)
    unseen = raw.intersection(*asked)
    encoding = [f"{m} with {e}" for m, e in plan.config.encoders.items() if m not in unseen]
    say("encoding " + ", ".join(encoding) if encoding else "opening the inputs")
    stateless = encode_stateless(plan.dataset, plan.task, plan.config.encoders, cache_folder(), unseen, jobs)
    refuse_bad(plan.dataset, stateless.bad, plan.config.options.get("bad_images", "error"))
    told = name_bad(plan.dataset, stateless.bad)
    if told:
        say(f"{told}: left out")
    wanted = {cell.problem for cell in plan.todo}
    prepared = {}
    for problem in plan.dataset.problems:
        if problem.name in wanted:
            prepared[problem.name] = prepare(
                plan.dataset,
                problem,
                plan.task,
                plan.config.encoders,
                plan.config.concepts,
                stateless,
                cache_folder(),
                raw,
            )
            check_stress(prepared[problem.name].test, plan.stress)
    source = provenance()
    info = {**describe(plan, stateless.bad), "energy_source": energy_source, **source}
    if (plan.folder.path / "run.json").exists():  # an earlier command's plug-ins and meter stay named
        before = plan.folder.info()
        info["overrides"] = list(dict.fromkeys([*before["overrides"], *info["overrides"]]))
        info["energy_source"] = energy_source or before.get("energy_source")
        for study in STUDIES:
            info[study] = before.get(study, {}) | info[study]
        info["stress"] = join_levels(before.get("stress", {}), info["stress"])
    plan.folder.write_info(info)
    if plan.dataset.facets:
        plan.folder.write_facets(_test_facets(plan.dataset))
    for ready in prepared.values():
        _write_ceilings(plan, ready, source)
    scenarios = list_scenarios(plan.stress, plan.config.modalities)
    return Workplace(
        plan.folder, plan.config, registry, prepared, plan.methods, source, plan.force, scenarios,
        plan.streams, plan.raw, plan.device,
    )  # fmt: skip


def _test_facets(dataset: Dataset) -> dict[str, dict[str, str]]:
    """By facet the value of each row that some problem tests on, where it is known."""
    tested = np.any([problem.split == "test" for problem in dataset.problems], axis=0)
    return {
        name: {str(row): str(value) for row, value in zip(dataset.ids[tested], values[tested], strict=True) if value}
        for name, values in dataset.facets.items()
    }


def _write_ceilings(plan: Plan, prepared: Prepared, source: dict[str, Any]) -> None:
    """Store the best possible scores of generated data as cells of their own, one a seed like any other row."""
    place = {sample: row for row, sample in enumerate(plan.dataset.ids)}
    rows = np.array([place[sample] for part in (prepared.val, prepared.test) for sample in part.ids])
    for name, by_concept in plan.dataset.ceilings.items():
        scores = {c.name: by_concept[c.name][rows] for c in prepared.concepts if c.name in by_concept}
        if len(scores) < len(prepared.concepts) or not set(name.split("+")) <= set(plan.config.modalities):
            continue
        for seed in plan.seeds:
            cell = Cell(prepared.problem, f"{CEILING}{name}", seed)
            if not plan.folder.is_done(cell):
                record = {
                    "problem": cell.problem,
                    "method": cell.method,
                    "seed": seed,
                    "status": "done",
                    "deterministic": True,
                    "parameters": 0,
                    "timings": {},
                    "energy": None,
                    "history": {},
                    "rows": prepared.rows,
                    "plugins": {},
                    **source,
                }
                plan.folder.write_cell(cell, record, predictions_writer(prepared, scores))


def run_cells(
    plan: Plan, place: Workplace, jobs: int, meter: Meter | None, report: Report
) -> Generator[tuple[Cell, dict[str, Any]], None, None]:
    """Run the missing cells; each is stored before it is yielded."""
    if jobs > 1:
        yield from run_in_processes(place, plan.todo, report, jobs)
    else:
        yield from run_serially(place, plan.todo, report, meter)
