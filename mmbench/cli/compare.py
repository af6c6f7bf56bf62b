"""``mmbench compare``: every method against one, with intervals, adjusted tests and a verdict in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("table", "markdown", "latex", "csv", "json")

RECORDS = ("csv", "json")


def compare(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN …]", help="Paths or names; the latest run.")] = None,
    reference: Annotated[str | None, typer.Option(help="The method to compare with; the proposed one.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric to compare on; the protocol's primary one.")] = None,
    margin: Annotated[float, typer.Option(min=0, help="Within ± this much methods are equivalent.")] = 0.01,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Compare runs of other data, protocols or metric versions.")
    ] = False,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="The runs are splits of one data set: compare over splits.")
    ] = False,
    tests: Annotated[
        bool, typer.Option("--tests", help="Also every test: unit, n, effect, null and the smallest p it can reach.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="|".join(FORMATS))] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("results") / "runs",
) -> None:
    """Compare the methods of a run, or of several runs on the same data, with a reference."""
    from mmbench.errors import UsageError, unknown
    from mmbench.evaluation.metrics import check_metrics
    from mmbench.running.store import find_run

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    check_metrics([metric] if metric else [])
    folders = [find_run(name, out) for name in runs] if runs else [find_run(None, out)]
    from mmbench.cli.report import emit, show
    from mmbench.reporting.records import Question, make_records
    from mmbench.reporting.render import records_as
    from mmbench.reporting.tables import comparison_tables
    from mmbench.reporting.tested import significance_tables

    question = Question(None, reference, metric, margin)
    if resplit:
        from mmbench.reporting.resplits import resplit_tables

        if format_ in RECORDS:
            raise UsageError(f"--format {format_} holds records, and --resplit has none: ask for a table")
        tables = resplit_tables(folders, question)
    else:
        from mmbench.reporting.gains import gain_study

        collection = make_records(folders, question, allow_mixed)
        tables = [*comparison_tables(collection), *gain_study(collection).tables]
        if format_ in RECORDS:
            emit(records_as(collection.records, format_), output)
            return
        if tests:
            tables += significance_tables(collection)
    show(tables, format_, output)
