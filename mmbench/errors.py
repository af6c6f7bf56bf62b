"""Errors that a user can act on: one line each, and the exit code they end with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MmbenchError(Exception):
    """An error whose message is one line for the user; ``exit_code`` ends the command.

    What cannot be printed in names and cells that it quotes, such as a line break, is written as its escape.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class UsageError(MmbenchError):
    """The request was wrong: says what was given, what was expected and what to do."""

    exit_code = 2


class NotComparableError(MmbenchError):
    """What was asked cannot be measured or compared."""

    exit_code = 3


def unknown(kind: str, given: str, known: Iterable[str], hint: str = "") -> UsageError:
    """A UsageError for a name that does not exist, with the nearest names that do.

    Example: ``unknown("protocol", "mt52", ["mt25", "agreed"])``.
    """
    names = sorted(known)
    near = get_close_matches(given, names, n=3, cutoff=0.5)
    expected = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{given}': {expected}{' ' + hint if hint else ''}")
