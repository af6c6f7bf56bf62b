"""A cell that was looked into, as a page of its own: averages, and chosen samples with their texts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbench.reporting import samples as seen
from mmbench.reporting.drawing_inside import relative
from mmbench.reporting.figures import Plot, stamped, to_svg
from mmbench.reporting.inside import CAUTION, average_plot, average_table
from mmbench.reporting.pages import render_page
from mmbench.reporting.samples import Sample, Strip
from mmbench.running.inside import Explained


def average_plots(explained: Explained, summary: dict[str, Any]) -> list[Plot]:
    """The figures of every array on average over test rows."""
    cell = explained.cell
    plots = [
        average_plot(cell.problem, cell.method, name, [(cell.seed, kept)]) for name, kept in summary["arrays"].items()
    ]
    return [stamped(plot) for plot in plots] if explained.dataset.generated else plots


def to_page(explained: Explained, summary: dict[str, Any], samples: Sequence[Sample], info: dict[str, Any]) -> str:
    """The page; ``summary`` is what :func:`mmbench.running.inside.summarise` keeps."""
    from markupsafe import Markup

    cell = explained.cell
    plots = average_plots(explained, summary)
    checked = f"{summary['predicted_rows']:,} validation and test rows, bit for bit"
    return render_page(
        "explain.html",
        info=info,
        cell=cell,
        title=f"{info['task']['title']} · inside {cell.method}",
        facts=[
            ("Task", ": ".join(filter(None, (info["task"]["name"], info["task"]["citation"])))),
            ("Protocol", info["protocol"]["name"]),
            ("Problem and seed", f"{cell.problem}, seed {cell.seed}"),
            ("Encoders", ", ".join(f"{m}={e}" for m, e in info["config"]["encoders"].items())),
            ("Trained again", f"its predictions are the stored ones on all {checked}"),
            ("Licence of the data", info["task"]["licence"]),
        ],
        caution=CAUTION,
        averages=[
            average_table(cell.problem, cell.method, name, [(cell.seed, kept)])
            for name, kept in summary["arrays"].items()
            if not kept["steps"]
        ],
        plots=[Markup(to_svg(plot, f"a{number}")) for number, plot in enumerate(plots)],
        captions=[plot.caption for plot in plots],
        chosen=seen.weights_tables(explained) if samples else [],
        samples=[_sample(explained, sample, f"s{number}") for number, sample in enumerate(samples)],
        remarks=(),
        unranked=lambda table: [],
    )


def _sample(explained: Explained, sample: Sample, key: str) -> dict[str, Any]:
    """What the page shows of one sample."""
    return {
        "id": sample.id,
        "group": sample.group,
        "key": key,
        "decisions": sample.decisions,
        "inputs": [(name, *seen.shown_input(kind, value)) for name, kind, value in sample.inputs],
        "strips": [_strip(explained, sample, strip, f"{key}-{n}") for n, strip in enumerate(sample.strips)],
    }


def _strip(explained: Explained, sample: Sample, strip: Strip, key: str) -> dict[str, Any]:
    """A strip as shaded words, as a picture under a grid of shades, or as a drawing."""
    from markupsafe import Markup

    shown: dict[str, Any] = {"name": strip.name, "says": strip.says, "strongest": seen.strongest(strip), "words": []}
    shown |= {"picture": "", "svg": ""}
    if strip.tokens:
        top = float(np.nanmax(strip.weights)) or 1.0
        shown["words"] = [
            (token[: len(token) - len(token.lstrip())], token.lstrip(), round(100 * weight / top), f"{weight:.4f}")
            for token, weight in zip(strip.tokens, np.nan_to_num(strip.weights), strict=True)
        ]
    elif strip.patches is not None:
        height, width = strip.patches.picture.shape[:2]
        rows, columns = strip.patches.rows, strip.patches.columns
        grid = seen.grid_of(strip)
        shown |= {
            "picture": seen.data_uri(strip.patches.picture),
            "size": (width, height),
            "fields": [
                (
                    f"{column * width / columns:.1f}",
                    f"{row * height / rows:.1f}",
                    f"{0.8 * (1 - share):.2f}",
                    f"row {row + 1}, column {column + 1}: {grid[row, column]:.4f}",
                )
                for (row, column), share in np.ndenumerate(relative(grid))
            ],
            "field": (f"{width / columns:.1f}", f"{height / rows:.1f}"),
        }
    else:
        shown["svg"] = Markup(to_svg(seen.strip_plot(explained, sample, strip), key))
    return shown
