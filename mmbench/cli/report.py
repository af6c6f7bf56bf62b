"""``mmbench report``: the tables of a stored run, in the format one needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmbench.reporting.records import Collection
    from mmbench.running.store import RunFolder

FORMATS = ("table", "markdown", "latex", "csv", "json", "html")


def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A path or name; the latest by default.")] = None,
    format_: Annotated[str, typer.Option("--format", help="|".join(FORMATS))] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Also write every figure here, as PDF, SVG and PNG.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Which metrics the tables show (a,b).")] = None,
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("results") / "runs",
) -> None:
    """Print or write the comparison of a run from its stored predictions."""
    from mmbench.errors import UsageError, unknown
    from mmbench.running.store import find_run

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    folder = find_run(run, out)
    from mmbench.evaluation.metrics import METRICS
    from mmbench.reporting.records import make_records
    from mmbench.reporting.render import render
    from mmbench.reporting.tables import TABLE_METRICS

    wanted = [name.strip() for name in (metrics or ",".join(TABLE_METRICS)).split(",") if name.strip()]
    for name in wanted:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    collection = make_records(folder)
    if figures is not None:
        _write_figures(folder, collection, figures)
    if format_ == "table" and output is None:
        from mmbench.reporting.terminal import print_tables

        print_tables(collection, wanted)
        return
    if format_ == "html":
        from mmbench.reporting.html import to_html

        text = to_html(folder, collection, wanted)
    else:
        text = render(collection, format_, wanted)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None


def _write_figures(folder: RunFolder, collection: Collection, target: Path) -> None:
    """Write every figure, and say which cannot be made and why."""
    from mmbench.cli.progress import say
    from mmbench.reporting.evidence import gather
    from mmbench.reporting.figures import figures, save

    plots, absent = figures(collection, gather(folder, collection))
    for line in (*absent, *save(plots, target)):
        say(f"no figure: {line}")
    say(f"figures: {len(plots)} as PDF, SVG and PNG in {target}")
