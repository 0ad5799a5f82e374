"""What the filtered graphs share: the beam search over admitted slots, and the checks before anything is built."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Found, Keys, LabelSets
from vicinal.index.scratch import address, give_back, take
from vicinal.index.spaces import bits_at, capacity_of, space_at
from vicinal.kernels.admission import ALL, Admission, search_admitted
from vicinal.kernels.beam import Graph
from vicinal.types import Bits, Metric, Rows

__all__ = ["NO_SEEDS", "AdmittedSearch", "check_rows", "nothing"]

NO_SEEDS: Final = np.empty(0, np.uint32)


def nothing() -> Found:
    """The empty answer."""
    return np.empty(0, np.uint32), np.empty(0, np.float32)


def check_rows(rows: Rows, n: int, metric: Metric, attribute: LabelSets | Keys | None = None) -> None:
    """InvalidArgument unless there are n rows, and labels or keys for each."""
    if not 0 <= n <= capacity_of(metric, rows):
        raise InvalidArgument("n is at most the number of rows", field="n", value=n, limit=capacity_of(metric, rows))
    if isinstance(attribute, LabelSets):
        LabelSets.check(attribute, n)


class AdmittedSearch:
    """Searches of one graph: the arrays it reads, and what a call of the kernel needs.

    graph: its arrays are kept alive by `arrays`; level: where the search ends; entry, top: where it starts above that,
    or -1.
    """

    def __init__(
        self, rows: Rows, n: int, metric: Metric, graph: Graph, arrays: tuple[NDArray[Any], ...],
        *, level: int = 0, entry: int = -1, top: int = 0,
    ) -> None:  # fmt: skip
        self.rows, self.n, self.metric, self.arrays = rows, n, metric, arrays
        self._level, self._entry, self._top = level, entry, top
        self._graph = np.array(graph, np.int64)
        self._graph_at = address(self._graph)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph's arrays."""
        return sum(array.nbytes for array in self.arrays)

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        ef: int,
        *,
        allowed: Bits | None = None,
        labels: NDArray[np.uint32] = NO_SEEDS,
        sets: tuple[int, int] = (0, 0),
        seeds: NDArray[np.uint32] = NO_SEEDS,
        near: int = ALL,
        cap: int = 0,
    ) -> Found:
        """At most k admitted slots, nearest first, ties by slot: a beam of width max(ef, k).

        Admitted are slots of the bitmap, or with one of the labels (ascending) in `sets`, the addresses of
        Admission.codes and .ends; without both, all.
        """
        k = min(k, self.n)
        if k <= 0:
            return nothing()
        element, space = space_at(self.metric, self.rows)
        ef = max(ef, k)
        wanted = Admission(self.n, bits_at(allowed, self.n), near, cap, *sets, address(labels), len(labels))
        block = np.array(wanted, np.int64)
        slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
        vectors = self.rows.vectors
        scratch = take(self.n, (ef + 7) >> 3, vectors.shape[1], vectors.dtype)
        try:
            scratch.put_query(query)
            epochs = scratch.next_epoch(), scratch.next_epoch()
            count = search_admitted(
                element, space, self._graph_at, self.n, scratch.at, epochs, address(block), self._level, self._entry,
                self._top, seeds, ef, slots, distances,
            )  # fmt: skip
        finally:
            give_back(scratch)
        return slots[:count], distances[:count]
