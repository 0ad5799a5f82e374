"""Lock files by which timings and other heavy jobs of one machine keep out of each other's way.

With one file: whoever times holds it alone, builds hold it together. With two, the first is the queue: who wants to
time takes it before waiting for the second, so that no new job starts meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["busy", "undisturbed"]


def undisturbed(locks: Sequence[Path]) -> contextlib.AbstractContextManager[None]:
    """Hold the lock alone while something is timed."""
    return _held(locks, fcntl.LOCK_EX)


def busy(locks: Sequence[Path]) -> contextlib.AbstractContextManager[None]:
    """Hold it together with other heavy jobs, which wait while somebody times."""
    return _held(locks, fcntl.LOCK_SH)


@contextlib.contextmanager
def _held(locks: Sequence[Path], mode: int) -> Iterator[None]:
    if not locks:
        yield
        return
    *queue, lock = locks
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as queued:
            for path in queue:
                fcntl.flock(queued.enter_context(path.open("a")), mode)
            fcntl.flock(held.enter_context(lock.open("a")), mode)
        yield
