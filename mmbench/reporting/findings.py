"""The findings of an audit as text: for a terminal of any width, as Markdown, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mmbench.findings import SEVERITIES, Finding
from mmbench.reporting.render import tables_as
from mmbench.reporting.tables import Entry, Table

COLUMNS = ("severity", "check", "where", "splits", "count", "of", "what", "for example")


def findings_as(findings: Sequence[Finding], title: str, form: str) -> str:
    """``table``, ``markdown`` or ``json``; characters that a terminal would obey are shown as ``?``."""
    if form == "json":
        return json.dumps([finding.record() for finding in findings], indent=1, ensure_ascii=False) + "\n"
    heading = f"{title}: {summary(findings)}"
    if form == "markdown":
        rows = tuple(tuple(Entry(text) for text in _fields(finding)) for finding in findings)
        return tables_as([Table(_plain(heading), COLUMNS, rows, (), "audit")], "markdown")
    lines = [_plain(heading)]
    for finding in findings:
        severity, check, where, splits, count, of, what, examples = _fields(finding)
        place = " · ".join(text for text in (check, where, splits) if text)
        number = (f"{count} of {of}" if of else count) if count else ""
        lines.append(f"{severity:<8} {place}")
        lines.append(" " * 9 + f"{number} {what}".strip() + (f" (for example {examples})" if examples else ""))
    return "\n".join(lines) + "\n"


def summary(findings: Sequence[Finding]) -> str:
    """How many errors and warnings."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES[:2]}
    if not any(counts.values()):
        return "no error, no warning"
    return ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())


def _fields(finding: Finding) -> tuple[str, ...]:
    return (
        finding.severity,
        finding.check,
        _plain(finding.where),
        finding.splits,
        f"{finding.count:,}" if finding.count else "",
        f"{finding.of:,}" if finding.of else "",
        _plain(finding.detail),
        ", ".join(map(_plain, finding.examples)),
    )


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
