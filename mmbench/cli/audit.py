"""``mmbench data audit``: what is wrong with a data set before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli.selecting import (
    BadImages,
    CaptionLeak,
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

FORMATS = ("table", "markdown", "json")


def audit(
    task: TaskName,
    protocol: Protocol = None,
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
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where there is an error or a warning.")] = False,
    format_: Annotated[str, typer.Option("--format", help="|".join(FORMATS))] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """Look for leaks, near-duplicates, poor labels, missing files and telling features; nothing is trained."""
    from mmbench.cli.progress import say
    from mmbench.cli.selecting import merge_settings
    from mmbench.errors import UsageError, unknown
    from mmbench.plugins import Registry
    from mmbench.reporting.findings import findings_as
    from mmbench.running.audit import audit_task
    from mmbench.running.plan import Request
    from mmbench.running.store import write_atomically

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    options = {
        "labels": labels,
        "missing_images": missing_images,
        "bad_images": bad_images,
        "caption_leak": caption_leak,
    }
    flags = {"protocol": protocol, "modalities": modalities, "split_seed": split_seed}
    settings = merge_settings(config, set_, options, data=data, **flags)
    plan, findings = audit_task(Request(task, settings, Path(), require_data), Registry(plugin or []))
    text = findings_as(findings, f"{plan.dataset.title}, protocol {plan.protocol.name}", format_)
    if output is None:
        typer.echo(text, nl=False)
    else:
        try:
            write_atomically(output, text)
        except OSError as error:
            raise UsageError(f"cannot write {output}: {error.strerror}") from None
    if plan.dataset.generated:
        say("GENERATED DATA: what is found here says nothing of the data set itself")
    if strict and any(finding.severity != "info" for finding in findings):
        raise typer.Exit(1)
