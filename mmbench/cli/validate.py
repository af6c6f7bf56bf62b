"""``mmbench validate``: whether a plug-in keeps its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORDS = {True: "ok", False: "FAIL", None: "-"}


def validate(
    name: Annotated[str, typer.Argument(metavar="TASK|METHOD", help="A task, or a method such as igfn:delta=0.1.")],
    plugin: Annotated[list[Path] | None, typer.Option(help="A plug-in file to look in too.")] = None,
    data: Annotated[Path | None, typer.Option(help="A task's data; without it what it embeds, or is found.")] = None,
) -> None:
    """Check a plug-in of your own: shapes, seeds, gradients, missing inputs, single rows, splits.

    Exit 1 where a check fails.
    """
    from mmbench.errors import UsageError, unknown
    from mmbench.locate import cache_folder, find_data
    from mmbench.plugins import METHOD_KINDS, Registry

    registry = Registry(plugin or [])
    tasks, methods = ([found.name for found in registry.list(*kinds)] for kinds in (("task",), METHOD_KINDS))
    first = name.split("+")[0].split(":")[0]
    if first not in (*tasks, *methods):
        raise unknown("task or method", first, (*tasks, *methods), "; ".join(registry.broken))
    if name in tasks:
        from mmbench.validation.tasks import validate_task

        findings = validate_task(name, registry, find_data(name, registry.task(name), data, False), cache_folder())
    elif data is not None:
        raise UsageError(f"--data goes with a task, and '{name}' is none: `mmbench list tasks` shows them")
    else:
        from mmbench.validation.methods import validate_method

        findings = validate_method(name, registry)
    failed = 0
    for finding in findings:
        failed += finding.kept is False
        typer.echo(f"{WORDS[finding.kept]:<4}  {finding.check}{': ' if finding.reason else ''}{finding.reason}")
    if failed:
        raise typer.Exit(1)
