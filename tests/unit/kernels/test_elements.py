from __future__ import annotations

import numpy as np
import pytest
from tests.support.dtypes_oracle import PAIRS, distances, rows_of, some_rows, stored_rows
from tests.support.other_processor import run_again_on

from vicinal.index.exact import exact_search, exact_search_list
from vicinal.types import Metric, Rows

# around a block of 16 or 32, and around eight blocks
COLUMNS = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 100, 127, 128, 129, 255, 256, 257, 300]


def check(dtype: str, metric: Metric, columns: int, n: int = 40) -> None:
    """Every distance of a scan, of a list and of a scan that stops early agrees with numpy."""
    sent = some_rows(dtype, n, columns * 8 if dtype == "bit" else columns, seed=columns)
    rows = rows_of(metric, stored_rows(dtype, sent))
    true = distances(metric, sent, sent[3])
    slots, found = exact_search(metric, rows, rows.vectors[3], n, start=0, stop=n)
    assert sorted(slots.tolist()) == list(range(n))
    if metric is Metric.HAMMING or (dtype in ("int8", "uint8") and metric is not Metric.COSINE):
        np.testing.assert_array_equal(found, true[slots])  # integers below 2^24: exact
        np.testing.assert_array_equal(slots, np.lexsort((np.arange(n), true)))
    else:
        np.testing.assert_allclose(found, true[slots], rtol=2e-5, atol=2e-6 * columns)
    listed, again = exact_search_list(metric, rows, rows.vectors[3], 5, np.arange(n, dtype=np.uint32))
    np.testing.assert_array_equal(again, found[:5])
    np.testing.assert_array_equal(listed, slots[:5])


@pytest.mark.parametrize(("dtype", "metric"), PAIRS)
def test_every_width_against_numpy(dtype, metric):
    for columns in COLUMNS:
        check(dtype, metric, columns)


@pytest.mark.parametrize("name", ["haswell", pytest.param("x86-64", marks=pytest.mark.full)])
def test_other_bodies_give_the_same(name, tmp_path):
    """A fresh process that compiles for another processor compares with numpy again; x86-64 widens halves by hand."""
    run_again_on(name, tmp_path, __file__)


def test_every_half_is_widened_as_numpy_widens_it():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    for width in (1, 16):  # one by one, and by blocks
        values = np.zeros((len(every), width), np.float16)
        values[:, 0] = every
        rows = Rows(values, np.empty(0, np.float32))
        one = np.zeros(width, np.float16)
        one[0] = 1
        slots, found = exact_search(Metric.DOT, rows, one, len(every), start=0, stop=len(every))
        np.testing.assert_array_equal(found, -every[slots].astype(np.float32))


def test_extremes_of_bytes_do_not_overflow():
    for low, high in ((-128, 127), (0, 255)):
        dtype = np.int8 if low else np.uint8
        values = np.array([[low] * 8192, [high] * 8192], dtype)
        rows = Rows(values, np.empty(0, np.float32))
        _, found = exact_search(Metric.L2, rows, values[0], 2, start=0, stop=2)
        assert found.tolist() == [0.0, np.float32(8192 * 255 * 255)]
        _, found = exact_search(Metric.DOT, rows, values[1], 1, start=1, stop=2)
        assert found.tolist() == [-np.float32(8192 * high * high)]


def test_nothing_beyond_the_last_row_is_read():
    """The last row's neighbours in memory are all ones: a byte too many would be counted."""
    for dtype, metric in PAIRS:
        for columns in (5, 40, 300):
            stored = stored_rows(dtype, some_rows(dtype, 3, columns * 8 if dtype == "bit" else columns))
            memory = np.full(stored.nbytes + 64, 0xFF, np.uint8)
            inside = memory[32 : 32 + stored.nbytes].view(stored.dtype).reshape(stored.shape)
            inside[...] = stored
            answers = [
                exact_search(metric, rows_of(metric, rows), stored[0], 3, start=0, stop=3) for rows in (stored, inside)
            ]
            np.testing.assert_array_equal(answers[0][1], answers[1][1])


def test_two_empty_sets_are_the_same():
    rows = Rows(np.zeros((2, 4), np.uint8), np.empty(0, np.float32))
    rows.vectors[1, 2] = 1
    _, found = exact_search(Metric.JACCARD, rows, rows.vectors[0], 2, start=0, stop=2)
    assert found.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.bool_])
def test_other_dtypes_never_reach_a_kernel(dtype):
    rows = Rows(np.zeros((2, 4), dtype), np.empty(0, np.float32))
    with pytest.raises(ValueError, match="each row whole"):
        exact_search(Metric.L2, rows, rows.vectors[0], 1, start=0, stop=2)


def test_bits_are_packed_and_queries_are_of_the_rows_dtype():
    rows = Rows(np.zeros((2, 4), np.float32), np.empty(0, np.float32))
    with pytest.raises(ValueError, match="packed"):
        exact_search(Metric.HAMMING, rows, rows.vectors[0], 1, start=0, stop=2)
    with pytest.raises(ValueError, match="query is of"):
        exact_search(Metric.L2, rows, np.zeros(4, np.uint8), 1, start=0, stop=2)
