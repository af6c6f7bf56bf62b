"""LaTeX that compiles: by structure everywhere, by pdflatex where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from mmbench.reporting.latex import SPECIAL, escape, to_latex
from mmbench.reporting.tables import Entry, Table

NASTY = r"\&%$#_{}~^<>|≥≤×±·…–Δ" + "\"'`@!?[]()*+-=/:;,."
WIDE = "".join(chr(c) for c in range(0x20, 0x2FF) if chr(c).isprintable()) + "日本語 Привет αβγ 🙂"


def table(text: str = NASTY, n_columns: int = 4, name: str = "joint humanitarian") -> Table:
    first = tuple(Entry(text, best=place == 1) for place in range(n_columns))
    return Table(f"title {text}", (text,) * n_columns, (first, first), (f"note {text}", "second."), name)


def unescaped(text: str) -> str:
    """What is left of LaTeX text when each escape that escape() may make is taken away."""
    for made in sorted(SPECIAL.values(), key=len, reverse=True):
        text = text.replace(made, "")
    return re.sub(r"\\[A-Za-z]+\{\}|-\{\}", "", text)


@pytest.mark.parametrize("text", [NASTY, WIDE, "a_b", "50 %", "igfn:delta=0.1+dmtl", r"\input{/etc/passwd}", "x\\\\y"])
def test_no_special_character_is_left_bare(text):
    assert not set(unescaped(escape(text))) & set(r"\&%$#_{}~^")


@pytest.mark.parametrize("character", list(r"\&%$#_{}~^"))
def test_each_special_character_is_set_and_not_dropped(character):
    assert escape(f"a{character}b") not in ("ab", f"a{character}b")


def test_lines_and_tabs_become_spaces_and_other_controls_vanish():
    assert escape("one\ntwo\tthree\x00\x1b") == "one two three"


def test_options_keep_their_dashes():
    """Two hyphens would be set as one dash: ``--epochs`` in the overrides must stay what one types."""
    assert "--" not in escape("--epochs")
    assert "--" not in escape("-----")
    assert escape("–") == "--"  # and a dash is a dash


def test_structure_of_a_table():
    text = to_latex([table("x", 3), table("y", 5)])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"\begin{tabular}{lrr}" in text
    assert r"\begin{tabular}{lrrrr}" in text
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert [line.count(" & ") for line in rows] == [2, 2, 2, 4, 4, 4]
    assert text.count(r"\underline{x}") == 2  # the one marked entry of each of two rows
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.rstrip().endswith(r"\mmbenchend")


def test_labels_are_plain_and_one_a_table():
    text = to_latex([table(name="joint a b"), table(name="joint Δé_%")])
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == 2
    assert all(re.fullmatch(r"tab:[A-Za-z0-9-]+", label) for label in labels)


@pytest.fixture(scope="module")
def compile_latex(tmp_path_factory):
    """Runs pdflatex on files by name, the first being the main one; returns its log."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")

    def compile_(**files: str) -> str:
        folder = tmp_path_factory.mktemp("latex")
        for name, text in files.items():
            (folder / f"{name}.tex").write_text(text, encoding="utf-8")
        main = next(iter(files))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", main]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60)
        log = (folder / f"{main}.log").read_text(encoding="latin-1")
        assert done.returncode == 0, "\n".join(line for line in log.splitlines() if line.startswith(("!", "l.")))
        assert (folder / f"{main}.pdf").stat().st_size > 1000
        return log

    return compile_


PAPER = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{booktabs}\usepackage{graphicx}
\begin{document}
Before. \input{part} After, see Table~\ref{tab:joint-humanitarian}. \typeout{AFTER THE FIRST}
\input{part}\typeout{AFTER THE SECOND}
\end{document}
"""


def test_it_compiles_alone_with_any_text(compile_latex):
    rows = tuple((Entry(WIDE[i : i + 20], best=True), Entry(NASTY)) for i in range(0, len(WIDE), 20))
    log = compile_latex(alone=to_latex([Table(NASTY, (NASTY, "é"), rows, (WIDE, NASTY), "a"), table()]))
    assert "Output written" in log
    assert "Warning" not in log


def test_it_compiles_with_more_notes_than_fit_a_page(compile_latex):
    """A caption as long as this is a dimension too large."""
    notes = tuple(f"failed: joint igfn+dmtl seed {i}: {'the loss is not finite ' * 5}" for i in range(60))
    compile_latex(alone=to_latex([Table("t", ("a", "b"), ((Entry("x"), Entry("y")),), notes, "n")]))


def test_it_compiles_inside_a_paper_and_ends_nothing(compile_latex):
    log = compile_latex(paper=PAPER, part=to_latex([table(NASTY)]))
    assert "AFTER THE FIRST" in log
    assert "AFTER THE SECOND" in log
    assert "Undefined control sequence" not in log
    warned = re.findall("Warning: (.*)|Overfull|Underfull", log)
    assert [line for line in warned if not re.search("multiply|undefined|may have changed", line)] == []


def test_a_wide_table_fits_the_line(compile_latex):
    log = compile_latex(alone=to_latex([table("wide column " * 3, 14)]))
    assert not re.findall("Warning|Overfull|Underfull", log)


CITING = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{booktabs}\usepackage{graphicx}
\begin{document}
\input{part}
\typeout{CITED=\mmbench{joint sort}{igfn:delta=0.1+dmtl}{macro_f1}=}
\typeout{DELTA=\mmbench{joint sort}{igfn:delta=0.1+dmtl}{delta}=}
It reaches \mmbench{joint sort}{igfn:delta=0.1+dmtl}{energy Wh}. EXTRA
\end{document}
"""


def cited() -> Table:
    row = tuple(Entry(text) for text in ("igfn:delta=0.1+dmtl", "0.742 [0.724, 0.759]", "+0.010 [-0.1, +0.2]", "~1.2"))
    columns = ("method", "macro_f1 [95 % interval]", "Δ to concat+equal [95 %]", "energy Wh")
    return Table("t", columns, (row,), (), "joint sort")


def test_a_sentence_can_cite_every_entry(compile_latex):
    log = compile_latex(paper=CITING.replace("EXTRA", ""), part=to_latex([cited()])).replace("\n", "")
    assert "CITED=0.742 [0.724, 0.759]=" in log
    assert "DELTA=+0.010 [-0.1, +0.2]=" in log


def test_an_entry_that_is_not_there_stops_the_paper(compile_latex):
    with pytest.raises(AssertionError, match="there is no entry joint sort, other, macro_f1"):
        compile_latex(paper=CITING.replace("EXTRA", r"\mmbench{joint sort}{other}{macro_f1}"), part=to_latex([cited()]))


def test_the_caption_holds_the_notes_that_fit_and_the_table_the_rest():
    notes = ("n_test 955", "x" * 1_480, "the last")
    text = to_latex([Table("title", ("a", "b"), ((Entry("x"), Entry("y")),), notes, "n")])
    caption = re.search(r"\\caption\[title\]\{(.*)\}", text)
    assert caption is not None
    assert r"n\_test 955" in caption.group(1) and "the last" not in caption.group(1)
    assert "the last." in text[text.index(r"\begin{flushleft}") :]
