"""ACORN: graphs that answer any condition by looking through what it excludes (Patel et al., arXiv 2403.04871).

`AcornGamma` is built M * gamma links wide and compressed on level 0 (`kernels.acorn`); conditions that fewer than 1 in
gamma slots satisfy are scanned, as the paper has it. `AcornOne` is an ordinary HNSW whose search looks through
neighbours that do not match.

Against the reference code: a slot is tested before it enters the beam, the entry point too; a beam begins with slots
of the bitmap from all over it beside the descent's end; visited marks are epochs, never cleared or allocated by a
query; offsets are 64 bits wide.
Departures: only neighbours that do not match are looked through (`kernels.admission`). AcornOne's graph is this
engine's, built in bulk and pruned, of 32 links on level 0, where the paper keeps the M nearest unpruned. AcornGamma
compares codes of a byte a dimension while it builds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import count_bits
from vicinal.errors import InvalidArgument
from vicinal.index.admitted import AdmittedSearch, check_rows, nothing
from vicinal.index.attributes import Condition, Found, Keys, LabelSets, matching_bits
from vicinal.index.builder import build_links
from vicinal.index.bulk_codes import coded_rows
from vicinal.index.exact import exact_search
from vicinal.index.hnsw import HnswIndex
from vicinal.index.scratch import Scratch, address, aligned
from vicinal.index.spaces import space_of
from vicinal.kernels.acorn import Density, insert_dense
from vicinal.kernels.admission import ROW_MAX
from vicinal.kernels.beam import Graph
from vicinal.kernels.insert import ENTRY, STATE, TOP, draw_levels
from vicinal.kernels.simd import SENTINEL
from vicinal.types import HnswParams, Metric, Rows

__all__ = ["AcornGamma", "AcornOne"]

_LANES: Final = 16  # links in a cache line


class AcornOne:
    """ACORN-1. `AcornOne.build(rows, n, metric, attribute)`; answers every condition."""

    def __init__(self, searches: AdmittedSearch, attribute: LabelSets | Keys) -> None:
        self._searches, self._attribute = searches, attribute

    @classmethod
    def build(
        cls, rows: Rows, n: int, metric: Metric, attribute: LabelSets | Keys, *, seed: int = 42, threads: int = 1
    ) -> AcornOne:
        """Build over slots [0, n) of rows of real numbers. The attribute serves conditions other than Marked."""
        check_rows(rows, n, metric, attribute)
        params = HnswParams(seed=seed)
        links = build_links(rows, n, metric, threads=threads, seed=seed)
        assert links is not None, "nothing cancels it"
        picture = HnswIndex.from_links(metric, rows.vectors.shape[1], params, links).picture()
        arrays = picture.arrays
        held = (arrays.links, arrays.upper, arrays.offsets)
        search = AdmittedSearch(rows, n, metric, arrays.graph(), held, entry=picture.entry, top=picture.top)
        return cls(search, attribute)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph."""
        return self._searches.nbytes

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """As `FilteredGraph.search`."""
        bits = matching_bits(self._attribute, condition, self._searches.n)
        return self._searches.search(query, k, ef, allowed=bits, near=0, cap=32)


class AcornGamma:
    """ACORN-gamma. `AcornGamma.build(rows, n, metric, attribute, M=16, gamma=12, near=32)`; answers every condition."""

    def __init__(self, searches: AdmittedSearch, attribute: LabelSets | Keys, M: int, gamma: int, near: int) -> None:
        self._searches, self._attribute = searches, attribute
        self._cap, self._gamma, self._near = 2 * M, gamma, near

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        attribute: LabelSets | Keys,
        *,
        M: int = 16,
        gamma: int = 12,
        near: int = 32,
        seed: int = 42,
    ) -> AcornGamma:
        """Build over slots [0, n), inserted in an order drawn from the seed. near: the paper's M_beta.

        InvalidArgument for M < 4, gamma < 1 or rows of more than 239 links: M * gamma and near + 1.5 M. The attribute
        serves conditions other than Marked.
        """
        check_rows(rows, n, metric, attribute)
        budget, limit = near + 3 * M // 2, ROW_MAX - _LANES
        if M < 4 or gamma < 1 or near < 0 or max(M * gamma, budget) > limit:
            raise InvalidArgument(
                "M is at least 4, gamma 1, and M * gamma and near + 1.5 M fit a row",
                field="M", value=(M, gamma, near), limit=limit,
            )  # fmt: skip
        levels = np.empty(n, np.uint8)
        draw_levels(0, n, M, seed, levels)
        above = levels.astype(np.int64)
        offsets = aligned((n,), np.uint32)
        offsets[:] = np.cumsum(above) - above
        links = aligned((n, _row_of(budget)), np.uint32, SENTINEL)
        upper = aligned((int(above.sum()), _row_of(M * gamma)), np.uint32, SENTINEL)
        graph = Graph(
            address(links), links.shape[1] * 4, links.shape[1], address(upper), upper.shape[1] * 4, upper.shape[1],
            address(offsets), n,
        )  # fmt: skip
        state = _grow(*coded_rows(rows, n, metric), n, graph, levels, (M, near, budget, M * gamma), seed)
        entry, top = int(state[ENTRY]), int(state[TOP])
        search = AdmittedSearch(rows, n, metric, graph, (links, upper, offsets), entry=entry, top=top)
        return cls(search, attribute, M, gamma, near)

    @property
    def nbytes(self) -> int:
        """Bytes of the graph."""
        return self._searches.nbytes

    def search(self, query: NDArray[np.float32], condition: Condition, k: int, ef: int) -> Found:
        """As `FilteredGraph.search`. Fewer than n / gamma matches are scanned."""
        search = self._searches
        bits = matching_bits(self._attribute, condition, search.n)
        if k <= 0 or search.n == 0:
            return nothing()
        if count_bits(bits) * self._gamma < search.n:
            return exact_search(search.metric, search.rows, query, k, start=0, stop=search.n, allowed=bits)
        return search.search(query, k, ef, allowed=bits, near=self._near, cap=self._cap)


def _row_of(budget: int) -> int:
    """Places of a row that is cut to so many links when it is full: whole cache lines, and some to spare."""
    return -(-(budget + 8) // _LANES) * _LANES


def _grow(
    rows: Rows,
    metric: Metric,
    n: int,
    graph: Graph,
    levels: NDArray[np.uint8],
    sizes: tuple[int, int, int, int],
    seed: int,
) -> NDArray[np.int64]:
    """Insert every slot; returns the state with entry and top level. sizes: M, near, budget, upper of Density."""
    M, near, budget, upper = sizes
    pool_vectors = (max(upper, budget) + 7) >> 3
    width = max(graph.M0, graph.M)
    scratch = Scratch()
    scratch.fit(n, pool_vectors, rows.vectors.shape[1], rows.vectors.dtype)
    state = np.zeros(STATE, np.int64)
    state[ENTRY] = -1
    ranked, chosen = aligned((width + 24,), np.int64), aligned((width + 16,), np.uint32)
    density = Density(
        M=M, near=near, budget=budget, upper=upper, pool_vectors=pool_vectors, ranked=address(ranked) + 64,
        ranked_vectors=(width + 8) >> 3, chosen=address(chosen), state=address(state), levels=address(levels),
    )  # fmt: skip
    order = np.random.default_rng(seed).permutation(n)
    marks = np.zeros(n + 1, np.int64)
    insert_dense(space_of(metric, rows), graph, scratch.work(), density, order, 0, n, marks)
    return state
