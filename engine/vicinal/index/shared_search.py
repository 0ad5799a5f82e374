"""Search where one node of an index stands for a group of near-copies: leaders are searched, members answer.

A leader is admitted when any member of its group is. What is found of leaders are groups; their members are compared
on their own rows, nearest group first, and a group is passed over when, by the triangle inequality, none of its members
can be among the k nearest any more. k groups hold at least k members, so an answer is as full as the leaders' is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.index.exact import Found
from vicinal.index.groups import GroupPicture
from vicinal.index.scratch import address, give_back, take
from vicinal.index.searchers import SearcherOver
from vicinal.index.spaces import bits_at, capacity_of, space_at
from vicinal.kernels.bitset import words_of
from vicinal.kernels.groups import admit_groups, settle_groups
from vicinal.limits import K_MAX
from vicinal.types import Bits, Rows

__all__ = ["SharedSearcher"]

# Groups that are looked at where members differ from their leader: a member may be nearer than leaders before its own.
# No bound on how many such leaders there are helps, but few are: noise seldom points at the query.
_APART: Final = 2  # times k, and
_APART_LEAST: Final = 16  # more


@dataclass(frozen=True, slots=True)
class SharedSearcher(SearcherOver):
    """A searcher over `leaders`, one row per group, that answers over all slots below `n`."""

    leaders: Rows
    groups: GroupPicture
    n: int
    own_bytes: int  # of groups, and of leaders' rows where they lie in memory
    _admitted: list[tuple[Bits, int, Bits]] = field(default_factory=list, compare=False, repr=False)

    @property
    def room(self) -> int:
        """Slots that find room at the least: when each of them leads a group."""
        return self.n + self.inner.room - self.inner.n

    @property
    def nbytes(self) -> int:
        """Bytes of the leaders' graph and of the groups."""
        return self.inner.nbytes + self.own_bytes

    @property
    def shared(self) -> Mapping[str, Any]:
        """How many rows share how many nodes, and the bytes that this saves, which are less than 0 without copies."""
        groups = self.inner.n
        saved = (self.n - groups) * (self.inner.nbytes / max(groups, 1)) - self.own_bytes
        return {"rows": self.n, "groups": groups, "bytes_saved": round(saved)}

    def ef_for(self, recall_target: float) -> int | None:
        """The ef that reached a recall of leaders."""
        return self.inner.ef_for(recall_target)

    def recall_at(self, ef: int) -> float | None:
        """The recall of leaders that was measured at an ef."""
        return self.inner.recall_at(ef)

    def candidates(self, k: int) -> int:
        """How many groups are looked at for the k nearest members."""
        return k if self.groups.widest == 0 else min(_APART * k + _APART_LEAST, K_MAX)

    def admitted(self, allowed: Bits, limit: int) -> Bits:
        """The groups that have an allowed slot below a limit; the last answer is remembered."""
        for bits, below, known in self._admitted:
            if bits is allowed and below == limit:
                return known
        words = np.zeros(words_of(self.groups.total), np.uint64)
        admit_groups(bits_at(allowed, limit), limit, address(self.groups.group_of), words)
        self._admitted[:] = [(allowed, limit, words)]
        return words

    def search(self, query: NDArray[Any], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None) -> Found:
        """The nearest members of the nearest groups."""
        count = self.groups.below(limit)
        if not count:
            return np.empty(0, np.uint32), np.empty(0, np.float32)
        groups = None if allowed is None else self.admitted(allowed, limit)
        wanted = min(self.candidates(k), count)
        found = self.inner.search(query, wanted, ef, rows=self.leaders, limit=count, allowed=groups)
        return self.settle(query, found, k, rows=rows, limit=limit, allowed=allowed)

    def settle(
        self, query: NDArray[Any], found: Found, k: int, *, rows: Rows, limit: int, allowed: Bits | None
    ) -> Found:
        """The k nearest allowed members below a limit of the groups that were found, at their own distances."""
        if limit > min(self.n, capacity_of(self.metric, rows)):
            raise ValueError(f"slots up to {limit - 1} are not all among the rows given")
        groups, near = found
        slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
        if not len(groups) or not k:
            return slots[:0], distances[:0]
        element, space = space_at(self.metric, rows)
        scratch = take(0, (k + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
        try:
            scratch.put_query(query)
            count = settle_groups(
                element, space, scratch.at, self.groups.chains_at, limit, bits_at(allowed, limit), groups, near,
                len(groups), slots, distances,
            )  # fmt: skip
        finally:
            give_back(scratch)
        return slots[:count], distances[:count]
