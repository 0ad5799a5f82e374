"""Exact MaxSim of one query against many points: sum over query tokens of the best product with a point's tokens.

Query tokens are lanes, sixteen to a vector; a tile of a point's tokens is broadcast against one or two vectors and the
maxima stay in a small array (`maxsim_tile`). Rows beyond a point's last token read that token again: a maximum does not
mind. Scores of int8 codes are integers until the scales come in, so they are equal on every processor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.maxsim_tile import BODY, CODE_ROWS, FLOAT_ROWS, LANES, make_code_tile, make_float_tile
from vicinal.kernels.simd import prefetch

__all__ = ["LANES", "code_maxima", "code_scores", "float_scores", "pack_codes", "pack_floats", "quantise_rows"]

_LOWEST = np.int32(-(1 << 31))
_AHEAD = 2048  # bytes of the next point fetched early; the processor's own prefetcher goes on from there
_BUFFER = 48  # tokens turned to float32 at once: 24 KiB at 128 dimensions

_code_tile1, _code_tile2 = (make_code_tile(BODY, CODE_ROWS, v) for v in (1, 2))
_float_tile1, _float_tile2 = (make_float_tile(FLOAT_ROWS, v) for v in (1, 2))


# --- queries ---------------------------------------------------------------------------------------------------------


def pack_codes(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Query codes (m, dim) int8 as lanes (ceil(m / 16), ceil(dim / 4), 16, 4), and their bias (ceil(m / 16), 16) int32.

    Where dim is no multiple of 4 the last group holds the last four dimensions, zeros for those of the group before.
    """
    m, dim = codes.shape
    vectors, groups = -(-m // LANES), -(-dim // 4)
    lanes = np.zeros((vectors * LANES, groups * 4), np.int8)
    whole = dim - dim % 4
    lanes[:m, :whole] = codes[:, :whole]
    if dim % 4:
        lanes[:m, groups * 4 - dim % 4 :] = codes[:, whole:]
    bias = (-128 * lanes.astype(np.int32).sum(1)).astype(np.int32).reshape(vectors, LANES)
    packed = lanes.reshape(vectors, LANES, groups, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(packed), bias


def pack_floats(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Query tokens (m, dim) float32 as lanes (ceil(m / 16), dim, 16), zeros beyond m."""
    m, dim = tokens.shape
    vectors = -(-m // LANES)
    lanes = np.zeros((vectors * LANES, dim), np.float32)
    lanes[:m] = tokens
    return np.ascontiguousarray(lanes.reshape(vectors, LANES, dim).transpose(0, 2, 1))


@njit
def quantise_rows(tokens, ends, codes, scales):
    """int8 codes of float32 tokens, one scale per point: max|value| / 127, and 1 where all values are 0."""
    start = 0
    for point in range(ends.shape[0]):
        most = np.float32(0)
        for t in range(start, ends[point]):
            for j in range(tokens.shape[1]):
                most = max(most, abs(tokens[t, j]))
        scale = most / np.float32(127)
        if scale == 0:
            scale = np.float32(1)
        scales[point] = scale
        for t in range(start, ends[point]):
            for j in range(tokens.shape[1]):
                codes[t, j] = np.int8(min(127.0, max(-127.0, np.rint(tokens[t, j] / scale))))
        start = ends[point]


# --- many points -----------------------------------------------------------------------------------------------------


@njit
def _fetch_ahead(tokens, ends, slots, i):
    """Ask for the first bytes of the tokens of slots[i]."""
    if i < slots.shape[0]:
        slot = np.int64(slots[i])
        row = ends[slot - 1] if slot else 0
        width = tokens.shape[1] * tokens.itemsize
        begin = tokens.ctypes.data + row * width
        for at in range(0, min(_AHEAD, (ends[slot] - row) * width), 64):
            prefetch(begin + at)


@njit
def _code_best(tokens, start, stop, query, bias, best):
    """Best products of each query lane with tokens start..stop, into best (vectors, 16) int32."""
    dim = tokens.shape[1]
    base = tokens.ctypes.data
    last = base + (stop - 1) * dim
    vectors = query.shape[0]
    best[:] = _LOWEST
    for v in range(0, vectors, 2):
        lanes = query.ctypes.data + v * query.shape[1] * 64
        start_at = bias.ctypes.data + v * 64
        most = best.ctypes.data + v * 64
        if v + 1 < vectors:
            for t in range(start, stop, CODE_ROWS):
                _code_tile2(lanes, start_at, base + t * dim, last, dim, most)
        else:
            for t in range(start, stop, CODE_ROWS):
                _code_tile1(lanes, start_at, base + t * dim, last, dim, most)


@njit
def code_scores(tokens, ends, scales, slots, query, bias, query_scales, out):
    """Approximate MaxSim of the points `slots` (uint32) by codes, into out (len(slots),) float32; -inf without tokens.

    `tokens` (t, dim >= 4) int8, `ends` and `scales` as `TokenRows`; `query` and `bias` from `pack_codes`,
    `query_scales` (m,) float32.
    """
    best = np.empty(bias.shape, np.int32)
    lanes = best.reshape(-1)
    for i in range(slots.shape[0]):
        _fetch_ahead(tokens, ends, slots, i + 1)
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        _code_best(tokens, start, ends[slot], query, bias, best)
        total = 0.0
        for j in range(query_scales.shape[0]):
            total += np.float64(lanes[j]) * np.float64(query_scales[j])
        out[i] = total * np.float64(scales[slot])


@njit
def code_maxima(tokens, ends, scales, slots, query, bias, query_scales, out):
    """As `code_scores`, but every query token's own best product, into out (len(slots), m) float32."""
    best = np.empty(bias.shape, np.int32)
    lanes = best.reshape(-1)
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        _code_best(tokens, start, ends[slot], query, bias, best)
        for j in range(query_scales.shape[0]):
            out[i, j] = np.float32(lanes[j]) * (query_scales[j] * scales[slot])


@njit
def float_scores(tokens, ends, scales, slots, query, count, out):
    """Exact MaxSim of the points `slots` (uint32) in float32, into out (len(slots),) float32; -inf without tokens.

    `tokens` (t, dim) int8 or float32; `query` from `pack_floats`, `count` its tokens. Products are float32, their
    sum is float64.
    """
    dim = tokens.shape[1]
    vectors = query.shape[0]
    best = np.empty((vectors, LANES), np.float32)
    lanes = best.reshape(-1)
    buffer = np.empty((_BUFFER, dim), np.float32)
    base = buffer.ctypes.data
    for i in range(slots.shape[0]):
        _fetch_ahead(tokens, ends, slots, i + 1)
        slot = np.int64(slots[i])
        start = ends[slot - 1] if slot else 0
        if ends[slot] <= start:
            out[i] = -np.inf
            continue
        best[:] = -np.inf
        for low in range(start, ends[slot], _BUFFER):
            rows = min(_BUFFER, ends[slot] - low)
            for t in range(rows):
                for j in range(dim):
                    buffer[t, j] = np.float32(tokens[low + t, j])
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
        total = 0.0
        for j in range(count):
            total += np.float64(lanes[j])
        out[i] = total * np.float64(scales[slot])
