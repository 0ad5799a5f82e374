"""Exact MaxSim of one query against many points: sum over query tokens of the best product with a point's tokens.

Query tokens are lanes, sixteen to a vector; a tile of a point's tokens is broadcast against one or two vectors and the
maxima stay in a small array (`maxsim_tile`). Rows beyond a point's last token read that token again: a maximum does not
mind. Scores of int8 codes are integers until the scales come in, so they are equal on every processor.

Stored tokens come as raw bytes, (t, bytes of a token) uint8, and `kind` says what they are: CODES, a byte per
dimension; BITS, one bit per dimension (a multiple of 128 of them) and then a byte `a`, for the codes +a and -a; HALVES
and FLOATS. Codes stand for scale * code, each point with its scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.maxsim_rows import BITS, CODES, FLOATS, to_floats, unpack_bits
from vicinal.kernels.maxsim_tile import BODY, CODE_ROWS, FLOAT_ROWS, LANES, make_code_tile, make_float_tile
from vicinal.kernels.simd import prefetch

__all__ = ["LANES", "code_maxima", "code_scores", "fetch_ahead", "float_scores", "pack_floats"]

_LOWEST = np.int32(-(1 << 31))
_AHEAD = 2048  # bytes of the next point fetched early; the processor's own prefetcher goes on from there
_BUFFER = 48  # tokens turned to float32 at once: 24 KiB at 128 dimensions

_code_tile1, _code_tile2 = (make_code_tile(BODY, CODE_ROWS, v) for v in (1, 2))
_float_tile1, _float_tile2 = (make_float_tile(FLOAT_ROWS, v) for v in (1, 2))


# --- queries ---------------------------------------------------------------------------------------------------------


def pack_floats(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Query tokens (m, dim) float32 as lanes (ceil(m / 16), dim, 16), zeros beyond m."""
    m, dim = tokens.shape
    vectors = -(-m // LANES)
    lanes = np.zeros((vectors * LANES, dim), np.float32)
    lanes[:m] = tokens
    return np.ascontiguousarray(lanes.reshape(vectors, LANES, dim).transpose(0, 2, 1))


# --- many points -----------------------------------------------------------------------------------------------------


@njit
def fetch_ahead(tokens, ends, slots, i):
    """Ask for the first bytes of the tokens of slots[i]."""
    if i < slots.shape[0]:
        slot = np.int64(slots[i])
        row = ends[slot - 1] if slot else 0
        width = tokens.shape[1]
        begin = tokens.ctypes.data + row * width
        for at in range(0, min(_AHEAD, (ends[slot] - row) * width), 64):
            prefetch(begin + at)


@njit
def _code_tiles(base, rows, dim, query, bias, best):
    """Fold the products of each query lane with `rows` int8 rows at an address into best (vectors, 16) int32."""
    last = base + (rows - 1) * dim
    vectors = query.shape[0]
    for v in range(0, vectors, 2):
        lanes = query.ctypes.data + v * query.shape[1] * 64
        start_at = bias.ctypes.data + v * 64
        most = best.ctypes.data + v * 64
        if v + 1 < vectors:
            for t in range(0, rows, CODE_ROWS):
                _code_tile2(lanes, start_at, base + t * dim, last, dim, most)
        else:
            for t in range(0, rows, CODE_ROWS):
                _code_tile1(lanes, start_at, base + t * dim, last, dim, most)


@njit
def _code_best(tokens, kind, start, stop, query, bias, buffer, best):
    """Best products of each query lane with tokens start..stop, into best (vectors, 16) int32."""
    best[:] = _LOWEST
    base, width = tokens.ctypes.data, tokens.shape[1]
    if kind == CODES:
        _code_tiles(base + start * width, stop - start, width, query, bias, best)
        return
    dim = buffer.shape[1]
    for low in range(start, stop, _BUFFER):
        rows = min(_BUFFER, stop - low)
        for t in range(rows):
            unpack_bits(base + (low + t) * width, dim // 64, buffer.ctypes.data + t * dim)
        _code_tiles(buffer.ctypes.data, rows, dim, query, bias, best)


@njit
def _room(kind, dim):
    """Memory for unpacked codes; none where tokens are compared where they lie."""
    return np.empty((_BUFFER if kind == BITS else 0, dim), np.int8)


@njit
def code_scores(tokens, kind, dim, ends, scales, slots, query, bias, query_scales, out):
    """Approximate MaxSim of the points `slots` (uint32) by codes, into out (len(slots),) float32; -inf without tokens.

    `tokens` are CODES of dim >= 4, or BITS; `ends` and `scales` as `TokenRows`; `query` and `bias` from `pack_rows`,
    `query_scales` (m,) float32.
    """
    best = np.empty(bias.shape, np.int32)
    lanes, buffer = best.reshape(-1), _room(kind, dim)
    for i in range(slots.shape[0]):
        fetch_ahead(tokens, ends, slots, i + 1)
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        _code_best(tokens, kind, start, ends[slot], query, bias, buffer, best)
        total = 0.0
        for j in range(query_scales.shape[0]):
            total += np.float64(lanes[j]) * np.float64(query_scales[j])
        out[i] = total * np.float64(scales[slot])


@njit
def code_maxima(tokens, kind, dim, ends, scales, slots, query, bias, query_scales, out):
    """As `code_scores`, but every query token's own best product, into out (len(slots), m) float32."""
    best = np.empty(bias.shape, np.int32)
    lanes, buffer = best.reshape(-1), _room(kind, dim)
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        _code_best(tokens, kind, start, ends[slot], query, bias, buffer, best)
        for j in range(query_scales.shape[0]):
            out[i, j] = np.float32(lanes[j]) * (query_scales[j] * scales[slot])


@njit
def _float_best(tokens, kind, start, stop, query, buffer, best):
    """Best products of each query lane with tokens start..stop, without the scale, into best (vectors, 16) float32."""
    best[:] = -np.inf
    width, dim, vectors = tokens.shape[1], query.shape[1], query.shape[0]
    for low in range(start, stop, _BUFFER):
        rows = min(_BUFFER, stop - low)
        base = tokens.ctypes.data + low * width
        if kind != FLOATS:
            to_floats(base, width, rows, kind, buffer)
            base = buffer.ctypes.data
        last = base + (rows - 1) * dim * 4
        for v in range(0, vectors, 2):
            packed = query.ctypes.data + v * dim * 64
            most = best.ctypes.data + v * 64
            if v + 1 < vectors:
                for t in range(0, rows, FLOAT_ROWS):
                    _float_tile2(packed, base + t * dim * 4, last, dim, most)
            else:
                for t in range(0, rows, FLOAT_ROWS):
                    _float_tile1(packed, base + t * dim * 4, last, dim, most)


@njit
def float_scores(tokens, kind, dim, ends, scales, slots, query, count, out):
    """Exact MaxSim in float32 of the points `slots` (uint32), into out (len(slots),) float32; -inf without tokens.

    Tokens of any kind but BITS. `query` from `pack_floats`, `count` its tokens. Products are float32, their sum is
    float64.
    """
    best = np.empty((query.shape[0], LANES), np.float32)
    lanes, buffer = best.reshape(-1), np.empty((0 if kind == FLOATS else _BUFFER, dim), np.float32)
    for i in range(slots.shape[0]):
        fetch_ahead(tokens, ends, slots, i + 1)
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        _float_best(tokens, kind, start, ends[slot], query, buffer, best)
        total = 0.0
        for j in range(count):
            total += np.float64(lanes[j])
        out[i] = total * np.float64(scales[slot])
