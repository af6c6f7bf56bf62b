"""The page of a small run in a real browser, which is headless Chromium."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmbench.cli.app import app
from mmbench.reporting.html import to_html
from mmbench.reporting.records import make_records
from mmbench.reporting.tables import Entry, Table
from mmbench.running.store import find_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of a run and its figures."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        runs = ["--out", str(folder / "runs")]
        methods = "majority,linear:all,concat+equal"
        for words in (
            ["run", "digits", "--concepts", "digit", "--method", methods, "--seeds", "2", "--epochs", "2",
             "--no-energy", *runs],
            ["report", *runs, "--format", "html", "--output", str(folder / "page.html"), "--figures",
             str(folder / "figures")],
        ):  # fmt: skip
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, result.output
    return folder


def open_page(page: Path, width: int = 1280, script: str = "") -> tuple[str, str]:
    """The DOM after loading, and what the browser logged; ``script`` runs at the end of a copy without the policy."""
    if script:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
        page = page.with_name("copy.html")
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_the_page_asks_nothing_of_any_network(made):
    text = (made / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"""\b(?:src|href)\s*=\s*["']?(?!["']?#)|url\((?!#)|@import""", text)


def test_tables_have_captions_and_scoped_heads(made):
    text = (made / "page.html").read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", text, flags=re.DOTALL)
    assert tables
    assert all("<caption" in table and 'scope="col"' in table for table in tables)
    assert not re.search(r"<th(?![^>]*scope=)(?=[ >])", text)
    assert text.count("<svg") == text.count('role="img" aria-labelledby=') > 0


def test_ids_are_there_once_and_every_reference_finds_one(made):
    text = (made / "page.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:aria-labelledby|aria-describedby|for)="([^"]+)"', text)) <= set(ids)


@browser
def test_it_opens_without_a_word_on_the_console(made):
    dom, log = open_page(made / "page.html")
    assert 'class="js"' in dom  # its own script ran under its own policy
    assert "CONSOLE" not in log


@browser
def test_a_column_sorts_down_then_up_then_back(made):
    script = """
    const table = document.querySelector("table.sortable"), said = [];
    const read = () => said.push([...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join("|"));
    read(); for (let i = 0; i < 3; i++) { table.querySelectorAll("th button")[1].click(); read(); }
    document.body.dataset.said = said.join(";");"""
    dom, _ = open_page(made / "page.html", script=script)
    first, down, up, back = re.search(r'data-said="([^"]*)"', dom)[1].split(";")
    assert first == back
    assert down.split("|")[-1] == up.split("|")[0] == "majority"
    assert down.split("|") == up.split("|")[::-1]


@browser
def test_a_phone_scrolls_no_page_sideways(made):
    # a window of Chromium is never narrower than 500 px: a frame is
    inner = made / "page.html"
    outer = made / "phone.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", inner.read_text(encoding="utf-8"))
    report = "<script>parent.postMessage(document.documentElement.scrollWidth + ' ' + innerWidth, '*')</script></body>"
    (made / "inner.html").write_text(text.replace("</body>", report), encoding="utf-8")
    outer.write_text(
        "<body><script>onmessage = (e) => { document.body.dataset.width = e.data }</script>"
        '<iframe src="inner.html" style="width:360px;height:800px;border:0"></iframe></body>',
        encoding="utf-8",
    )
    dom, _ = open_page(outer)  # what is read by screen readers alone must not widen the page either
    widest, inside = map(int, re.search(r'data-width="(\d+ \d+)"', dom)[1].split())
    assert inside == 360
    assert widest <= inside


@browser
def test_hostile_names_are_text(made):
    hostile = "</title></style><script>document.body.dataset.bad = 1</script>\"'&" + "x" * 200
    folder = find_run(None, made / "runs")
    collection = make_records(folder)
    info = collection.info | {"task": collection.info["task"] | {"title": hostile, "group": hostile}}
    info["overrides"] = [hostile]
    labels = [f"{n}{hostile}" for n in range(len(info["concepts"][0]["labels"]))]
    renamed = dict(zip(info["concepts"][0]["labels"], labels, strict=True))
    info["concepts"] = [info["concepts"][0] | {"labels": labels}]
    records = [record | {"label": renamed.get(record["label"], "")} for record in collection.records]
    table = Table(hostile, (hostile,), ((Entry(hostile),),), (hostile,), "toy")
    made_page = made / "hostile.html"
    collection = dataclasses.replace(collection, info=info, records=records, remarks=(hostile,))
    made_page.write_text(to_html(folder, collection, [table]), encoding="utf-8")
    text = made_page.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</style>") == text.count("</title>") - text.count("<svg") == 1
    dom, log = open_page(made_page)
    assert "data-bad" not in dom
    assert "CONSOLE" not in log


def test_figures_are_written_in_three_formats(made):
    heads = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}
    files = [path for path in (made / "figures").rglob("*") if path.is_file()]
    names = {form: {path.with_suffix("") for path in files if path.suffix == form} for form in heads}
    assert names[".pdf"] == names[".png"] == names[".svg"] != set()
    assert all(path.read_bytes().startswith(heads[path.suffix]) and path.stat().st_size > 1000 for path in files)
