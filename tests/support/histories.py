"""Groups of points that are always written together, by one writer each, and the rule that every read of them obeys.

A group's versions are totally ordered, as one writer owns it. A read that starts after version v was acknowledged, or
after another read has seen v, sees v or later; it sees no version that was not begun when it ended. For one writer per
register that is linearizability. Since all points of a group get a version in one commit, a read that finds two
versions, or a part of the points, has mixed two commits.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIM", "SIZE", "Group", "Seen", "vector_of"]

SIZE = 5  # points of a group
DIM = 8


def vector_of(group: int, member: int, version: int) -> NDArray[np.float32]:
    """Where a member lies: groups far from each other, members and versions to be read back."""
    angle = np.float32(group)
    far = [np.cos(angle) * 1e4, np.sin(angle) * 1e4, group * 100.0, member, version % 4096, version // 4096, 0, 0]
    return np.array(far, np.float32)


class Seen(NamedTuple):
    """What a read may see: from the floor on, taken when it starts."""

    floor: int


class Group:
    """One register: the versions begun, acknowledged and seen."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids = [number * SIZE + member for member in range(SIZE)]
        self.begun = self.acknowledged = self.newest_seen = 0
        self.vector_versions: dict[int, int | None] = {0: None}  # version → that of its vectors; None: deleted
        self._deleted = [0]
        self._guard = threading.Lock()

    def begin(self, kind: str) -> int:
        """The number of a version about to be written."""
        with self._guard:
            version = self.begun + 1
            before = self.vector_versions[self.begun]
            self.vector_versions[version] = {"upsert": version, "delete": None}.get(kind, before)
            if self.vector_versions[version] is None:
                self._deleted.append(version)
            self.begun = version
            return version

    def acknowledge(self, version: int) -> None:
        """The write has returned."""
        self.acknowledged = version

    def start(self) -> Seen:
        """A read begins."""
        return Seen(max(self.acknowledged, self.newest_seen))

    def check(self, seen: Seen, points: Sequence[Any], *, whole: bool = True) -> None:
        """A read has ended with these points of the group, with payload and vector; `whole`: it returns all of them."""
        last = self.begun
        if not points:
            if whole:
                self._saw_none(seen, last)
            return
        versions = {p.payload["version"] for p in points}
        assert len(versions) == 1, f"group {self.number}: versions {versions} in one answer"
        version = versions.pop()
        assert not whole or len(points) == SIZE, f"group {self.number}: {len(points)} points of version {version}"
        assert seen.floor <= version <= last, f"group {self.number}: {version} read, {seen.floor} to {last} may be"
        for p in points:
            expected = vector_of(self.number, p.id % SIZE, self.vector_versions[version] or 0)
            assert np.array_equal(p.vector, expected), f"point {p.id}: vector of another version than {version}"
        self._note(version)

    def _saw_none(self, seen: Seen, last: int) -> None:
        with self._guard:
            at = bisect_left(self._deleted, seen.floor)
            possible = self._deleted[at] if at < len(self._deleted) else None
        assert possible is not None, f"group {self.number}: nothing read, though {seen.floor} to {last} have points"
        assert possible <= last
        self._note(possible)

    def _note(self, version: int) -> None:
        with self._guard:
            self.newest_seen = max(self.newest_seen, version)
