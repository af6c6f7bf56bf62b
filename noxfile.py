"""Sessions: ``nox -s tests`` is the one that must pass; the others lint, check types and try the wheel."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
ROOT = Path(__file__).parent
GATED = "concat+equal,igfn+dmtl,tensor+moo,late+uncertainty,graph+gradnorm,linear:text,majority"
PINS = ("-c", str(ROOT / "constraints.txt"))


def install(session: nox.Session, *packages: str) -> None:
    """Install under the pinned versions."""
    session.install(*PINS, *packages)


@nox.session(reuse_venv=True)
def tests(session: nox.Session) -> None:
    """The test suite, a worker a core; a file's tests share a worker, and what they set up."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", "-n", "logical", "--dist", "loadfile", *session.posargs)


@nox.session
def audio(session: nox.Session) -> None:
    """Spectra against torchaudio's, from its Python parts alone: what it compiled does not fit the pinned torch."""
    install(session, "-e", ".[dev]")
    install(session, "--no-deps", "torchaudio==2.11.0")
    where = "import importlib.util; print(importlib.util.find_spec('torchaudio').submodule_search_locations[0])"
    for compiled in Path(session.run("python", "-c", where, silent=True).strip()).rglob("*.so"):
        compiled.unlink()
    session.run("python", "-m", "pytest", "tests/features/test_logmel.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    install(session, "ruff")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    install(session, "-e", ".[dev]")
    session.run("mypy", "mmbench", "baselines", "tasks")


@nox.session(venv_backend="none")
def latex(session: nox.Session) -> None:
    """The LaTeX tests, where pdflatex is installed; installs nothing, so mmbench has to be there with its dev extra."""
    session.run("python", "-m", "pytest", "tests/reporting/test_latex.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it elsewhere, and run the sample from it."""
    install(session, "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--wheel", "--outdir", folder, env={"PIP_CONSTRAINT": PINS[1]})
        (built,) = Path(folder).glob("*.whl")
        install(session, str(built))
        elsewhere = Path(folder) / "elsewhere"
        elsewhere.mkdir()
        session.chdir(elsewhere)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        session.run("mmbench", "list", "tasks")
        session.run("mmbench", "run", "--task", "crisismmd", "--method", "all", "--seeds", "1")
        session.run("mmbench", "report", "--format", "markdown")


@nox.session
def gate(session: nox.Session) -> None:
    """Gate the sample against its baseline; ``nox -s gate -- --update`` makes the code as it is the baseline."""
    install(session, "-e", ".")
    with tempfile.TemporaryDirectory() as folder:
        out, env = ("--out", f"{folder}/runs"), {"MMBENCH_CACHE": f"{folder}/cache", "MMBENCH_DATA": None}
        quick = ("--seeds", "5", "--epochs", "10", "--jobs", "2", "--no-energy")
        session.run("mmbench", "run", "crisismmd", "--method", GATED, *quick, *out, env=env)
        baseline = "results/baselines/crisismmd-sample.json"
        session.run("mmbench", "check", "--against", baseline, *out, *session.posargs, env=env)


@nox.session
def calibration(session: nox.Session) -> None:
    """Measure intervals and tests where the truth is known, and write the tables of docs/statistics.md."""
    install(session, "-e", ".")
    session.run("python", "benchmarks/calibration.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})
