"""Stretches of sorted columns: ends, lists and bits are those of the bitmaps; what is not made of them is none."""

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
from vicinal.filter.stretch import PAIRS_MOST, Stretch, stretch_kernels, stretch_of
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
    "some": [None if i % 3 else i % 7 for i in range(N)],
    "list": [[i % 5, i % 5, 30] if i % 90 == 0 else [i % 5, 8] for i in range(N)],
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
COLUMNS.extend([None] * 900)  # slots without payloads, which only complements hold


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


SEVERAL = [
    "tiny in (3, 7)", "tiny in (-5, -4, -3, 8, 99, 4000)", "small in (1, 2, 3)", "huge in (-9223372036854775808, 5)",
    "real in (0, 0.25, 1e300)", "word in ('w3', 'w4', 'w19')", "name in ('name 7', 'name 9', 'nobody')",
    "not tiny = 3", "not tiny in (3, 7)", "not (tiny > -200)", "not (real <= 0)", "tiny != 4000", "some != 5",
    "not some in (1, 2, 3)", "not (some >= 4)", "list = 2", "list = 30", "not list = 2", "not list = 31",
]  # fmt: skip
JOINED = [
    "tiny = 3 and small > 5", "tiny > 5 and tiny < 9", "tiny = 3 or small = 5", "tiny > 0 or not word = 'w3'",
    "tiny > 0 and not word in ('w3', 'w4') and list = 2 and some < 3", "list = 2 or list = 30 or list = 31",
    "list = 1 and list = 2", "not (tiny > 0 and small > 0)", "tiny > 300 and small > 0", "some = 1 or some = 2",
    "list in (1, 2)", "not list in (1, 2, 30)", "list in (30, 31)",
]  # fmt: skip


@pytest.mark.parametrize("n", [N, N + 70, N + 72, N + 900])
@pytest.mark.parametrize("text", [*RANGES, *SEVERAL])
def test_the_slots_between_bounds_are_stretches(text: str, n: int) -> None:
    stretch = _stretch(text, n=n)
    if text == "small = 1.5":  # which is no question to any column of integers
        assert stretch is None
        return
    assert stretch is not None
    assert stretch.parts == 1
    true = _true(text, n=n)
    kernels, ends, lines = stretch_kernels(), np.zeros(2 * PAIRS_MOST, np.int64), -(-n // 512)
    count = kernels.find(stretch.at, ends.ctypes.data)
    assert count == np.bitwise_count(true).sum()
    if stretch.pairs:
        listed = np.full(count + 1, 7, np.uint32)
        kernels.copy(stretch.at, ends.ctypes.data, listed.ctypes.data)
        assert sorted(listed[:-1].tolist()) == slots_from_bits(true, n).tolist()
        assert listed[-1] == 7
    if stretch.pairs == 1:
        assert stretch.order_at == stretch.order.ctypes.data
        assert (stretch.order[ends[0] : ends[1]] == listed[:-1]).all()
    marked = aligned((lines * 8 + 8,), np.uint64)
    marked[:] = ~np.uint64(0)
    kernels.mark(stretch.at, ends.ctypes.data, marked.ctypes.data, lines)
    assert marked[: len(true)].tolist() == true.tolist()
    assert not marked[len(true) : -8].any()
    assert (marked[-8:] == ~np.uint64(0)).all()
    others = np.full(word_count(n), 0x5555555555555555, np.uint64)
    both = np.bitwise_count(true & others).sum()
    assert kernels.narrow(marked.ctypes.data, others.ctypes.data, word_count(n)) == both
    assert (marked[: len(true)] == true & others).all()


@pytest.mark.parametrize("n", [N, N + 72])
@pytest.mark.parametrize("text", JOINED)
def test_conditions_are_joined(text: str, n: int) -> None:
    stretch = _stretch(text, n=n)
    assert stretch is not None
    true = _true(text, n=n)
    kernels, ends, lines = stretch_kernels(), np.zeros(2 * PAIRS_MOST, np.int64), -(-n // 512)
    if stretch.parts == 1:  # its normal form is one condition
        assert kernels.find(stretch.at, ends.ctypes.data) == np.bitwise_count(true).sum()
        return
    assert stretch.pairs == 0
    marked, spare = aligned((lines * 8,), np.uint64), aligned((lines * 8,), np.uint64)
    count = kernels.join(
        stretch.at, stretch.parts, int(stretch.either), ends.ctypes.data, marked.ctypes.data, spare.ctypes.data, lines
    )
    assert count == np.bitwise_count(true).sum()
    assert marked[: len(true)].tolist() == true.tolist()
    assert not marked[len(true) :].any()


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
        "tiny = 3 and (small > 5 or small < 0)",
        "list > 3",
        "list in (1, 2) and tiny > 0",
        f"list in ({', '.join(map(str, range(9)))})",
        "id = 3",
        "nowhere = 3",
        "not nowhere = 3",
        "tiny is null",
        "tiny is empty",
        f"tiny in ({', '.join(str(3 * i) for i in range(PAIRS_MOST + 1))})",
        " and ".join(f"not (small between {i * 9} and {i * 9 + 1})" for i in range(9)),
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
