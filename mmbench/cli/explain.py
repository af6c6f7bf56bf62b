"""``mmbench explain``: what a trained network of a run shows of its inside, on average and on chosen samples."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli.selecting import Data, Plugin

OUT = Path("results") / "runs"


def explain(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A path or name; the latest by default.")] = None,
    method: Annotated[str, typer.Option(help="The method to look into, as the tables name it.")] = "",
    samples: Annotated[str, typer.Option(metavar="N|ID,…", help="How many test rows to draw, or which.")] = "4",
    problem: Annotated[str | None, typer.Option(help="Which problem, where a run has several; its first.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which seed; the first that is there.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write a page here, with the samples' texts and images.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write figures here, as PDF, SVG and PNG.")] = None,
    data: Data = None,
    plugin: Plugin = None,
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = OUT,
) -> None:
    """Train a stored cell again, check that it predicts the same, and show its weights, gates and attention."""
    from mmbench.cli.progress import Progress, say
    from mmbench.cli.report import emit, show
    from mmbench.errors import UsageError
    from mmbench.reporting.explained import average_plots, to_page
    from mmbench.reporting.figures import save, stamped
    from mmbench.reporting.samples import sample_plots, see_samples, weights_tables
    from mmbench.running import inside
    from mmbench.running.reopen import registry_of
    from mmbench.running.store import find_run

    if not method:
        raise UsageError("expected a method to look into: --method igfn+dmtl")
    folder = find_run(run, out)
    registry = registry_of(folder, plugin or [])
    cell = inside.find_cell(folder, method, problem, seed, registry)
    plan = inside.plan_again(folder, cell, data, registry)
    say(f"{plan.dataset.title} · {cell}: training it again")
    with Progress(1) as progress:
        explained = inside.explain(plan, cell, samples, registry, progress.epoch)
        progress.done = 1
    summary = inside.summarise(explained)
    say(f"its predictions are the stored ones, bit for bit, on {explained.predicted_rows:,} validation and test rows")
    show(weights_tables(explained), "table", None)
    over_steps = [name for name, array in explained.inside.items() if array.steps]
    if over_steps and output is None and figures is None:
        say(f"by step, in a page or in figures (--output FILE.html, --figures DIR): {', '.join(over_steps)}")
    if output is not None or figures is not None:
        seen = see_samples(explained)
    if output is not None:
        emit(to_page(explained, summary, seen, folder.info()), output)
        say(f"page: {output}")
    if figures is not None:
        drawn = sample_plots(explained, seen)
        plots = average_plots(explained, summary) + ([stamped(p) for p in drawn] if plan.dataset.generated else drawn)
        for line in save(plots, figures):
            say(f"no figure: {line}")
        say(f"figures: {len(plots)} as PDF, SVG and PNG in {figures}")
    try:
        folder.write_inside(cell, summary)
    except UsageError as error:
        say(f"not kept for the run's report: {error}")
    else:
        where = f" --out {shlex.quote(str(out))}" if out != OUT else ""
        say(f"averages are kept for: mmbench report {shlex.quote(folder.path.name)}{where} --format html")
