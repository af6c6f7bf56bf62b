"""The audit of a task as a user asks for it: the data set is loaded as a run would load it, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from mmbench.audit import audit
from mmbench.contracts import Dataset, LoadRequest
from mmbench.errors import UsageError
from mmbench.findings import Finding, first_ids, held_labels, in_order
from mmbench.locate import cache_folder, find_data
from mmbench.plugins import Registry
from mmbench.running.plan import Plan, Request, make_plan

DISAGREE = 0.1  # share of rows from which on differing annotations are a warning


def audit_task(request: Request, registry: Registry) -> tuple[Plan, list[Finding]]:
    """Load a task and look at it; images that are missing are masked unless the request says otherwise.

    Raises:
        UsageError: what a run with this request would refuse.
    """
    task = registry.task(request.task)
    if any(option.name == "missing_images" and "mask" in option.choices for option in task.options):
        options = {"missing_images": "mask"} | request.settings.task
        request = replace(request, settings=request.settings.model_copy(update={"task": options}))
    plan = make_plan(request, registry)
    kinds = {modality.name: modality.kind for modality in task.modalities}
    findings = audit(plan.dataset, kinds, task.group, cache_folder())
    return plan, in_order([*findings, *disagreement(by_annotation(plan, request))])


def by_annotation(plan: Plan, request: Request) -> dict[str, Dataset]:
    """The data set with the labels of each modality, where the task's option ``labels`` has them; else nothing.

    A protocol that fixes one kind of labels is passed over for the first one that has them all.
    """
    option = next((option for option in plan.task.options if option.name == "labels"), None)
    names = [m.name for m in plan.task.modalities if option is not None and m.name in option.choices]
    if len(names) < 2:
        return {}
    root = find_data(plan.name, plan.task, request.settings.data, request.require_data)
    for protocol in (plan.protocol, *plan.task.protocols):
        loaded = {}
        for name in names:
            usual = {o.name: o.default for o in plan.task.options} | dict(protocol.defaults)
            request_for = LoadRequest(root, cache_folder(), protocol, usual | {"labels": name}, ())
            try:
                loaded[name] = plan.task.load(request_for)
            except UsageError:
                break
        else:
            return loaded
    return {}


def disagreement(by_annotation: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Rows that two annotations label differently, by concept.

    Args:
        by_annotation: the same rows loaded with the labels of each modality (``text``, ``image``).
    """
    for (first, a), (second, b) in combinations(by_annotation.items(), 2):
        for concept in a.concepts:
            same = next((other for other in b.concepts if other == concept), None)
            if same is None or concept.kind == "score" or not np.array_equal(a.ids, b.ids):
                continue
            both = a.labelled(concept.name) & b.labelled(concept.name)
            differ = held_labels(a, concept) != held_labels(b, concept)
            rows = np.flatnonzero(both & differ.any(axis=1))
            if len(rows):
                yield Finding(
                    "warning" if len(rows) > DISAGREE * both.sum() else "info",
                    "annotations disagree",
                    concept.name,
                    "",
                    len(rows),
                    int(both.sum()),
                    f"rows are labelled differently by {first} and by {second}",
                    first_ids(a, rows),
                )
