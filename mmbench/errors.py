"""Errors that a user can act on: one line each, and the exit code they end with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 1200  # characters


class MmbenchError(Exception):
    """An error whose message is one line for the user; ``exit_code`` ends the command.

    What cannot be printed in names and cells that it quotes, such as a line break, is written as its escape, and the
    middle of a message that is ``LONGEST`` by what it quotes is left out.
    """

    exit_code = 1

    def __str__(self) -> str:
        told = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())
        return told if len(told) <= LONGEST else f"{told[: 2 * LONGEST // 3]} … {told[-LONGEST // 4 :]}"


class UsageError(MmbenchError):
    """The request was wrong: says what was given, what was expected and what to do."""

    exit_code = 2


class NotComparableError(MmbenchError):
    """What was asked cannot be measured or compared."""

    exit_code = 3


def reason(error: BaseException, most: int = 160) -> str:
    """Why a library refused a file, for one line about it: of one line itself, and no longer than ``most``."""
    told = (error.strerror or "") if isinstance(error, OSError) else ""
    return _shortened(" ".join((told or str(error)).split()) or type(error).__name__, most)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def unknown(kind: str, given: str, known: Iterable[str], hint: str = "") -> UsageError:
    """A UsageError for a name that does not exist, with the nearest names that do.

    Example: ``unknown("protocol", "mt52", ["mt25", "agreed"])``.
    """
    names = sorted(known)
    near = get_close_matches(given, names, n=3, cutoff=0.5)
    expected = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{_shortened(given, 80)}': {expected}{' ' + hint if hint else ''}")
