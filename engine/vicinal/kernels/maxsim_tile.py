"""Tiles of MaxSim: a few of a point's tokens against one or two vectors of sixteen query tokens, maxima kept.

Products of int8 codes are integers, so the three bodies (AVX-512 VNNI, AVX2, plain IR) give equal results.
`vpdpbusd` multiplies u8 by s8: tokens are read as code + 128, and the totals start at -128 * sum(query codes). AVX2 has
`vpmaddubsw`, which adds pairs in 16 bits: |query| times sign(query) * token fits, 2 * 127 * 127 < 2^15. All three
need codes in -127 .. 127.
"""

# ruff: noqa: ARG001, ARG004 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from vicinal.kernels.cpu import HAS_AVX2, HAS_AVX512, HAS_VNNI
from vicinal.kernels.simd import Loop, call, const, f32, i1, i8, i16, i32, load, splat, store, vec

__all__ = [
    "BODY",
    "CODE_ROWS",
    "FLOAT_ROWS",
    "KNOWN_BODY",
    "LANES",
    "code_products",
    "first_totals",
    "in_order",
    "known_totals",
    "make_code_tile",
    "make_float_tile",
    "make_kept_tile",
    "tile_rows",
]

LANES = 16  # query tokens of one vector
BODY = "vnni" if HAS_VNNI else "avx2" if HAS_AVX2 else "portable"
KNOWN_BODY = "vnni-known" if BODY == "vnni" else BODY  # for rows whose sums are known
CODE_ROWS = {"vnni": 8, "avx2": 2, "portable": 2}[BODY]  # a point's tokens per tile
FLOAT_ROWS = 6 if HAS_AVX512 else 2


def tile_rows(b, first, stride, rows, last=None):
    """Addresses of `rows` rows from `first` on; where there may be fewer, `last` stands in for those beyond it."""
    starts = [first]
    for _ in range(rows - 1):
        following = b.add(starts[-1], stride)
        if last is not None:
            following = b.select(b.icmp_unsigned("<", following, last), following, last)
        starts.append(following)
    return starts


def in_order(b, total):
    """The sum of sixteen lanes, halves added to halves."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        low, high = (vec(i32, lanes)(list(range(start, start + lanes))) for start in (0, lanes))
        total = b.fadd(b.shuffle_vector(total, total, low), b.shuffle_vector(total, total, high))
    return b.extract_element(total, i32(0))


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


class _VnniKnown(_Vnni):
    """The same where the rows' sums are known: query unsigned, so that rows are spread as they are read."""

    @staticmethod
    def token(b, four):
        return b.bitcast(splat(b, four, LANES), vec(i8, 64))

    @staticmethod
    def query(b, codes):
        return b.xor(codes, const(codes.type, -128))

    @staticmethod
    def add(b, total, query, token):
        return call(b, "llvm.x86.avx512.vpdpbusd.512", total.type, [total, query, token])


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


_BODIES: dict[str, Any] = {"vnni": _Vnni, "vnni-known": _VnniKnown, "avx2": _Avx2, "portable": _Portable}


def code_products(b, body, query, begin, starts, dim, vectors):
    """Emit the products of int8 rows at `starts` with `vectors` query vectors: totals [row * vectors + v].

    A query vector is (ceil(dim / 4), 16, 4) int8, the next follows it; dim >= 4. `begin`: what totals start from, those
    of `first_totals` or of `known_totals`.
    """
    way, size = _BODIES[body], dim.type
    groups = b.sdiv(b.add(dim, size(3)), size(4))
    last_group = b.sub(dim, size(4))
    loop = Loop(b, groups, begin)
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
    return loop.close(totals)


def first_totals(b, body, bias, rows, vectors):
    """What the totals of `code_products` start from; `bias` is the address of the query vectors' biases."""
    zero = const(vec(i32, LANES), 0)
    biased = _BODIES[body].biased
    return [load(b, bias, zero.type, 64 * v, align=4) if biased else zero for v in range(vectors)] * rows


def known_totals(b, body, bias, rows, vectors):
    """The same for KNOWN_BODY; `bias` is the address of the rows' biases, -128 times their sums (int32)."""
    zero = const(vec(i32, LANES), 0)
    biased = _BODIES[body].biased
    each = [splat(b, load(b, bias, i32, 4 * r, align=4), LANES) if biased else zero for r in range(rows)]
    return [total for total in each for _ in range(vectors)]


def make_code_tile(body: str, rows: int, vectors: int) -> Any:
    """The tile of int8 codes: `rows` tokens against `vectors` query vectors, with one of the three bodies."""

    @intrinsic
    def tile(typingctx, query, bias, first, last, dim, best):
        """Addresses; maxima go to `best`, rows beyond the one at `last` read that one again."""

        def gen(ctx, b, sig, args):
            query, bias, first, last, dim, best = args
            starts = tile_rows(b, first, dim, rows, last)
            begin = first_totals(b, body, bias, rows, vectors)
            totals = code_products(b, body, query, begin, starts, dim, vectors)
            _keep_maxima(b, totals, vectors, best, "llvm.smax.v16i32")
            return ctx.get_dummy_value()

        return types.void(*[types.intp] * 6), gen

    return tile


def make_kept_tile(rows: int, vectors: int) -> Any:
    """The same with the processor's own body, which also keeps the products of each row."""

    @intrinsic
    def tile(typingctx, query, bias, first, last, dim, best, kept, stride):
        """Addresses; the products of row r go to kept + r * stride, those of rows beyond the last one too."""

        def gen(ctx, b, sig, args):
            query, bias, first, last, dim, best, kept, stride = args
            starts = tile_rows(b, first, dim, rows, last)
            totals = code_products(b, BODY, query, first_totals(b, BODY, bias, rows, vectors), starts, dim, vectors)
            for r in range(rows):
                line = b.add(kept, b.mul(stride, stride.type(r)))
                for v in range(vectors):
                    store(b, totals[r * vectors + v], line, 64 * v, align=4)
            _keep_maxima(b, totals, vectors, best, "llvm.smax.v16i32")
            return ctx.get_dummy_value()

        return types.void(*[types.intp] * 8), gen

    return tile


def make_float_tile(rows, vectors):
    """The tile of float32 tokens: one chain of fused multiply-adds per pair, dimensions in order."""

    @intrinsic
    def tile(typingctx, query, first, last, dim, best):
        """Addresses; a query vector is (dim, 16) float32, the next follows it."""

        def gen(ctx, b, sig, args):
            query, first, last, dim, best = args
            size, kind = dim.type, vec(f32, LANES)
            starts = tile_rows(b, first, b.mul(dim, size(4)), rows, last)
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
