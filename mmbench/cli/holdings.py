"""``mmbench data status``, ``verify``, ``sample`` and ``fetch``: the files of a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli.selecting import Data, Plugin, TaskName

if TYPE_CHECKING:
    from mmbench.contracts import Task


def _task(name: str, plugin: list[Path] | None) -> Task:
    from mmbench.plugins import Registry

    return Registry(plugin or []).task(name)


def _size(size: int) -> str:
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def status(plugin: Plugin = None) -> None:
    """Say for every task whether its data set is here, where, how large, and under which licence."""
    from tabulate import tabulate

    from mmbench.cli.progress import say
    from mmbench.errors import UsageError
    from mmbench.holdings import holding
    from mmbench.locate import cache_folder
    from mmbench.plugins import Registry

    registry = Registry(plugin or [])
    rows = []
    for found in registry.list("task"):
        try:
            held = holding(found.name, registry.task(found.name), cache_folder())
        except UsageError as error:  # a plug-in of the user's that does not load
            if found.origin == "shipped":
                raise
            rows.append([found.name, "cannot be told", str(found.path), "", ""])
            say(str(error))
            continue
        rows.append([held.task, held.state, str(held.folder or ""), _size(held.size), held.licence])
    for line in registry.broken:
        say(line)
    typer.echo(tabulate(rows, headers=["task", "data", "folder", "size", "licence"], tablefmt="plain"))


def verify(task: TaskName, data: Data = None, plugin: Plugin = None) -> None:
    """Open everything that a run would read; one line a problem, exit 1 where there is one."""
    from mmbench.errors import UsageError
    from mmbench.holdings import verify as problems_of
    from mmbench.locate import cache_folder, find_data

    found = _task(task, plugin)
    root = find_data(task, found, data, require=True)
    if root is None:
        raise UsageError(f"task {task} has no folder to verify: its data are carried by a library")
    problems = 0
    for line in problems_of(found, root, cache_folder()):
        problems += 1
        typer.echo(line)
    if problems:
        typer.echo(f"{root}: {problems:,} problem{'s' * (problems > 1)}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{root}: everything that {task} reads can be read", err=True)


def sample(
    task: TaskName,
    output: Annotated[Path, typer.Option(help="The folder to write; empty or not there.")],
    plugin: Plugin = None,
) -> None:
    """Write a task's generated sample in the layout of the data set."""
    from mmbench.holdings import write_sample

    found = _task(task, plugin)
    number = write_sample(task, found, output)
    typer.echo(f"{output}: {number:,} files, generated, in the layout of {found.title}", err=True)
    typer.echo(f"  mmbench run {task} --data {output} --method all", err=True)


def fetch(
    task: TaskName,
    output: Annotated[Path | None, typer.Option(help="The folder; by default where run looks for it.")] = None,
    plugin: Plugin = None,
) -> None:
    """Fetch a data set from its authors' site, check it, and unpack it; to fetch is to accept its licence."""
    from mmbench.cli.progress import Transfer, say
    from mmbench.fetching import fetch as get
    from mmbench.locate import cache_folder

    found = _task(task, plugin)
    places = Path(os.environ["MMBENCH_DATA"]) if os.environ.get("MMBENCH_DATA") else cache_folder() / "data"
    folder = output or places / task
    if found.files:
        say(f"{found.title}: {found.licence}; whoever fetches it accepts that")
    with Transfer() as transfer:
        get(found, folder, say, transfer.progress)
    say(f"{folder}: look with  mmbench data verify {task} --data {folder}")
