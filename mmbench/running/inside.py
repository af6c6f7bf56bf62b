"""A stored cell looked into: trained again, held against its stored predictions, and asked what it shows.

Weights of networks are not stored. The same command gives the same bits on a machine, so a cell is trained again and
is the one that was stored where it predicts the same, bit for bit; where it does not, nothing is shown.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.contracts import Concept, Dataset, InputKind, Inside, Model
from mmbench.errors import MmbenchError, NotComparableError, UsageError, unknown
from mmbench.evaluation.predictions import read_scores
from mmbench.locate import cache_folder
from mmbench.methods import Method, build_fusion, build_model, parse, plugin_digests
from mmbench.modules import Fusion
from mmbench.plugins import Registry
from mmbench.running.execute import Report, Scores, Workplace, may_write, predict, ready
from mmbench.running.foreign import settings_of_run
from mmbench.running.plan import Plan, Request, make_plan
from mmbench.running.prepare import Part, Prepared, encode_stateless, prepare
from mmbench.running.provenance import provenance
from mmbench.running.store import CEILING, Cell, RunFolder
from mmbench.threads import one_thread
from mmbench.training.model import TrainedModel

DRAW = 0  # the seed of samples that are not named
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Explained:
    """A cell seen from inside, on its test rows.

    Attributes:
        cell: which one.
        dataset: what it was trained on, for the inputs of chosen samples.
        concepts: what it predicts.
        test: the test rows.
        scores: its scores of them, (n, K) by concept, the stored ones.
        inside: what it shows of them, by name.
        encoders: by modality the encoder's selector and the kind of input.
        predicted_rows: on how many rows its predictions were held against the stored ones.
        chosen: places of the chosen samples among the test rows.
    """

    cell: Cell
    dataset: Dataset
    concepts: tuple[Concept, ...]
    test: Part
    scores: dict[str, Scores]
    inside: dict[str, Inside]
    encoders: dict[str, tuple[str, InputKind]]
    predicted_rows: int
    chosen: list[int]


def find_cell(folder: RunFolder, selector: str, problem: str | None, seed: int | None, registry: Registry) -> Cell:
    """The finished cell that a method's selector means; without a problem or a seed the first one that is there.

    Raises:
        UsageError: a selector that sweeps, one that the run has no finished cell of, one that was not trained here.
    """
    info = folder.info()
    done = {cell: result for cell, result in folder.results() if result["status"] == "done"}
    names = list(dict.fromkeys(cell.method for cell in done if not cell.method.startswith(CEILING)))
    name = selector
    if selector not in names:
        methods = parse(selector, registry, info["config"]["modalities"])
        if len(methods) > 1:
            raise UsageError(f"--method '{selector}' sweeps {len(methods)} methods: name one of them")
        name = methods[0].name
    here = [cell for cell in done if cell.method == name]
    if not here:
        raise unknown("method of this run", name, names)
    for what, given, known in (
        ("problem", problem, {cell.problem: cell for cell in here}),
        ("seed", seed, {cell.seed: cell for cell in here}),
    ):
        if given is not None and given not in known:
            raise unknown(f"{what} of {name}", str(given), map(str, known))
    chosen = next(c for c in here if problem in (None, c.problem) and seed in (None, c.seed))
    if done[chosen].get("foreign"):
        raise UsageError(f"{name} holds predictions that were scored: there is no network here to look into")
    return chosen


def plan_again(folder: RunFolder, cell: Cell, data: Path | None, registry: Registry) -> Plan:
    """The plan of a run that is there, for one of its cells.

    Raises:
        NotComparableError: other data, encoders or plug-ins than the run's.
    """
    info = folder.info()
    changes = {"data": data, "method": cell.method, "seeds": f"{cell.seed},"}
    settings = settings_of_run(info).model_copy(update=changes)
    plan = make_plan(Request(info["config"]["task"], settings, folder.path.parent), registry)
    if plan.dataset.fingerprint != info["fingerprint"]:
        raise NotComparableError(f"{folder.path} is a run on other data than are loaded: give its --data")
    for modality, selector in plan.config.encoders.items():
        if plan.features[modality] != info["features"].get(modality):
            raise NotComparableError(
                f"{selector} is not what {folder.path} was run with: its weights, parameters or libraries are others"
            )
    return replace(plan, folder=folder)


def can_show(method: Method, registry: Registry, modalities: int) -> bool:
    """Whether a method may show something; a model that trains a network of its own is known only once it is fitted."""
    if not method.is_model:
        return type(build_fusion(method, registry, modalities, 8)).look is not Fusion.look
    model = build_model(method, registry)
    return isinstance(model, TrainedModel) or type(model).look is not Model.look


def explain(plan: Plan, cell: Cell, samples: str, registry: Registry, report: Report) -> Explained:
    """Train a stored cell again and look into it; ``samples`` are those of :func:`choose_samples`.

    Raises:
        UsageError: a method that shows nothing of its inside, samples that are not there.
        MmbenchError: a plug-in that fails, or shows something else than an :class:`mmbench.contracts.Inside`.
        NotComparableError: it predicts otherwise than what is stored.
    """
    (method,) = plan.methods.values()
    if not can_show(method, registry, len(plan.config.modalities)):
        raise UsageError(f"{cell.method} shows nothing of its inside")
    problem = next(p for p in plan.dataset.problems if p.name == cell.problem)
    raw = plan.raw[method.name]
    stateless = encode_stateless(plan.dataset, plan.task, plan.config.encoders, cache_folder(), unseen=raw)
    prepared = prepare(
        plan.dataset, problem, plan.task, plan.config.encoders, plan.config.concepts, stateless, cache_folder(), raw
    )
    chosen = choose_samples(prepared.test, plan.dataset, samples)
    place = Workplace(
        plan.folder, plan.config, registry, {cell.problem: prepared}, plan.methods, provenance(),
        streams=plan.streams, raw=plan.raw, device=plan.device,
    )  # fmt: skip
    for part in method.parts:  # the limit below binds only the libraries that are loaded by then
        registry.load(part.plugin, part.kind)
    try:
        with one_thread(), contextlib.redirect_stdout(sys.stderr), contextlib.chdir("."):
            model, train, val, context = ready(place, cell, report)
            model.fit(train, val, context)
            scores = [predict(place, cell, model, part) for part in (prepared.val, prepared.test)]
            _check_same(place, cell, prepared, scores)
            inside = model.look(prepared.test.inputs(may_write(place, cell), raw))
            _check_inside(inside, len(prepared.test.ids))
    except MmbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise MmbenchError(f"{cell} cannot be looked into: {type(error).__name__}: {error}") from error
    if not inside:
        raise UsageError(f"{cell.method} shows nothing of its inside")
    kinds = {m.name: m.kind for m in plan.task.modalities}
    encoders = {name: (selector, kinds[name]) for name, selector in plan.config.encoders.items()}
    compared = len(prepared.val.ids) + len(prepared.test.ids)
    return Explained(
        cell, plan.dataset, prepared.concepts, prepared.test, scores[1], inside, encoders, compared, chosen
    )


def _check_inside(inside: dict[str, Inside], n: int) -> None:
    """Raise a ValueError where what a method shows of n samples is not as :class:`mmbench.contracts.Inside` says."""
    for name, shown in inside.items():
        if not isinstance(shown, Inside):
            raise ValueError(f"look gave a {type(shown).__name__} for '{name}', expected an Inside")
        axes = 1 + bool(shown.places) + bool(shown.steps)
        given = np.shape(shown.values)
        if len(given) != axes or given[0] != n or (shown.places and given[1] != len(shown.places)):
            expected = (n, *([len(shown.places)] * bool(shown.places)), *(["steps"] * bool(shown.steps)))
            raise ValueError(f"look gave values of shape {given} for '{name}', expected {expected}")


def _check_same(place: Workplace, cell: Cell, prepared: Prepared, scores: list[dict[str, Scores]]) -> None:
    """Refuse a cell that does not predict what is stored, bit for bit."""
    record = place.folder.result(cell) or {}
    stored = read_scores(place.folder.predictions_path(cell))
    if record.get("rows") != prepared.rows:
        raise NotComparableError(f"{cell} was trained on other rows than those that are loaded: run it with --force")
    furthest = 0.0
    for concept in prepared.concepts:
        found = np.concatenate([part[concept.name] for part in scores])
        if found.shape != stored[concept.name].shape:
            raise NotComparableError(f"{cell} has predictions of other rows than are loaded: run it with --force")
        furthest = max(furthest, float(np.abs(found - stored[concept.name]).max()))
    if furthest > 0:
        here = {**place.provenance, "plugins": plugin_digests(place.methods[cell.method], place.registry)}
        others = [what for what in ("source", "versions", "machine", "plugins") if record.get(what) != here[what]]
        words = {
            "source": "mmbench's code",
            "versions": "library versions",
            "machine": "the machine",
            "plugins": "its plug-in",
        }
        reason = " and ".join(words[what] for what in others) or "something that is not recorded"
        raise NotComparableError(
            f"{cell}, trained again, does not predict what is stored (scores differ by up to {furthest:.2g}): "
            f"{reason} changed since; run it with --force, then explain it"
        )


def choose_samples(test: Part, dataset: Dataset, text: str) -> list[int]:
    """Places among the test rows: of a number that many, drawn once and for all; of ids (a comma, or no number) those.

    Raises:
        UsageError: no such sample, or one that is not tested on.
    """
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked:
        raise UsageError(f"--samples '{text}': expected how many (4), or ids with a comma (id,id)")
    if "," not in text and asked[0].isdecimal():
        count = min(int(asked[0]), len(test.ids))
        drawn: list[int] = np.random.default_rng(DRAW).choice(len(test.ids), count, replace=False).tolist()
        return sorted(drawn)
    place = {str(sample): row for row, sample in enumerate(test.ids)}
    known = {str(sample) for sample in dataset.ids}
    for sample in asked:
        if sample not in place and sample in known:
            raise UsageError(f"--samples {sample}: the row is not in the test split, which alone is looked at")
        if sample not in place:
            raise unknown("sample", sample, place, "(a number alone says how many; one id takes a comma: 12,)")
    return [place[sample] for sample in asked]


def summarise(explained: Explained) -> dict[str, Any]:
    """What is kept of a cell, JSON-ready: means and quantiles over its test rows, no sample's own numbers."""
    arrays = {}
    for name, array in explained.inside.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a step that no sample has
            mean = np.nanmean(array.values, axis=0, dtype=np.float64)
            quantiles = np.nanquantile(array.values.astype(np.float64), QUANTILES, axis=0)
        arrays[name] = {
            "says": array.says,
            "places": list(array.places),
            "steps": list(array.steps),
            "shares": array.shares,
            "rows": (~np.isnan(array.values)).sum(axis=0).tolist(),
            "mean": _plain(mean),
            "quantiles": _plain(quantiles),
        }
    return {"predicted_rows": explained.predicted_rows, "quantiles": list(QUANTILES), "arrays": arrays}


def _plain(values: Any) -> Any:
    """An array as nested lists of floats with five significant digits, None where not a number."""
    if np.ndim(values) == 0:
        return None if np.isnan(values) else float(f"{values:.5g}")
    return [_plain(value) for value in values]
