"""Fixed pieces of work over a bounded pool of threads.

Pieces depend on the amount of work alone, never on the number of threads, and each writes only its own rows: that, and
integer arithmetic, is why a build gives the same bytes on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

__all__ = ["Cancelled", "Pieces"]


class Cancelled(Exception):
    """The caller's `cancel` said so."""


class Pieces:
    """A pool for one build; a context manager. `cancel` is asked between pieces, from the calling thread."""

    def __init__(self, threads: int, cancel: Callable[[], bool] | None = None) -> None:
        self._cancel = cancel
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None  # started when there is more than one piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, n: int, size: int, call: Callable[[int, int], object]) -> None:
        """Call call(start, stop) for pieces of `size` of 0 .. n, in any order; raise what one raised, or Cancelled."""
        parts = [(start, min(start + size, n)) for start in range(0, n, size)]
        if self._threads == 1 or len(parts) == 1:
            for start, stop in parts:
                self.check()
                call(start, stop)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "vicinal-build")
        waiting: list[Future[object]] = [self._pool.submit(call, start, stop) for start, stop in parts]
        try:
            for piece in waiting:
                self.check()
                piece.result()
        except BaseException:
            for piece in waiting:
                piece.cancel()
            raise

    def check(self) -> None:
        """Raise Cancelled when the caller wants no more."""
        if self._cancel is not None and self._cancel():
            raise Cancelled
