"""Stretches of sorted columns: their ends and bits are those of the bitmaps, and what is no stretch is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from vicinal.bits import slots_from_bits, word_count
from vicinal.filter.columns import Columns, Kind
from vicinal.filter.evaluate import evaluate
from vicinal.filter.normal import normalise
from vicinal.filter.parse import parse_filter
from vicinal.filter.stretch import Stretch, stretch_kernels, stretch_of
from vicinal.index.coded_arrays import aligned

N = 3_000
RNG = np.random.default_rng(5)
DRAWN = {
    "tiny": RNG.integers(-100, 100, N).tolist(),
    "small": RNG.integers(-30_000, 30_000, N).tolist(),
    "large": RNG.integers(-(2**31), 2**31, N).tolist(),
    "huge": [2**63 - 1, -(2**63), *RNG.integers(-(10**15), 10**15, N - 2).tolist()],
    "real": [0.0, -0.0, 1e300, -1e300, *RNG.normal(size=N - 4).tolist()],
    "word": [f"w{i}" for i in RNG.integers(0, 20, N)],
    "name": [f"name {i}" for i in RNG.integers(0, 900, N)],
    "at": [f"20{i:02d}-03-04T05:06:07Z" for i in RNG.integers(10, 99, N)],
}
RANGES = [
    "tiny between -7 and 40", "tiny = 3", "tiny < -200", "tiny >= -100", "tiny <= 1e30",
    "small between -20000 and 20000", "small > 1.5", "small = 1.5", "large < 0", "large between -5 and 9999999999",
    "huge >= 9223372036854775807", "huge <= -9223372036854775808", "huge < 1e14", "huge > 1e30",
    "real >= 0", "real <= 0", "real = 0", "real between -0.5 and 0.7", "real > 1e301", "word = 'w3'", "name = 'name 7'",
    "at >= '2050-01-01T00:00:00Z'",
]  # fmt: skip


def _columns(count: int = N) -> Columns:
    columns = Columns()
    columns.extend([orjson.dumps({key: values[i] for key, values in DRAWN.items()}) for i in range(count)])
    columns.seal()
    return columns


COLUMNS = _columns()


def _stretch(text: str, columns: Columns = COLUMNS, n: int = N) -> Stretch | None:
    tree = parse_filter(text)
    assert tree is not None
    return stretch_of(normalise(tree), columns, n)


def _no_ids(_: Any) -> Any:
    raise AssertionError("no filter here asks for ids")


def _true(text: str, columns: Columns = COLUMNS, n: int = N) -> np.ndarray:
    tree = parse_filter(text)
    assert tree is not None
    return evaluate(tree, columns, _no_ids, n)


@pytest.mark.parametrize("n", [N, N + 70, N + 900])
@pytest.mark.parametrize("text", RANGES)
def test_the_slots_between_two_bounds_are_a_stretch(text: str, n: int) -> None:
    stretch = _stretch(text, n=n)
    if text == "small = 1.5":  # which is no question to any column of integers
        assert stretch is None
        return
    assert stretch is not None
    true = _true(text)
    find, mark, narrow = stretch_kernels()
    first = np.zeros(1, np.int64)
    count = find(stretch.at, first.ctypes.data)
    begin = (first.item() - stretch.order.ctypes.data) // 4
    listed = stretch.order[begin : begin + count]
    assert sorted(listed.tolist()) == slots_from_bits(true, N).tolist()
    if not count:
        return
    lines = -(-n // 512)
    marked = aligned((lines * 8,), np.uint64)
    marked[:] = ~np.uint64(0)
    mark(stretch.at, first.item(), count, marked.ctypes.data, lines)
    assert marked[: len(true)].tolist() == true.tolist()
    assert not marked[len(true) :].any()
    others = np.full(word_count(N), 0x5555555555555555, np.uint64)
    assert narrow(marked.ctypes.data, others.ctypes.data, word_count(N)) == np.bitwise_count(true & others).sum()
    assert (marked[: len(true)] == true & others).all()


def test_every_width_of_value_was_asked() -> None:
    kept = {
        values.picture.sealed.keys.dtype.str[1:]  # type: ignore[union-attr]
        for column in COLUMNS._table.values()
        for values in column.kinds.values()
    }
    assert {"i1", "i2", "i4", "i8", "u1", "u2", "f8"} <= kept


@pytest.mark.parametrize(
    "text",
    [
        "not tiny = 3",
        "tiny = 3 and small > 5",
        "tiny > 5 and tiny < 9",
        "tiny in (3, 7)",
        "tiny = 3 or small = 5",
        "nowhere = 3",
        "tiny is null",
    ],
)
def test_other_filters_are_none(text: str) -> None:
    assert _stretch(text) is None


def test_a_column_that_holds_more_than_is_sorted_has_none() -> None:
    columns = _columns(2_000)
    assert _stretch("tiny > 3", columns, 2_000) is not None
    assert _stretch("tiny > 3", columns, 1_999) is None
    columns.extend([b'{"tiny": 50}'])
    assert _stretch("tiny > 3", columns, 2_001) is None
    columns.seal()
    assert _stretch("tiny > 3", columns, 2_001) is not None


def test_values_of_two_kinds_and_lists_are_none() -> None:
    columns = Columns()
    columns.extend([b'{"a": 1, "b": [1, 2], "c": 1}', b'{"a": 1.5, "b": [3], "c": 2}'])
    columns.seal()
    assert _stretch("c >= 1", columns, 2) is not None
    assert _stretch("a >= 1", columns, 2) is None
    assert _stretch("b >= 1", columns, 2) is None
    assert Kind.INT in columns._table[("c",)].kinds
