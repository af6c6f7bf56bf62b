"""What every task owes its callers, checked on the data that it loads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mmbench.contracts import SPLITS, Dataset, LoadRequest, Protocol, Task
from mmbench.evaluation.metrics import METRICS
from mmbench.methods import parse, select
from mmbench.plugins import Registry
from mmbench.running.loading import load_dataset
from mmbench.validation.finding import BrokenError, Finding, find


def loads_the_same_again(dataset: Dataset, again: Dataset) -> None:
    """Two loads give the same rows, targets, splits and fingerprint."""
    pairs = {
        "fingerprint": (np.array(dataset.fingerprint), np.array(again.fingerprint)),
        "ids": (dataset.ids, again.ids),
        "groups": (dataset.groups, again.groups),
        **{f"targets of {name}": (target, again.targets[name]) for name, target in dataset.targets.items()},
        **{f"the split of {p.name}": (p.split, q.split) for p, q in zip(dataset.problems, again.problems, strict=True)},
    }
    for what, (first, second) in pairs.items():
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            raise BrokenError(f"loaded twice, {what} differ: draw from a generator with a fixed seed")


def every_split_has_labels(dataset: Dataset) -> None:
    """Each problem trains, validates and tests each of its concepts."""
    for problem in dataset.problems:
        for concept in problem.concepts:
            for part in SPLITS:
                if not (dataset.labelled(concept) & (problem.split == part)).any():
                    raise BrokenError(f"problem {problem.name}: no {part} row has a label of {concept}")


def no_group_is_split(dataset: Dataset, protocol: Protocol) -> None:
    """Rows of a group are in one split, or the protocol warns."""
    if protocol.warning:
        return
    for problem in dataset.problems:
        test = np.unique(dataset.groups[problem.split == "test"])
        for part in ("train", "val"):
            shared = np.intersect1d(dataset.groups[problem.split == part], test)
            if len(shared):
                raise BrokenError(
                    f"problem {problem.name}: {len(shared)} groups ({shared[0]}, …) are in {part} and in test: "
                    "split by group, or say so in the protocol's warning"
                )


def generated_data_say_so(dataset: Dataset) -> None:
    """A generated sample has it in its title."""
    if dataset.generated != ("generated" in dataset.title):
        raise BrokenError(f"generated is {dataset.generated}, and the title '{dataset.title}' says otherwise")


def names_what_there_is(task: Task, protocol: Protocol, registry: Registry, modalities: tuple[str, ...]) -> None:
    """The suite, the proposed method, the primary metric and the default options are known."""
    select(",".join(protocol.suite), registry, modalities, protocol.suite)
    parse(task.proposed, registry, modalities)
    if protocol.primary_metric not in METRICS:
        raise BrokenError(f"the primary metric {protocol.primary_metric} is no metric: `mmbench list metrics`")
    unknown = set(protocol.defaults) - {option.name for option in task.options}
    if unknown:
        raise BrokenError(f"defaults of {', '.join(sorted(unknown))}, which are no options of the task")


def validate_task(name: str, registry: Registry, root: Path | None, scratch: Path) -> Iterator[Finding]:
    """Each check under each protocol, with the task's default options.

    Args:
        name: the task.
        registry: where it and its methods are.
        root: the data set's folder; None is what it embeds.
        scratch: where a generated sample is written.
    """
    task = registry.task(name)
    for protocol in task.protocols:
        options = {option.name: option.default for option in task.options} | dict(protocol.defaults)
        modalities = protocol.modalities or tuple(modality.name for modality in task.modalities)
        request = LoadRequest(root, scratch, protocol, options, modalities)
        yield find(
            f"{protocol.name}: names what there is",
            partial(names_what_there_is, task, protocol, registry, modalities),
        )
        found: list[Dataset] = []
        loaded = find(
            f"{protocol.name}: loads",
            lambda request=request, found=found: found.extend(load_dataset(name, task, request) for _ in range(2)),  # type: ignore[misc]
        )
        yield loaded
        if loaded.kept:
            first, again = found
            for check in (
                partial(loads_the_same_again, first, again),
                partial(every_split_has_labels, first),
                partial(no_group_is_split, first, protocol),
                partial(generated_data_say_so, first),
            ):
                yield find(f"{protocol.name}: {check.func.__name__.replace('_', ' ')}", check)
