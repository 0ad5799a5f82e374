"""FilteredVamana and StitchedVamana: one graph in which every label's slots are connected (Filtered-DiskANN, WWW 2023).

Both answer AnyOf: a search begins at the labels' start nodes and meets only slots that have one of the labels.
FilteredVamana inserts slots one by one, each linked to the nearest by its labels and over all. StitchedVamana builds
a graph per label, joins them and prunes the union.

Departures: `kernels.vamana` lists those of the insertion and of the prune, which keeps links for every label of a slot
with many. Rows are linked by codes of a byte a dimension. Start nodes are spread over both methods' slots as
FilteredVamana's are. Slots without labels are in no label's graph; no condition of these methods finds them.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.admitted import AdmittedSearch, check_rows, nothing
from vicinal.index.attributes import AnyOf, Condition, Found, LabelSets
from vicinal.index.bulk_codes import coded_rows
from vicinal.index.scratch import address
from vicinal.index.woven import Labels, Loom, RaggedLinks
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

__all__ = ["LABELS_MAX", "FilteredVamana", "StitchedVamana"]

LABELS_MAX: Final = 96  # of one slot: each may need links of its own in a row
_DEGREE_MAX: Final = 88


class _LabelledGraph:
    """A graph of label sets and the search over it."""

    def __init__(self, search: AdmittedSearch, labels: Labels, starts: NDArray[np.int64]) -> None:
        self._search, self._labels, self._starts = search, labels, starts.astype(np.uint32)

    @classmethod
    def _of(
        cls, rows: Rows, n: int, metric: Metric, links: RaggedLinks, labels: Labels, starts: NDArray[np.int64]
    ) -> Self:
        return cls(AdmittedSearch(rows, n, metric, links.graph(), tuple(links), level=1), labels, starts)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph and of the label sets."""
        return self._search.nbytes + self._starts.nbytes + sum(array.nbytes for array in self._labels)

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """As `FilteredGraph.search`; InvalidArgument unless the condition is AnyOf."""
        if not isinstance(condition, AnyOf):
            raise InvalidArgument("this graph answers AnyOf alone", field="condition", value=condition)
        labels = self._labels.numbers(condition.labels)
        if len(labels) == 0:
            return nothing()
        sets = address(self._labels.codes), address(self._labels.ends)
        return self._search.search(query, k, ef, labels=labels, sets=sets, seeds=self._starts[labels])


class FilteredVamana(_LabelledGraph):
    """`FilteredVamana.build(rows, n, metric, LabelSets, degree=48, width=96, alpha=1.2)`; answers AnyOf."""

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets,
        *,
        degree: int = 48,
        width: int = 96,
        alpha: float = 1.2,
        seed: int = 42,
    ) -> FilteredVamana:
        """Insert slots [0, n) in an order drawn from the seed. degree, width, alpha: the paper's R, L and alpha.

        LimitExceeded for a slot of more than 96 labels; InvalidArgument for a degree beyond 4 .. 88 or alpha < 1.
        """
        labels = _checked(rows, n, metric, attribute, degree, alpha)
        loom = Loom(
            *coded_rows(rows, n, metric), n, degree=degree, alpha=alpha, width=width, codes=labels.codes,
            ends=labels.ends, both=True,
        )  # fmt: skip
        links, starts = RaggedLinks.empty(loom.room(labels.counts)), labels.starts(seed)
        order = np.random.default_rng(seed).permutation(n)
        if n:
            loom.insert(links, order, np.append(starts, order[0]), int(labels.counts.max()))
        return cls._of(rows, n, metric, links, labels, starts)


class StitchedVamana(_LabelledGraph):
    """`StitchedVamana.build(rows, n, metric, LabelSets, degree=64, small_degree=32, ...)`; answers AnyOf."""

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets,
        *,
        degree: int = 64,
        small_degree: int = 32,
        width: int = 96,
        alpha: float = 1.2,
        seed: int = 42,
    ) -> StitchedVamana:
        """Build a graph of small_degree links per label, and keep degree links of their union.

        Errors as `FilteredVamana.build`.
        """
        labels = _checked(rows, n, metric, attribute, degree, alpha)
        _checked(rows, n, metric, attribute, small_degree, alpha)
        coded, compared = coded_rows(rows, n, metric)
        sources, targets = _label_graphs(coded, compared, n, labels, (small_degree, width, alpha), seed)
        order = np.argsort(sources, kind="stable")
        firsts = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(sources, minlength=n), out=firsts[1:])
        loom = Loom(coded, compared, n, degree=degree, alpha=alpha, width=width, codes=labels.codes, ends=labels.ends)
        links = RaggedLinks.empty(loom.room(labels.counts))
        loom.choose(links, firsts, targets[order])
        return cls._of(rows, n, metric, links, labels, labels.starts(seed))


def _checked(rows: Rows, n: int, metric: Metric, attribute: LabelSets, degree: int, alpha: float) -> Labels:
    """The labels, once everything is known to fit."""
    if not isinstance(attribute, LabelSets):
        raise InvalidArgument("this graph is of label sets", field="attribute", value=type(attribute).__name__)
    check_rows(rows, n, metric, attribute)
    if not 4 <= degree <= _DEGREE_MAX:
        raise InvalidArgument("degree lies between 4 and the limit", field="degree", value=degree, limit=_DEGREE_MAX)
    if alpha < 1:
        raise InvalidArgument("alpha is at least 1", field="alpha", value=alpha, limit=1)
    most = int(np.diff(attribute.ends, prepend=0).max(initial=0))
    if most > LABELS_MAX:
        raise LimitExceeded(
            "a row has more labels than its links can serve", field="labels", value=most, limit=LABELS_MAX
        )
    return Labels.of(attribute)


def _label_graphs(
    rows: Rows, metric: Metric, n: int, labels: Labels, sizes: tuple[int, int, float], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """The links of each label's own graph: sources and targets; of few slots, all pairs."""
    degree, width, alpha = sizes
    loom = Loom(rows, metric, n, degree=degree, alpha=alpha, width=width)
    links = RaggedLinks.empty(np.broadcast_to(loom.room(np.zeros(1, np.int64)), (n,)))
    per_row, rng = (len(links.lines) // n if n else 1), np.random.default_rng(seed)
    table = links.lines.reshape(n, per_row * links.lines.shape[1])
    all_sources, all_targets = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    for label in range(len(labels.known)):
        members = labels.of_label(label)
        if len(members) <= degree + 1:
            sources = np.repeat(members, len(members))
            targets = np.tile(members.astype(np.uint32), len(members))
            used = sources != targets
        else:
            order = rng.permutation(members)
            loom.insert(links, order, order[:1].copy())
            sources, targets = np.repeat(members, table.shape[1]), table[members].reshape(-1)
            used = targets != SENTINEL
            table[members] = SENTINEL
        all_sources.append(sources[used])
        all_targets.append(targets[used])
    return np.concatenate(all_sources), np.concatenate(all_targets)
