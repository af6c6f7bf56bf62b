"""The figures of a run: which there are, what each shows in words, and how they become SVG, PDF and PNG.

Matplotlib is imported where a figure is made, never before.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbench.errors import UsageError
from mmbench.reporting import drawing
from mmbench.reporting.comparison import Record, primary_of
from mmbench.reporting.curves import Array
from mmbench.reporting.evidence import ConceptEvidence, Evidence, MethodEvidence
from mmbench.reporting.records import Collection
from mmbench.reporting.tables import number
from mmbench.running.store import CEILING, folder_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4  # inches: a column of a paper, and about the width of a phone
LINE = 0.137  # inches: a row of a legend
IN_LEGEND = 6
FORMATS = ("pdf", "svg", "png")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.35,
    "legend.borderaxespad": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.edgecolor": drawing.MUTED,
    "axes.labelcolor": drawing.INK,
    "axes.unicode_minus": True,
    "text.color": drawing.INK,
    "text.parse_math": False,
    "xtick.color": drawing.INK,
    "ytick.color": drawing.INK,
    "grid.color": drawing.FAINT,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mmbench",
    "savefig.dpi": 300,
}
GENERATED = "generated data: says nothing about any method"


@dataclass(frozen=True)
class Plot:
    """One figure: what it is of (``concept`` and ``method`` may be ""), a caption, its data in words, how to draw it.

    Sizes and margins are in inches; the left and lower margins hold names and the legend.
    """

    kind: str
    problem: str
    concept: str
    method: str
    caption: str
    alt: str
    height: float
    left: float
    bottom: float
    draw: Callable[[Axes], None]
    width: float = COLUMN
    generated: bool = False


def figures(collection: Collection, evidence: Evidence) -> tuple[list[Plot], list[str]]:
    """All figures of a run, and a line on each that cannot be made."""
    generated = collection.info["task"]["generated"]
    made: list[Plot] = []
    absent: list[str] = []
    for found in evidence.concepts:
        for plot in (*_comparisons(collection, found), *_costs(collection, found), *_by_method(collection, found)):
            if isinstance(plot, str):
                absent.append(plot)
            else:
                made.append(plot)
    for (problem, method), losses in evidence.losses.items():
        networks = len(losses) > len({loss.seed for loss in losses})
        caption = (
            "Loss by epoch, a colour a seed: validation solid, training dashed (with dropout and whatever else the "
            "method adds in training), a ring at the epoch that was kept."
            + (" Each objective has a network of its own, so each is a line." if networks else "")
        )
        ends = ", ".join(f"seed {loss.seed}: epoch {loss.best_epoch} of {len(loss.val)}" for loss in losses)
        made.append(
            Plot("convergence", problem, "", method, caption, f"Best epochs: {ends}.", 2.5, 0.5,
                 0.62 + LINE * drawing.seed_lines(losses),
                 partial(drawing.convergence, losses=losses))
        )  # fmt: skip
    silent = sorted({r["method"] for r in collection.records} - {method for _, method in evidence.losses})
    absent += [f"convergence of {method}: it keeps no history of losses" for method in silent]
    if generated:
        made = [stamped(plot) for plot in made]
    return made, absent


def stamped(plot: Plot) -> Plot:
    """The figure with the words that it shows generated data."""
    from dataclasses import replace

    return replace(plot, generated=True, caption=f"{plot.caption} Generated data: it says nothing about any method.")


def name_margin(names: Sequence[str]) -> float:
    """Room for names beside the axes."""
    return 0.14 + 0.058 * max(len(drawing.shorten(name)) for name in names)


def _value(record: Record, digits: int = 3) -> str:
    text = "no value" if record["mean"] is None else f"{record['mean']:.{digits}f}"
    return text if record["ci_low"] is None else f"{text} ({record['ci_low']:.3f} to {record['ci_high']:.3f})"


def _comparisons(collection: Collection, found: ConceptEvidence) -> Iterator[Plot | str]:
    """What compares all methods on one concept: intervals, differences, curves, and the balance of the classes."""
    info, name = collection.info, found.concept.name
    primary, place = primary_of(info, name), (found.problem, found.concept.name)
    records, left_out = _varied(primary_records(collection, found.problem, name), found)
    left, height = name_margin([r["method"] for r in records]), 0.55 + 0.17 * len(records)
    ceilings = [r["method"].startswith(CEILING) for r in records]
    kind = records[0]["ci_kind"] or "no interval: one group shows nothing about others"
    caption = f"{primary} of each method on {name} with its interval ({kind}).{left_out}"
    if any(ceilings):
        caption += " Diamonds are the best possible scores of the generated data."
    yield Plot("values", *place, "", caption, _list((r["method"], _value(r)) for r in records), height, left, 0.4,
               partial(drawing.values, records=records, ceilings=ceilings))  # fmt: skip
    against = [record for record in records if record["delta"] is not None]
    if info["task"]["generated"]:
        yield f"forest of {name}: generated data gets no differences to a reference; see values"
    elif not against or collection.reference is None:
        yield f"forest of {name}: no reference that shares its seeds with another method"
    else:
        caption = (
            f"Differences in {primary} to {collection.reference} on {name} with paired 95 % intervals, unadjusted. "
            "Filled: better or worse after Holm's adjustment; hollow: not separated." + left_out
        )
        alt = _list(
            (r["method"], f"{r['delta']:+.3f} ({r['delta_low']:+.3f} to {r['delta_high']:+.3f})") for r in against
        )
        yield Plot("forest", *place, "", caption, alt, 0.55 + 0.17 * len(against), left, 0.4,
                   partial(drawing.forest, records=against, reference=collection.reference))  # fmt: skip
    if found.concept.kind == "score":
        yield f"roc, pr and balance of {name}: a score has no labels"
        return
    yield from _curves(collection, found, records)
    counts = found.balance
    labels = found.concept.labels
    alt = "; ".join(f"{s}: {_list(zip(labels, map(str, c), strict=True))}" for s, c in counts.items())
    caption = f"Class balance of {name}: the share of a split's labelled rows (how many in brackets) with a label."
    if "train" not in counts:
        caption += f" The run does not store the training rows' labels ({found.rows['train']:,} rows)."
    yield Plot("balance", *place, "", caption, alt, 0.85 + 0.3 * len(labels), name_margin(labels), 0.6,
               partial(drawing.balance, labels=labels, counts=counts, rows=found.rows))  # fmt: skip


def primary_records(collection: Collection, problem: str, concept: str) -> list[Record]:
    """The concept's records of the primary metric, one a method, in the order of the tables."""
    place = (problem, concept, "", primary_of(collection.info, concept))
    return [r for r in collection.records if (r["problem"], r["concept"], r["label"], r["metric"]) == place]


def _varied(records: Sequence[Record], found: ConceptEvidence) -> tuple[list[Record], str]:
    """The methods that look at their input, and a sentence on those that would only stretch the axes."""
    constant = {method for method, evidence in found.methods.items() if evidence.constant}
    varied = [record for record in records if record["method"] not in constant]
    if not varied or len(varied) == len(records):
        return list(records), ""
    named = _list((r["method"], f"({number(r['mean'])})") for r in records if r["method"] in constant)
    return varied, f" Left out, as it gives every row the same labels: {named}."


def _curves(collection: Collection, found: ConceptEvidence, records: Sequence[Record]) -> Iterator[Plot | str]:
    """Mean ROC and precision-recall curves; those of the legend are the reference and the highest values."""
    rivals = [r for r in records if not r["method"].startswith(CEILING) and r["mean"] is not None]
    if not collection.info["task"]["generated"]:
        rivals.sort(key=lambda r: (r["method"] != collection.reference, -r["mean"]))
    named = [record["method"] for record in rivals][:IN_LEGEND]
    for kind, metric in (("roc", "roc_auc"), ("pr", "map")):
        drawn: dict[str, Array] = {}
        for method, evidence in found.methods.items():
            curve = evidence.roc if kind == "roc" else evidence.pr
            if curve is not None:
                drawn[method] = curve
        if not drawn:
            yield f"{kind} of {found.concept.name}: no label has both a positive and a negative test row"
            continue
        areas = {
            r["method"]: r["mean"]
            for r in collection.records
            if (r["problem"], r["concept"], r["label"], r["metric"]) == (found.problem, found.concept.name, "", metric)
        }
        shown = [(method, drawn[method], areas[method]) for method in named if method in drawn]
        others = [drawn[method] for method in drawn if method not in named]
        what = "ROC" if kind == "roc" else "Precision-recall"
        held = "false positive rate" if kind == "roc" else "recall"
        caption = (
            f"{what} curves on {found.concept.name}: vertical means at each {held} over labels (one against the rest) "
            f"and seeds, so that the area below is {metric}, the number in the legend. Faint: the other methods."
        )
        alt = f"{metric}: " + _list((m, "no value" if a is None else f"{a:.3f}") for m, a in areas.items())
        bottom = 0.5 + LINE * (len(shown) + bool(others))
        yield Plot(kind, found.problem, found.concept.name, "", caption, alt, 2.4 + bottom, 0.5, bottom,
                   partial(drawing.many_curves, shown=shown, others=others, roc=kind == "roc"))  # fmt: skip


def _list(pairs: Any) -> str:
    return ", ".join(f"{name} {text}" for name, text in pairs)


def _costs(collection: Collection, found: ConceptEvidence) -> Iterator[Plot | str]:
    """Quality against training time, parameters and measured energy."""
    generated, name = collection.info["task"]["generated"], found.concept.name
    records, left_out = _varied(primary_records(collection, found.problem, name), found)
    records = [r for r in records if r["mean"] is not None and not r["method"].startswith(CEILING)]
    for kind, field, unit in (
        ("time", "train_seconds", "training seconds a cell"),
        ("parameters", "parameters", "trained parameters"),
        ("energy", "energy_wh", "energy a cell, Wh"),
    ):
        known = [r for r in records if r[field]]
        if kind == "energy":
            known = [r for r in known if r["energy_source"] in ("rapl", "nvml")]
            if not known:
                estimated = any(r["energy_source"] for r in records)
                reason = "only an estimate (~) is known, which is not ranked" if estimated else "none was measured"
                yield f"energy of {name}: {reason}"
                continue
        if not known:
            yield f"{kind} of {name}: no method has a value"
            continue
        caption = f"{known[0]['metric']} on {name} with its interval against {unit} (logarithmic).{left_out}"
        if not generated:
            caption += f" {_front(known, field)} The intervals say how sure that is."
        alt = _list((r["method"], f"{r['mean']:.3f} at {drawing.short(float(f'{r[field]:.3g}'))}") for r in known)
        bottom = 0.48 + LINE * -(-len(known) // 2)
        yield Plot(kind, found.problem, name, "", caption, alt, 2.1 + bottom, 0.6, bottom,
                   partial(drawing.cost, records=known, field=field, unit=unit, front=not generated))  # fmt: skip


def _front(records: Sequence[Record], field: str) -> str:
    """A sentence on the methods that no other beats in quality and cost."""
    front = drawing.unbeaten(records, field)
    if len(front) == 1:
        return f"{records[front[0]]['method']} alone is the Pareto front: it costs least and has the best mean."
    return "The dashed line joins the Pareto front: no other method costs less and has a better mean."


def _by_method(collection: Collection, found: ConceptEvidence) -> Iterator[Plot | str]:
    """What shows one method alone: F1 by label, calibration, confusions."""
    name, labels = found.concept.name, found.concept.labels
    reference = found.methods.get(collection.reference or "")
    for method, evidence in found.methods.items():
        place = (found.problem, name, method)
        if evidence.scatter is not None:
            yield _scatter(collection, found, method, evidence.scatter)
            continue
        other = [s.f1 for s in reference.labels] if reference is not None and reference is not evidence else None
        caption = f"F1 by label of {method} on {name} with 95 % intervals."
        if other is not None:
            caption += f" The upright mark is {collection.reference}."
        alt = _list(
            (s.label, f"{s.f1:.3f}" + ("" if s.low is None else f" ({s.low:.3f} to {s.high:.3f})"))
            for s in evidence.labels
        )
        yield Plot("labels", *place, caption, alt, 0.5 + 0.2 * len(labels),
                   name_margin([f"{drawing.shorten(s.label)} ({s.support})" for s in evidence.labels]), 0.4,
                   partial(drawing.label_bars, labels=evidence.labels, compared=other))  # fmt: skip
        if evidence.calibration is not None:
            yield _reliability(found, method, evidence)
        totals = evidence.binary[:, 0] + evidence.binary[:, 2]
        exclusive = found.concept.kind == "exclusive"
        caption = (
            f"Confusion matrix of {method} on {name}: shares of the true label's rows, and rows (mean over seeds)."
            if exclusive
            else f"How often {method} predicts each label of {name} where another one holds: shares, and rows (mean)."
        )
        side = max(2.6, 0.42 * len(labels) + name_margin(labels))
        margin = name_margin(labels)
        yield Plot("confusion", *place, caption, "", side, margin + 0.15, margin * 0.75 + 0.25,
                   partial(drawing.heat, labels=labels, counts=evidence.confusion, totals=totals),
                   max(COLUMN, 0.42 * len(labels) + name_margin(labels) + 0.3))  # fmt: skip


def _scatter(collection: Collection, found: ConceptEvidence, method: str, points: Array) -> Plot:
    name = found.concept.name
    told = {
        r["metric"]: r["mean"]
        for r in collection.records
        if (r["problem"], r["concept"], r["method"]) == (found.problem, name, method) and r["metric"] in ("mae", "corr")
    }
    values = ", ".join(f"{metric} {number(value)}" for metric, value in told.items())
    caption = (
        f"{method} on {name}: the prediction (mean over seeds) against the truth, a dot a test row, darker where rows "
        f"lie on each other; on the line they agree. Means over seeds: {values}."
    )
    return Plot("scatter", found.problem, name, method, caption, f"{len(points):,} rows; {values}.", 2.9, 0.5, 0.4,
                partial(drawing.scatter, points=points, bounds=found.concept.bounds))  # fmt: skip


def _reliability(found: ConceptEvidence, method: str, evidence: MethodEvidence) -> Plot:
    assert evidence.calibration is not None
    what = "its predicted label" if found.concept.kind == "exclusive" else "each label"
    caption = (
        f"Reliability of {method} on {found.concept.name}: of the rows whose score of {what} lies in a tenth, "
        f"the share where it holds; all seeds pooled. ECE {evidence.calibration.ece:.3f}: the mean distance from the "
        "diagonal over rows. Grey: where the scores lie."
    )
    c = evidence.calibration
    alt = _list((f"{x:.2f}", f"observed {y:.2f}") for x, y in zip(c.confidence, c.observed, strict=True))
    return Plot("reliability", found.problem, found.concept.name, method, caption, alt, 2.5, 0.5, 0.4,
                partial(drawing.reliability, found=c))  # fmt: skip


def _figure(plot: Plot, text_as_text: bool) -> Figure:
    from matplotlib.figure import Figure

    top = 0.2 if plot.generated and not text_as_text else 0.08
    figure = Figure(figsize=(plot.width, plot.height + top))
    width, height = plot.width, plot.height + top
    area = (plot.left / width, plot.bottom / height, 1 - (plot.left + 0.1) / width, 1 - (plot.bottom + top) / height)
    plot.draw(figure.add_axes(area))
    if plot.generated and not text_as_text:
        figure.text(0.99, 0.995, GENERATED, ha="right", va="top", fontsize=6, color=drawing.MUTED)
    return figure


def save(plots: Sequence[Plot], folder: Path) -> Iterator[str]:
    """Write each figure as PDF, SVG and PNG (fonts embedded, no title); yields a line on whatever falls short.

    Raises:
        UsageError: a folder that cannot be written.
    """
    from matplotlib import rc_context

    metadata: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    several = len({plot.problem for plot in plots}) > 1
    for plot in plots:
        parts = [plot.kind, *([plot.problem] if several and plot.concept else []), plot.concept or plot.problem]
        target = folder / folder_name(plot.method) if plot.method else folder
        with rc_context(STYLE), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            figure = _figure(plot, text_as_text=False)
            try:
                target.mkdir(parents=True, exist_ok=True)
                for form in FORMATS:
                    path = target / f"{folder_name('-'.join(parts))}.{form}"
                    figure.savefig(path, format=form, facecolor="white", metadata=metadata[form])
            except OSError as error:
                raise UsageError(f"cannot write figures to {folder}: {error.strerror}") from None
        if any("missing from" in str(warning.message) for warning in heard):
            yield f"{path.with_suffix('').name} of {plot.method or 'all methods'}: the font lacks letters of its names"


COLOURS = {
    drawing.INK: "--ink", drawing.MUTED: "--muted", drawing.FAINT: "--line", "#ffffff": "--card",
    **{colour: f"--c{number}" for number, colour in enumerate(drawing.COLOURS)},
}  # fmt: skip


def to_svg(plot: Plot, key: str) -> str:
    """The figure as an SVG element for a page: text as text, the page's colours, ids that begin with ``key``.

    The data's names appear in it only as escaped text.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from.*")  # the browser has the letters
        _figure(plot, text_as_text=True).savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", partial(_tag, key), text)
    text = re.sub(r">\s+<", "><", text)
    label = f'<title id="{key}-t">{escape(plot.caption)}</title><desc id="{key}-d">{escape(plot.alt)}</desc>'
    head, _, body = text.partition(">")
    return f'{head} role="img" aria-labelledby="{key}-t" aria-describedby="{key}-d">{label}{body.strip()}'


def _tag(key: str, match: re.Match[str]) -> str:
    """One element of Matplotlib's SVG, made fit to stand in a page with others."""
    tag = " ".join(match[0].split())
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height|xmlns:xlink|xmlns|version)="[^"]*"', "", tag)
    if tag.startswith("<g"):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*; |; font-family: [^;\"]*", "", tag)
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    tag = re.sub(r'( id="|href="#|url\(#)', rf"\1{key}-", tag).replace("xlink:href", "href")
    return re.sub(r"#[0-9a-f]{6}(?![0-9a-f])", lambda colour: _variable(colour[0]), tag)


def _variable(colour: str) -> str:
    return f"var({COLOURS[colour]})" if colour in COLOURS else colour
