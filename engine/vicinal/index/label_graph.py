"""UNG, the unified navigating graph: label sets ordered by inclusion, and a graph whose ways lead up that order.

Rows of the same label set form a group with a Vamana graph of its own. A group's slots link to slots of the minimal
supersets among the groups, so that from a group exactly the slots of its supersets can be reached, and a search that
begins at the minimal supersets of what is asked tests no predicate (Cai et al., SIGMOD 2024).

Departures: links across are chosen from above: each slot of a superset is linked from its nearest slots in every
group below it, so that none depends on which targets a lower slot has places for. A superset one of whose slots finds
no row with room becomes an entry of its own, so that it is never out of reach. AnyOf is one search from the entries of
all its labels. AllOf(()), which every slot satisfies, is an exact scan: the minimal sets are graphs apart from each
other, and a beam that enters all of them never comes near in those whose start nodes are far. The reference marks one
entry as visited and pushes another; here what is marked is what is scored. Groups are linked by codes of a byte a
dimension.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.admitted import AdmittedSearch, check_rows, nothing
from vicinal.index.attributes import AllOf, AnyOf, Condition, Exactly, Found, LabelSets
from vicinal.index.bulk_codes import coded_rows
from vicinal.index.exact import exact_search
from vicinal.index.scratch import address
from vicinal.index.woven import LINKS_MAX, Labels, Loom, RaggedLinks
from vicinal.types import Metric, Rows

__all__ = ["GROUPS_MAX", "LabelGraph"]

GROUPS_MAX: Final = (
    1 << 15
)  # distinct label sets: their order is found by comparing each with those it shares labels with
_REMEMBERED: Final = 1024  # conditions whose entries are kept
_ENTRIES: Final = 64  # entries of a search, as evenly from its groups as there are start nodes
Pairs = NDArray[np.int64]


class LabelGraph:
    """`LabelGraph.build(rows, n, metric, LabelSets, degree=32, cross=2, ...)`; answers AnyOf, AllOf and Exactly."""

    def __init__(self, search: AdmittedSearch, groups: _Groups, linked: Pairs, starts: NDArray[np.int64]) -> None:
        self._search, self._groups, self._linked, self._starts = search, groups, linked, starts.astype(np.uint32)
        self._entries: dict[Condition, NDArray[np.uint32]] = {}

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets,
        *,
        degree: int = 32,
        width: int = 96,
        alpha: float = 1.2,
        cross: int = 2,
        seed: int = 42,
    ) -> LabelGraph:
        """Build over slots [0, n) of rows of real numbers.

        degree, width, alpha: of the groups' graphs; cross: how many slots of each group below link to a slot.
        LimitExceeded for more than 32,768 distinct label sets; InvalidArgument for sizes that do not fit.
        """
        if not isinstance(attribute, LabelSets):
            raise InvalidArgument("this graph is of label sets", field="attribute", value=type(attribute).__name__)
        check_rows(rows, n, metric, attribute)
        if not 4 <= degree <= 96 or not 1 <= cross <= 64 or alpha < 1:
            raise InvalidArgument("degree is 4 .. 96, cross 1 .. 64, alpha at least 1", field="degree", value=degree)
        groups = _Groups(attribute, n)
        rng = np.random.default_rng(seed)
        order = rng.permutation(n)
        order = order[np.argsort(groups.of_slot[order], kind="stable")]
        starts = order[groups.firsts[:-1]]
        loom = Loom(*coded_rows(rows, n, metric), n, degree=degree, alpha=alpha, width=width, codes=groups.of_slot)
        links = RaggedLinks.empty(np.broadcast_to(loom.room(np.zeros(1, np.int64)), (n,)))
        if n:
            loom.insert(links, order, np.append(starts, 0))
        search = AdmittedSearch(rows, n, metric, links.graph(), tuple(links), level=1)
        sources, targets = links.pairs()
        across = _Crossing(
            search, groups, starts.astype(np.uint32), np.bincount(sources, minlength=n), cross, width // 3
        )
        linked = across.link(_minimal_supersets(groups))
        links = RaggedLinks.of(
            np.concatenate((sources, np.array(across.sources, np.int64))),
            np.concatenate((targets, np.array(across.targets, np.uint32))),
            n,
        )
        search = AdmittedSearch(rows, n, metric, links.graph(), tuple(links), level=1)
        return cls(search, groups, linked, starts)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph and of its groups."""
        return self._search.nbytes + self._groups.nbytes + self._linked.nbytes + self._starts.nbytes

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """As `FilteredGraph.search`; InvalidArgument unless the condition is AnyOf, AllOf or Exactly."""
        groups = self._groups
        if isinstance(condition, Exactly):
            group = groups.number.get(tuple(sorted(set(condition.labels))))
            if group is None:
                return nothing()
            sets, seeds = (address(groups.of_slot), 0), groups.entries(np.array([group]), self._starts)
            return self._search.search(query, k, ef, labels=np.array([group], np.uint32), sets=sets, seeds=seeds)
        if isinstance(condition, AllOf) and not condition.labels:
            rows, n, metric = self._search.rows, self._search.n, self._search.metric
            return exact_search(metric, rows, query, min(k, n), start=0, stop=n) if min(k, n) > 0 else nothing()
        if not isinstance(condition, AnyOf | AllOf):
            raise InvalidArgument("this graph answers AnyOf, AllOf and Exactly", field="condition", value=condition)
        entries = self._entries.get(condition)
        if entries is None:
            entries = self._entries_of(condition)
            if len(self._entries) >= _REMEMBERED:
                self._entries.clear()
            self._entries[condition] = entries
        return self._search.search(query, k, ef, seeds=entries) if len(entries) else nothing()

    def _entries_of(self, condition: AnyOf | AllOf) -> NDArray[np.uint32]:
        """Slots of the groups from which every match can be reached, and nothing else."""
        asked = [(label,) for label in condition.labels] if isinstance(condition, AnyOf) else [condition.labels]
        groups = [self._minimal(self._groups.supersets(labels)) for labels in asked]
        found = np.unique(np.concatenate([np.empty(0, np.int64), *groups]))
        return self._groups.entries(found, self._starts)

    def _minimal(self, supersets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the groups that no link from another of them leads to."""
        inside = np.zeros(len(self._groups.sets), np.bool_)
        inside[supersets] = True
        below, above = self._linked
        inside[above[inside[below]]] = False
        return np.flatnonzero(inside)


class _Groups:
    """Slots by their label set. sets: the groups' labels, ascending; number: the group of a set."""

    def __init__(self, labels: LabelSets, n: int) -> None:
        self.number: dict[tuple[int, ...], int] = {}
        self.of_slot = np.empty(n, np.uint32)
        starts, ends, codes = labels.starts.tolist(), labels.ends.tolist(), labels.codes.tolist()
        for slot in range(n):
            self.of_slot[slot] = self.number.setdefault(tuple(codes[starts[slot] : ends[slot]]), len(self.number))
        self.sets = list(self.number)
        if len(self.sets) > GROUPS_MAX:
            raise LimitExceeded(
                "too many distinct label sets; a graph that tests its predicate serves them",
                field="labels", value=len(self.sets), limit=GROUPS_MAX,
            )  # fmt: skip
        self.firsts = np.zeros(len(self.sets) + 1, np.int64)
        np.cumsum(np.bincount(self.of_slot, minlength=len(self.sets)), out=self.firsts[1:])
        self.members = np.argsort(self.of_slot, kind="stable")
        sizes = np.array([len(s) for s in self.sets], np.int64)
        self.sizes = sizes
        flat = np.array([label for s in self.sets for label in s], np.uint32)
        self.by_label = Labels.of(LabelSets(flat, np.cumsum(sizes, dtype=np.int64)))

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.of_slot, self.members, self.firsts, self.sizes, *self.by_label))

    def supersets(self, labels: tuple[int, ...]) -> NDArray[np.int64]:
        """The groups that have all of the labels, ascending."""
        wanted = len(set(labels))
        if wanted == 0:
            return np.arange(len(self.sets))
        numbers = self.by_label.numbers(labels)
        if len(numbers) < wanted:
            return np.empty(0, np.int64)
        found, *others = sorted((self.by_label.of_label(int(number)) for number in numbers), key=len)
        for other in others:
            found = np.intersect1d(found, other, assume_unique=True)
        return found

    def entries(self, groups: NDArray[np.integer], starts: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Where a search of the groups begins: their start nodes and, of few groups, more of their slots."""
        found, share = [starts[groups]], _ENTRIES // max(len(groups), 1)
        if share > 1:
            for group in groups:
                members = self.members[self.firsts[group] : self.firsts[group + 1]]
                found.append(members[:: -(-len(members) // share)].astype(np.uint32))
        return np.unique(np.concatenate(found))


def _minimal_supersets(groups: _Groups) -> list[list[int]]:
    """For each group its minimal proper supersets among the groups; of the one without labels none."""
    out: list[list[int]] = [[] for _ in groups.sets]
    for group, labels in enumerate(groups.sets):
        if len(labels) < 2:
            continue
        posted = [groups.by_label.of_label(int(label)) for label in groups.by_label.numbers(labels)]
        sharing, counts = np.unique(np.concatenate(posted), return_counts=True)
        subsets = sharing[(counts == groups.sizes[sharing]) & (sharing != group)]
        maximal: list[frozenset[int]] = []
        for subset in subsets[np.argsort(-groups.sizes[subsets], kind="stable")].tolist():
            candidate = frozenset(groups.sets[subset])
            if not any(candidate < larger for larger in maximal):
                maximal.append(candidate)
                out[subset].append(group)
    return out


class _Crossing:
    """Collects the links between groups."""

    def __init__(
        self, search: AdmittedSearch, groups: _Groups, starts: NDArray[np.uint32], degrees: NDArray[np.int64],
        cross: int, width: int,
    ) -> None:  # fmt: skip
        self._search, self._groups, self._starts, self._degrees = search, groups, starts, degrees
        self._cross, self._width = cross, width
        self.sources: list[int] = []
        self.targets: list[int] = []

    def link(self, above: list[list[int]]) -> Pairs:
        """Link every group to those above it; returns the pairs of groups that are linked, (2, pairs)."""
        pairs = [
            (group, over) for group, supersets in enumerate(above) for over in supersets if self._pair(group, over)
        ]
        return np.array(pairs, np.int64).reshape(-1, 2).T.copy()

    def _pair(self, group: int, over: int) -> bool:
        """Link the slots above from their nearest of a group; False when one of them found no room."""
        groups, search = self._groups, self._search
        labels, sets = np.array([group], np.uint32), (address(groups.of_slot), 0)
        seeds, whole = groups.entries(labels, self._starts), True
        for slot in groups.members[groups.firsts[over] : groups.firsts[over + 1]].tolist():
            query = search.rows.vectors[slot]
            found, _ = search.search(query, 2 * self._cross, self._width, labels=labels, sets=sets, seeds=seeds)
            free = found[self._degrees[found] < LINKS_MAX][: self._cross]
            self._degrees[free] += 1
            self.sources.extend(free.tolist())
            self.targets.extend([slot] * len(free))
            whole = whole and len(free) > 0
        return whole
