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
    for group in range(out.shape[0] // 64):
        at = table.ctypes.data + group * query.shape[0] * 64
        vnni.dots64(at, query.ctypes.data, query.shape[0] // 4, out.ctypes.data + group * 256)


@njit(cache=False)
def nearest(table, query, norms, sums, dot_factor, sum_factor, constant, scores):
    return vnni.nearest_cell(
        table.ctypes.data,
        query.ctypes.data,
        query.shape[0] // 4,
        norms.shape[0] // 64,
        norms.ctypes.data,
        sums.ctypes.data,
        dot_factor,
        sum_factor,
        constant,
        scores.ctypes.data,
    )


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


def test_packed_rows_are_multiplied_64_at_a_time():
    table, packed, query = make_table(192, 128, 1)
    out = np.zeros(192, np.int32)
    dots(packed, query, out)
    assert (out == table.astype(np.int64) @ query.astype(np.int64)).all()


def test_the_nearest_cell_has_the_least_score_and_the_lowest_number():
    table, packed, query = make_table(128, 64, 2)
    rng = np.random.default_rng(3)
    norms, sums = rng.standard_normal((2, 128)).astype(np.float32) * 1000
    scores = np.zeros(128, np.float32)
    one, two, three = np.float32(-0.5), np.float32(0.25), np.float32(7)
    found = nearest(packed, query, norms, sums, one, two, three, scores)
    product = (table.astype(np.int64) @ query.astype(np.int64)).astype(np.float32)
    assert (scores == ((norms + three) + sums * two) + product * one).all()
    assert found == scores.argmin()
    norms[:] = 5
    sums[:] = 0
    assert nearest(packed, query, norms, sums, np.float32(0), two, three, scores) == 0


def test_numbers_become_floats_with_a_scale_and_a_shift_each():
    rng = np.random.default_rng(4)
    numbers = rng.integers(-(1 << 23), 1 << 23, 64).astype(np.int32)
    scale, shift = rng.standard_normal((2, 64)).astype(np.float32)
    out = np.zeros(64, np.float32)
    affine(numbers, np.float32(-3), np.float32(0.5), scale, shift, out)
    assert (out == (numbers.astype(np.float32) + np.float32(-3)) * np.float32(0.5) * scale + shift).all()
