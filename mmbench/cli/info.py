"""``mmbench info``: one task or method in full."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    name: Annotated[str, typer.Argument(metavar="TASK|METHOD", help="A task, a fusion, a strategy or a model.")],
    plugin: Annotated[list[Path] | None, typer.Option(help="A plug-in file to look in too.")] = None,
) -> None:
    """Show a task's protocols, options, licence and citation, or a method's equation and parameters."""
    from mmbench.errors import unknown
    from mmbench.methods import UNIMODAL
    from mmbench.plugins import METHOD_KINDS, Registry

    if name == UNIMODAL:
        from mmbench.training import unimodal

        typer.echo(unimodal.__doc__)
        return
    registry = Registry(plugin or [])
    found = [p for p in registry.list("task", *METHOD_KINDS) if p.name == name]
    if not found:
        raise unknown("task or method", name, (p.name for p in registry.list("task", *METHOD_KINDS)))
    for item in found:
        module = registry.load(item.name, item.kind)
        typer.echo(f"{item.name} ({item.kind}): {item.summary}")
        if item.kind == "task":
            _task(module.TASK)
        else:
            _method(module, item.kind)


def _task(task: Any) -> None:
    typer.echo(f"  {task.title}; group: {task.group}; licence: {task.licence}")
    typer.echo(f"  citation: {task.citation}")
    if task.obtain:
        typer.echo(f"  data: {task.obtain}")
    typer.echo("  modalities: " + ", ".join(f"{m.name} ({m.kind}, {m.encoder})" for m in task.modalities))
    typer.echo("  protocols:")
    for number, protocol in enumerate(task.protocols):
        typer.echo(f"    {protocol.name}{' (default)' if number == 0 else ''}: {protocol.summary}")
        typer.echo(f"      split: {protocol.split}; primary metric: {protocol.primary_metric}")
        if protocol.warning:
            typer.echo(f"      WARNING: {protocol.warning}")
        typer.echo(f"      suite: {', '.join(protocol.suite)}")
    if task.facts:
        typer.echo("  to know:")
        for fact in task.facts:
            typer.echo(f"    {fact}")
    if task.options:
        typer.echo("  options (--set task.NAME=VALUE):")
        for option in task.options:
            choices = f" [{'|'.join(option.choices)}]" if option.choices else ""
            typer.echo(f"    {option.name}{choices}, default {option.default}: {option.help}")


def _method(module: Any, kind: str) -> None:
    from mmbench.methods import parameters_of

    document = inspect.getdoc(module) or ""
    typer.echo("\n".join(f"  {line}".rstrip() for line in document.splitlines()))
    parameters = parameters_of(module)
    typer.echo("  parameters:" if parameters else "  no parameters")
    for name, (annotation, default) in parameters.items():
        shown = "required" if default is inspect.Parameter.empty else f"default {default}"
        typer.echo(f"    {name} ({_type_name(annotation)}): {shown}")
    if parts := getattr(module, "ABLATIONS", {}):
        typer.echo("  parts, switched off one at a time by --method ablation:…:")
        for words, switch in parts.items():
            typer.echo(f"    {words} ({switch})")


def _type_name(annotation: Any) -> str:
    from typing import Annotated, Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    return getattr(annotation, "__name__", str(annotation))
