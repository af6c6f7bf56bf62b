"""``mmbench info``: one task, method, encoder or metric in full."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    name: Annotated[
        str, typer.Argument(metavar="TASK|METHOD|ENCODER|METRIC", help="A name, or a method such as igfn+dmtl.")
    ],
    plugin: Annotated[list[Path] | None, typer.Option(help="A plug-in file to look in too.")] = None,
) -> None:
    """Show a task's protocols, licence and citation, a method's equation and parameters, an encoder, a metric."""
    from mmbench.errors import unknown
    from mmbench.evaluation.metrics import METRICS
    from mmbench.features import ENCODERS
    from mmbench.methods import UNIMODAL
    from mmbench.plugins import METHOD_KINDS, Registry

    registry = Registry(plugin or [])
    plugins = registry.list("task", *METHOD_KINDS)
    named = {part.partition(":")[0] for part in name.split("+")}
    found = [p for p in plugins if p.name in named]
    if name in ENCODERS:
        _encoder(name)
    elif name in METRICS:
        typer.echo(f"{name} (metric): {METRICS[name].summary}; {METRICS[name].better} is better")
    elif {p.name for p in found} != named - {UNIMODAL}:
        known = [*(p.name for p in plugins), *ENCODERS, *METRICS]
        raise unknown("task, method, encoder or metric", name, known, "; ".join(registry.broken))
    if UNIMODAL in named:
        from mmbench.training import unimodal

        typer.echo(unimodal.__doc__)
    for item in found:
        typer.echo(f"{item.name} ({item.kind}): {item.summary}")
        if item.kind == "task":
            _task(registry.task(item.name))
        else:
            _method(registry.load(item.name, item.kind))


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


def _method(module: Any) -> None:
    from mmbench.methods import ablations_of, parameters_of

    parameters, parts = parameters_of(module), ablations_of(module)
    _document(module)
    _parameters(parameters)
    if parts:
        typer.echo("  parts, switched off one at a time by --method ablation:…:")
        for words, switch in parts.items():
            typer.echo(f"    {words} ({switch})")


def _encoder(name: str) -> None:
    from importlib import import_module

    from mmbench.features import TABLE

    encoder = TABLE[name]
    typer.echo(f"{name} (encoder of {'/'.join(encoder.kinds)}): {encoder.summary}")
    _document(import_module(f"mmbench.features.{encoder.module}"))
    if encoder.named:
        typer.echo(f"  given as {name}:<{encoder.named}>, parameters after another colon")
    _parameters(encoder.parameters)


def _document(module: Any) -> None:
    for line in (inspect.getdoc(module) or "").splitlines():
        typer.echo(f"  {line}".rstrip())


def _parameters(parameters: dict[str, tuple[Any, Any]]) -> None:
    typer.echo("  parameters:" if parameters else "  no parameters")
    for name, (annotation, default) in parameters.items():
        shown = "required" if default is inspect.Parameter.empty else f"default {default}"
        typer.echo(f"    {name} ({_type_name(annotation)}): {shown}")


def _type_name(annotation: Any) -> str:
    from typing import Annotated, Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    return getattr(annotation, "__name__", str(annotation))
