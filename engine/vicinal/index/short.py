"""Search on the leading dimensions, settled on all: for Matryoshka embeddings (Kusupati et al. 2022).

Such models put most of what matters first, so a graph over a quarter of the dimensions finds candidates for a quarter
of the memory and bytes read; their distances are then those of the whole vectors. Other embeddings lose recall. The
leading dimensions are not copied: they are read where the whole rows lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.exact import Found, exact_search_list
from vicinal.index.searchers import SearcherOver
from vicinal.limits import K_MAX
from vicinal.types import Bits, Rows

__all__ = ["ShortSearcher", "short_norms"]

_SETTLED = 4  # times k: candidates of the leading dimensions that are settled on all


def short_norms(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """1 / |x| of each row (n, dims), 0 for a row of zeros, which leading dimensions may be."""
    wide = vectors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return np.where(lengths > 0, 1 / np.maximum(lengths, np.float32(1e-30)), 0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ShortSearcher(SearcherOver):
    """A searcher over `short` rows, the beginnings of whole ones, that answers with distances of whole rows."""

    short: Rows

    @property
    def n(self) -> int:
        """Slots in the graph."""
        return self.inner.n

    @property
    def room(self) -> int:
        """Slots that the graph's arrays hold."""
        return self.inner.room

    @property
    def nbytes(self) -> int:
        """Bytes of the graph and of the norms of leading dimensions."""
        return self.inner.nbytes + self.short.inv_norms.nbytes

    def head(self, query: NDArray[Any]) -> NDArray[Any]:
        """The leading dimensions of a query."""
        return np.ascontiguousarray(query[: self.short.vectors.shape[1]])

    @staticmethod
    def candidates(k: int) -> int:
        """How many of the nearest on the leading dimensions are settled on all."""
        return min(_SETTLED * k, K_MAX)

    def ef_for(self, recall_target: float) -> None:
        """Recall on all dimensions is not measured on the leading ones."""
        del recall_target

    def recall_at(self, ef: int) -> None:
        """Recall on all dimensions is not measured on the leading ones."""
        del ef

    def search(self, query: NDArray[Any], k: int, ef: int, *, rows: Rows, limit: int, allowed: Bits | None) -> Found:
        """The nearest on the leading dimensions, several times k of them, of which the k nearest on all."""
        head = self.head(query)
        if not head.any():  # as near to all rows
            return np.empty(0, np.uint32), np.empty(0, np.float32)
        wanted = min(self.candidates(k), max(limit, 1))
        slots, _ = self.inner.search(head, wanted, ef, rows=self.short, limit=limit, allowed=allowed)
        return exact_search_list(self.metric, rows, np.ascontiguousarray(query), k, slots)
