"""Where worker processes come from."""

from __future__ import annotations

import multiprocessing

import pytest

from mmbench import workers
from mmbench.workers import expect_workers


def test_where_no_process_can_be_forked_from_each_worker_imports_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("Address already in use")

    monkeypatch.setattr(workers.forkserver, "ensure_running", refuse)
    assert expect_workers() is multiprocessing.get_context("spawn")
