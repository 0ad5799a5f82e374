"""Dot products of bytes, unsigned by signed, for the coded walk: exact integers on every processor.

One step multiplies 64 bytes and adds each four neighbouring products to one of sixteen int32 sums: `vpdpbusd` with
AVX-512 VNNI; two `vpmaddwd` of the even and of the odd bytes with AVX2 (`vpmaddubsw` would saturate); plain IR
elsewhere. Sums stay below 2^31 for up to 65,536 bytes.

Tables of many rows for one query are packed [rows / 64][bytes / 4][64][4] (`pack64` in `vicinal.codecs.frame`): the
query's four bytes are broadcast, each lane is a row, and there are no sums across lanes.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels.cpu import HAS_AVX2, HAS_VNNI
from vicinal.kernels.simd import (
    Loop,
    call,
    concat,
    const,
    i16,
    i32,
    i64,
    load,
    reduce_add,
    splat,
    store,
    vec,
)
from vicinal.kernels.walk_ir import LINE, V16F, V16I, gathered, halves, least, take

__all__ = ["affine64", "dot_bytes", "dots64", "dots64_of_four", "multiply_add", "nearest_cell"]


def _pairs_avx2(b, x, y):
    """Multiply <32 x i16> by <32 x i16>, adding neighbours: <16 x i32>."""
    kind = vec(i32, 8)
    parts = zip(halves(b, x), halves(b, y), strict=True)
    return concat(b, *(call(b, "llvm.x86.avx2.pmadd.wd", kind, [p, q]) for p, q in parts))


def _pairs_portable(b, x, y):
    """Do the same in plain IR."""
    wide = vec(i32, 32)
    products = b.mul(b.sext(x, wide), b.sext(y, wide))
    return b.add(take(b, products, products, list(range(0, 32, 2))), take(b, products, products, list(range(1, 32, 2))))


def multiply_add(b, total, unsigned, signed):
    """Add to total (<16 x i32>) in each lane the four products of its u8 and s8 bytes (<16 x i32> of raw bytes)."""
    if HAS_VNNI:
        return call(b, "llvm.x86.avx512.vpdpbusd.512", V16I, [total, unsigned, signed])
    pairs = _pairs_avx2 if HAS_AVX2 else _pairs_portable
    words = vec(i16, 32)
    u, s = b.bitcast(unsigned, words), b.bitcast(signed, words)
    eight = const(words, 8)
    even = pairs(b, b.and_(u, const(words, 0xFF)), b.ashr(b.shl(s, eight), eight))
    odd = pairs(b, b.lshr(u, eight), b.ashr(s, eight))
    return b.add(total, b.add(even, odd))


@intrinsic
def dot_bytes(typingctx, unsigned, signed, lines):
    """Sum of u8 * s8 over `lines` pieces of 64 bytes."""

    def gen(ctx, b, sig, args):
        loop = Loop(b, args[2], [const(V16I, 0)])
        u = load(b, gathered(b, args[0], loop.i, LINE), V16I)
        s = load(b, gathered(b, args[1], loop.i, LINE), V16I)
        (total,) = loop.close([multiply_add(b, loop.vals[0], u, s)])
        return reduce_add(b, total)

    return types.int32(types.intp, types.intp, types.intp), gen


def _tables_dots(b, tables, queries, quads):
    """Dots of 64 packed rows of each table with each query, as four vectors: [table][query][4]."""
    pairs = [(table, query) for table in range(len(tables)) for query in range(len(queries))]
    loop = Loop(b, quads, [const(V16I, 0)] * (4 * len(pairs)))
    fours = [splat(b, load(b, gathered(b, query, loop.i, 4), i32), 16) for query in queries]
    places = [gathered(b, table, loop.i, 4 * LINE) for table in tables]
    rows = [[load(b, place, V16I, LINE * u, align=LINE) for u in range(4)] for place in places]
    new = [
        multiply_add(b, loop.vals[4 * at + u], rows[table][u], fours[query])
        for at, (table, query) in enumerate(pairs)
        for u in range(4)
    ]
    sums = loop.close(new)
    return {pair: sums[4 * at : 4 * at + 4] for at, pair in enumerate(pairs)}


def _store_dots(b, table, stride, first, together, queries, quads, outs):
    """Store the dots of `together` tables from number `first` on with each query."""
    tables = [b.add(table, b.mul(b.add(first, i64(t)), stride)) for t in range(together)]
    for (t, q), sums in _tables_dots(b, tables, queries, quads).items():
        at = gathered(b, outs[q], b.add(first, i64(t)), 4 * LINE)
        for u, total in enumerate(sums):
            store(b, total, at, LINE * u)


@intrinsic
def dots64(typingctx, table, blocks, stride, query, quads, out):
    """Dots of 64 * blocks packed u8 rows with an s8 query of 4 * quads bytes, as int32; stride: bytes of 64 rows.

    Two blocks at once: the sums of one would wait for their own additions.
    """

    def gen(ctx, b, sig, args):
        table, blocks, stride, query, quads, out = args
        two = 2 if HAS_VNNI else 1  # narrower registers are too few for two
        loop = Loop(b, b.sdiv(blocks, i64(two)), [])
        _store_dots(b, table, stride, b.mul(loop.i, i64(two)), two, [query], quads, [out])
        loop.close([])
        rest = Loop(b, b.srem(blocks, i64(two)), [])
        _store_dots(b, table, stride, b.sub(blocks, i64(1)), 1, [query], quads, [out])
        rest.close([])
        return ctx.get_dummy_value()

    return types.void(*[types.intp] * 6), gen


@intrinsic
def dots64_of_four(typingctx, table, blocks, stride, query, query_step, quads, out, out_step):
    """Do as `dots64` for four queries, query_step bytes apart, whose dots go out_step bytes apart.

    The table is read once, which is what one query waits for.
    """

    def gen(ctx, b, sig, args):
        table, blocks, stride, query, query_step, quads, out, out_step = args
        queries = [b.add(query, b.mul(query_step, i64(q))) for q in range(4)]
        outs = [b.add(out, b.mul(out_step, i64(q))) for q in range(4)]
        loop = Loop(b, blocks, [])
        groups = [range(4)] if HAS_VNNI else [[q] for q in range(4)]
        for group in groups:
            _store_dots(b, table, stride, loop.i, 1, [queries[q] for q in group], quads, [outs[q] for q in group])
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(*[types.intp] * 8), gen


@intrinsic
def affine64(typingctx, dots, add, times, scale, shift, out, blocks):
    """Write out = (dots + add) * times * scale[] + shift[] as float32; dots are int32; 16 per block."""

    def gen(ctx, b, sig, args):
        dots, add, times, scale, shift, out, blocks = args
        loop = Loop(b, blocks, [])
        o = b.mul(loop.i, loop.i.type(LINE))
        x = b.sitofp(load(b, dots, V16I, o), V16F)
        x = b.fmul(b.fadd(x, splat(b, add, 16)), splat(b, times, 16))
        x = b.fadd(b.fmul(x, load(b, scale, V16F, o)), load(b, shift, V16F, o))
        store(b, x, out, o)
        loop.close([])
        return ctx.get_dummy_value()

    address, number = types.intp, types.float32
    return types.void(address, number, number, address, address, address, address), gen


@intrinsic
def nearest_cell(typingctx, scores, blocks, norms, sums, dot_factor, sum_factor, constant):
    """Number of the cell with the least score, the first of equals.

    scores: 64 * blocks int32 dots, which become float32 scores, norms[] + dot_factor * dot + sum_factor * sums[] +
    constant, in place.
    """

    def gen(ctx, b, sig, args):
        scores, blocks, norms, sums, dot_factor, sum_factor, constant = args
        lane = ir.Constant(V16I, list(range(16)))
        loop = Loop(b, b.shl(blocks, i64(2)), [const(V16F, float("inf")), const(V16I, 0)])
        best, which = loop.vals
        at = gathered(b, i64(0), loop.i, LINE)
        score = b.fadd(load(b, norms, V16F, at), splat(b, constant, 16))
        score = b.fadd(score, b.fmul(load(b, sums, V16F, at), splat(b, sum_factor, 16)))
        total = b.sitofp(load(b, scores, V16I, at), V16F)
        score = b.fadd(score, b.fmul(total, splat(b, dot_factor, 16)))
        store(b, score, scores, at)
        less = b.fcmp_ordered("<", score, best)
        first = splat(b, b.trunc(b.shl(loop.i, i64(4)), i32), 16)
        best, which = loop.close([b.select(less, score, best), b.select(less, b.add(first, lane), which)])
        return b.zext(least(b, best, which), i64)

    address, number = types.intp, types.float32
    return types.int64(*[address] * 4, number, number, number), gen
