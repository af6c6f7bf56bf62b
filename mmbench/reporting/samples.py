"""Chosen samples of a cell that was looked into: their weights, and attention drawn over tokens, patches and steps.

What a sample holds, its text and its picture, is in what is made here and nowhere else: in the page or the figures that
were asked for.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmbench.contracts import known
from mmbench.evaluation.decisions import decide
from mmbench.evaluation.predictions import labelled_rows
from mmbench.features import parse
from mmbench.features.files import UnreadableError
from mmbench.features.image import open_image
from mmbench.features.steps import Patches, keeps_steps, patches, tokens
from mmbench.reporting import drawing_inside as drawing
from mmbench.reporting.curves import Array
from mmbench.reporting.drawing import shorten
from mmbench.reporting.figures import LINE, Plot, name_margin
from mmbench.reporting.inside import file_name
from mmbench.reporting.tables import Entry, Table
from mmbench.running.inside import Explained

LARGEST_SIDE = 480  # pixels of a picture in a page
NAMED = 5  # the strongest steps, in words


@dataclass(frozen=True)
class Strip:
    """Weights of one sample over steps: where in what, and what the steps are where that is known.

    ``weights`` are those of the steps that are there; with ``lines`` several in one figure, by name.
    """

    name: str
    says: str
    modality: str
    weights: Array
    tokens: tuple[str, ...] = ()
    patches: Patches | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One test row: by concept what is true and what was said, its inputs by modality, and its strips."""

    id: str
    group: str
    decisions: tuple[tuple[str, str, str], ...]
    inputs: tuple[tuple[str, str, Any], ...]
    strips: tuple[Strip, ...]


def weights_tables(explained: Explained) -> list[Table]:
    """For each array without steps the mean over all test rows, and the chosen samples; no content of theirs."""
    tables = []
    for name, array in explained.inside.items():
        if array.steps:
            continue
        values = array.values if array.places else array.values[:, None]
        shown = [("mean over test rows", np.nanmean(values, axis=0))] if np.isfinite(values).any() else []
        shown += [(str(explained.test.ids[row]), values[row]) for row in explained.chosen]
        made = tuple(
            tuple(map(Entry, (label, *("–" if np.isnan(x) else f"{x:.3f}" for x in numbers))))
            for label, numbers in shown
        )
        title = f"{name} · {explained.cell.method} · {explained.cell.problem} · seed {explained.cell.seed}"
        notes = (f"{array.says}{'; each row sums to 1' * array.shares}",)
        tables.append(Table(title, ("sample", *(array.places or (name,))), made, notes, f"inside {name}"))
    return tables


def see_samples(explained: Explained) -> list[Sample]:
    """The chosen samples with their inputs."""
    place = {str(sample): n for n, sample in enumerate(explained.dataset.ids)}
    return [_sample(explained, row, place[str(explained.test.ids[row])]) for row in explained.chosen]


def _sample(explained: Explained, row: int, place: int) -> Sample:
    inputs = [
        (name, kind, explained.dataset.inputs[name][place])
        for name, (_, kind) in explained.encoders.items()
        if explained.test.present[name][row]
    ]
    strips: list[Strip] = []
    unfolded: dict[str, Any] = {}
    for name, array in explained.inside.items():
        if not array.steps:
            continue
        values = array.values[row] if array.places else array.values[row][None]
        there = ~np.isnan(values).all(axis=0)
        if not there.any():
            continue
        weights = values[:, there].astype(np.float64)
        modality = array.steps[0] if len(array.steps) == 1 else ""
        if modality and modality not in unfolded:
            unfolded[modality] = _unfold(explained, row, place, modality)
        known = unfolded.get(modality)
        if known is None or len(weights[0]) != explained.test.steps[modality][row].sum():
            strips.append(Strip(name, array.says, modality, weights, lines=array.places or (name,)))
            continue
        for number, label in enumerate(array.places or ("",)):
            if np.isnan(weights[number]).all():
                continue
            title = f"{name}, {label}" if label and len(array.places) > 1 else name
            found = {"patches": known} if isinstance(known, Patches) else {"tokens": tuple(known)}
            strips.append(Strip(title, array.says, modality, weights[number], **found))
    return Sample(
        str(explained.test.ids[row]), str(explained.test.groups[row]), _decisions(explained, row), tuple(inputs),
        tuple(strips),
    )  # fmt: skip


def _unfold(explained: Explained, row: int, place: int, modality: str) -> list[str] | Patches | None:
    """What a modality's steps are, where its encoder keeps them and the kind of input has parts to name."""
    selector, kind = explained.encoders[modality]
    if modality not in explained.test.steps or kind not in ("text", "image"):
        return None
    chosen = parse(selector, kind)
    count = int(explained.test.steps[modality][row].sum())
    value = explained.dataset.inputs[modality][place]
    if not keeps_steps(chosen) or value is None or count == 0:
        return None
    return tokens(chosen.checkpoint, value, count) if kind == "text" else patches(chosen.checkpoint, Path(value), count)


def _decisions(explained: Explained, row: int) -> tuple[tuple[str, str, str], ...]:
    """By concept what is true and what was said, labels with scores (thresholds of .5 where multi-label) or numbers."""
    found = []
    for concept in explained.concepts:
        target, scores = explained.test.targets[concept.name][[row]], explained.scores[concept.name][[row]]
        every = np.ones(1, dtype=np.bool_)
        one = labelled_rows(concept, explained.test.ids[[row]], explained.test.groups[[row]], scores, target, every)
        if concept.kind == "score":
            truth, said = [f"{one.truth[0, 0]:.2f}"], [f"{scores[0, 0]:.2f}"]
        else:
            truth = [concept.labels[k] for k in np.flatnonzero(one.truth[0])]
            said = [f"{concept.labels[k]} {scores[0, k]:.2f}" for k in np.flatnonzero(decide(one)[0])]
        known_truth = ", ".join(truth) or "none" if known(target)[0] else "no label"
        found.append((concept.name, known_truth, ", ".join(said) or "none"))
    return tuple(found)


def strongest(strip: Strip) -> str:
    """The steps with the largest weights, in words."""
    if strip.lines:
        return ""
    order = np.argsort(-np.nan_to_num(strip.weights), kind="stable")[:NAMED]
    if strip.tokens:
        named = [strip.tokens[n].strip() for n in order]
    else:
        assert strip.patches is not None
        first = len(strip.weights) - strip.patches.rows * strip.patches.columns
        named = [
            f"row {1 + (n - first) // strip.patches.columns}, column {1 + (n - first) % strip.patches.columns}"
            if n >= first
            else f"class token {n + 1}"
            for n in order
        ]
    uniform = 1 / len(strip.weights)
    listed = "; ".join(f"{name} {strip.weights[n]:.3f}" for name, n in zip(named, order, strict=True))
    return f"{listed} (alike: {uniform:.3f})"


def grid_of(strip: Strip) -> Array:
    """A strip's weights on the grid of its patches, (rows, columns)."""
    assert strip.patches is not None
    shape = (strip.patches.rows, strip.patches.columns)
    grid: Array = strip.weights[-shape[0] * shape[1] :].reshape(shape)
    return grid


def sample_plots(explained: Explained, samples: Sequence[Sample]) -> list[Plot]:
    """The figures of chosen samples: a table of weights by array, and each strip."""
    method, problem = explained.cell.method, explained.cell.problem
    plots = []
    for name, array in explained.inside.items():
        if array.steps or not array.shares or not samples:
            continue
        places = {str(sample): row for row, sample in enumerate(explained.test.ids)}
        values = np.array([array.values[places[s.id]] for s in samples], dtype=np.float64)
        left = name_margin([s.id for s in samples])
        caption = f"{name} of {method} on chosen samples: {array.says}."
        plots.append(
            Plot(file_name(f"samples {name}"), problem, "", method, caption, "", 0.75 + 0.2 * len(samples), left,
                 0.6, partial(drawing.shades, rows=[s.id for s in samples], columns=array.places, values=values,
                              texts=True))
        )  # fmt: skip
    return plots + [strip_plot(explained, s, strip) for s in samples for strip in s.strips]


def strip_plot(explained: Explained, sample: Sample, strip: Strip) -> Plot:
    """One strip as a figure."""
    kind = file_name(strip.name)
    caption = f"{strip.name} of {explained.cell.method} on sample {sample.id}: {strip.says}."
    alt = strongest(strip)
    if strip.tokens:
        height, left, bottom, draw = (
            0.3 + 0.16 * drawing.text_lines(strip.tokens), 0.1, 0.05,
            partial(drawing.shaded_text, tokens=strip.tokens, weights=strip.weights),
        )  # fmt: skip
    elif strip.patches is not None:
        picture = strip.patches.picture
        height, left, bottom = 3.2 * picture.shape[0] / picture.shape[1] + 0.1, 0.1, 0.05
        draw = partial(drawing.shaded_picture, picture=picture, weights=grid_of(strip))
    elif len(strip.lines) > drawing.IN_LINES:
        height, left, bottom = 0.55 + 0.17 * len(strip.lines), name_margin(strip.lines), 0.4
        top = float(np.nanmax(strip.weights))
        caption += f" Full shade: {top:.2f}."
        draw = partial(drawing.shades, rows=strip.lines, columns=[], values=strip.weights / top)
    else:
        bottom = 0.45 if len(strip.lines) == 1 else 0.5 + LINE * -(-len(strip.lines) // 2)
        height, left = 1.7 + bottom, 0.6
        draw = partial(
            drawing.over_steps, names=strip.lines, mean=strip.weights, low=None, high=None, quantity=shorten(strip.name)
        )
    return Plot(
        kind, explained.cell.problem, sample.id, explained.cell.method, caption, alt, height, left, bottom, draw
    )


def data_uri(picture: Image.Image | NDArray[np.uint8]) -> str:
    """A picture as a JPEG in a URI, scaled down to what a page shows."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shown_input(kind: str, value: Any) -> tuple[str, str]:
    """How a page shows an input: ("text", it), ("picture", its URI), ("file", its name), or ("", "") for numbers."""
    if kind == "text":
        return "text", str(value)
    if kind == "image":
        try:
            return "picture", data_uri(open_image(Path(value).read_bytes()))
        except (OSError, UnreadableError):
            return "file", Path(value).name
    return ("file", Path(value).name) if kind in ("audio", "video") else ("", "")
