"""``mmbench report``: the tables of a stored run, in the format one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("table", "markdown", "latex", "csv", "json")


def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A path or name; the latest by default.")] = None,
    format_: Annotated[str, typer.Option("--format", help="|".join(FORMATS))] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Which metrics the tables show (a,b).")] = None,
    published: Annotated[bool, typer.Option("--published", help="Set published numbers beside ours.")] = False,
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
    if format_ == "table" and output is None:
        from mmbench.reporting.published import published_tables
        from mmbench.reporting.tables import make_tables
        from mmbench.reporting.terminal import print_tables

        claims = published_tables(collection) if published else []
        print_tables([*make_tables(collection, wanted), *claims])
        return
    text = render(collection, format_, wanted, published)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None
