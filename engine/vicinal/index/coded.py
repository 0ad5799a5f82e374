"""The coded index: a graph of degree 32 walked on one cache line of code per node.

Memory per node: 64 bytes of code and either a row (64 bytes of head, 128 of links, a byte per dimension) with a second
byte per dimension beside it, or, where the codes' estimates are near exact, the links alone. Vectors stay with their
owner, who passes them to each call: distances are those of the stored floats, to 2e-5 of the vectors' squares
(2e-5 where one dimension holds nearly a quarter of a square).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.casting import check_vectors
from vicinal.codecs.choice import Choice, choose, entry_nodes
from vicinal.codecs.frame import Frame, sample_slots
from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.index.coded_arrays import DEGREE, SENTINEL, CodedArrays, has_floats
from vicinal.index.coded_checks import require_rows
from vicinal.index.coded_drift import Drift
from vicinal.index.coded_effort import EffortTable
from vicinal.index.coded_lent import Lender
from vicinal.index.coded_scratch import Aim
from vicinal.index.coded_snapshot import Fitted
from vicinal.index.exact import exact_search_list
from vicinal.limits import EF_MAX
from vicinal.types import Bits, Metric, Rows

__all__ = ["CodedIndex"]

_CHUNK = 256  # rows encoded at a time, so few that they stay near
_GROWTH = 1.25
_ENTRY_ROWS = 4096  # rows among which new entries are looked for
_MEASURE_FROM = 2_000
_FLOAT32, _UINT32, _UINT64 = np.dtype(np.float32), np.dtype(np.uint32), np.dtype(np.uint64)
_ARRAY, _empty = np.ndarray, np.empty
_Row = tuple[NDArray[Any], NDArray[np.float32]]


class CodedIndex(Lender):
    """An index over rows [0, n) of one dense field; readers may search while one writer appends and patches.

    Make one with `CodedIndex.build`. `n` is the watermark: slots [0, n) are in the graph.
    """

    def __init__(self, metric: Metric, frame: Frame, choice: Choice, arrays: CodedArrays, n: int) -> None:
        from vicinal.kernels import entry
        from vicinal.kernels.walk import SEARCH
        from vicinal.kernels.walk_steps import REFUSED, UNSURE

        super().__init__(metric, frame, choice, arrays)
        self.n = n
        walk = choice.codec.search()
        self._walk = entry(walk, SEARCH) if arrays.linked else walk
        self._refused, self._unsure = int(REFUSED), int(UNSURE)
        self._drift: Drift | None = None  # made on the first append

    @classmethod
    def build(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        links: NDArray[np.uint32] | None,
        *,
        codec: str = "auto",
        capacity: int | None = None,
        seed: int = 42,
        measure: bool = True,
        fine: bool = True,
        threads: int = 1,
    ) -> CodedIndex:
        """Encode rows [0, n) and take their links (n, 32), each row ended by 0xFFFFFFFF unless full.

        codec: auto, signs, nibbles or bytes; `info` tells why auto chose what it did. measure: fit the table behind
        ef on rows that the walk may not see; otherwise, and below 2,000 rows, a standard one serves. fine: keep a
        second byte a dimension and settle on these 16 bits instead of the stored floats: a quarter of the bytes to
        fetch, and distances are within 2e-5 of the rows' squares. Floats are then read for rows far nearer than they
        are long alone. There are no such bytes beside rows of whole numbers, vectors that are not floats, and links
        alone.
        links None: code lines alone, for `CodeScan`; there is nothing to walk.
        """
        choice = choose(metric, rows, n, codec=codec, seed=seed)
        index = cls.of_choice(rows, n, metric, choice, links, capacity=capacity, fine=fine, threads=threads)
        if measure and links is not None and np.count_nonzero(links[:, 0] != SENTINEL) >= _MEASURE_FROM:
            index.measure_efforts(rows, seed=seed, threads=threads)
        return index

    @classmethod
    def of_choice(
        cls,
        rows: Rows,
        n: int,
        metric: Metric,
        choice: Choice,
        links: NDArray[np.uint32] | None,
        *,
        capacity: int | None = None,
        fine: bool = False,
        plane: NDArray[np.uint8] | None = None,
        efforts: EffortTable | None = None,
        threads: int = 1,
    ) -> CodedIndex:
        """Encode rows [0, n) by what was fitted before and take their links, effort table and second bytes if known."""
        require_rows(rows, n, metric)
        arrays = CodedArrays(
            choice.frame,
            choice.cells,
            choice.cell_nodes,
            choice.codec,
            max(capacity or n, n),
            exact_walk=choice.exact_walk and links is not None,
            fine=fine and has_floats(rows.vectors),
            plane=plane,
            linked=links is not None,
        )
        index = cls(metric, choice.frame, choice, arrays, 0)
        index._encode(rows, 0, n, threads if plane is None else 1)  # a plane may have to be replaced, once
        index.n = n
        if links is None:
            return index
        arrays.enter_at(choice.cell_nodes)
        index.patch_links(np.arange(n, dtype=np.uint32), links)
        linked = links[:, 0] != SENTINEL
        if linked.any() and not linked.all():
            index.enter_elsewhere(rows, ~linked)
        if efforts is not None:
            index.efforts = efforts
        return index

    def enter_elsewhere(self, rows: Rows, removed: NDArray[np.bool_]) -> None:
        """See that no walk enters at a slot of `removed` (n,), of which some are False.

        Each of these is replaced by one of its cell from a sample of the others.
        """
        nodes = self._arrays.cell_nodes
        lost = removed[nodes]
        if not lost.any():
            return
        living = np.flatnonzero(~removed)
        slots = living[sample_slots(len(living), _ENTRY_ROWS, 0)]
        others = entry_nodes(self._choice.cells, self._frame.rows(rows, slots), slots, len(living))
        self._arrays.enter_at(np.where(lost, others, nodes))

    def fitted(self, entry: int, removed: NDArray[np.bool_]) -> Fitted:
        """All that cannot be made again from the rows; `entry`: the slot that insertion starts from.

        removed (n,): slots whose links are left out.
        """
        arrays = self._arrays
        links = arrays.links[: self.n].copy()
        links[removed] = SENTINEL
        choice = self._choice._replace(cell_nodes=arrays.cell_nodes.copy())
        return Fitted(choice, self.efforts, arrays.fine is not None, entry, links)

    def measure_efforts(self, rows: Rows, *, queries: int = 150, seed: int = 42, threads: int = 1) -> None:
        """Fit the table behind ef and recall_target on rows left out of their own search, of which `queries` choose."""
        from vicinal.index.coded_measure import fitted_efforts

        fitted = fitted_efforts(self, rows, queries, seed, threads)
        if fitted is not None:
            self.efforts, self._packed = fitted, {}
            self._free.clear()  # they remember efforts of the former table

    def ef_for(self, recall_target: float) -> int:
        """Give the ef that reached a recall of the ten nearest when measured at build; the largest if none did."""
        if not 0 < recall_target <= 1:
            raise InvalidArgument("recall_target lies between 0 and 1", field="recall_target", value=recall_target)
        ef = self.efforts.ef_for(recall_target)
        return EF_MAX if ef is None else ef

    def _encode(self, rows: Rows, start: int, stop: int, threads: int = 1) -> None:
        def encode(at: int) -> None:
            framed = self._frame.rows(rows, slice(at, min(at + _CHUNK, stop)))
            self._arrays.encode(framed, at)

        if threads == 1:
            deque(map(encode, range(start, stop, _CHUNK)), maxlen=0)
            return
        with ThreadPoolExecutor(threads, "vicinal-encode") as pool:
            deque(pool.map(encode, range(start, stop, _CHUNK)), maxlen=0)

    def append(self, rows: Rows, start: int, stop: int) -> None:
        """Encode slots [start, stop), start = n; nothing leads to them until links are patched."""
        require_rows(rows, stop, self.metric)
        if start != self.n or stop < start:
            raise InvalidArgument(
                f"append begins at slot {self.n}, the next one", field="start", value=start, limit=self.n
            )
        if self._drift is None and start:
            self._drift = Drift(self._frame, self._choice.cells, rows, start)
        if stop > self._arrays.capacity:
            capacity = max(stop, int(self._arrays.capacity * _GROWTH))
            self._arrays = self._arrays.grown(capacity, self.n)
            self._free.clear()  # they would keep the former arrays alive
            self._free_lanes.clear()
        self._encode(rows, start, stop)
        self.n = stop
        if self._drift is not None:
            self._drift.seen(rows, stop)

    @property
    def drifted(self) -> bool:
        """Whether many appended rows are unlike those the codes were fitted to: `build` fits them again."""
        return self._drift is not None and self._drift.refit

    def patch_links(self, slots: NDArray[np.uint32], links: NDArray[np.uint32]) -> None:
        """Replace the links of the given slots: (m, 32), each a slot below n, ended by 0xFFFFFFFF unless full.

        A reader sees each single link old or new; new nodes are encoded before anything leads to them.
        """
        from vicinal.kernels.walk_links import write_links

        slots, links = np.ascontiguousarray(slots, _UINT32), np.ascontiguousarray(links, _UINT32)
        if links.shape != (len(slots), DEGREE):
            raise InvalidArgument(
                f"links are ({len(slots)}, {DEGREE})", field="links", value=links.shape, limit=(len(slots), DEGREE)
            )
        if not write_links(slots, links, self.n, self._arrays.links):
            raise InvalidArgument(f"links lead to slots below {self.n}", field="links", limit=self.n)

    def search(
        self,
        query: NDArray[Any],
        k: int,
        ef: int,
        *,
        rows: Rows,
        limit: int | None = None,
        allowed: Bits | None = None,
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Find the k nearest of the slots below `limit` (default n) that are `allowed` (None: all).

        query: (dim,) of the rows' dtype; InvalidVector where it cannot be compared. Gives slots and distances, nearest
        first, at most k of each; distances are those of the stored vectors. A larger ef finds more of the true k and
        takes longer.
        """
        sent = query
        if query.dtype is not _FLOAT32 or type(query) is not _ARRAY:
            query = self._cast(query)
        scratch = self._ready(k, ef, rows, self.n if limit is None else limit, allowed)
        slots, distances = _empty(scratch.wanted, _UINT32), _empty(scratch.wanted, _FLOAT32)
        found = self._walk(query, scratch.call_at, scratch.packed, slots, distances)
        if found < 0:
            if found != self._refused:
                check_vectors(query[None], self.metric, "vector")
            found = self.walked(query, scratch.call_at, scratch.packed, slots, distances)
        settled = scratch.has_floats
        self._free.append(scratch)
        if not settled:
            return exact_search_list(self.metric, rows, sent, k, slots[:found])
        return (slots[:found], distances[:found]) if found < k else (slots, distances)

    def walked(
        self,
        query: NDArray[np.float32],
        call_at: int,
        packed: int,
        slots: NDArray[np.uint32],
        distances: NDArray[np.float32],
    ) -> int:
        """Walk for a checked query, float32; give how many of the slots and distances, of one length, were found."""
        found: int = self._walk(query, call_at, packed, slots, distances)
        if found < 0:
            if found == self._refused:
                return self.walked(self._cast(query), call_at, packed, slots, distances)
            found -= self._unsure  # at the very limits the check and the kernel may differ
        return found

    def search_row(self, query: NDArray[Any], k: int, ef: int, aim: Aim) -> _Row | None:
        """Do as `search`, and give labels and distances as (1, k); None where there is more to look at.

        aim: what to search, by which memory aimed before is known again; two that differ are two objects. None comes
        where the query is not (dim,) or (1, dim) in one piece, of finite numbers, of a length that can be compared,
        where fewer than k were found, and where vectors are not float32. The query is an array of float32, and nobody
        has looked at it.
        """
        free = self._free
        try:
            scratch = free.pop()  # atomic: two threads never get the same
        except IndexError:
            scratch = self._aimed(aim, k, ef)
        if scratch.aimed is not aim or scratch.ef != ef or scratch.k != k:
            free.append(scratch)
            scratch = self._aimed(aim, k, ef)
            if not scratch.has_floats:
                free.append(scratch)
                return None
        labels, near = _empty(scratch.shape, _UINT64), _empty(scratch.shape, _FLOAT32)
        found = self._walk(query, scratch.call_at, scratch.packed, labels, near)
        free.append(scratch)
        return (labels, near) if found == k else None

    def _cast(self, query: NDArray[Any]) -> NDArray[np.float32]:
        """Give the query as the kernels read it, or refuse it."""
        if query.shape != self._shape:
            raise InvalidVector(
                f"a query has {self.dim} dimensions", field="query", value=query.shape, limit=self._shape
            )
        return np.ascontiguousarray(query, np.float32)

    @property
    def choice(self) -> Choice:
        """Frame, code and why, as fitted at build."""
        return self._choice

    @property
    def capacity(self) -> int:
        """Slots that the arrays hold before they are copied to larger ones."""
        return self._arrays.capacity

    @property
    def memory_bytes(self) -> int:
        """Bytes of rows, code lines and constants (scratch memory aside)."""
        return self._arrays.memory_bytes

    @property
    def info(self) -> Mapping[str, Any]:
        """What was chosen and why, for `Collection.info`."""
        return {
            **self._choice.codec.settings(),
            "why": self._choice.why,
            "walk": "rows" if self._arrays.exact_walk else "links",
            "whole_numbers": self._arrays.whole,
            "fine": self._arrays.fine is not None,
            "recall_lost": round(self.efforts.lost, 4),
            "bytes": self.memory_bytes,
            "bytes_per_vector": self._arrays.node_bytes,
        }
