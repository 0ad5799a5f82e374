"""Exact MaxSim of one query against many points: sum over query tokens of the best product with a point's tokens.

Query tokens are lanes, sixteen to a vector; a tile of a point's tokens is broadcast against one or two vectors and the
maxima stay in a small array. Rows beyond a point's last token read that token again: a maximum does not mind.

Products of int8 codes are integers, so the three bodies (AVX-512 VNNI, AVX2, plain IR) give equal scores.
`vpdpbusd` multiplies u8 by s8: tokens are read as code + 128, and the totals start at -128 * sum(query codes). AVX2 has
`vpmaddubsw`, which adds pairs in 16 bits: |query| times sign(query) * token fits, 2 * 127 * 127 < 2^15. All three
need codes in -127 .. 127.
"""

# ruff: noqa: ARG001, ARG004 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.cpu import HAS_AVX2, HAS_AVX512, HAS_VNNI
from vicinal.kernels.simd import (
    Loop,
    call,
    const,
    f32,
    i1,
    i8,
    i16,
    i32,
    load,
    prefetch,
    splat,
    store,
    vec,
)

__all__ = [
    "LANES",
    "code_maxima",
    "code_scores",
    "float_scores",
    "make_code_tile",
    "pack_codes",
    "pack_floats",
    "quantise_rows",
]

LANES = 16  # query tokens of one vector
_LOWEST = np.int32(-(1 << 31))
_BODY = "vnni" if HAS_VNNI else "avx2" if HAS_AVX2 else "portable"
_CODE_ROWS = {"vnni": 8, "avx2": 2, "portable": 2}[_BODY]  # a point's tokens per tile
_FLOAT_ROWS = 6 if HAS_AVX512 else 2
_AHEAD = 2048  # bytes of the next point fetched early; the processor's own prefetcher goes on from there
_BUFFER = 48  # tokens turned to float32 at once: 24 KiB at 128 dimensions


# --- one tile --------------------------------------------------------------------------------------------------------


def _tile_rows(b, first, last, stride, rows):
    """Addresses of `rows` rows from `first` on, `last` standing in for those beyond it."""
    starts = [first]
    for _ in range(rows - 1):
        following = b.add(starts[-1], stride)
        starts.append(b.select(b.icmp_unsigned("<", following, last), following, last))
    return starts


def _keep_maxima(b, totals, vectors, best, name):
    """Fold totals [row * vectors + v] into the maxima stored at `best`."""
    for v in range(vectors):
        kind = totals[v].type
        most = load(b, best, kind, 64 * v, align=4)
        for total in totals[v::vectors]:
            most = call(b, name, kind, [most, total])
        store(b, most, best, 64 * v, align=4)


class _Vnni:
    """Four products per lane with `vpdpbusd`: tokens unsigned."""

    biased = True

    @staticmethod
    def token(b, four):
        # flipped before it is spread: LLVM 22 never ends compiling an exclusive or of spread lanes that feeds vpdpbusd
        return b.bitcast(splat(b, b.xor(four, i32(0x80808080 - (1 << 32))), LANES), vec(i8, 64))

    @staticmethod
    def query(b, codes):
        return codes

    @staticmethod
    def add(b, total, query, token):
        return call(b, "llvm.x86.avx512.vpdpbusd.512", total.type, [total, token, query])


class _Avx2:
    """The same by |query| * (sign(query) token), pairs added in 16 bits; halves of a vector apart."""

    biased = False

    @staticmethod
    def token(b, four):
        return b.bitcast(splat(b, four, 8), vec(i8, 32))

    @staticmethod
    def query(b, codes):
        halves = []
        for lanes in (range(32), range(32, 64)):
            half = b.shuffle_vector(codes, codes, vec(i32, 32)(list(lanes)))
            halves.append((half, call(b, "llvm.abs.v32i8", half.type, [half, i1(0)])))
        return halves

    @staticmethod
    def add(b, total, query, token):
        parts = []
        for half, absolute in query:
            signed = call(b, "llvm.x86.avx2.psign.b", token.type, [token, half])
            pairs = call(b, "llvm.x86.avx2.pmadd.ub.sw", vec(i16, 16), [absolute, signed])
            parts.append(call(b, "llvm.x86.avx2.pmadd.wd", vec(i32, 8), [pairs, const(vec(i16, 16), 1)]))
        return b.add(total, b.shuffle_vector(parts[0], parts[1], vec(i32, LANES)(list(range(LANES)))))


class _Portable:
    """The same in plain IR, for any processor."""

    biased = False

    @staticmethod
    def token(b, four):
        return b.sext(b.bitcast(splat(b, four, LANES), vec(i8, 64)), vec(i32, 64))

    @staticmethod
    def query(b, codes):
        return b.sext(codes, vec(i32, 64))

    @staticmethod
    def add(b, total, query, token):
        products = b.mul(query, token)
        for part in range(4):
            lanes = vec(i32, LANES)([4 * lane + part for lane in range(LANES)])
            total = b.add(total, b.shuffle_vector(products, products, lanes))
        return total


_BODIES: dict[str, Any] = {"vnni": _Vnni, "avx2": _Avx2, "portable": _Portable}


def make_code_tile(body: str, rows: int, vectors: int) -> Any:
    """The tile of int8 codes: `rows` tokens against `vectors` query vectors, with one of the three bodies."""
    way = _BODIES[body]

    @intrinsic
    def tile(typingctx, query, bias, first, last, dim, best):
        """Addresses; a query vector is (ceil(dim / 4), 16, 4) int8, the next follows it; dim >= 4."""

        def gen(ctx, b, sig, args):
            query, bias, first, last, dim, best = args
            size = dim.type
            groups = b.sdiv(b.add(dim, size(3)), size(4))
            last_group = b.sub(dim, size(4))
            starts = _tile_rows(b, first, last, dim, rows)
            zero = const(vec(i32, LANES), 0)
            begin = [load(b, bias, zero.type, 64 * v, align=4) if way.biased else zero for v in range(vectors)]
            loop = Loop(b, groups, begin * rows)
            at = b.mul(loop.i, size(4))
            at = b.select(b.icmp_signed("<", at, last_group), at, last_group)  # the last group may overlap
            queries = []
            for v in range(vectors):
                line = b.mul(b.add(loop.i, b.mul(groups, size(v))), size(64))
                queries.append(way.query(b, load(b, query, vec(i8, 64), line, align=1)))
            totals = []
            for r, start in enumerate(starts):
                token = way.token(b, load(b, start, i32, at))
                totals += [way.add(b, loop.vals[r * vectors + v], queries[v], token) for v in range(vectors)]
            _keep_maxima(b, loop.close(totals), vectors, best, "llvm.smax.v16i32")
            return ctx.get_dummy_value()

        return types.void(*[types.intp] * 6), gen

    return tile


def _make_float_tile(rows, vectors):
    """The tile of float32 tokens: one chain of fused multiply-adds per pair, dimensions in order."""

    @intrinsic
    def tile(typingctx, query, first, last, dim, best):
        """Addresses; a query vector is (dim, 16) float32, the next follows it."""

        def gen(ctx, b, sig, args):
            query, first, last, dim, best = args
            size, kind = dim.type, vec(f32, LANES)
            starts = _tile_rows(b, first, last, b.mul(dim, size(4)), rows)
            loop = Loop(b, dim, [const(kind, 0.0)] * (rows * vectors))
            queries = []
            for v in range(vectors):
                line = b.mul(b.add(loop.i, b.mul(dim, size(v))), size(64))
                queries.append(load(b, query, kind, line, align=4))
            totals = []
            for r, start in enumerate(starts):
                x = splat(b, load(b, start, f32, b.mul(loop.i, size(4)), align=4), LANES)
                for v, lanes in enumerate(queries):
                    totals += [call(b, "llvm.fma.v16f32", kind, [x, lanes, loop.vals[r * vectors + v]])]
            _keep_maxima(b, loop.close(totals), vectors, best, "llvm.maxnum.v16f32")
            return ctx.get_dummy_value()

        return types.void(*[types.intp] * 5), gen

    return tile


_code_tile1, _code_tile2 = (make_code_tile(_BODY, _CODE_ROWS, v) for v in (1, 2))
_float_tile1, _float_tile2 = (_make_float_tile(_FLOAT_ROWS, v) for v in (1, 2))


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
            for t in range(start, stop, _CODE_ROWS):
                _code_tile2(lanes, start_at, base + t * dim, last, dim, most)
        else:
            for t in range(start, stop, _CODE_ROWS):
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
                    for t in range(0, rows, _FLOAT_ROWS):
                        _float_tile2(packed, base + t * dim * 4, last, dim, most)
                else:
                    for t in range(0, rows, _FLOAT_ROWS):
                        _float_tile1(packed, base + t * dim * 4, last, dim, most)
        total = 0.0
        for j in range(count):
            total += np.float64(lanes[j])
        out[i] = total * np.float64(scales[slot])
