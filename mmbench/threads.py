"""One thread for all that numbers come from, so that their bits do not depend on the machine's cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch and the libraries beneath NumPy, SciPy and scikit-learn run on one thread.

    The limit binds only libraries that are loaded by then. These are, since it loads them itself; what brings another
    one has to be imported before.
    """
    import sklearn.utils  # noqa: F401  with it SciPy's linear algebra
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
