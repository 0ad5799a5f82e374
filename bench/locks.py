"""Lock files by which timings and other heavy jobs of one machine keep out of each other's way.

With one file: whoever times holds it alone, builds hold it together. With two, the first is the queue: who wants to
time takes it before waiting for the second, so that no new job starts meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Self

__all__ = ["Turns", "busy", "undisturbed"]

PAUSE = 0.5


def undisturbed(locks: Sequence[Path]) -> contextlib.AbstractContextManager[None]:
    """Hold the lock alone while something is timed."""
    return _held(locks, fcntl.LOCK_EX)


def busy(locks: Sequence[Path]) -> contextlib.AbstractContextManager[None]:
    """Hold it together with other heavy jobs, which wait while somebody times."""
    return _held(locks, fcntl.LOCK_SH)


class Turns:
    """Many measurements in a row, the lock held alone for about `seconds` at a time, so that others get their turns."""

    def __init__(self, locks: Sequence[Path], seconds: float) -> None:
        self.locks, self.seconds = locks, seconds
        self.held = contextlib.ExitStack()
        self.end = 0.0

    def take(self) -> None:
        """Call before each measurement: hold the lock, anew where it was held for long enough."""
        if monotonic() < self.end:
            return
        self.held.close()
        if self.locks and self.end:
            sleep(PAUSE)  # else who lets go would be the next one too
        self.held.enter_context(undisturbed(self.locks))
        self.end = monotonic() + self.seconds

    def let_go(self) -> None:
        """Nothing is to be measured for now."""
        self.held.close()
        self.end = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


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
