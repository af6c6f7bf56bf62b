"""How a check of a plug-in ends."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import MmbenchError, UsageError


class BrokenError(Exception):
    """A check that failed: what was found, and what was expected."""


class NotApplicableError(Exception):
    """A check that says nothing about this plug-in, and why."""


@dataclass(frozen=True)
class Finding:
    """A check's outcome in one line; ``kept`` is None where the check does not apply."""

    check: str
    kept: bool | None
    reason: str = ""


def find(name: str, check: Callable[[], None], may_refuse: bool = False) -> Finding:
    """Run a check. With ``may_refuse`` a UsageError is no fault: the plug-in says that it is not made for that."""
    try:
        check()
    except NotApplicableError as error:
        return Finding(name, None, str(error))
    except BrokenError as error:
        return Finding(name, False, str(error))
    except MmbenchError as error:
        return Finding(name, None if may_refuse and isinstance(error, UsageError) else False, str(error))
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = " ".join(traceback.format_exception_only(error)[-1].split())
        return Finding(name, False, f"{told} ({Path(last.filename).name}, line {last.lineno})")
    return Finding(name, True)
