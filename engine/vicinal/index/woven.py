"""Graphs whose rows are of any length, and label sets as the filtered graphs read them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import LimitExceeded
from vicinal.index.attributes import LabelSets
from vicinal.index.scratch import Scratch, address, aligned
from vicinal.index.spaces import space_of
from vicinal.kernels.beam import Graph
from vicinal.kernels.insert import STATE
from vicinal.kernels.simd import SENTINEL
from vicinal.kernels.vamana import QUOTA, Weave, choose_rows, insert_woven
from vicinal.types import Metric, Rows

__all__ = ["LINES_MAX", "LINKS_MAX", "Labels", "Loom", "RaggedLinks", "places_of"]

_LANES: Final = 16  # links in a cache line
LINKS_MAX: Final = 495  # of a row: a search lists 512
LINES_MAX: Final = (1 << 32) - 1
_SLACK: Final = 4  # a fourth of a row's links more before it is chosen again


class RaggedLinks(NamedTuple):
    """Rows of links, each from a cache line on and ended by SENTINEL: slot s owns lines offsets[s] .. offsets[s + 1].

    `lines` (total, 16) uint32, `offsets` (n + 1,) uint32: addresses are computed in 64 bits.
    """

    lines: NDArray[np.uint32]
    offsets: NDArray[np.uint32]

    @classmethod
    def empty(cls, counts: NDArray[np.integer]) -> RaggedLinks:
        """Rows with room for so many links each. LimitExceeded beyond 2^32 lines."""
        offsets = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(np.minimum(counts, LINKS_MAX).astype(np.int64) // _LANES + 1, out=offsets[1:])
        if offsets[-1] > LINES_MAX:
            raise LimitExceeded("the links do not fit 2^32 cache lines", field="n", value=len(counts), limit=LINES_MAX)
        return cls(aligned((int(offsets[-1]), _LANES), np.uint32, SENTINEL), offsets.astype(np.uint32))

    @classmethod
    def of(cls, sources: NDArray[np.integer], targets: NDArray[np.integer], n: int) -> RaggedLinks:
        """Rows of the links sources[i] -> targets[i], in order; a row beyond LINKS_MAX is cut."""
        order = np.argsort(sources, kind="stable")
        sources, targets = sources[order], targets[order]
        counts = np.bincount(sources, minlength=n)
        links = cls.empty(counts)
        place = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = place < LINKS_MAX
        flat = links.lines.reshape(-1)
        flat[places_of(links.offsets[sources[kept]], place[kept])] = targets[kept]
        return links

    def graph(self) -> Graph:
        """As the kernels see them: the rows of level 1."""
        longest = int(np.diff(self.offsets.astype(np.int64)).max(initial=1)) * _LANES
        lines, offsets = address(self.lines), address(self.offsets)
        return Graph(0, 0, longest, lines, _LANES * 4, longest, offsets, len(self.offsets) - 1)

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Every link: sources and targets."""
        lines = self.offsets[1:].astype(np.int64) - self.offsets[:-1]
        owners = np.repeat(np.arange(len(lines)), lines * _LANES)
        flat = self.lines.reshape(-1)
        used = flat != SENTINEL
        return owners[used], flat[used]


def places_of(offsets: NDArray[np.uint32], within: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where among all links those lie that stand so far within rows which begin with these lines."""
    return offsets.astype(np.int64) * _LANES + within


class Labels(NamedTuple):
    """Label sets with labels numbered 0, 1, ... in order, and the slots of each.

    known (labels,) uint32: their codes; codes, ends: as LabelSets; members[firsts[l] : firsts[l + 1]]: the slots of l.
    """

    known: NDArray[np.uint32]
    codes: NDArray[np.uint32]
    ends: NDArray[np.int64]
    members: NDArray[np.int64]
    firsts: NDArray[np.int64]

    @classmethod
    def of(cls, sets: LabelSets) -> Labels:
        """The labels of sets that were checked."""
        known, codes = np.unique(sets.codes, return_inverse=True)
        counts = np.diff(sets.ends, prepend=np.int64(0)).astype(np.int64)
        owners = np.repeat(np.arange(len(sets.ends)), counts)
        members = owners[np.argsort(codes, kind="stable")]
        firsts = np.zeros(len(known) + 1, np.int64)
        np.cumsum(np.bincount(codes, minlength=len(known)), out=firsts[1:])
        held = np.ascontiguousarray(sets.ends)
        return cls(known.astype(np.uint32), codes.astype(np.uint32), held, members, firsts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many labels each slot has."""
        return np.diff(self.ends, prepend=0)

    def numbers(self, labels: tuple[int, ...]) -> NDArray[np.uint32]:
        """The numbers of those labels that any slot has, ascending."""
        asked = np.unique(np.array([label for label in labels if 0 <= label < 1 << 32], np.uint32))
        if len(self.known) == 0:
            return np.empty(0, np.uint32)
        at = np.searchsorted(self.known, asked)
        at = at[self.known[np.minimum(at, len(self.known) - 1)] == asked]
        return np.asarray(at, np.uint32)

    def of_label(self, label: int) -> NDArray[np.int64]:
        """The slots of a label, by number."""
        return self.members[self.firsts[label] : self.firsts[label + 1]]

    def starts(self, seed: int, sampled: int = 25) -> NDArray[np.int64]:
        """A start node for each label: of some random members, the one that the fewest labels start at."""
        rng = np.random.default_rng(seed)
        load, starts = np.zeros(len(self.ends), np.int64), np.empty(len(self.known), np.int64)
        for label in range(len(self.known)):
            members = self.of_label(label)
            some = members[rng.integers(0, len(members), sampled)] if len(members) > sampled else members
            starts[label] = some[np.argmin(load[some])]
            load[starts[label]] += 1
        return starts


class Loom:
    """Vamana's insertion and choice of links for one set of rows, on one thread (`kernels.vamana`)."""

    def __init__(
        self, rows: Rows, metric: Metric, n: int, *, degree: int, alpha: float, width: int,
        codes: NDArray[np.uint32] | None = None, ends: NDArray[np.int64] | None = None, both: bool = False,
    ) -> None:  # fmt: skip
        """degree: links of a choice; width: candidates of a search; codes, ends: as Weave, without them no labels."""
        factor = {Metric.DOT: 1.0, Metric.JACCARD: alpha}.get(metric, alpha * alpha)  # of squares; dots have no scale
        self._held, self._width, self._degree = (codes, ends), width, degree
        self._rows, self._space = rows, space_of(metric, rows)
        self._scratch, self._state = Scratch(), np.zeros(STATE, np.int64)
        self._scratch.fit(n, (width + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
        codes_at, ends_at = (0 if array is None else address(array) for array in self._held)
        self._weave = Weave(
            degree, factor, (width + 7) >> 3, codes_at, ends_at, int(both), address(self._state),
        )  # fmt: skip

    def room(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Links that rows of slots with so many labels need room for."""
        return np.asarray(self._degree + self._degree // _SLACK + QUOTA * labels, np.int64)

    def insert(self, links: RaggedLinks, order: NDArray[np.int64], starts: NDArray[np.int64], labels: int = 1) -> None:
        """Insert slots in order; starts: of each label, and last of all. labels: the most of any slot."""
        most = (labels + 3) * (self._width + 8) + 2 * LINKS_MAX
        insert_woven(self._space, links.graph(), self._scratch.work(), self._weave, order, starts, most)

    def choose(self, links: RaggedLinks, firsts: NDArray[np.int64], candidates: NDArray[np.uint32]) -> None:
        """Write every row from its candidates."""
        most = int(np.diff(firsts).max(initial=0)) + 1
        choose_rows(self._space, links.graph(), self._weave, firsts, candidates, most)
