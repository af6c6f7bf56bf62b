"""From a request to cells: which settings, which data, which methods, and what is already there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.config import RunConfig, Settings, Training
from mmbench.contracts import SPLITS, Concept, Dataset, LoadRequest, Modality, Protocol, Task
from mmbench.errors import UsageError, unknown
from mmbench.evaluation.metrics import METRIC_VERSION, METRICS
from mmbench.evaluation.stressed import Scenario, stored_scenarios
from mmbench.features import check, fingerprint
from mmbench.fractions import FULL, parse_fractions, reduce_train
from mmbench.hashing import digest
from mmbench.locate import cache_folder, find_data
from mmbench.methods import Method, plugin_digests
from mmbench.plugins import Registry
from mmbench.running.choice import choose
from mmbench.running.loading import load_dataset
from mmbench.running.reopen import describe_card
from mmbench.running.store import Cell, RunFolder, folder_name
from mmbench.running.stress import join_levels, list_scenarios, parse_stress
from mmbench.splits import split_digest, usable_split
from mmbench.training.devices import find_device

DEFAULT_SEEDS = "5"
STUDIES = ("ablations", "sweeps")  # what a request says of its methods, in a plan and in ``run.json``


@dataclass(frozen=True)
class Request:
    """What was asked for: the merged settings and the flags that are about this command alone."""

    task: str
    settings: Settings
    out: Path
    require_data: bool = False
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    ``plugin`` is the file of the task, ``streams`` are the modalities with the encoders they get, ``features`` the
    encoders' fingerprints, ``raw`` by method the modalities whose inputs it wants as they are, ``device`` where
    networks are trained; ``cells`` are all cells asked for, ``todo`` those that have to be run (also finished ones
    that lack predictions under ``stress``, its levels by axis); ``ablations`` say by full method which variant is
    without which part, ``sweeps`` by selector which values each method has; ``lines`` are what the user should know of
    the planning (methods left out, cells run again).
    """

    name: str
    task: Task
    plugin: Path
    protocol: Protocol
    dataset: Dataset
    config: RunConfig
    streams: tuple[Modality, ...]
    features: dict[str, str]
    raw: dict[str, frozenset[str]]
    device: str
    folder: RunFolder
    methods: dict[str, Method]
    ablations: dict[str, dict[str, str]]
    sweeps: dict[str, dict[str, dict[str, Any]]]
    stress: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    todo: tuple[Cell, ...]
    overrides: tuple[str, ...]
    lines: tuple[str, ...]
    force: bool


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"5"`` is 0…4; a list with a comma is itself: ``"3,"``, ``"0,7"``.

    Raises:
        UsageError: not whole numbers, none, negative, or one twice.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--seeds {text}: expected a number of seeds (5) or a list (0,1,7)") from None
    seeds = tuple(numbers) if "," in text else tuple(range(max(numbers[0], 0) if numbers else 0))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text}: expected at least one seed, each once and none negative (5, or 0,1,7)")
    return seeds


def _usual_modalities(task: Task, protocol: Protocol) -> tuple[str, ...]:
    return protocol.modalities or tuple(modality.name for modality in task.modalities)


def _choose(kind: str, text: str | None, known: tuple[str, ...], usual: tuple[str, ...]) -> tuple[str, ...]:
    """A comma list of known names, in the order of the task; None means the usual ones."""
    if text is None:
        return usual
    given = [name.strip() for name in text.split(",") if name.strip()]
    for name in given:
        if name not in known:
            raise unknown(kind, name, known)
    if not given:
        raise UsageError(f"no {kind} was given: expected some of {', '.join(known)}")
    return tuple(name for name in known if name in given)


def _options(name: str, task: Task, protocol: Protocol, given: dict[str, str]) -> dict[str, str]:
    options = {option.name: option.default for option in task.options} | dict(protocol.defaults)
    for key, value in given.items():
        option = next((o for o in task.options if o.name == key), None)
        if option is None:
            raise unknown(f"option of task {name}", key, (o.name for o in task.options))
        if option.choices and value not in option.choices:
            raise unknown(f"value of task.{key}", value, option.choices)
        options[key] = value
    return options


def find_protocol(name: str, task: Task, given: str | None) -> Protocol:
    """The task's protocol of that name; None is the first.

    Raises:
        UsageError: an unknown one, with the nearest names.
    """
    for protocol in task.protocols:
        if given in (None, protocol.name):
            return protocol
    raise unknown(f"protocol of {name}", given or "", (p.name for p in task.protocols))


def _encoders(task: Task, modalities: tuple[str, ...], given: dict[str, str]) -> dict[str, str]:
    for name in given:
        if name not in modalities:
            raise unknown("modality", name, modalities)
    chosen = {m.name: given.get(m.name, m.encoder) for m in task.modalities if m.name in modalities}
    kinds = {m.name: m.kind for m in task.modalities}
    return {name: check(selector, kinds[name]) for name, selector in chosen.items()}


def _overrides(task: Task, protocol: Protocol, config: RunConfig, data_options: dict[str, str]) -> tuple[str, ...]:
    """Where the run departs from its protocol or from the common budget, one line each."""
    lines = [
        f"{key}={value} (protocol {protocol.name}: {data_options[key]})"
        for key, value in config.options.items()
        if value != data_options[key]
    ]
    if config.modalities != _usual_modalities(task, protocol):
        lines.append(f"modalities={','.join(config.modalities)}")
    if config.split_seed:
        lines.append(f"split_seed={config.split_seed}")
    if config.train_fraction != FULL:
        lines.append(f"train_fraction={config.train_fraction:g}")
    if config.thresholds != "fixed":
        lines.append(f"thresholds={config.thresholds}")
    defaults = Training()
    lines += [
        f"{key}={value} (default {getattr(defaults, key)})"
        for key, value in config.training
        if value != getattr(defaults, key)
    ]
    return tuple(lines)


def make_plan(request: Request, registry: Registry) -> Plan:
    """Resolve a request; nothing is written but the task's own generated sample.

    Raises:
        UsageError: anything that the request got wrong.
    """
    settings = request.settings
    device = find_device(settings.device or "cpu")
    task = registry.task(request.task)
    protocol = find_protocol(request.task, task, settings.protocol)
    if protocol.primary_metric not in METRICS:
        raise unknown(f"primary metric of protocol {protocol.name}", protocol.primary_metric, METRICS)
    options = _options(request.task, task, protocol, settings.task)
    names = tuple(modality.name for modality in task.modalities)
    modalities = _choose("modality", settings.modalities, names, _usual_modalities(task, protocol))
    encoders = _encoders(task, modalities, settings.encoders)
    seeds = parse_seeds(DEFAULT_SEEDS if settings.seeds is None else settings.seeds)
    asked = "all" if settings.method is None else settings.method
    streams = tuple(replace(m, encoder=encoders[m.name]) for m in task.modalities if m.name in encoders)
    chosen = choose(asked, registry, streams, protocol.suite, settings.finetune or False)
    root = find_data(request.task, task, settings.data, request.require_data)
    split_seed = settings.split_seed or 0
    asked_for = LoadRequest(root, cache_folder(), protocol, options, modalities, split_seed)
    dataset = load_dataset(request.task, task, asked_for)
    kinds = {m.name: m.kind for m in task.modalities}
    joined: tuple[str, ...] = ()
    if settings.near_duplicates == "group":
        from mmbench.separate import separate

        dataset, line = separate(dataset, kinds, cache_folder())
        joined = (line,)
    fraction, *others = parse_fractions(settings.train_fraction or "1")
    if others:
        raise UsageError(f"--train-fraction {settings.train_fraction}: expected one share; several are a run each")
    dataset = reduce_train(dataset, fraction, split_seed)
    declared = tuple(concept.name for concept in dataset.concepts)
    concepts = _choose("concept", settings.concepts, declared, declared)
    config = RunConfig(
        task=request.task,
        protocol=protocol.name,
        options=options,
        modalities=modalities,
        concepts=concepts,
        encoders=encoders,
        split_seed=split_seed,
        thresholds=settings.thresholds or "fixed",
        training=Training.model_validate(settings.training),
        train_fraction=fraction,
    )
    features = {name: fingerprint(selector, kinds[name]) for name, selector in encoders.items()}
    splits = [part for p in dataset.problems for part in (p.name, ",".join(p.concepts), p.split.astype("<U5"))]
    name = (
        f"{request.task}-{protocol.name}-{config.run_hash([dataset.fingerprint, digest(splits), *features.values()])}"
    )
    folder = RunFolder(request.out / folder_name(name))
    problems = [p.name for p in dataset.problems if set(p.concepts) & set(concepts)]
    cells = tuple(Cell(p, m.name, seed) for p in problems for m in chosen.methods for seed in seeds)
    by_name = {method.name: method for method in chosen.methods}
    stress = parse_stress(settings.stress)
    scenarios = list_scenarios(stress, modalities)
    todo, changed = _missing(folder, cells, by_name, registry, request.force, scenarios)
    overrides = _overrides(task, protocol, config, _options(request.task, task, protocol, {}))
    overrides += tuple(
        f"{name} trains the encoders of {', '.join(sorted(of))}" for name, of in chosen.raw.items() if of
    )
    if len(concepts) < len(dataset.concepts):
        overrides += (f"concepts={','.join(concepts)}",)
    return Plan(
        request.task, task, registry.get(request.task, "task").path, protocol, dataset, config, streams, features,
        chosen.raw, device, folder, by_name, chosen.ablations, chosen.sweeps, stress, seeds, cells, todo,
        (*overrides, *joined, *registry.overrides), (*registry.broken, *chosen.skipped, *changed), request.force,
    )  # fmt: skip


def _missing(
    folder: RunFolder,
    cells: tuple[Cell, ...],
    methods: dict[str, Method],
    registry: Registry,
    force: bool,
    scenarios: tuple[Scenario, ...],
) -> tuple[tuple[Cell, ...], list[str]]:
    """The cells to run, and a line for each method whose plug-in changed since its cells were stored, and on cells that
    lack only predictions under these scenarios."""
    todo, changed, unstressed = [], set(), 0
    for cell in cells:
        if force or not folder.is_done(cell):
            todo.append(cell)
            continue
        stored = folder.result(cell)
        if stored is not None and stored.get("foreign"):
            raise UsageError(
                f"{cell} holds predictions that were scored under that name: remove {folder.cell_path(cell)}, "
                "or name the methods to run without it"
            )
        if stored is not None and stored.get("plugins", {}) != plugin_digests(methods[cell.method], registry):
            changed.add(cell.method)
            todo.append(cell)
        elif not stored_scenarios(folder.stress_path(cell)).issuperset(scenarios):
            unstressed += 1
            todo.append(cell)
    lines = [f"{method}: its plug-in changed, so its cells are run again" for method in sorted(changed)]
    if unstressed:
        lines.append(
            f"{unstressed} finished cell{'s' * (unstressed != 1)} without predictions under this stress: models are "
            "not stored, so they are trained again, must predict the same on clean inputs, and keep their results"
        )
    return tuple(todo), lines


def _split_in_words(plan: Plan) -> str:
    """The protocol's split, or the one that was asked for in its place."""
    asked, usual = plan.config.options.get("split"), plan.protocol.defaults.get("split")
    return plan.protocol.split if asked == usual else f"{asked}, not the protocol's {plan.protocol.split}"


def _sizes(dataset: Dataset, concept: Concept, split: NDArray[np.str_]) -> dict[str, Any]:
    """How many labelled rows each split has, rows a label, and test and val rows whose group is also in train.

    The one label of a score holds in every labelled row.
    """
    labelled = dataset.labelled(concept.name)
    rows = {name: labelled & (split == name) for name in SPLITS}
    seen = np.isin(dataset.groups, dataset.groups[split == "train"])
    target = dataset.targets[concept.name]
    if concept.kind == "score":
        hits = labelled[:, None]
    else:
        hits = target[:, None] == np.arange(len(concept.labels)) if target.ndim == 1 else target == 1
    return {
        **{f"n_{name}": int(chosen.sum()) for name, chosen in rows.items()},
        "n_groups": len(np.unique(dataset.groups[rows["test"]])),
        "shared_with_train": {name: int((rows[name] & seen).sum()) for name in ("val", "test")},
        "support": {name: hits[chosen].sum(axis=0).tolist() for name, chosen in rows.items()},
    }


def describe_problems(plan: Plan, bad: dict[int, str]) -> list[dict[str, Any]]:
    """Each problem's rows, by split, concept and label, the unreadable rows ``bad`` left out."""
    dataset = plan.dataset
    problems = []
    for problem in dataset.problems:
        split = usable_split(problem, bad)
        concepts = [c for c in dataset.concepts if c.name in plan.config.concepts and c.name in problem.concepts]
        if concepts:
            sizes = {c.name: _sizes(dataset, c, split) for c in concepts}
            problems.append({"name": problem.name, "rows": split_digest(dataset.ids, split), "concepts": sizes})
    return problems


def describe(plan: Plan, bad: dict[int, str]) -> dict[str, Any]:
    """What ``run.json`` says of the request and the data."""
    dataset, task, protocol = plan.dataset, plan.task, plan.protocol
    return {
        "task": {
            "name": plan.name,
            "title": dataset.title,
            "licence": task.licence,
            "citation": task.citation,
            "group": task.group,
            "generated": dataset.generated,
            "notes": list(dataset.notes),
            "proposed": task.proposed,
            "obtain": task.obtain,
            "card": describe_card(plan.plugin, plan.folder.path),
        },
        "protocol": {
            "name": protocol.name,
            "summary": protocol.summary,
            "citation": protocol.citation,
            "split": _split_in_words(plan),
            "primary_metric": protocol.primary_metric,
            "warning": protocol.warning,
            "suite": list(protocol.suite),
        },
        "config": plan.config.model_dump(mode="json"),
        "overrides": list(plan.overrides),
        "metric_version": METRIC_VERSION,
        "fingerprint": dataset.fingerprint,
        "features": plan.features,
        "concepts": [c.record() for c in dataset.concepts if c.name in plan.config.concepts],
        "problems": describe_problems(plan, bad),
        "unreadable_inputs": len(bad),
        "ablations": plan.ablations,
        "sweeps": plan.sweeps,
        "stress": {axis: list(levels) for axis, levels in plan.stress.items()},
    }


def remember_studies(plan: Plan) -> None:
    """Write into ``run.json`` which of its methods are ablations of which, which are swept, and which levels of stress
    were asked for; all cells are there already."""
    info = plan.folder.info()
    known = {key: info.get(key, {}) for key in (*STUDIES, "stress")}
    levels = {axis: list(given) for axis, given in join_levels(known["stress"], plan.stress).items()}
    now = {**{study: known[study] | getattr(plan, study) for study in STUDIES}, "stress": levels}
    if now != known:
        plan.folder.write_info({**info, **now})
