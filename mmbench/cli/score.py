"""``mmbench score``: someone else's predictions become cells of a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

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
    TaskName,
)

OUT = Path("results") / "runs"


def score(
    task: TaskName,
    predictions: Annotated[list[Path], typer.Option(help="A file of answers; given again, the next seed's.")],
    name: Annotated[str, typer.Option(help="What the tables call it.")],
    run: Annotated[str | None, typer.Option(help="The run it joins: a path or name, in place of its options.")] = None,
    protocol: Protocol = None,
    concepts: Concepts = None,
    modalities: Modalities = None,
    data: Data = None,
    labels: Labels = None,
    split_seed: SplitSeed = None,
    missing_images: MissingImages = None,
    bad_images: BadImages = None,
    caption_leak: CaptionLeak = None,
    config: Config = None,
    set_: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the first file.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where runs are stored.")] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score the answered rows only, in a run of its own.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace predictions of the same name and seed.")] = False,
    plugin: Plugin = None,
    require_data: RequireData = False,
) -> None:
    """Score predictions that mmbench did not train, and print them beside the run's other methods."""
    from dataclasses import replace

    from mmbench.cli.progress import say
    from mmbench.cli.selecting import merge_settings
    from mmbench.errors import UsageError
    from mmbench.plugins import Registry
    from mmbench.reporting.records import make_records
    from mmbench.reporting.tables import TABLE_METRICS, make_tables
    from mmbench.reporting.terminal import print_tables
    from mmbench.running import foreign
    from mmbench.running.plan import Request, make_plan
    from mmbench.running.reopen import registry_of
    from mmbench.running.store import find_run

    options = {
        "labels": labels,
        "missing_images": missing_images,
        "bad_images": bad_images,
        "caption_leak": caption_leak,
    }
    flags = {"protocol": protocol, "concepts": concepts, "modalities": modalities, "split_seed": split_seed}
    folder = None if run is None else find_run(run, out or OUT)
    registry = Registry(plugin or []) if folder is None else registry_of(folder, plugin or [])
    foreign.check_name(name, registry)
    if folder is None:
        settings = merge_settings(config, set_, options, data=data, out=out, **flags)
    else:
        given = [key for key, value in {**options, **flags, "config": config, "set": set_}.items() if value is not None]
        if given:
            raise UsageError(
                f"--run {run} says all of a run's options itself: leave out --{given[0].replace('_', '-')}"
            )
        info = folder.info()
        if info["config"]["task"] != task:
            raise UsageError(f"{folder.path} is a run of task {info['config']['task']}, not of {task}")
        settings = foreign.settings_of_run(info).model_copy(update={"data": data})
    plan = make_plan(Request(task, settings, settings.out or OUT, require_data), registry)
    if folder is not None:
        plan = replace(plan, folder=folder)
    scored, lines = foreign.score(plan, predictions, name, seed, registry, allow_partial=allow_partial, force=force)
    say(f"{plan.dataset.title} · protocol {plan.protocol.name}: {plan.protocol.summary}")
    if plan.dataset.generated:
        say("GENERATED DATA: it shows that everything works; its numbers say nothing about any method")
    if plan.overrides:
        say("overrides: " + "; ".join(plan.overrides))
    for line in lines:
        say(line)
    print_tables(make_tables(make_records(scored), TABLE_METRICS))
    say(f"run folder: {scored.path}")
    say("next:")
    say(f"  mmbench report {shlex.quote(str(scored.path))} --format latex --output table.tex")
