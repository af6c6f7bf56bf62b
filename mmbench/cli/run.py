"""``mmbench run``: plan, train what is missing, show the tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmbench.cli.selecting import (
    BadImages,
    CaptionLeak,
    Concepts,
    Config,
    Data,
    Labels,
    MissingImages,
    Modalities,
    Plugin,
    Protocol,
    RequireData,
    Set,
    SplitSeed,
)

if TYPE_CHECKING:
    from mmbench.config import Settings
    from mmbench.plugins import Registry
    from mmbench.reporting.records import Collection
    from mmbench.running.plan import Plan, Request
    from mmbench.running.store import Cell

    Failed = tuple[Cell, dict[str, Any]]

OUT = Path("results") / "runs"


def run(
    task_name: Annotated[str | None, typer.Argument(metavar="[TASK]", help="The task, or several: a,b.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="The same as TASK.")] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="A method, a comma list, a glob such as '*+equal', or all.")
    ] = None,
    protocol: Protocol = None,
    concepts: Concepts = None,
    modalities: Modalities = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds (5 is 0…4), or which (0,7 or 3,).")] = None,
    data: Data = None,
    encoders: Annotated[str | None, typer.Option(help="text=tfidf-svd,image=hf:NAME: encoders by modality.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where runs are stored.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes; energy is measured with one.")] = None,
    backend: Annotated[str, typer.Option(help="Where cells run: local.")] = "local",
    device: Annotated[
        str | None, typer.Option(help="Where networks are trained: cpu, cuda, cuda:N, or auto: a GPU if there is one.")
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the encoders too, end to end, in the methods that can (xattn).")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="The most epochs a network gets.")] = None,
    labels: Labels = None,
    split: Annotated[str | None, typer.Option(help="Another split than the protocol's.")] = None,
    split_seed: SplitSeed = None,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Draw a new split for each seed, and compare over splits.")
    ] = False,
    train_fraction: Annotated[
        str | None, typer.Option(help="Shares of the training rows: 0.1,0.3,1 is a learning curve, a run each.")
    ] = None,
    stress: Annotated[
        str | None, typer.Option(help="Also predict stressed test inputs: noise,missing,conflict (noise:0.5/2).")
    ] = None,
    missing_images: MissingImages = None,
    bad_images: BadImages = None,
    caption_leak: CaptionLeak = None,
    config: Config = None,
    set_: Set = None,
    plugin: Plugin = None,
    force: Annotated[bool, typer.Option("--force", help="Run finished cells again.")] = False,
    no_energy: Annotated[bool, typer.Option("--no-energy", help="Do not measure energy.")] = False,
    require_data: RequireData = False,
) -> int:
    """Train and evaluate methods on a task, then print the comparison."""
    from mmbench.config import Settings, find_settings, merge, parse_assignments, read_settings
    from mmbench.errors import UsageError, unknown
    from mmbench.plugins import MARKER, Registry
    from mmbench.running.plan import Request, make_plan

    names = [name.strip() for name in (task or task_name or "").split(",") if name.strip()]
    if not names or (task and task_name):
        raise UsageError("expected one task: `mmbench run crisismmd` or `mmbench run --task crisismmd`")
    if backend != "local":
        raise unknown("backend", backend, ["local"])
    flags = Settings(
        protocol=protocol,
        method=",".join(method) if method else None,
        seeds=seeds,
        modalities=modalities,
        concepts=concepts,
        data=data,
        out=out,
        jobs=jobs,
        device=device,
        finetune=finetune or None,
        split_seed=split_seed,
        train_fraction=train_fraction,
        stress=stress,
        encoders=_pairs("--encoders", encoders),
        task={
            key: value
            for key, value in {
                "labels": labels,
                "split": split,
                "missing_images": missing_images,
                "bad_images": bad_images,
                "caption_leak": caption_leak,
            }.items()
            if value is not None
        },
        training={} if epochs is None else {"epochs": epochs},
    )
    layers = [read_settings(Path(MARKER))] if Path(MARKER).is_file() else []
    layers += [find_settings(config)] if config else []
    settings = merge([*layers, flags, parse_assignments(set_ or [])])
    registry = Registry(plugin or [])
    requests = [Request(name, settings, settings.out or OUT, require_data, force) for name in names]
    if resplit:
        return max(_run_splits(request, registry, settings, energy=not no_energy) for request in requests)
    if "," in (settings.train_fraction or ""):
        return max(_run_fractions(request, registry, settings, energy=not no_energy) for request in requests)
    plans = [make_plan(request, registry) for request in requests]
    codes, collections = [], []
    for plan in plans:
        failed = _train(plan, registry, settings, energy=not no_energy)
        if _finished(plan):
            collections.append(_show(plan, registry, settings))
        codes.append(_tell(failed))
    if len(collections) > 1:
        _show_across(collections)
    return max(codes)


def _pairs(flag: str, text: str | None) -> dict[str, str]:
    from mmbench.errors import UsageError

    pairs: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        key, equals, value = item.partition("=")
        if not equals or not value:
            raise UsageError(f"{flag} {item}: expected modality=encoder, for example text=tfidf-svd")
        pairs[key] = value
    return pairs


def _run_splits(request: Request, registry: Registry, settings: Settings, energy: bool) -> int:
    """One task on a new split for each seed: a run folder a split, and one table over all."""
    from mmbench.errors import UsageError
    from mmbench.reporting.records import Question
    from mmbench.reporting.resplits import resplit_tables
    from mmbench.reporting.terminal import print_tables
    from mmbench.running.plan import DEFAULT_SEEDS, make_plan, parse_seeds

    if "," in (settings.train_fraction or ""):
        raise UsageError(f"--train-fraction {settings.train_fraction}: expected one share with --resplit")
    if settings.split_seed is not None:
        raise UsageError("--split-seed and --resplit were given: --resplit draws a split for each of --seeds")
    plans = []
    for seed in parse_seeds(DEFAULT_SEEDS if settings.seeds is None else settings.seeds):
        changed = settings.model_copy(update={"seeds": f"{seed},", "split_seed": seed})
        plans.append(make_plan(replace(request, settings=changed), registry))
    if len(plans) < 2:
        raise UsageError("--resplit got one seed: expected two or more, a split each")
    drawn = {tuple(part.split.tobytes() for part in plan.dataset.problems) for plan in plans}
    if len(drawn) < len(plans):
        raise UsageError(f"--resplit: protocol {plans[0].protocol.name} has a fixed split: name one that draws it")
    failed = [cell for plan in plans for cell in _train(plan, registry, settings, energy)]
    if any(_finished(plan) for plan in plans):
        question = Question(tuple(plans[0].methods), _reference(*plans))
        print_tables(resplit_tables([plan.folder for plan in plans], question))
    return _tell(failed)


def _run_fractions(request: Request, registry: Registry, settings: Settings, energy: bool) -> int:
    """One task on several shares of its training rows: a run folder each, and learning curves over all."""
    from mmbench.cli.progress import say
    from mmbench.fractions import parse_fractions
    from mmbench.reporting.learning import learning_study
    from mmbench.reporting.terminal import print_tables
    from mmbench.running.plan import make_plan

    shares = [f"{fraction}" for fraction in parse_fractions(settings.train_fraction or "")]
    changed = [settings.model_copy(update={"train_fraction": share}) for share in shares]
    plans = [make_plan(replace(request, settings=each), registry) for each in changed]
    failed = [cell for plan in plans for cell in _train(plan, registry, settings, energy)]
    print_tables(learning_study(plans[-1].folder, tuple(plans[-1].methods)).tables)
    for plan in plans:
        say(f"run folder: {plan.folder.path}")
    say("next: the curves as figures, with the rest of the largest share's run:")
    say(f"  mmbench report {_named(plans[-1], settings)} --format html --output report.html   (or --figures DIR)")
    return _tell(failed)


def _train(plan: Plan, registry: Registry, settings: Settings, energy: bool) -> list[Failed]:
    """Train what a plan lacks; the cells that failed."""
    from mmbench.cli.progress import Progress, say
    from mmbench.running.store import RUN

    jobs = settings.jobs or 1
    _announce(plan, jobs)
    known = (plan.folder.path / RUN).is_file()
    if known:
        plan.folder.check_info()
    if not plan.todo and known:
        from mmbench.running.plan import remember_studies

        remember_studies(plan)
        say("nothing to train: all cells are there")
        return []
    from mmbench.running.energy import Meter
    from mmbench.running.run import prepare_run, run_cells
    from mmbench.workers import expect_workers

    failed: list[Failed] = []
    plan.folder.check_writable()
    if jobs > 1:
        expect_workers()
    meter = Meter() if energy and jobs == 1 else None
    try:
        place = prepare_run(plan, registry, jobs, meter.source if meter else None, say)
        with (
            Progress(len(plan.todo)) as progress,
            closing(run_cells(plan, place, jobs, meter, progress.epoch)) as outcomes,
        ):
            for cell, record in outcomes:
                progress.finished(cell, record)
                if record["status"] != "done" or "stress_error" in record:
                    failed.append((cell, record))
    finally:
        if meter is not None:
            meter.close()
    return failed


def _tell(failed: Sequence[Failed]) -> int:
    """Name the cells that failed, last of all; the exit code."""
    from mmbench.cli.progress import say

    for cell, record in failed:
        if record["status"] == "done":
            say(f"no predictions under stress: {cell}: {record['stress_error']['message']}")
        else:
            say(f"failed: {cell}: {record['error']['message']}")
    return 1 if failed else 0


def _announce(plan: Plan, jobs: int) -> None:
    from mmbench.cli.progress import say
    from mmbench.running.plan import describe_problems
    from mmbench.splits import leaks

    problems = len({cell.problem for cell in plan.cells})
    say(f"{plan.dataset.title} · protocol {plan.protocol.name}: {plan.protocol.summary}")
    if plan.dataset.generated:
        say("GENERATED DATA: it shows that everything works; its numbers say nothing about any method")
    for warning in (plan.protocol.warning, *leaks(describe_problems(plan, {}), plan.task.group)):
        if warning:
            say(f"WARNING: {warning}")
    for line in (*plan.lines, *plan.dataset.notes):
        say(line)
    if plan.overrides:
        say("overrides: " + "; ".join(plan.overrides))
    sizes = [_count(len(plan.methods), "method"), _count(problems, "problem"), _count(len(plan.seeds), "seed")]
    say(
        f"plan: {' × '.join(sizes)} = {_count(len(plan.cells), 'cell')}, {len(plan.cells) - len(plan.todo)} done, "
        f"{len(plan.todo)} to run with {_count(jobs, 'job')} on {plan.device}, into {plan.folder.path}"
    )
    say(_seeds_line(len(plan.seeds)))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _seeds_line(n: int) -> str:
    if n == 1:
        return "1 seed: intervals hold for this seed only; nothing can be said about another"
    if n < 5:
        return f"{n} seeds: intervals hold for these seeds only (from 5 they cover seeds as well)"
    if n < 10:
        return f"{n} seeds: intervals cover seeds and samples; tests over seeds alone need 10"
    return f"{n} seeds: intervals cover seeds and samples"


def _show_across(collections: list[Collection]) -> None:
    """The methods that all tasks have, by their average rank."""
    from mmbench.reporting.across import across_table
    from mmbench.reporting.terminal import print_tables

    table = across_table(collections)
    if table is not None:
        print_tables([table])


def _show(plan: Plan, registry: Registry, settings: Settings) -> Collection:
    """Print a run's tables and what to type next; what was printed."""
    from mmbench.cli.progress import say
    from mmbench.reporting.ablation import ablation_study
    from mmbench.reporting.gains import gain_study
    from mmbench.reporting.records import Question, make_records
    from mmbench.reporting.stressed import stress_study
    from mmbench.reporting.sweep import sweep_study
    from mmbench.reporting.tables import TABLE_METRICS, make_tables
    from mmbench.reporting.terminal import print_tables

    collection = make_records(plan.folder, Question(methods=tuple(plan.methods)))
    print_tables(make_tables(collection, TABLE_METRICS))
    print_tables(gain_study(collection).tables)
    print_tables(ablation_study(plan.folder, plan.ablations).tables)
    print_tables(sweep_study(plan.folder, plan.sweeps).tables)
    if plan.stress:
        print_tables(stress_study(plan.folder, tuple(plan.methods)).tables)
    name = _named(plan, settings)
    say(f"run folder: {plan.folder.path}")
    say("next:")
    say(f"  mmbench report {name} --format html --output report.html   (or latex, markdown, csv, json)")
    if plan.dataset.generated and plan.task.obtain:
        say(f"  {_again(plan, registry, settings, 'FOLDER')}   (the real data: {plan.task.obtain})")
    else:
        say(f"  mmbench compare {name} --reference {shlex.quote(_reference(plan))}")
    say(f"  {_again(plan, registry, settings, settings.data)} --seeds 10")
    return collection


def _finished(plan: Plan) -> list[str]:
    """The methods that have a finished cell, in order."""
    return list(dict.fromkeys(cell.method for cell in plan.cells if plan.folder.is_done(cell)))


def _reference(*plans: Plan) -> str:
    """What is compared with: the proposed method, else the first that finished in the most of these plans."""
    methods = [method for plan in plans for method in _finished(plan)]
    return plans[0].task.proposed if plans[0].task.proposed in methods else max(methods, key=methods.count)


def _named(plan: Plan, settings: Settings) -> str:
    """The run as an argument of the verbs that read it, with ``--out`` where it lies elsewhere than usual."""
    out = f" --out {shlex.quote(str(plan.folder.path.parent))}" if settings.out else ""
    return shlex.quote(plan.folder.path.name) + out


def _again(plan: Plan, registry: Registry, settings: Settings, data: Path | str | None) -> str:
    """The command that runs every method on the same problems."""
    words = ["mmbench", "run", plan.name, "--protocol", plan.protocol.name, "--method", "all"]
    words += ["--data", str(data)] if data else []
    words += ["--out", str(settings.out)] if settings.out else []
    words += ["--train-fraction", settings.train_fraction] if settings.train_fraction else []
    words += [word for path in registry.extra for word in ("--plugin", str(path))]
    words += [word for key, value in settings.task.items() for word in ("--set", f"task.{key}={value}")]
    return shlex.join(words)
