"""``mmbench report``: the tables of a stored run, in the format one needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmbench.reporting.records import Collection
    from mmbench.reporting.study import Study
    from mmbench.reporting.tables import Table
    from mmbench.running.store import RunFolder

FORMATS = ("table", "markdown", "latex", "csv", "json", "html")


def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A path or name; the latest by default.")] = None,
    format_: Annotated[str, typer.Option("--format", help="|".join(FORMATS))] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Also write every figure here, as PDF, SVG and PNG.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Which metrics the tables show (a,b).")] = None,
    published: Annotated[bool, typer.Option("--published", help="Set published numbers beside ours.")] = False,
    only_studies: Annotated[
        bool, typer.Option("--studies", help="In json or csv: the studies' records (ablation, stress, …) instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("results") / "runs",
) -> None:
    """Print or write the comparison of a run from its stored predictions."""
    from mmbench.errors import UsageError, unknown
    from mmbench.running.store import find_run

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    if only_studies and format_ not in ("json", "csv"):
        raise UsageError(f"--studies chooses records: expected --format json or csv with it, {format_} was given")
    folder = find_run(run, out)
    from mmbench.evaluation.metrics import check_metrics
    from mmbench.reporting.records import make_records
    from mmbench.reporting.render import all_tables, records_as, render
    from mmbench.reporting.study import read_studies
    from mmbench.reporting.tables import TABLE_METRICS

    wanted = [name.strip() for name in (metrics or ",".join(TABLE_METRICS)).split(",") if name.strip()]
    check_metrics(wanted)
    collection = make_records(folder)
    studies = read_studies(folder, collection)
    if figures is not None:
        _write_figures(folder, collection, studies, figures)
    if format_ == "html":
        from mmbench.reporting.html import to_html

        emit(to_html(folder, collection, all_tables(collection, wanted, published), studies), output)
    elif only_studies:
        emit(records_as(studies.records, format_), output)
    elif format_ == "table" and output is None:
        show([*all_tables(collection, wanted, published), *studies.tables], format_, None)
    else:
        emit(render(collection, format_, wanted, published, studies), output)


def show(tables: Sequence[Table], form: str, output: Path | None) -> None:
    """Print tables as wide as the terminal is, or write them in a form that is text."""
    from mmbench.reporting.render import tables_as
    from mmbench.reporting.terminal import print_tables

    if form == "table" and output is None:
        print_tables(tables)
    else:
        emit(tables_as(tables, form), output)


def emit(text: str, output: Path | None) -> None:
    """Text to standard output or to a file.

    Raises:
        UsageError: a file that cannot be written.
    """
    from mmbench.errors import UsageError

    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None


def _write_figures(folder: RunFolder, collection: Collection, studies: Study, target: Path) -> None:
    """Write every figure, and say which cannot be made and why."""
    from mmbench.cli.progress import say
    from mmbench.reporting.evidence import gather
    from mmbench.reporting.figures import figures, save
    from mmbench.reporting.inside import inside_study

    plots, absent = figures(collection, gather(folder, collection))
    inside = inside_study(folder, list(dict.fromkeys(record["method"] for record in collection.records)))
    plots += [*studies.plots, *inside.plots]
    for line in (*absent, *studies.absent, *inside.absent, *save(plots, target)):
        say(f"no figure: {line}")
    say(f"figures: {len(plots)} as PDF, SVG and PNG in {target}")
