"""The outcome of the gate as a table, Markdown for a pull request, JUnit XML and GitHub annotations."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mmbench.evaluation.metrics import METRICS
from mmbench.regression import ALPHA, POWER, Comparison, Gate

WIDTH = 500  # of text that goes to a file: no line is ever folded
COLUMNS = ("method", "concept", "baseline", "now", "Δ [95 %]", "p", "verdict")
MARKER = "<!-- mmbench check -->"
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


@dataclass(frozen=True)
class Outcome:
    """What the gate says of one run: ``gate``, or ``reason`` why nothing could be compared."""

    title: str
    task: str
    gate: Gate | None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        gate = self.gate
        if gate is None:
            return f"not comparable: {self.reason}"
        over = [ratio for ratio in gate.ratios if ratio.exceeded]
        found = []
        if gate.regressions:
            found.append(f"{_count(len(gate.regressions), 'regression')} in {gate.metric}")
        if over:
            found.append(f"{_count(len(over), 'ratio')} above the limit")
        if gate.unmeasured:
            found.append(f"{len(gate.unmeasured)} not measurable")
        better = sum(c.verdict == "improved" for c in gate.comparisons)
        if better:
            found.append(f"{better} improved")
        text = "; ".join(found) or "no regression"
        return f"{text} ({_count(len(gate.comparisons), 'comparison')})"


def outcome(
    info: Mapping[str, Any], before: Mapping[str, Any], gate: Gate, notes: Sequence[str], baseline: str
) -> Outcome:
    """The outcome with all that a reader must know to judge it; ``before`` is the baseline's ``run.json``."""
    return Outcome(_title(info), info["task"]["name"], gate, notes=tuple(_notes(info, before, gate, notes, baseline)))


def incomparable(info: Mapping[str, Any], reason: str) -> Outcome:
    """The outcome where nothing could be compared."""
    return Outcome(_title(info), info["task"]["name"], None, reason)


def _title(info: Mapping[str, Any]) -> str:
    return f"{info['task']['title']} · protocol {info['protocol']['name']}"


def _notes(
    info: Mapping[str, Any], before: Mapping[str, Any], gate: Gate, notes: Sequence[str], baseline: str
) -> list[str]:
    group = info["task"]["group"]
    lines = []
    if info["task"]["generated"]:
        lines.append("GENERATED DATA: this gate is about the code; its numbers say nothing about any method")
    if info["protocol"]["warning"]:
        lines.append(f"WARNING: {info['protocol']['warning']}")
    conditional = [c for c in gate.comparisons if not c.estimate.crossed]
    if len(conditional) < len(gate.comparisons):
        lines.append(
            f"Δ: mean over seeds, now minus baseline, on the same test rows; 95 % interval and one-sided p by crossed "
            f"bootstrap over seeds and groups ({group}), seeds of each run drawn on their own, Student's t"
        )
    if conditional:
        lines.append(
            f"{_count(len(conditional), 'comparison')} of fewer than five seeds: groups ({group}) drawn only, so "
            "conditional on these seeds; other seeds of unchanged code may alarm"
        )
    worse = "drop" if METRICS[gate.metric].better == "higher" else "rise"
    lines.append(
        f"p: null “{gate.metric} did not get worse”, Holm over {len(gate.comparisons) + len(gate.incomplete)} gated "
        f"comparisons; an alarm needs p < {ALPHA} and a {worse} of more than {gate.min_effect:g} (p alone: slightly "
        "worse)"
    )
    if gate.detectable:
        low, high = (f"{drop:.3f}" for drop in gate.detectable)
        reach = low if low == high else f"{low} to {high}, by comparison"
        lines.append(f"smallest {worse} that is found with {100 * POWER:.0f} % power: {reach}")
    sizes = {
        f"{concept} {size['n_test']:,} rows in {size['n_groups']:,} groups"
        for problem in info["problems"]
        for concept, size in problem["concepts"].items()
    }
    seeds = sorted({c.n_seeds for c in gate.comparisons})
    lines.append(
        f"test: {'; '.join(sorted(sizes))}; seeds, baseline and now: {', '.join(f'{a} and {b}' for a, b in seeds)}"
    )
    lines += [f"baseline {baseline}: {_origin(before)}", f"now: {_origin(info)}", *_changed(before, info), *notes]
    if gate.ungated:
        lines.append(f"not gated, since the baseline does not hold them: {', '.join(gate.ungated)}")
    return lines


def _origin(info: Mapping[str, Any]) -> str:
    git, versions = info.get("git") or {}, info.get("versions", {})
    commit = f"commit {git['commit'][:12]}{' with changes' if git.get('dirty') else ''}" if git else "no commit known"
    processor = info.get("machine", {}).get("processor") or "processor unknown"
    return f"mmbench {versions.get('mmbench')}, {commit}, {processor}"


def _changed(before: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    old, new = before.get("versions", {}), info.get("versions", {})
    changed = [f"{name} {old.get(name)} → {new[name]}" for name in new if old.get(name) != new[name]]
    return [f"versions that changed: {', '.join(changed)}"] if changed else []


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _cells(comparison: Comparison) -> tuple[str, ...]:
    c = comparison
    digits = _digits((c.high - c.low) / 2)
    delta = f"{c.estimate.delta:+.{digits}f} [{c.low:+.{digits}f}, {c.high:+.{digits}f}]"
    place = c.place.concept if c.place.problem in ("joint", c.place.concept) else f"{c.place.problem} {c.place.concept}"
    return (
        *(c.place.method, place, f"{c.old:.3f}", f"{c.new:.3f}"),
        *(delta, "<0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}", c.verdict),
    )


def _digits(half_width: float) -> int:
    """Decimals that an interval of this half-width supports: two significant digits of it, from 2 to 4."""
    return 3 if half_width <= 0 else min(max(math.ceil(-math.log10(half_width)) + 1, 2), 4)


def _ordered(gate: Gate) -> list[Comparison]:
    """What went down first, by p."""
    return sorted(gate.comparisons, key=lambda c: (c.verdict != "REGRESSION", c.p, c.place))


def _ratio_lines(gate: Gate) -> list[str]:
    return [
        f"{ratio}: {ratio.value:.3g}, limit {ratio.limit:g}{': ABOVE THE LIMIT' if ratio.exceeded else ''}"
        for ratio in gate.ratios
        if ratio.value is not None
    ]


def print_outcome(found: Outcome) -> None:
    """The table, the outcome and the notes, on standard output."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print()
    console.print(Text(found.title, style="bold"), soft_wrap=True)
    if found.gate is not None:
        grid = RichTable(box=None, pad_edge=False)
        for number, column in enumerate(COLUMNS):
            words = number in (0, 1, 6)
            grid.add_column(Text(column), justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for comparison in _ordered(found.gate):
            style = {"REGRESSION": "bold red", "improved": "green"}.get(comparison.verdict, "")
            grid.add_row(*(Text(cell, style=style) for cell in _cells(comparison)))
        console.print(grid)
        for line in (*_ratio_lines(found.gate), *(f"not measurable: {line}" for line in found.gate.unmeasured)):
            console.print(Text(line), soft_wrap=True)
        for note in found.notes:
            console.print(Text(f"  {note}", style="dim"), soft_wrap=True)
        console.print(Text(found.headline, style="bold"), soft_wrap=True)


def to_markdown(found: Outcome) -> str:
    """For a pull request: the outcome, the table, and the notes folded away."""
    sign = "✅" if found.gate is not None and found.gate.exit_code == 0 else "❌"
    if found.gate is None or found.gate.exit_code == 3:
        sign = "⚠️"
    lines = [MARKER, f"### {sign} mmbench: {_md(found.headline)}", "", _md(found.title)]
    if found.gate is not None:
        lines += ["", "| " + " | ".join(COLUMNS) + " |", "|---|---|---:|---:|---:|---:|---|"]
        for comparison in _ordered(found.gate):
            cells = [_md(cell) for cell in _cells(comparison)]
            if comparison.verdict in ("REGRESSION", "improved"):
                cells[-1] = f"**{cells[-1]}**"
            lines.append("| " + " | ".join(cells) + " |")
        extra = [*_ratio_lines(found.gate), *(f"not measurable: {line}" for line in found.gate.unmeasured)]
        lines += ["", *(f"- {_md(line)}" for line in extra)] if extra else []
        notes = [f"- {_md(note)}" for note in found.notes]
        lines += ["", "<details><summary>how this was judged</summary>", "", *notes, "", "</details>"]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~@])", r"\\\1", " ".join(text.split()))


def to_junit(found: Outcome) -> str:
    """JUnit XML (the schema of Jenkins): a test case a gated comparison or ratio; what got worse is a failure, what
    could not be measured an error."""
    cases: list[tuple[str, str, str, str]] = []  # class, name, kind, message
    if found.gate is None:
        cases.append((found.task, "comparable", "error", found.reason))
    else:
        for c in found.gate.comparisons:
            kind = "failure" if c.verdict == "REGRESSION" else ""
            cases.append(
                (f"{found.task}.{c.place.problem}.{c.place.concept}", c.place.method, kind, _sentence(found, c))
            )
        for place, reason in found.gate.incomplete:
            cases.append((f"{found.task}.{place.problem}.{place.concept}", place.method, "error", reason))
        for ratio in found.gate.ratios:
            kind = "failure" if ratio.exceeded else "error" if ratio.value is None else ""
            value = ratio.reason if ratio.value is None else f"{ratio.value:.3g}, limit {ratio.limit:g}"
            cases.append((f"{found.task}.ratio", str(ratio), kind, value))
    kinds = [kind for _, _, kind, _ in cases]
    totals = {
        "tests": str(len(cases)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "time": "0",
    }
    root = ElementTree.Element("testsuites", {"name": "mmbench check", **totals})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(found.title), **totals, "skipped": "0"})
    for owner, name, kind, message in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(owner), "name": _xml(name), "time": "0"})
        if kind:
            element = ElementTree.SubElement(case, kind, {"type": kind, "message": _xml(message)})
            element.text = _xml(f"{message}\n{found.title}")
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(message)
    ElementTree.SubElement(suite, "system-out").text = _xml("\n".join((found.headline, *found.notes)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    return UNPRINTABLE.sub("\ufffd", text)


def _sentence(found: Outcome, comparison: Comparison) -> str:
    assert found.gate is not None
    method, concept, old, new, delta, p, verdict = _cells(comparison)
    return f"{verdict}: {found.gate.metric} of {method} on {concept}: {old} → {new}, Δ {delta}, p {p} (one-sided, Holm)"


def to_annotations(found: Outcome) -> list[str]:
    """GitHub's workflow commands: errors on what got worse or could not be measured, notices on what improved."""
    if found.gate is None:
        return [_command("error", "mmbench: not comparable", f"{found.reason} · {found.title}")]
    lines = []
    for c in _ordered(found.gate):
        if c.verdict in ("REGRESSION", "improved"):
            level = "error" if c.verdict == "REGRESSION" else "notice"
            lines.append(_command(level, f"mmbench: {c.place}", f"{_sentence(found, c)} · {found.title}"))
    for ratio, line in zip(
        (r for r in found.gate.ratios if r.value is not None), _ratio_lines(found.gate), strict=True
    ):
        if ratio.exceeded:
            lines.append(_command("error", "mmbench: ratio", f"{line} · {found.title}"))
    for line in found.gate.unmeasured:
        lines.append(_command("error", "mmbench: not measurable", f"{line} · {found.title}"))
    return lines


def _command(level: str, title: str, message: str) -> str:
    """One workflow command, escaped as GitHub's runner undoes it."""
    data = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{data}"
