"""The command line: the verbs, and how every error ends."""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import NoReturn

import typer

from mmbench import __version__
from mmbench.cli import (
    audit,
    check,
    compare,
    data,
    explain,
    holdings,
    info,
    init_card,
    listing,
    report,
    run,
    score,
    validate,
)
from mmbench.errors import MmbenchError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    name="mmbench",
    help="Benchmark multimodal fusion and multi-task learning: train, evaluate and compare with one line.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("explain")(explain.explain)
app.command("check")(check.check)
app.command("list")(listing.list_)
app.command("info")(info.info)
app.command("score")(score.score)
app.command("validate")(validate.validate)
app.add_typer(data.app, name="data")
data.app.command("audit")(audit.audit)
data.app.command("status")(holdings.status)
data.app.command("verify")(holdings.verify)
data.app.command("sample")(holdings.sample)
data.app.command("fetch")(holdings.fetch)
data.app.command("init-card")(init_card.init_card)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"mmbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Benchmark multimodal fusion and multi-task learning from the command line."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit.

    0 fine, 1 cells failed or the gate found a regression, 2 wrong request, 3 not comparable, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one without Δ is told of it by its escape
            stream.reconfigure(errors="backslashreplace")
    try:
        _require_folder()
        code = app(arguments, standalone_mode=False)
    except MmbenchError as error:
        _complain(str(error))
        code = error.exit_code
    except typer.TyperException as error:
        explain = getattr(error, "format_message", None)
        _complain(f"{(explain() if explain else str(error)).rstrip('.')}; see mmbench --help")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 128 + signal.SIGPIPE
    if code == INTERRUPTED:
        _complain("interrupted: finished cells are kept, and the same command goes on from there")
    sys.exit(code if isinstance(code, int) else 0)


def _require_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError("the current folder cannot be opened, it may have been removed: go to another") from error


def _complain(message: str) -> None:
    line = " ".join(message.split())
    print(f"mmbench: {line}", file=sys.stderr)
