"""Packages that are used where they work and are not missed where they do not."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def usable(name: str) -> ModuleType | None:
    """The package, or None where it is absent or cannot be imported.

    A torchaudio or torchvision that does not fit the installed torch fails with OSError or RuntimeError, and takes with
    it everything in transformers that looks for it. So what fails once counts as not installed from then on.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        sys.modules[name] = None  # type: ignore[assignment]  # how Python itself marks a module that is not to be found
        return None
