"""Encoding, gathering and copies of int8 rows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import make_codes, random_codes

from vicinal.index.bulk_cells import new_codes
from vicinal.kernels import rows8
from vicinal.kernels.rows8 import AS_IS, UNIT


@pytest.mark.parametrize("mode", [AS_IS, UNIT])
@pytest.mark.parametrize("dim", [1, 2, 15, 16, 17, 63, 64, 100])
def test_codes_are_scaled_deviations_rounded_and_clipped(mode, dim):
    draw = np.random.default_rng(dim)
    vectors = draw.standard_normal((50, dim)).astype(np.float32)
    vectors[3] *= 100  # clipped
    vectors[4] = 0
    slots = np.array([3, 4, 7, 30, 49])
    mean, scale = draw.standard_normal(dim).astype(np.float32) / 10, np.float32(40)
    codes = new_codes(5, -(-dim // 64) * 64)
    codes.rows[:] = 0
    rows8.encode(vectors, slots, mean, scale, mode, codes, 0, 5)
    x = vectors[slots].astype(np.float64)
    if mode == UNIT:
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    want = np.clip((x - mean) * float(scale), -127, 127)
    assert (np.abs(codes.rows[:5, :dim] - want) <= 0.5 + 1e-3).all()
    assert (codes.rows[:5, dim:] == 0).all() and (codes.rows[5:] == 0).all()
    again = make_codes(codes.rows[:5, :dim])
    assert (again.half[:5] == codes.half[:5]).all() and (again.offset[:5] == codes.offset[:5]).all()


def test_gather_copies_rows_and_their_numbers():
    codes = random_codes(30, 70, 1)
    out = new_codes(4, 128)
    rows8.gather(codes, np.array([9, 0, 29, 9], np.int32), out, 0, 4)
    assert (out.rows[:4] == codes.rows[[9, 0, 29, 9]]).all() and (out.half[:4] == codes.half[[9, 0, 29, 9]]).all()
    assert (out.offset[:4] == codes.offset[[9, 0, 29, 9]]).all() and (out.rows[4:] == 0).all()


def test_the_first_of_equal_rows_owns_the_others_even_under_equal_hashes():
    draw = np.random.default_rng(2)
    values = draw.integers(-2, 2, (200, 3)).astype(np.int8)
    words = make_codes(values).rows.view(np.uint64)
    hashes = np.empty(200, np.uint64)
    every = np.arange(200)
    rows8.hash_rows(words, every, hashes, 0, 200)
    first: dict[tuple[int, ...], int] = {}
    want = [first.setdefault(tuple(v), i) for i, v in enumerate(values.tolist())]
    for given in (hashes, hashes & np.uint64(3), np.zeros(200, np.uint64)):
        assert (rows8.owners(words, every, given, np.argsort(given, kind="stable")) == want).all()
    assert len(np.unique(hashes)) == len(first)
