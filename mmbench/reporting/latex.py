"""Tables as LaTeX with booktabs: one file that compiles by itself and can be ``\\input`` into a paper.

Every entry is a macro as well, so that a sentence can cite it: ``\\mmbench{joint informative}{igfn+dmtl}{macro_f1}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmbench.reporting.tables import Table
from mmbench.reporting.terminal import printable

# Before \begin{document} LaTeX's \@nodocument is an error message, afterwards it is \relax: so the file knows
# whether it stands alone.
HEAD = r"""% Stands alone, or by \input in a document that loads booktabs and graphicx.
% After it \mmbench{TABLE}{METHOD}{COLUMN} is one entry, as in \mmbench{EXAMPLE}.
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
  \renewcommand\label[1]{}% nothing here refers to one, and a first pass would ask for a second
  \begin{document}
\fi
\makeatother
\providecommand\mmbench[3]{\ifcsname mmbench/#1/#2/#3\endcsname%
  \csname mmbench/#1/#2/#3\endcsname\else\errmessage{mmbench: there is no entry #1, #2, #3}\fi}
"""
LONGEST_CAPTION = 1_500  # characters: TeX sets a caption on one line first, which has a greatest width
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "Δ": r"$\Delta$", "·": r"$\cdot$", "×": r"$\times$",
    "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "…": r"\dots{}", "±": r"$\pm$", "|": r"\textbar{}",
}  # fmt: skip
NOT_IN_A_NAME = frozenset("\\{}%#^~")
NOT_IN_T1 = frozenset("ĦħĸĿŀŉŦŧſ")


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped; what pdflatex cannot set is shown by its code point."""
    escaped = "".join(map(_escape, printable(text)))
    return re.sub("-(?=-)", "-{}", escaped).replace("–", "--")


def _escape(c: str) -> str:
    if c in SPECIAL:
        return SPECIAL[c]
    return c if (ord(c) < 0x180 and c not in NOT_IN_T1) or c == "–" else f"[U+{ord(c):04X}]"


def to_latex(tables: Sequence[Table]) -> str:
    """All tables with their entries as macros; each fits the line, its notes in the caption and, beyond that, below."""
    first = tables[0]
    example = (first.name, first.rows[0][0].text, _key(first.columns[1]))
    macros = "".join(_macros(table) for table in tables)
    head = HEAD.replace("EXAMPLE", "}{".join(map(printable, example)))
    return head + macros + "\n".join(_table(table) for table in tables) + "\\mmbenchend\n"


def _macros(table: Table) -> str:
    """A definition for each entry, under the table's, the method's and the column's name as they are typed."""
    lines = []
    for row in table.rows:
        for column, entry in zip(table.columns[1:], row[1:], strict=True):
            place = "/".join((table.name, row[0].text, _key(column)))
            if place.isascii() and place.isprintable() and not NOT_IN_A_NAME & set(place):
                lines.append(rf"\expandafter\def\csname mmbench/{place}\endcsname{{{escape(entry.text)}}}" + "\n")
    return "".join(lines)


def _key(column: str) -> str:
    """A column's name in a macro: without its unit or interval, ``delta`` for the difference to the reference."""
    return "delta" if column.startswith("Δ") else column.split(" [")[0]


def _table(table: Table) -> str:
    notes = [f"{escape(note.rstrip('.'))}." for note in table.notes]
    fit = next((n for n in range(len(notes), 0, -1) if sum(map(len, notes[:n])) <= LONGEST_CAPTION), 0)
    caption = " ".join([f"{escape(table.title)}.", *notes[:fit]])
    short = escape(table.title).replace("]", "{]}")
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\setlength{\belowcaptionskip}{6pt}\emergencystretch=3em\hbadness=10000",
        rf"\caption[{short}]{{{caption}}}",
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
    if notes[fit:]:
        lines += [r"\begin{flushleft}", r"\footnotesize", " ".join(notes[fit:]), r"\end{flushleft}"]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)
