"""A run as one page that opens from disk and asks nothing of any network; see :mod:`mmbench.reporting.pages`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from mmbench.config import Training
from mmbench.reporting.comparison import primary_of
from mmbench.reporting.drawing import mean_rows
from mmbench.reporting.evidence import ConceptEvidence, Evidence, MethodEvidence, gather
from mmbench.reporting.figures import Plot, figures, primary_records, to_svg
from mmbench.reporting.inside import CAUTION, inside_study
from mmbench.reporting.pages import render_page
from mmbench.reporting.records import Collection
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Table, decimals, number, p_text, with_delta
from mmbench.running.store import CEILING, RunFolder

SECTIONS = (
    ("summary", "Summary"), ("comparison", "Comparison"), ("intervals", "Intervals"), ("labels", "Labels"),
    ("curves", "Curves"), ("cost", "Cost"), ("studies", "Studies"), ("methods", "Methods"), ("inside", "Inside"),
    ("errors", "Hard samples"), ("provenance", "Provenance"),
)  # fmt: skip


def to_html(folder: RunFolder, collection: Collection, tables: Sequence[Table], studies: Study = NO_STUDY) -> str:
    """The page: tables, tests, figures, studies, error analysis and provenance of a run."""
    from markupsafe import Markup

    evidence = gather(folder, collection)
    plots, absent = figures(collection, evidence)
    inside = inside_study(folder, list(dict.fromkeys(record["method"] for record in collection.records)))
    plots += [*studies.plots, *inside.plots]
    found = {(plot.kind, plot.problem, plot.concept, plot.method): plot for plot in plots}
    keys = {place: f"f{place_number}" for place_number, place in enumerate(found)}
    several = len(collection.info["problems"]) > 1
    concepts = [_concept(collection, c, several) for c in evidence.concepts]

    def find(kind: str, concept: dict[str, Any], method: str = "") -> Plot | None:
        return found.get((kind, concept["problem"], concept["concept"], method))

    def svg(plot: Plot) -> Markup:
        return Markup(to_svg(plot, keys[plot.kind, plot.problem, plot.concept, plot.method]))

    sources = {record["energy_source"] for record in collection.records} - {None}
    return render_page(
        "report.html",
        info=collection.info,
        sections=[s for s in SECTIONS if s[0] != "studies" or studies.tables],
        studies=studies,
        inside=inside,
        caution=CAUTION,
        remarks=collection.remarks,
        reference=collection.reference,
        facts=_facts(collection, evidence),
        tables=tables,
        unranked=_unranked,
        concepts=concepts,
        methods=_methods(collection, evidence, concepts, plots),
        group_word=collection.info["task"]["group"],
        measured=any(plot.kind == "energy" for plot in plots),
        energy_reason="only estimates are known (~ in the tables), and those are not ranked."
        if sources
        else "none was measured.",
        command=_command(collection, evidence),
        run=shlex.quote(folder.path.name),
        provenance=_provenance(collection.info),
        absent=[*absent, *studies.absent, *inside.absent],
        find=find,
        svg=svg,
        number=lambda value, digits: "–" if value is None else f"{value:.{digits}f}",
        delta=with_delta,
        p=p_text,
        sentence=_sentence,
    )


def _unranked(table: Table) -> list[int]:
    """Columns that hold estimates, which nobody shall rank."""
    return [n for n in range(len(table.columns)) if any(row[n].text.startswith("~") for row in table.rows)]


def _sentence(test: dict[str, Any]) -> str:
    """A test's record as one line: p or why there is none, then the effect, its unit and its null."""
    head = f"{test['name']}: " + (f"p {p_text(test['p'])}" if test["p"] is not None else f"no p, {test['reason']}")
    effect = ""
    if test["effect"] is not None:
        places = decimals(test["low"], test["high"])
        effect = f"; {test['effect_name']} {number(test['effect'], places)}"
        if test["low"] is not None:
            effect += f" [{number(test['low'], places)}, {number(test['high'], places)}], {test['interval_kind']}"
    reach = f"; smallest p {test['smallest_p']:.2g}" if test["p"] is not None and test["smallest_p"] else ""
    return f"{head}{effect}; n = {test['n']:,} ({test['unit']}); null: {test['null']}{reach}"


def _facts(collection: Collection, evidence: Evidence) -> list[tuple[str, str]]:
    info = collection.info
    sizes = [
        f"{name}: {size['n_train']:,} train, {size['n_val']:,} val, {size['n_test']:,} test rows "
        f"in {size['n_groups']:,} {info['task']['group']}s"
        for problem in info["problems"]
        for name, size in problem["concepts"].items()
    ]
    return [
        ("Task", ": ".join(filter(None, (info["task"]["name"], info["task"]["citation"])))),
        ("Protocol", ": ".join(filter(None, (info["protocol"]["name"], info["protocol"]["citation"])))),
        ("Split", f"{info['protocol']['split']}; split seed {info['config']['split_seed']}"),
        ("Primary metric", _primary(info)),
        *[("Rows", line) for line in dict.fromkeys(sizes)],
        ("Seeds", ", ".join(map(str, evidence.seeds))),
        ("Encoders", ", ".join(f"{m}={e}" for m, e in info["config"]["encoders"].items())),
        ("Reference", collection.reference or "none"),
        ("Licence of the data", info["task"]["licence"]),
    ]


def _primary(info: dict[str, Any]) -> str:
    """The protocol's primary metric, and of the concepts that it is not a metric of their own."""
    own = {c["name"]: primary_of(info, c["name"]) for c in info["concepts"]}
    usual = info["protocol"]["primary_metric"]
    return "; ".join([usual, *(f"{metric} of {concept}" for concept, metric in own.items() if metric != usual)])


def _concept(collection: Collection, found: ConceptEvidence, several: bool) -> dict[str, Any]:
    """What the page shows of one concept besides its figures."""
    records = primary_records(collection, found.problem, found.concept.name)
    name = f"{found.concept.name} · {found.problem}" if several and found.problem != found.concept.name else None
    return {
        "problem": found.problem,
        "concept": found.concept.name,
        "name": name or found.concept.name,
        "primary": primary_of(collection.info, found.concept.name),
        "score": found.concept.kind == "score",
        "labels": list(found.concept.labels),
        "ties": collection.ties.get(f"{found.problem} {found.concept.name}", {}),
        "comparisons": [] if collection.info["task"]["generated"] else [r for r in records if r["p_raw"] is not None],
        "label_rows": [
            [m.method, *(number(s.f1, decimals(s.low, s.high)) for s in m.labels)] for m in found.methods.values()
        ],
        "always": f"{found.hard.always:,}",
        "n_test": f"{found.rows['test']:,}",
        "n_methods": found.hard.methods,
        "hard": [[sample, group, f"{share:.0%}"] for sample, group, share in found.hard.samples],
    }


def _methods(
    collection: Collection, evidence: Evidence, concepts: list[dict[str, Any]], plots: list[Plot]
) -> list[dict[str, Any]]:
    """The panels of the methods; the reference's is open at first."""
    names = list(dict.fromkeys(record["method"] for record in collection.records))
    first = collection.reference or names[0]
    return [
        {
            "name": name,
            "open": name == first,
            "convergence": [plot for plot in plots if (plot.kind, plot.method) == ("convergence", name)],
            "parts": [
                _part(collection, found, found.methods[name], shown, f"m{number_}-{place}")
                for place, (found, shown) in enumerate(zip(evidence.concepts, concepts, strict=True))
                if name in found.methods
            ],
        }
        for number_, name in enumerate(names)
    ]


def _part(
    collection: Collection, found: ConceptEvidence, method: MethodEvidence, shown: dict[str, Any], key: str
) -> dict[str, Any]:
    """One method on one concept: confusions and errors as rows of text."""
    exclusive = found.concept.kind == "exclusive"
    labels = () if found.concept.kind == "score" else found.concept.labels
    totals = method.binary[:, 0] + method.binary[:, 2]
    rows = [
        (label, [(round(100 * n / total) if total else 0, mean_rows(n)) for n in counts])
        for label, counts, total in zip(labels, method.confusion, totals, strict=True)
    ]
    fits = "1 fit" if method.fits == 1 else f"{method.fits} fits"
    return {
        "id": key,
        "concept": shown,
        "confusion": rows,
        "confusion_caption": "Confusion matrix: shares of the true label's rows, and rows (mean over seeds)"
        if exclusive
        else "How often each label is predicted where another one holds: shares, and rows (mean over seeds)",
        "binary": []
        if exclusive
        else [
            [label, *(mean_rows(n) for n in counts)]
            for label, counts in zip(labels, method.binary, strict=True)
        ],
        "fits": fits,
        "group_word": collection.info["task"]["group"],
        "mistakes": [
            [m.id, m.group, ", ".join(m.truth) or "none", f"not {m.said}" if m.missed else m.said,
             f"{m.confidence:.3f}", f"{m.seeds} of {method.fits}"]
            for m in method.mistakes
        ],
        "confusions": [[c.truth, c.said, mean_rows(c.rows), f"{c.share:.0%}"] for c in method.confusions],
        "groups": [[g.group, f"{g.rows:,}", mean_rows(g.wrong)] for g in method.groups],
        "facets": {
            name: [[g.group, f"{g.rows:,}", mean_rows(g.wrong), f"{g.wrong / g.rows:.0%}"] for g in values]
            for name, values in method.facets.items()
            if len(values) > 1
        },
        "one_row": all(
            problem["concepts"][found.concept.name]["n_groups"] == found.rows["test"]
            for problem in collection.info["problems"]
            if problem["name"] == found.problem
        ),
    }  # fmt: skip


def _command(collection: Collection, evidence: Evidence) -> str:
    """The command that makes this run again."""
    info = collection.info
    config, task = info["config"], info["task"]
    methods = [m for m in dict.fromkeys(r["method"] for r in collection.records) if not m.startswith(CEILING)]
    seeds = evidence.seeds
    words = ["mmbench", "run", config["task"], "--protocol", config["protocol"]]
    words += ["--method", "all" if methods == info["protocol"]["suite"] else ",".join(methods)]
    words += ["--seeds", str(len(seeds)) if seeds == tuple(range(len(seeds))) else ",".join(map(str, seeds)) + ","]
    words += ["--encoders", ",".join(f"{m}={e}" for m, e in config["encoders"].items())]
    words += ["--concepts", ",".join(config["concepts"]), "--modalities", ",".join(config["modalities"])]
    words += ["--split-seed", str(config["split_seed"])] if config["split_seed"] else []
    words += ["--train-fraction", f"{config['train_fraction']}"] if "train_fraction" in config else []
    stress = info.get("stress", {})
    words += ["--stress", ",".join(f"{a}:{'/'.join(f'{n:g}' for n in v)}" for a, v in stress.items())] if stress else []
    words += ["--set", f"thresholds={config['thresholds']}"] if config["thresholds"] != "fixed" else []
    for key, value in config["options"].items():
        words += ["--set", f"task.{key}={value}"]
    for key, default in Training():
        if config["training"].get(key, default) != default:
            words += ["--set", f"training.{key}={config['training'][key]}"]
    words += ["--data", "FOLDER"] if task["obtain"] and not task["generated"] else []
    return shlex.join(words)


def _provenance(info: dict[str, Any]) -> list[tuple[str, str]]:
    git = info["git"]
    commit = "no checkout" if git is None else git["commit"] + (" with uncommitted changes" if git["dirty"] else "")
    return [
        ("Data fingerprint", info["fingerprint"]),
        ("Code", commit),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info["versions"].items() if version)),
        ("Machine", ", ".join(f"{key}: {value}" for key, value in info["machine"].items())),
        *[
            (f"Encoder of {m}", f"{e}, fingerprint {info['features'][m]}")
            for m, e in info["config"]["encoders"].items()
        ],
        ("Unreadable inputs left out", str(info["unreadable_inputs"])),
        ("Settings", json.dumps(info["config"], ensure_ascii=False)),
        ("Licence of the data", info["task"]["licence"]),
    ]
