"""The page in a real browser, and the figures as files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
HOSTILE = "<script>document.title='owned'</script>&\"'"
PLUGIN = f'''"""A task whose names are hostile."""
import numpy as np
from mmbench.contracts import Concept, Dataset, Modality, Problem, Protocol, Task
from mmbench.splits import grouped_split

NAME = "hostile"
SUMMARY = "names that would break a page"

def load(request):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    ids = np.array([str(i) + {HOSTILE!r} for i in range(120)])
    return Dataset(
        title={HOSTILE!r}, fingerprint="f", ids=ids, groups=ids,
        concepts=(Concept("c", ({HOSTILE!r}, "b" * 90)),), targets={{"c": y}},
        inputs={{"v": (y[:, None] + rng.normal(size=(120, 4))).astype(np.float32)}},
        problems=(Problem("c", ("c",), grouped_split(ids, y, (0.6, 0.2, 0.2), 0)),),
    )

TASK = Task(
    title={HOSTILE!r}, licence="none", citation={HOSTILE!r}, homepage="", group="row",
    modalities=(Modality("v", "vector", "standardize"),),
    protocols=(Protocol("p", "two labels", {HOSTILE!r}, "drawn", ("majority", "linear:all"), warning={HOSTILE!r}),),
    load=load, proposed="linear:all", embedded="real",
)
'''


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MMBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mmbench", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, with its page and its figures."""
    place = tmp_path_factory.mktemp("page")
    methods = ("--method", "majority,linear:all,concat+equal,igfn+dmtl")
    call(place, "run", "digits", *methods, "--concepts", "digit,parity", "--seeds", "2", "--epochs", "2", "--no-energy")
    call(place, "report", "--format", "html", "--output", "page.html", "--figures", "figures")
    return place


def dom(page: Path, script: str = "", width: int = 1280) -> tuple[str, str]:
    """The document after a script of the test's own, and what the console said."""
    if script:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text)
        page = page.with_name("scripted.html")
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    profile = page.with_name("profile")
    done = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
         f"--user-data-dir={profile}", f"--window-size={width},900", "--enable-logging=stderr",
         "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_page_asks_nothing_of_any_network(folder):
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "script-src 'sha256-" in text
    assert not re.findall(r"""(?:src|href|action)=["'](?!#)[^"']""", text)
    assert "url(http" not in text and "@import" not in text


def test_long_headers_break_at_joints_and_nowhere_in_their_text(folder):
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert '<th scope="col">macro_<wbr>f1 [95 % interval]</th>' in text
    assert "&lt;wbr" not in text


@browser
def test_it_opens_from_disk_and_its_console_is_silent(folder):
    text, console = dom(folder / "page.html")
    assert console == ""
    assert 'class="js"' in text  # its own script ran under its policy
    for heading in ("Summary", "Comparison", "Labels", "ROC and precision-recall", "Quality and cost", "Provenance"):
        assert f">{heading}</h2>" in text
    assert text.count("<svg") > 15


@browser
def test_a_column_sorts_both_ways_and_back(folder):
    script = """
      const table = document.querySelector('#comparison table.sortable'), log = [];
      const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
      log.push(names());
      for (let i = 0; i < 3; i++) { table.querySelectorAll('th button')[1].click(); log.push(names()); }
      document.title = log.join(';') + ';' + document.getElementById('say').textContent;
    """
    title = re.search(r"<title>(.*?)</title>", dom(folder / "page.html", script)[0], re.DOTALL)
    assert title is not None
    first, down, up, back, said = title[1].split(";")
    assert first == back != down
    assert down.split(",") == up.split(",")[::-1]
    assert down.split(",")[-1] == "majority"
    assert said == "first order"


@browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(folder, width):
    script = """
      const frame = document.createElement('p');
      frame.id = 'measured'; document.body.append(frame);
      frame.textContent = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    """
    text, _ = dom(folder / "page.html", script, width)
    assert re.search(r'<p id="measured">(-?\d+)</p>', text)[1] == "0"  # type: ignore[index]


@browser
def test_every_figure_and_table_has_a_name_and_every_image_a_description(folder):
    script = """
      const bad = [];
      for (const t of document.querySelectorAll('table')) if (!t.caption?.textContent.trim()) bad.push('table');
      for (const t of document.querySelectorAll('th')) if (!t.scope) bad.push('th ' + t.textContent);
      for (const s of document.querySelectorAll('svg')) {
        if (s.getAttribute('role') !== 'img') bad.push('svg');
        for (const key of ['aria-labelledby', 'aria-describedby']) {
          const named = document.getElementById(s.getAttribute(key));
          if (!named || !named.textContent.trim()) bad.push(key);
        }
      }
      const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
      if (new Set(ids).size < ids.length) bad.push('an id twice');
      document.title = 'bad:' + bad.join();
    """
    assert "<title>bad:</title>" in dom(folder / "page.html", script)[0]


def test_every_figure_is_written_in_three_forms(folder):
    files = [path for path in (folder / "figures").rglob("*") if path.is_file()]
    names = {path.with_suffix("") for path in files}
    assert len(files) == 3 * len(names) and all(path.stat().st_size > 500 for path in files)
    for kind in ("forest", "values", "roc", "pr", "balance", "time", "parameters"):
        assert (folder / "figures" / f"{kind}-digit.pdf").read_bytes().startswith(b"%PDF")
    for kind in ("labels-digit", "reliability-digit", "confusion-digit", "convergence-joint"):
        assert (folder / "figures" / "concat+equal" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    (place / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    call(place, "run", "hostile", "--plugin", "plugin.py", "--seeds", "1", "--no-energy")
    call(place, "report", "--format", "html", "--output", "page.html", "--figures", "figures")
    return place / "page.html"


def test_hostile_names_are_text(hostile):
    text = hostile.read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert "&lt;script&gt;document.title=" in text


@browser
def test_hostile_names_do_nothing_in_a_browser(hostile):
    text, console = dom(hostile)
    assert console == ""
    assert "<title>owned" not in text
