"""One knob: how a walk's inner parameters follow from ef.

    pool      estimates kept: ef, a multiple of 8
    stop      the walk ends when the best estimate exceeds the stop-th exact distance
    rescore   best unexpanded nodes scored after the walk
    settle    nodes settled on the stored floats

`standard` is the line through what was measured on text and pixels (784-d, 384-d) at recall .85 to .995.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Effort", "EffortTable"]

_POOL_LEAST = 32
_SLACK = 28  # of the pool beyond 1.25 stop


class Effort(NamedTuple):
    """Inner parameters of one walk, in nodes."""

    pool: int
    stop: int
    rescore: int
    settle: int


@dataclass(frozen=True)
class EffortTable:
    """Efforts by ef and k."""

    exact_walk: bool

    @classmethod
    def standard(cls, *, exact_walk: bool) -> EffortTable:
        """The table of an index that was not measured."""
        return cls(exact_walk)

    def effort(self, k: int, ef: int) -> Effort:
        """Give the inner parameters for the k nearest at a given ef."""
        wanted = max(ef, _POOL_LEAST, k + _SLACK if k > 10 else 0)
        pool = (wanted + 7) & -8
        if self.exact_walk:
            stop = max(int((pool - _SLACK) / 1.25), 5)
            rescore = 12 if pool <= 32 else 24 if pool < 192 else 32
            settle = k + 2 + k // 8
        else:
            stop = max(int((pool - 8) / 1.3), 10)
            rescore = 0
            settle = 16 if pool <= 32 else 24 if pool < 128 else 32
        if k > 10:
            stop, pool = max(stop, k), max(pool, (k * 5 // 4 + _SLACK + 7) & -8)
            rescore, settle = max(rescore, k // 4), max(settle, k + k // 8)
        return Effort(pool, stop, rescore, max(settle, k))
