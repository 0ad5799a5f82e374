"""Groups of near-copies among the rows of a field: which rows there are that one node of a graph can stand for.

Rows are taken in the order of their slots. Each joins the nearest leader it is like, among those that its keys suggest
(`GroupKeys`), or becomes a leader: a member is within the tolerance of its leader, and no chain of members wanders off.
So groups follow from the rows, their order and what was deleted when they were taken in, not from threads or batches. A
copy that no key suggests leads a group of its own, which costs memory and no answer.

A group all of whose members are dead is closed: its leader may leave the graph, so nothing joins it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.group_keys import GroupKeys
from vicinal.index.row_room import longer
from vicinal.index.scratch import address
from vicinal.index.spaces import space_at
from vicinal.kernels.groups import NONE, Chains, Joining, chain_leaders, join_groups
from vicinal.types import Metric, Rows

__all__ = ["GroupPicture", "Groups"]

_BLOCK: Final = 512  # rows between two looks at `cancel`
_GROWTH: Final = 1.25

Cancel = Callable[[], bool]


class GroupPicture(NamedTuple):
    """Groups as readers hold them; arrays may go on beyond what was there, which readers pass over.

    group_of: by slot; follow: the next member, by slot; first: the leader's slot, by group, ascending, `total` of them.
    `chains_at`: the address of a `Chains`. widest: the largest distance of a member from its leader.
    """

    group_of: NDArray[np.uint32]
    follow: NDArray[np.uint32]
    first: NDArray[np.uint32]
    radius: NDArray[np.float32]
    total: int
    widest: float
    chains: NDArray[np.int64]
    chains_at: int

    def below(self, limit: int) -> int:
        """How many groups have a leader below a slot."""
        if self.total == 0 or self.first[self.total - 1] < limit:
            return self.total
        return int(np.searchsorted(self.first[: self.total], np.uint32(limit)))

    @classmethod
    def of(cls, joining: Joining, count: int) -> GroupPicture:
        """What is there now."""
        first, follow, radius = joining.first, joining.follow, joining.radius
        chains = np.array(Chains(address(first), address(follow), address(radius)), np.int64)
        widest = float(radius[:count].max(initial=0))
        return cls(joining.group_of, follow, first, radius, count, widest, chains, address(chains))


class Groups:
    """Groups of slots [0, n), made by one writer; `share` as in `GroupKeys`."""

    def __init__(self, metric: Metric, columns: int, share: float) -> None:
        # near products are no near copies: under dot, rows are compared as under l2
        self._metric = Metric.L2 if metric is Metric.DOT else metric
        self._exact = share == 0
        self._keys = GroupKeys(metric, columns, share)
        self.n = self.count = 0
        self._keyed = True  # whether the tables hold all leaders
        tables, none = self._keys.tables, np.zeros(0, np.uint32)
        by_table = np.zeros((0, tables), np.uint32)
        self._joining = Joining(
            none, none, none, none, none.view(np.float32), none.view(np.float32), none.view(np.uint8),
            by_table, by_table, np.full((tables, 2), NONE, np.uint32),
        )  # fmt: skip

    def picture(self) -> GroupPicture:
        """What readers need."""
        return GroupPicture.of(self._joining, self.count)

    @property
    def leaders(self) -> NDArray[np.uint32]:
        """The leaders' slots, ascending."""
        return self._joining.first[: self.count]

    @property
    def group_of(self) -> NDArray[np.uint32]:
        """The group of each slot, NONE of those that were dead when they came."""
        return self._joining.group_of[: self.n]

    @property
    def radius(self) -> NDArray[np.float32]:
        """The largest distance of a member from its leader, by group."""
        return self._joining.radius[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays that were written to."""
        used = self._joining if self._keyed else self._joining[:-3]
        return sum(array.nbytes for array in used) + self._keys.memory_bytes

    def extend(self, rows: Rows, stop: int, useless: NDArray[np.bool_] | None, cancel: Cancel) -> None:
        """Take in slots n .. stop - 1; `n` says how far it came. useless (at least stop,): slots nobody may find."""
        if self.n < stop and not self._keyed:
            self._enter_all(rows)
        element, space = space_at(self._metric, rows)
        while self.n < stop and not cancel():
            end = min(self.n + _BLOCK, stop)
            keyed = self._keys.of(rows, slice(self.n, end))
            self._make_room(end, self.count + end - self.n)
            unseen = np.zeros(end - self.n, np.uint8) if useless is None else useless[self.n : end].astype(np.uint8)
            self.count = join_groups(
                element, space, self.n, end, unseen, keyed.keys, keyed.reach, self._exact, self._joining, self.count
            )  # fmt: skip
            self.n = end

    def gone(self, dead: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Which groups have dead members alone, by a mask of at least n slots; they are closed. None: none is dead."""
        if dead is None:
            return None
        members = self.group_of[~dead[: self.n]]
        gone = np.ones(self.count, np.bool_)
        gone[members[members != NONE]] = False
        self._joining.closed[: self.count] |= gone
        return gone

    def restore(self, group_of: NDArray[np.uint32], radius: NDArray[np.float32]) -> None:
        """Take over groups that were checked (`shared_snapshot`); keys follow when more rows come."""
        n, count = len(group_of), len(radius)
        self.n = self.count = 0
        self._make_room(n, count)
        joining = self._joining
        joining.group_of[:n], joining.follow[:n] = group_of, NONE
        joining.radius[:count], joining.closed[:count] = radius, 0
        slots = np.flatnonzero(group_of != NONE).astype(np.uint32)
        slots = slots[np.argsort(group_of[slots], kind="stable")]
        groups = group_of[slots]
        begins = np.append(True, groups[1:] != groups[:-1])[: len(groups)]
        ends = np.append(begins[1:], True)[: len(groups)]
        joining.follow[slots[~ends]] = slots[~begins]
        joining.first[:count], joining.last[:count] = slots[begins], slots[ends]
        self.n, self.count, self._keyed = n, count, False

    def _enter_all(self, rows: Rows) -> None:
        """Make keys of all leaders."""
        joining = self._joining
        for start in range(0, self.count, _BLOCK):
            part = slice(start, min(start + _BLOCK, self.count))
            joining.keys[part], joining.reach[part] = self._keys.of(rows, joining.first[part])
        joining.heads.fill(NONE)
        chain_leaders(joining, self.count)
        self._keyed = True

    def _make_room(self, slots: int, groups: int) -> None:
        """See that arrays hold so many slots and groups; readers keep the old ones."""
        known = self._joining
        if slots > len(known.group_of):
            room = max(slots, int(len(known.group_of) * _GROWTH), 1024)
            known = Joining._make([*(longer(array, room, self.n) for array in known[:2]), *known[2:]])
        if groups > len(known.first):
            room = max(groups, int(len(known.first) * _GROWTH), 1024)
            wider = (longer(array, room, self.count) for array in known[2:-1])
            known = Joining._make([*known[:2], *wider, known.heads])
        if groups > known.heads.shape[1]:
            heads: NDArray[Any] = np.full((self._keys.tables, 1 << groups.bit_length()), NONE, np.uint32)
            known = known._replace(heads=heads)
            if self._keyed:
                chain_leaders(known, self.count)
        self._joining = known
