"""Worker processes, and where they come from."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

IMPORTS = ["mmbench.running.execute", "mmbench.training.model", "sklearn.linear_model", "torch._dynamo"]


def expect_workers() -> BaseContext:
    """What worker processes are started by; they come at once where this was called some seconds before.

    On Linux they are forked from a process that imports in the background what they need, is deaf to Ctrl-C as they
    are, and ends with this one. Elsewhere, where forking after such imports is not safe, each imports for itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(IMPORTS)
    resource_tracker.ensure_running()  # else it is started below, and unblocks what is blocked there
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError:  # its socket, named by a process number, is taken by another container on the same network
        return multiprocessing.get_context("spawn")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return multiprocessing.get_context("forkserver")


def worker(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that is not started yet, for a function of a module; Ctrl-C is for this process to handle."""
    context: Any = expect_workers()
    process: BaseProcess = context.Process(target=_begin, args=(dict(os.environ), target, arguments))
    return process


def _begin(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()  # one that is forked has the variables that were set when that process was started
    os.environ.update(environment)
    target(*arguments)
