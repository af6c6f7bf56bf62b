"""Tables as LaTeX with booktabs: one file that compiles by itself and can be ``\\input`` into a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmbench.reporting.tables import Table

# Before \begin{document} LaTeX's \@nodocument is an error message, afterwards it is \relax: so the file knows
# whether it stands alone.
HEAD = r"""% Stands alone, or by \input in a document that loads booktabs and graphicx.
\makeatletter
\ifx\@nodocument\relax
  \def\mmbenchend{}
\else
  \documentclass[a4paper]{article}
  \usepackage[T1]{fontenc}
  \usepackage[utf8]{inputenc}
  \usepackage{booktabs}
  \usepackage{graphicx}
  \usepackage[margin=2cm]{geometry}
  \def\mmbenchend{\end{document}}
  \begin{document}
\fi
\makeatother
"""
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "Δ": r"$\Delta$", "·": r"$\cdot$", "×": r"$\times$",
    "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "…": r"\dots{}", "±": r"$\pm$", "|": r"\textbar{}",
}  # fmt: skip
NOT_IN_T1 = frozenset("ĦħĸĿŀŉŦŧſ")


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped; what pdflatex cannot set is shown by its code point."""
    escaped = "".join(_escape(c) for c in " ".join(text.split()) if c.isprintable())
    return re.sub("-(?=-)", "-{}", escaped).replace("–", "--")


def _escape(c: str) -> str:
    if c in SPECIAL:
        return SPECIAL[c]
    return c if (ord(c) < 0x180 and c not in NOT_IN_T1) or c == "–" else f"[U+{ord(c):04X}]"


def to_latex(tables: Sequence[Table]) -> str:
    """All tables; each fits the line, with its notes below: a caption is measured on one line and must not be long."""
    return HEAD + "\n".join(_table(table) for table in tables) + "\\mmbenchend\n"


def _table(table: Table) -> str:
    notes = "".join(f"{escape(note.rstrip('.'))}. " for note in table.notes).rstrip()
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{''.join(c if c.isascii() and c.isalnum() else '-' for c in table.name)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        " & ".join(escape(column) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [rf"\underline{{{escape(e.text)}}}" if e.best else escape(e.text) for e in row]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if notes:
        lines += [r"\begin{flushleft}", r"\footnotesize", notes, r"\end{flushleft}"]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)
