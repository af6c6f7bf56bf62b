"""Inputs that several processes encode: each puts its share into the cache, as every encoder without memory does.

A vector depends on its own input alone, so that the bits are the same. What a process fails at it leaves out without a
word: who asked encodes what is missing still, and says what is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.process import BaseProcess
from typing import Any

from mmbench.workers import worker

SHARE = 128  # inputs for which a process is worth starting

Encode = Callable[[Sequence[Any]], object]
_sharing: ContextVar[tuple[Encode, int] | None] = ContextVar("sharing", default=None)


@contextmanager
def shared(encode: Encode, jobs: int) -> Iterator[None]:
    """Within it :func:`share_out` hands inputs to ``jobs`` processes at most.

    ``encode``, a partial of a module's function, is what each calls with its share.
    """
    token = _sharing.set((encode, jobs) if jobs > 1 else None)
    try:
        yield
    finally:
        _sharing.reset(token)


def share_out(inputs: Sequence[Any]) -> bool:
    """Have processes encode these inputs, as many as are allowed and worth it; whether there were two at least."""
    sharing = _sharing.get()
    if sharing is None:
        return False
    encode, jobs = sharing
    count = min(jobs, len(inputs) // SHARE)
    if count < 2:
        return False
    processes = [worker(_encode_share, encode, inputs[place::count]) for place in range(count)]
    started: list[BaseProcess] = []
    try:
        for process in processes:
            process.start()
            started.append(process)
        for process in started:
            process.join()
    finally:
        for process in started:
            process.terminate()
            process.join()
    return True


def _encode_share(encode: Encode, inputs: Sequence[Any]) -> None:
    with contextlib.suppress(Exception):
        encode(inputs)
