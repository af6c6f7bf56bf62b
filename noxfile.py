"""Sessions: ``nox -s tests`` is the one that must pass; the others lint, check types and try the wheel."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
ROOT = Path(__file__).parent
PINS = ("-c", str(ROOT / "constraints.txt"))


def install(session: nox.Session, *packages: str) -> None:
    """Install under the pinned versions."""
    session.install(*PINS, *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


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
        session.run("mmbench", "run", "--task", "crisismmd", "--method", "all", "--seeds", "2")
        session.run("mmbench", "report", "--format", "markdown")


@nox.session
def calibration(session: nox.Session) -> None:
    """Measure intervals and tests where the truth is known, and write the tables of docs/statistics.md."""
    install(session, "-e", ".")
    session.run("python", "benchmarks/calibration.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})
