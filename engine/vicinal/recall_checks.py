"""What recall filtered queries reach: a few are answered again exactly, in the background, at a bounded cost.

Efforts are fitted under random filters. Whether a filter that goes with the query finds as much is not known until
somebody looks, so queries that name a `recall_target` are sampled: one at a time, the first of its kind and then one
in `_EVERY`, and after a check none begins for `_REST` times as long as it took. Queries of a kind share field, k,
target, and the number of matches up to a factor of two.

Where a kind finds less than its target, its effort is raised by a step, what was found before is forgotten, and checks
begin again; after the last step (`planner.STEPS_MOST`) its queries are answered exactly. Steps last as long as the
collection is open. Few checks must say so beyond doubt, many need not: a kind of whose queries some find less stays
where its mean reaches the target.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.exact import exact_search
from vicinal.planner import STEPS_MOST, Target

__all__ = ["Check", "Kind", "RecallChecks"]

_EVERY: Final = 64
_REST: Final = 50.0  # so at most 2 % of one core
_KINDS_MAX: Final = 512
_CHECKED_MAX: Final = 256  # of one kind, the latest
_TIES: Final = 1e-5
_ROUNDED: Final = 1e-9  # a mean of tenths
_DOUBTED_FROM: Final = 8  # checks, from which a mean that is a standard error below the target is believed
_BELIEVED_FROM: Final = 64  # checks, from which any mean is

Check = Callable[[NDArray[Any], NDArray[np.float32]], None]
Among = Target | Callable[[], Target]


class Kind(NamedTuple):
    """What queries have in common whose recall is estimated together."""

    field: str
    k: int
    goal: float
    about: int  # bits of the number of matches

    @classmethod
    def of(cls, field: str, k: int, goal: float, matches: int) -> Kind:
        """The kind of a query."""
        return cls(field, k, goal, matches.bit_length())


class RecallChecks:
    """Checks of one collection."""

    def __init__(self) -> None:
        self._found: dict[Kind, deque[float]] = {}
        self._steps: dict[Kind, int] = {}
        self._turns = itertools.count(1)
        self._checking = threading.Lock()  # held from the choice of a query until it is checked
        self._pool: ThreadPoolExecutor | None = None
        self._after = 0.0
        self._closed = False
        self._last: Future[None] | None = None

    def steps(self, kind: Kind) -> int:
        """How often the effort of a kind was raised."""
        return self._steps.get(kind, 0)

    def of(self, kind: Kind, target: Among, forget: Callable[[], None]) -> tuple[Check, Callable[[], dict[str, Any]]]:
        """What is to hear of each answer (query, distances) of a kind, and what is known of it.

        target: what such queries look among, or what makes it when a check asks for it.
        forget: called from another thread when the effort was raised, so that plans are made anew.
        """
        found, steps = self._found, self.steps(kind)

        def check(query: NDArray[Any], distances: NDArray[np.float32]) -> None:
            if next(self._turns) % _EVERY and kind in found:
                return
            if not self._closed and perf_counter() >= self._after and self._checking.acquire(blocking=False):
                self._begin(_Asked(kind, steps, target, forget), query.copy(), distances.copy())

        def told() -> dict[str, Any]:
            known = list(found.get(kind, ()))
            mean = round(float(np.mean(known)), 4) if known else None
            return {"recall_estimate": mean, "recall_checked": len(known), "effort_raised": steps}

        return check, told

    def _begin(self, asked: _Asked, query: NDArray[Any], distances: NDArray[np.float32]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="vicinal-recall")
        try:
            self._last = self._pool.submit(self._check, asked, query, distances)
        except RuntimeError:  # closed meanwhile
            self._checking.release()

    def _check(self, asked: _Asked, query: NDArray[Any], distances: NDArray[np.float32]) -> None:
        try:
            started = perf_counter()
            self._heard(asked, _recall(asked.target, query, distances))
            now = perf_counter()
            self._after = now + _REST * (now - started)
        finally:
            self._checking.release()

    def _heard(self, asked: _Asked, recall: float) -> None:
        """Take in what one query found; raise the effort of its kind where that is too little."""
        kind = asked.kind
        if asked.steps != self.steps(kind):
            return  # answered before the effort was raised
        if len(self._found) >= _KINDS_MAX:
            self._found.clear()
        found = self._found.setdefault(kind, deque(maxlen=_CHECKED_MAX))
        found.append(recall)
        if asked.steps < STEPS_MOST and _falls_short(found, kind.goal):
            if len(self._steps) >= _KINDS_MAX:
                self._steps.clear()
            self._steps[kind] = asked.steps + 1
            del self._found[kind]
            asked.forget()

    def wait(self) -> None:
        """Wait for the check that goes on."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Begin no more, and wait for the one that goes on: it reads the stored vectors."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)


class _Asked(NamedTuple):
    """Where one answer comes from."""

    kind: Kind
    steps: int
    target: Among
    forget: Callable[[], None]


def _falls_short(found: Sequence[float], goal: float) -> bool:
    """Whether the mean is below the goal, beyond doubt where it is of few."""
    count = len(found)
    if count < _DOUBTED_FROM:
        return False
    mean, doubt = float(np.mean(found)) + _ROUNDED, float(np.std(found)) / math.sqrt(count - 1)
    return mean < goal if count >= _BELIEVED_FROM else mean + doubt < goal


def _recall(among: Among, query: NDArray[Any], distances: NDArray[np.float32]) -> float:
    """The share of the nearest that an answer holds, by distance: of equal rows any is right."""
    target = among if isinstance(among, Target) else among()
    _, true = exact_search(
        target.metric, target.rows, query, len(distances), start=0, stop=target.n, allowed=target.allowed
    )
    if not len(true):
        return 1.0
    last = float(true[-1])
    return float((distances <= last + abs(last) * _TIES + 1e-12).mean())
