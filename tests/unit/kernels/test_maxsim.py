"""MaxSim tiles: the three int8 bodies give equal integers, with every tail of rows and dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vicinal.kernels import maxsim, njit
from vicinal.kernels.cpu import HAS_AVX2, HAS_VNNI
from vicinal.kernels.maxsim_rows import CODES, pack_rows
from vicinal.kernels.maxsim_tile import make_code_tile

BODIES = [
    pytest.param("vnni", marks=pytest.mark.skipif(not HAS_VNNI, reason="needs AVX-512 VNNI")),
    pytest.param("avx2", marks=pytest.mark.skipif(not HAS_AVX2, reason="needs AVX2")),
    "portable",
]


def _caller(body: str, rows: int, vectors: int) -> Any:
    """A function that runs one tile."""
    tile = make_code_tile(body, rows, vectors)

    @njit(cache=False)
    def run(query: Any, bias: Any, tokens: Any, first: int, best: Any) -> None:
        width = tokens.shape[1]
        base = tokens.ctypes.data
        last = base + (tokens.shape[0] - 1) * width
        tile(query.ctypes.data, bias.ctypes.data, base + first * width, last, width, best.ctypes.data)

    return run


def _packed(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Lanes and biases of query codes (m, dim)."""
    vectors = -(-len(codes) // 16)
    lanes, bias = np.empty((vectors, -(-codes.shape[1] // 4), 16, 4), np.int8), np.empty((vectors, 16), np.int32)
    pack_rows(codes, 0, len(codes), lanes, bias)
    return lanes, bias


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("vectors", [1, 2])
def test_bodies_equal_integer_arithmetic(body: str, vectors: int) -> None:
    rng = np.random.default_rng(1)
    run = _caller(body, 4, vectors)
    for dim in (4, 5, 6, 7, 64, 127, 128, 130):
        query = rng.integers(-127, 128, (16 * vectors, dim)).astype(np.int8)
        tokens = rng.integers(-127, 128, (9, dim)).astype(np.int8)
        tokens[0], tokens[1], query[0], query[1] = 127, -127, 127, -127  # the largest sums
        packed, bias = _packed(query)
        best = np.full((vectors, 16), -(1 << 31), np.int32)
        expected = query.astype(np.int32) @ tokens.astype(np.int32).T
        run(packed, bias, tokens, 0, best)
        assert np.array_equal(best.reshape(-1), expected[:, :4].max(axis=1)), dim
        run(packed, bias, tokens, 7, best)  # two rows left: the last stands in for the others
        assert np.array_equal(best.reshape(-1), expected[:, [0, 1, 2, 3, 7, 8]].max(axis=1)), dim


def test_packed_queries_hold_every_dimension_once() -> None:
    for dim in range(4, 13):
        codes = np.arange(1, dim + 1, dtype=np.int8)[None].repeat(3, axis=0)
        packed, bias = _packed(codes)
        assert packed.shape == (1, -(-dim // 4), 16, 4)
        held = packed[0, :, 0].reshape(-1)
        assert sorted(held[held != 0]) == list(range(1, dim + 1))
        assert bias[0, 0] == -128 * codes[0].astype(int).sum()
        assert not packed[0, :, 3:].any()


def test_scores_do_not_depend_on_how_many_query_vectors_a_tile_takes() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(-127, 128, (40, 32)).astype(np.int8)
    ends, scales = np.array([11, 11, 40]), np.array([0.01, 1.0, 0.02], np.float32)
    raw = tokens.view(np.uint8), CODES, 32, ends, scales
    query = rng.integers(-127, 128, (37, 32)).astype(np.int8)
    weights = rng.random(37).astype(np.float32)
    slots = np.array([2, 1, 0], np.uint32)
    best = np.empty((3, 37), np.float32)
    maxsim.code_maxima(*raw, slots, *_packed(query), weights, best)
    whole = np.empty(3, np.float32)
    maxsim.code_scores(*raw, slots, *_packed(query), weights, whole)
    products = query.astype(np.int64) @ tokens.astype(np.int64).T
    expected = products[:, 11:].max(axis=1) * weights * scales[2]
    assert np.allclose(best[0], expected, rtol=1e-6)
    assert np.isneginf(best[1]).all()
    assert np.isneginf(whole[1])
    assert np.allclose(whole[[0, 2]], best[[0, 2]].sum(axis=1), rtol=1e-5)
    part = np.empty(3, np.float32)
    maxsim.code_scores(*raw, slots, *_packed(query[:5]), weights[:5], part)
    assert np.allclose(part[[0, 2]], best[[0, 2], :5].sum(axis=1), rtol=1e-5)
