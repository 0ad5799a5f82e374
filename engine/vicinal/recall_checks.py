"""What recall filtered queries reach: a few are answered again exactly, in the background, at a bounded cost.

Efforts are fitted under random filters. Whether a filter that goes with the query finds as much is not known until
somebody looks, so queries that name a `recall_target` are sampled: one at a time, the first of its kind and then one
in `_EVERY`, and after a check none begins for `_REST` times as long as it took. Queries of a kind share field, way, k,
target, and the number of matches up to a factor of two.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.index.exact import exact_search
from vicinal.planner import Plan, Target

__all__ = ["Check", "RecallChecks"]

_EVERY: Final = 64
_REST: Final = 50.0  # so at most 2 % of one core
_KINDS_MAX: Final = 512
_CHECKED_MAX: Final = 256  # of one kind, the latest
_TIES: Final = 1e-5

Check = Callable[[NDArray[Any], NDArray[np.float32]], None]


class RecallChecks:
    """Checks of one collection."""

    def __init__(self) -> None:
        self._found: dict[Hashable, deque[float]] = {}
        self._turns = itertools.count(1)
        self._checking = threading.Lock()  # held from the choice of a query until it is checked
        self._pool: ThreadPoolExecutor | None = None
        self._after = 0.0
        self._closed = False
        self._last: Future[None] | None = None

    def of(
        self, field: str, target: Target, k: int, plan: Plan, goal: float
    ) -> tuple[Check, Callable[[], dict[str, Any]]]:
        """What is to hear of each answer (query, distances) to this plan, and what is known of its kind."""
        key = field, plan.kind, k, goal, plan.matches.bit_length()
        found = self._found

        def check(query: NDArray[Any], distances: NDArray[np.float32]) -> None:
            if next(self._turns) % _EVERY and key in found:
                return
            if not self._closed and perf_counter() >= self._after and self._checking.acquire(blocking=False):
                self._begin(key, target, query.copy(), distances.copy())

        def told() -> dict[str, Any]:
            known = list(found.get(key, ()))
            return {"recall_estimate": round(float(np.mean(known)), 4) if known else None, "recall_checked": len(known)}

        return check, told

    def _begin(self, key: Hashable, target: Target, query: NDArray[Any], distances: NDArray[np.float32]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="vicinal-recall")
        try:
            self._last = self._pool.submit(self._check, key, target, query, distances)
        except RuntimeError:  # closed meanwhile
            self._checking.release()

    def _check(self, key: Hashable, target: Target, query: NDArray[Any], distances: NDArray[np.float32]) -> None:
        try:
            started = perf_counter()
            recall = _recall(target, query, distances)
            if len(self._found) >= _KINDS_MAX:
                self._found.clear()
            self._found.setdefault(key, deque(maxlen=_CHECKED_MAX)).append(recall)
            now = perf_counter()
            self._after = now + _REST * (now - started)
        finally:
            self._checking.release()

    def wait(self) -> None:
        """Wait for the check that goes on."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Begin no more, and wait for the one that goes on: it reads the stored vectors."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def _recall(target: Target, query: NDArray[Any], distances: NDArray[np.float32]) -> float:
    """The share of the nearest that an answer holds, by distance: of equal rows any is right."""
    _, true = exact_search(
        target.metric, target.rows, query, len(distances), start=0, stop=target.n, allowed=target.allowed
    )
    if not len(true):
        return 1.0
    last = float(true[-1])
    return float((distances <= last + abs(last) * _TIES + 1e-12).mean())
