"""Tables as LaTeX with booktabs: one file that compiles by itself and can be ``\\input`` into a paper."""

from __future__ import annotations

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
    "~": r"$\sim$", "^": r"\textasciicircum{}", "Δ": r"$\Delta$", "·": r"$\cdot$", "–": "--", "×": r"$\times$",
    "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "…": r"\dots{}", "±": r"$\pm$", "|": r"\textbar{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped; what pdflatex cannot set is shown by its code point."""
    return "".join(
        SPECIAL.get(c) or (c if ord(c) < 0x250 else f"[U+{ord(c):04X}]") for c in text if c.isprintable() or c == " "
    )


def to_latex(tables: Sequence[Table]) -> str:
    """All tables; each fits the line, with its notes in the caption."""
    return HEAD + "\n".join(_table(table) for table in tables) + "\\mmbenchend\n"


def _table(table: Table) -> str:
    caption = ". ".join(escape(part.rstrip(".")) for part in (table.title, *table.notes)) + "."
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{''.join(c if c.isalnum() else '-' for c in table.name)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        " & ".join(escape(column) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [rf"\underline{{{escape(e.text)}}}" if e.best else escape(e.text) for e in row]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""]
    return "\n".join(lines)
