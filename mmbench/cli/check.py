"""``mmbench check``: is a run worse than its baseline by more than seeds and samples explain?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmbench.cost_ratios import Ratio
    from mmbench.reporting.gate import Outcome
    from mmbench.running.store import RunFolder


def check(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A path or name; the latest by default.")] = None,
    against: Annotated[Path | None, typer.Option(help="The baseline: FILE.json, with FILE.npz beside it.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="The gated metric; the baseline's by default, macro_f1 for a new one.")
    ] = None,
    min_effect: Annotated[float, typer.Option(min=0, help="A smaller drop never alarms.")] = 0.01,
    ratio: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC:METHOD/REFERENCE<=LIMIT",
            help="Also gate train_seconds, predict_seconds or energy_wh, as a ratio within this run.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown for a pull request to this file.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print GitHub annotations; on by itself where GITHUB_ACTIONS is true.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Make the run the baseline instead.")] = False,
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("results") / "runs",
) -> int:
    """Compare a run with a baseline: exit 1 on a regression, 3 where something could not be compared."""
    from mmbench.cost_ratios import parse_ratio
    from mmbench.errors import MmbenchError, NotComparableError, UsageError
    from mmbench.evaluation.metrics import check_metrics
    from mmbench.running.store import find_run

    if against is None:
        raise UsageError("expected a baseline: --against results/baselines/NAME.json (with --update to write it)")
    if against.suffix != ".json":
        raise UsageError(f"--against {against}: expected a file that ends in .json")
    check_metrics([metric] if metric else [])
    ratios = [parse_ratio(text) for text in ratio or []]
    folder = find_run(run, out)
    if update:
        return _update(folder, against, metric or "macro_f1")
    info = folder.info()
    from mmbench.reporting import gate as rendering

    try:
        found = _gate(folder, against, metric, min_effect, ratios)
    except MmbenchError as error:
        found = rendering.incomparable(info, str(error))
    rendering.print_outcome(found)
    _write(junit, rendering.to_junit(found))
    _write(markdown, rendering.to_markdown(found))
    if github or os.environ.get("GITHUB_ACTIONS") == "true":
        for line in rendering.to_annotations(found):
            typer.echo(line)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _write(Path(summary), rendering.to_markdown(found), append=True)
    if found.gate is None:  # a damaged cell too, whose own code 1 would mean a regression here
        raise NotComparableError(found.reason)
    return found.gate.exit_code


def _gate(folder: RunFolder, against: Path, metric: str | None, min_effect: float, ratios: list[Ratio]) -> Outcome:
    from mmbench.cost_ratios import measure_ratio
    from mmbench.regression import gate
    from mmbench.reporting.baseline import check_comparable, match, read_baseline, read_run
    from mmbench.reporting.gate import outcome

    info = folder.info()
    baseline = read_baseline(against)
    notes = check_comparable(baseline, info)
    gated = metric or baseline.metric
    pairs, incomplete, ungated = match(baseline, read_run(folder), gated)
    results = [result for _, result in folder.results()]
    measured = [measure_ratio(ratio, results) for ratio in ratios]
    made = gate(pairs, incomplete, gated, min_effect, ungated, measured)
    return outcome(info, baseline.record["run"], made, notes, str(against))


def _update(folder: RunFolder, against: Path, metric: str) -> int:
    from mmbench.cli.progress import say
    from mmbench.reporting.baseline import write_baseline

    made = write_baseline(against, folder, metric)
    size = sum(path.stat().st_size for path in (against, against.with_suffix(".npz")))
    say(
        f"{made.record['run']['task']['title']}: {folder.path} is the baseline {against} now: "
        f"{len(made.record['cells'])} comparisons on {metric}, {size / 1000:,.0f} kB with its .npz"
    )
    return 0


def _write(path: Path | None, text: str, append: bool = False) -> None:
    from mmbench.errors import UsageError

    if path is None:
        return
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
