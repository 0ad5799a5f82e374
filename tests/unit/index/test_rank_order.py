"""Ranges of keys as ranges of ranks, against comparing every key."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import AnyOf, Between, Keys, LabelSets, matching_mask
from vicinal.index.rank_order import RankOrder

_INT64 = np.iinfo(np.int64)
_INF, _NAN = float("inf"), float("nan")
WHOLE = np.array(
    [5, -3, 5, 0, _INT64.max, _INT64.min, 5, 2**53, 2**53 + 1, 2**53 + 3, -(2**60), _INT64.max - 1], np.int64
)
REAL = np.array([0.5, -0.0, 0.0, _INF, -_INF, 1e300, -1e-300, 0.5, 3, 2.0**53], np.float64)
BOUNDS = [-_INF, -1e300, -9.3e18, -(2.0**60), -3, -2.5, -0.0, 0, 0.25, 0.5, 3, 5, 5.5, 2.0**53, 2.0**53 + 2, 9e18, _INF]


@pytest.mark.parametrize("values", [WHOLE, REAL, np.full(7, 4, np.int64), np.empty(0, np.float64)])
def test_ranges_hold_the_keys_that_compare_so(values: np.ndarray) -> None:
    order = RankOrder.of(Keys(values), len(values))
    assert order.order.tolist() == np.lexsort((np.arange(len(values)), values)).tolist()
    assert (order.ranks[order.order] == np.arange(len(values))).all()
    bounds = [*BOUNDS, *values.tolist(), *(_INT64.max, _INT64.min)]
    for low in bounds:
        for high in bounds:
            start, stop = order.between(Between(low, high))
            expected = np.flatnonzero(matching_mask(Keys(values), Between(low, high), len(values)))
            assert sorted(order.order[start:stop].tolist()) == expected.tolist(), (low, high)


def test_bounds_beyond_int64_and_nan() -> None:
    order = RankOrder.of(Keys(WHOLE), len(WHOLE))
    assert order.between(Between(-(2**70), 2**70)) == (0, len(WHOLE))
    assert order.between(Between(2**70, 2**71)) == (0, 0)
    assert order.between(Between(_NAN, 5)) == (0, 0)
    assert order.between(Between(0, _NAN)) == (0, 0)
    assert order.between(Between(5, 0)) == (0, 0)


def test_what_has_no_order_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        RankOrder.of(Keys(np.array([1.0, _NAN])), 2)
    with pytest.raises(InvalidArgument):
        RankOrder.of(Keys(np.array([1, 2], np.int32)), 2)
    with pytest.raises(InvalidArgument):
        RankOrder.of(Keys(np.array([1, 2])), 3)
    with pytest.raises(InvalidArgument):
        RankOrder.of(LabelSets.of(np.array([1])), 1)
    with pytest.raises(InvalidArgument):
        RankOrder.of(Keys(np.array([1, 2])), 2).between(AnyOf((1,)))
