"""Fixtures shared by all tests; the real data is looked for beside the project and never written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    os.environ["MMBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real data sets, or a skip where this machine has none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("MMBENCH_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"real data is not at hand: no folder {root.name} (set MMBENCH_TEST_DATA)")
    return root
