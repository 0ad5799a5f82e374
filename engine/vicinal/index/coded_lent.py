"""Scratch memory of a coded index, lent to one walk at a time, aimed at what it is to search."""

from __future__ import annotations

from vicinal.codecs.choice import Choice
from vicinal.codecs.frame import Frame
from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded
from vicinal.index.coded_arrays import CodedArrays, address, has_floats
from vicinal.index.coded_checks import require_rows
from vicinal.index.coded_effort import Effort, EffortTable, results_room
from vicinal.index.coded_scratch import Aim, Scratch
from vicinal.limits import EF_MAX, K_MAX
from vicinal.types import Bits, Metric, Rows

__all__ = ["Lender"]


class Lender:
    """What walks borrow; any number of threads may, at once."""

    def __init__(self, metric: Metric, frame: Frame, choice: Choice, arrays: CodedArrays) -> None:
        from vicinal.kernels.walk_fields import EFFORT_BITS

        self.metric = metric
        self.dim = frame.dim
        self.efforts = EffortTable(arrays.exact_walk)
        self._frame = frame
        self._choice = choice
        self._arrays = arrays
        self._free: list[Scratch] = []
        self._free_lanes: list[Scratch] = []  # for batches
        self._bound: tuple[Rows | None, int, int, int] = (None, 0, 0, 0)
        self._shape = (frame.dim,)
        self._shifts = tuple(EFFORT_BITS * part for part in range(4))
        self._packed: dict[tuple[int, int], tuple[int, int, int]] = {}

    def _aimed(self, aim: Aim, k: int, ef: int) -> Scratch:
        """Do as `_ready`, and let the memory be known by what it is aimed at, unless rows are not float32."""
        scratch = self._ready(k, ef, aim.rows, aim.n, aim.alive)
        if scratch.has_floats:
            scratch.name(aim)
        return scratch

    def _ready(self, k: int, ef: int, rows: Rows, limit: int, allowed: Bits | None) -> Scratch:
        """Give scratch memory that is aimed and fitted, for this thread alone until it is appended to `_free`."""
        arrays = self._arrays
        try:
            scratch = self._free.pop()  # atomic: two threads never get the same
        except IndexError:
            pass
        else:
            if (
                scratch.aimed is None
                and scratch.rows is rows
                and scratch.allowed is allowed
                and scratch.ef == ef
                and scratch.k == k
                and scratch.limit == limit
                and scratch.index_at == arrays.at
            ):
                return scratch
            self._free.append(scratch)
        packed, pool, results = self._packed.get((k, ef)) or self._pack(k, ef)
        scratch = self._borrow(arrays, pool, results)
        self._aim(scratch, arrays, rows, limit, allowed)
        scratch.fit(k, ef, packed, k if scratch.has_floats else max(k, packed >> self._shifts[3]))
        return scratch

    def _pack(self, k: int, ef: int) -> tuple[int, int, int]:
        """Give the packed effort of k and ef, and the scratch room it needs; remembered."""
        if not 1 <= k <= K_MAX:
            raise LimitExceeded(f"k is 1 to {K_MAX}", field="k", value=k, limit=K_MAX)
        if not 1 <= ef <= EF_MAX:
            raise LimitExceeded(f"ef is 1 to {EF_MAX}", field="ef", value=ef, limit=EF_MAX)
        effort = self.efforts.effort(k, ef)
        known = self._packed_effort(effort), effort.pool, results_room(effort, k)
        self._packed[k, ef] = known
        return known

    def _packed_effort(self, effort: Effort) -> int:
        """Give an effort as the one number that kernels take."""
        return sum(part << shift for part, shift in zip(effort, self._shifts, strict=True))

    def _bind(self, rows: Rows) -> tuple[int, int, int]:
        """Remember the addresses of the stored floats while the same Rows come in; they are kept alive meanwhile.

        Vectors of another dtype, or that lie apart, have address 0: the walk ends with what its codes say, and the
        caller settles on them.
        """
        vectors, inv_norms = rows
        known = self._bound
        if known[0] is not None and known[0].vectors is vectors and known[0].inv_norms is inv_norms:
            return known[1:]
        require_rows(rows, 0, self.metric)
        if vectors.shape[1] != self.dim:
            raise InvalidVector(f"rows have {self.dim} dimensions", field="rows", value=vectors.shape, limit=self.dim)
        floats = address(vectors) if has_floats(vectors) else 0
        self._bound = rows, floats, address(inv_norms), len(vectors)
        return self._bound[1:]

    def _borrow(self, arrays: CodedArrays, pool: int, results: int) -> Scratch:
        """Give scratch memory of at least this size, for this thread alone until it is appended to `_free`."""
        try:
            scratch = self._free.pop()  # atomic: two threads never get the same
        except IndexError:
            return self._scratch(arrays, pool, results)
        if scratch.room < arrays.capacity or scratch.pool < pool or scratch.results < results:
            return self._scratch(arrays, pool, results)
        return scratch

    def _aim(self, scratch: Scratch, arrays: CodedArrays, rows: Rows, limit: int, allowed: Bits | None) -> None:
        """Let scratch memory search these rows."""
        vectors, inv_norms, reach = self._bind(rows)
        if not 0 <= limit <= reach:
            raise InvalidArgument(f"rows hold {reach} vectors", field="limit", value=limit, limit=reach)
        scratch.aim(arrays, rows, (vectors, inv_norms), limit, allowed)

    def _scratch(self, arrays: CodedArrays, pool: int, results: int, lanes: int = 1) -> Scratch:
        """Give fresh scratch memory of at least this size."""
        projected = self._choice.codec.query.projected
        cells = len(self._choice.cells.norms)
        return Scratch(
            self._frame.padded, projected, cells, pool=pool, results=results, slots=arrays.capacity, lanes=lanes
        )
