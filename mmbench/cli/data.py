"""``mmbench data``: what concerns a data set alone."""

from __future__ import annotations

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

app = typer.Typer(help="Work with a task's data set.", rich_markup_mode=None)


@app.callback()
def _data() -> None:
    """Work with a task's data set."""


@app.command("export")
def export(
    task: TaskName,
    output: Annotated[Path, typer.Option(help="The file to write: JSON lines.")],
    split: Annotated[str, typer.Option(help="Which rows: train, val or test.")] = "test",
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
    plugin: Plugin = None,
    require_data: RequireData = False,
) -> None:
    """Write the rows of a split without their labels, for a model outside mmbench to answer."""
    from mmbench.cli.progress import say
    from mmbench.cli.selecting import merge_settings
    from mmbench.errors import UsageError
    from mmbench.plugins import Registry
    from mmbench.running.export import export_rows
    from mmbench.running.plan import Request, make_plan
    from mmbench.running.store import write_atomically

    options = {
        "labels": labels,
        "missing_images": missing_images,
        "bad_images": bad_images,
        "caption_leak": caption_leak,
    }
    flags = {"protocol": protocol, "concepts": concepts, "modalities": modalities, "split_seed": split_seed}
    settings = merge_settings(config, set_, options, data=data, **flags)
    plan = make_plan(Request(task, settings, Path(), require_data), Registry(plugin or []))
    lines, left_out = export_rows(plan, split)
    try:
        write_atomically(output, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None
    if plan.dataset.generated:
        say("GENERATED DATA: it shows that everything works; its numbers say nothing about any method")
    if left_out:
        say(f"vectors are not exported: {', '.join(left_out)}")
    say(f"{output}: {len(lines):,} {split} rows of {plan.dataset.title}, protocol {plan.protocol.name}, without labels")
