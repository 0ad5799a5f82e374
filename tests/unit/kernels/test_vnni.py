"""Byte products against numpy; `test_walk` runs this file again in the other bodies."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vicinal.codecs.frame import pack64
from vicinal.index.coded_arrays import aligned
from vicinal.kernels import vnni


@njit(cache=False)
def dot(x, y):
    return vnni.dot_bytes(x.ctypes.data, y.ctypes.data, x.shape[0] // 64)


@njit(cache=False)
def dots(table, query, out):
    width = query.shape[0]
    at, to = table.ctypes.data, out.ctypes.data
    vnni.dots64(at, out.shape[0] // 64, width * 64, query.ctypes.data, width // 4, to)


@njit(cache=False)
def dots_of_four(table, queries, quads, out):
    width = queries.shape[1]
    at, to, blocks = table.ctypes.data, out.ctypes.data, out.shape[1] // 64
    step = out.shape[1] * 4
    vnni.dots64_of_four(at, blocks, width * 64, queries.ctypes.data, width, quads, to, step)


@njit(cache=False)
def nearest(scores, norms, sums, dot_factor, sum_factor, constant):
    at, blocks = scores.ctypes.data, scores.shape[0] // 64
    return vnni.nearest_cell(at, blocks, norms.ctypes.data, sums.ctypes.data, dot_factor, sum_factor, constant)


@njit(cache=False)
def affine(dots, add, times, scale, shift, out):
    addresses = scale.ctypes.data, shift.ctypes.data, out.ctypes.data
    vnni.affine64(dots.ctypes.data, add, times, addresses[0], addresses[1], addresses[2], dots.shape[0] // 16)


def make_table(rows, width, seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, (rows, width)).astype(np.uint8)
    packed = aligned((table.size,), np.uint8)
    packed[:] = pack64(table).reshape(-1)
    return table, packed, rng.integers(-128, 128, width).astype(np.int8)


@pytest.mark.parametrize("lines", [1, 2, 6, 13])
def test_dots_are_exact(lines):
    rng = np.random.default_rng(lines)
    x = rng.integers(0, 256, 64 * lines).astype(np.uint8)
    y = rng.integers(-128, 128, 64 * lines).astype(np.int8)
    assert dot(x, y) == x.astype(np.int64) @ y.astype(np.int64)


@pytest.mark.parametrize("byte", [-128, 127])
def test_the_extreme_bytes_do_not_saturate(byte):
    x, y = np.full(8192, 255, np.uint8), np.full(8192, byte, np.int8)
    assert dot(x, y) == 8192 * 255 * byte


@pytest.mark.parametrize("rows", [64, 128, 192])
def test_packed_rows_are_multiplied_64_at_a_time(rows):
    table, packed, query = make_table(rows, 128, 1)
    out = np.zeros(rows + 64, np.int32)
    dots(packed, query, out[:rows])
    assert (out[:rows] == table.astype(np.int64) @ query.astype(np.int64)).all()
    assert not out[rows:].any()


def test_packed_rows_are_multiplied_with_four_queries_at_once():
    table, packed, _ = make_table(192, 128, 1)
    queries = np.random.default_rng(7).integers(-128, 128, (4, 128)).astype(np.int8)
    for quads in (32, 9):
        out = np.zeros((4, 192), np.int32)
        dots_of_four(packed, queries, quads, out)
        wide = queries[:, : 4 * quads].astype(np.int64)
        assert (out == wide @ table[:, : 4 * quads].astype(np.int64).T).all()


def test_the_nearest_cell_has_the_least_score_and_the_lowest_number():
    rng = np.random.default_rng(3)
    product = rng.integers(-100_000, 100_000, 128).astype(np.int32)
    norms, sums = rng.standard_normal((2, 128)).astype(np.float32) * 1000
    one, two, three = np.float32(-0.5), np.float32(0.25), np.float32(7)
    scores = product.copy()
    found = nearest(scores, norms, sums, one, two, three)
    wanted = ((norms + three) + sums * two) + product.astype(np.float32) * one
    assert (scores.view(np.float32) == wanted).all()
    assert found == wanted.argmin()
    norms[:] = 5
    sums[:] = 0
    assert nearest(product, norms, sums, np.float32(0), two, three) == 0


def test_numbers_become_floats_with_a_scale_and_a_shift_each():
    rng = np.random.default_rng(4)
    numbers = rng.integers(-(1 << 23), 1 << 23, 64).astype(np.int32)
    scale, shift = rng.standard_normal((2, 64)).astype(np.float32)
    out = np.zeros(64, np.float32)
    affine(numbers, np.float32(-3), np.float32(0.5), scale, shift, out)
    assert (out == (numbers.astype(np.float32) + np.float32(-3)) * np.float32(0.5) * scale + shift).all()
