"""``mmbench list``: what there is, without executing any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KINDS = ("tasks", "methods", "encoders", "metrics", "runs")


def list_(
    what: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="What to list.")],
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("results") / "runs",
    plugin: Annotated[list[Path] | None, typer.Option(help="A plug-in file to list too.")] = None,
) -> None:
    """List tasks, methods, encoders, metrics or runs."""
    from mmbench.errors import unknown

    if what not in KINDS:
        raise unknown("list", what, KINDS)
    rows = {"tasks": _plugins, "methods": _plugins, "encoders": _encoders, "metrics": _metrics, "runs": _runs}[what](
        what, out, plugin or []
    )
    width = max((len(row[0]) for row in rows), default=0)
    for row in rows:
        typer.echo(f"{row[0]:<{width}}  {'  '.join(cell for cell in row[1:] if cell)}".rstrip())


def _plugins(what: str, out: Path, extra: list[Path]) -> list[tuple[str, ...]]:
    from mmbench.plugins import METHOD_KINDS, Registry

    registry = Registry(extra)
    for line in registry.broken:
        typer.echo(line, err=True)
    if what == "tasks":
        return [(p.name, p.summary, "" if p.origin == "shipped" else f"({p.path})") for p in registry.list("task")]
    return [
        (p.name, f"{p.kind:<8}", f"[{p.paper_name}]" if p.paper_name else "", p.summary,
         "" if p.origin == "shipped" else f"({p.path})")
        for kind in METHOD_KINDS
        for p in registry.list(kind)
    ]  # fmt: skip


def _encoders(what: str, out: Path, extra: list[Path]) -> list[tuple[str, ...]]:
    from mmbench.features import ENCODERS

    return [(name, "/".join(kinds), summary) for name, (kinds, summary) in ENCODERS.items()]


def _metrics(what: str, out: Path, extra: list[Path]) -> list[tuple[str, ...]]:
    from mmbench.evaluation.metrics import METRICS

    return [(name, f"{metric.better} is better", metric.summary) for name, metric in METRICS.items()]


def _runs(what: str, out: Path, extra: list[Path]) -> list[tuple[str, ...]]:
    from mmbench.errors import MmbenchError
    from mmbench.running.store import CEILING, RunFolder

    rows: list[tuple[str, ...]] = []
    for path in sorted(out.glob("*/run.json")):
        folder = RunFolder(path.parent)
        try:
            folder.check_info()
            info = folder.info()
            statuses = [result["status"] for cell, result in folder.results() if not cell.method.startswith(CEILING)]
        except MmbenchError as error:
            rows.append((path.parent.name, f"cannot be read: {error}"))
            continue
        failed = len(statuses) - statuses.count("done")
        rows.append(
            (
                path.parent.name,
                info["task"]["title"],
                f"{statuses.count('done')} cells" + f", {failed} failed" * bool(failed),
            )
        )
    return rows
