"""Where a result comes from: versions, the state of the code, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmbench
from mmbench.hashing import digest
from mmbench.plugins import shipped_folder

SHOWING = ("cli", "reporting")  # what shows figures, and changes none
PACKAGES = ("numpy", "scipy", "scikit-learn", "scikit-image", "torch", "transformers", "pillow", "codecarbon")


def versions() -> dict[str, str | None]:
    """Versions of Python, mmbench and what its figures depend on."""
    found: dict[str, str | None] = {"python": platform.python_version(), "mmbench": mmbench.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether the tree differs from it, for the checkout that holds ``folder``; None without one."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}


def machine() -> dict[str, Any]:
    """Processor, cores and system; no name of the machine or its user."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "byteorder": sys.byteorder,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def source_digest() -> str:
    """Of the code that a cell's figures follow from: mmbench's own modules and the plug-ins that came with it."""
    home = Path(mmbench.__file__).resolve().parent
    files = {path for path in home.rglob("*.py") if path.relative_to(home).parts[0] not in SHOWING}
    files.update(path for name in ("baselines", "tasks") for path in shipped_folder(name).rglob("*.py"))
    return digest([path.read_bytes() for path in sorted(files)])[:16]


def provenance() -> dict[str, Any]:
    """Versions, the state of the code and the machine: for ``run.json``, and with every cell."""
    return {
        "versions": versions(),
        "git": git_state(Path(mmbench.__file__).resolve().parent),
        "source": source_digest(),
        "machine": machine(),
    }
