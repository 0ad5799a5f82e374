"""Slots in the order of an attribute: what a range of keys is as a range of ranks."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.index.attributes import Between, Condition, Found, Keys, LabelSets
from vicinal.index.exact import exact_search_list
from vicinal.index.scratch import address, aligned, give_back, take
from vicinal.index.spaces import capacity_of, space_at
from vicinal.limits import EF_MAX, K_MAX
from vicinal.types import Metric, Rows

__all__ = ["RankOrder", "check_search", "scan_ranks", "search_ranks"]

_EXACT = 1 << 53  # whole numbers below it are float64s
_INT64 = np.iinfo(np.int64)


class RankOrder(NamedTuple):
    """Slots by (key, slot): rank r is slot `order[r]`, slot s has rank `ranks[s]`, its key is `keys[ranks[s]]`."""

    order: NDArray[np.uint32]
    ranks: NDArray[np.uint32]
    keys: NDArray[Any]

    @classmethod
    def of(cls, attribute: LabelSets | Keys, n: int) -> RankOrder:
        """The order of n keys; InvalidArgument for labels, other types than int64 and float64, and NaN."""
        if not isinstance(attribute, Keys):
            raise InvalidArgument("a range graph is built on keys, not labels", field="attribute")
        values = np.asarray(attribute.values)
        if values.shape != (n,) or values.dtype not in (np.dtype(np.int64), np.dtype(np.float64)):
            raise InvalidArgument(f"keys are {n} of int64 or float64", field="attribute", value=str(values.dtype))
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise InvalidArgument("a key is not NaN", field="attribute")
        by_key = np.argsort(values, kind="stable")
        order, ranks = aligned((n,), np.uint32), aligned((n,), np.uint32)
        order[:] = by_key
        ranks[by_key] = np.arange(n, dtype=np.uint32)
        return cls(order, ranks, values[by_key])

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.order.nbytes + self.ranks.nbytes + self.keys.nbytes

    def between(self, condition: Condition) -> tuple[int, int]:
        """The ranks low .. stop - 1 of a range; equal to comparing every key as numpy does."""
        if not isinstance(condition, Between):
            raise InvalidArgument("a range graph answers ranges of keys", field="condition", value=condition)
        low, high = condition
        if low != low or high != high:  # noqa: PLR0124 - NaN is in no range
            return 0, 0
        start, stop = self._first(low, after=False), self._first(high, after=True)
        return (start, stop) if start < stop else (0, 0)

    def _first(self, bound: float, *, after: bool) -> int:
        """How many keys are below the bound, or not above it."""
        if self.keys.dtype.kind == "f":
            return int(np.searchsorted(self.keys, np.float64(bound), "right" if after else "left"))
        if not isinstance(bound, int | np.integer):
            if abs(bound) >= _EXACT:  # keys so large are compared as float64s
                find = bisect.bisect_right if after else bisect.bisect_left
                return find(self.keys, float(bound), key=float)
            bound = math.floor(bound) if after else math.ceil(bound)
        if bound < _INT64.min or bound > _INT64.max:
            return 0 if bound < 0 else len(self.keys)
        return int(np.searchsorted(self.keys, np.int64(bound), "right" if after else "left"))


def check_search(k: int, ef: int) -> None:
    """Refuse counts that no kernel may see."""
    if not 1 <= k <= K_MAX:
        raise LimitExceeded(f"k is 1 to {K_MAX}", field="k", value=k, limit=K_MAX)
    if not 1 <= ef <= EF_MAX:
        raise LimitExceeded(f"ef is 1 to {EF_MAX}", field="ef", value=ef, limit=EF_MAX)


def scan_ranks(
    rows: Rows, metric: Metric, order: RankOrder, query: NDArray[Any], ranks: tuple[int, int], k: int
) -> Found:
    """The k nearest of a range of ranks, by looking at each."""
    return exact_search_list(metric, rows, query, k, order.order[slice(*ranks)])


def search_ranks(
    kernel: Callable[..., int],
    block: NDArray[np.int64],
    rows: Rows,
    metric: Metric,
    query: NDArray[Any],
    ranks: tuple[int, int],
    bound: int,
    k: int,
    ef: int,
) -> Found:
    """Run a search kernel over a range of ranks, in borrowed scratch memory; see `kernels.segments.search_edges`."""
    k = min(k, ranks[1] - ranks[0])
    ef = max(ef, k)
    slots, distances = np.empty(k, np.uint32), np.empty(k, np.float32)
    element, space = space_at(metric, rows)
    scratch = take(capacity_of(metric, rows), (ef + 7) >> 3, rows.vectors.shape[1], rows.vectors.dtype)
    try:
        scratch.put_query(query)
        epoch = scratch.next_epoch()
        found = kernel(element, space, scratch.at, epoch, address(block), *ranks, bound, ef, slots, distances)
    finally:
        give_back(scratch)
    return slots[:found], distances[:found]
