"""Code lines: one cache line per node, from which its distance to a query is estimated.

    signs     384 bits: the signs of the rotated vector about its cell's centre, the cell, two factors
    nibbles   112 levels of 4 bits about the mean, the low halves of 56 bytes first, then the high ones, two factors
    bytes     56 levels of 8 bits, two factors

An estimate is   add + base + mul * (k0 + k1 * n)   with n an exact integer, for signs plus offsets[cell]. For signs
n is sum_b 2^b popcount(code ^ plane_b) over the four bit planes of the query (levels 2 l - 15 are sums of +- 2^b, so
the code's own population is never needed); for levels n is a dot product with the query's signed bytes.

Which kind is scored is decided by the *type* of the query (`SignQuery`, `NibbleQuery`, `ByteQuery`) while a walk
compiles. 1-bit codes with unbiased factors follow RaBitQ (Gao & Long 2024); departures: the factor is |r|^2 / sum|r|
(least squares), the centre is a k-means cell's, the query is cut to 16 symmetric levels. Level codes follow its
extension (Gao et al. 2024) with one step size per vector chosen out of five.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from vicinal.kernels.simd import Loop, at, call, const, f32, i1, i16, i32, i64, load, splat, store, vec
from vicinal.kernels.vnni import multiply_add
from vicinal.kernels.walk_ir import LINE, V16F, V16I, gathered, least, take

__all__ = [
    "ADD_AT",
    "BATCH",
    "BYTE_DIMS",
    "CELL_AT",
    "MUL_AT",
    "NIBBLE_DIMS",
    "PLANES",
    "SIGN_BITS",
    "WORK_BYTES",
    "ByteQuery",
    "NibbleQuery",
    "SignQuery",
    "estimate",
    "kept_lines",
    "least_estimate",
    "lines_at",
]

SIGN_BITS, NIBBLE_DIMS, BYTE_DIMS = 384, 112, 56
CELL_AT, ADD_AT, MUL_AT = 48, 56, 60  # offsets in a line: int32, float32, float32
PLANES = 4  # bits of a query's level when codes are signs
BATCH = 32  # nodes estimated by one call: a row of links

# Work memory of one call
_FACTORS = 0  # 32 pairs of float32
_OFFSETS = 256  # 32 float32
_LANES = 384  # 32 lines of partial sums, folded sixteen at a time
WORK_BYTES = _LANES + BATCH * LINE


class SignQuery(NamedTuple):
    """A query prepared for sign lines; `lines`: PLANES lines of bits, `offsets`: float32 per cell."""

    codes: int
    lines: int
    offsets: int
    base: float
    k0: float
    k1: float


class NibbleQuery(NamedTuple):
    """A query prepared for 4-bit lines; `lines`: two lines of signed bytes, zero over the factors."""

    codes: int
    lines: int
    base: float
    k0: float
    k1: float


class ByteQuery(NamedTuple):
    """A query prepared for 8-bit lines; `lines`: one line of signed bytes, zero over the factors."""

    codes: int
    lines: int
    base: float
    k0: float
    k1: float


def _line_of(b, slots, codes, index):
    """Address of the code line of the index-th listed slot."""
    slot = b.zext(load(b, gathered(b, slots, index, 4), i32, align=4), i64)
    return gathered(b, codes, slot, LINE)


def _finish(b, sums, work, numbers, limit, out, count, *, with_offsets):
    """Turn sums (one function per half of 16) into estimates; give the mask of those below the limit."""
    base, k0, k1 = (splat(b, x, 16) for x in numbers)
    mask = i64(0)
    for half in range(2):
        n = b.sitofp(sums(half), V16F)
        f0 = load(b, work, V16F, _FACTORS + 128 * half)
        f1 = load(b, work, V16F, _FACTORS + LINE + 128 * half)
        add, mul = take(b, f0, f1, list(range(0, 32, 2))), take(b, f0, f1, list(range(1, 32, 2)))
        add = b.fadd(add, base)
        if with_offsets:
            add = b.fadd(add, load(b, work, V16F, _OFFSETS + LINE * half))
        distance = b.fadd(add, b.fmul(mul, b.fadd(k0, b.fmul(k1, n))))
        store(b, distance, out, LINE * half)
        less = b.bitcast(b.fcmp_ordered("<", distance, splat(b, limit, 16)), i16)
        mask = b.or_(mask, b.shl(b.zext(less, i64), i64(16 * half)))
    return b.and_(mask, b.sub(b.shl(i64(1), count), i64(1)))


def _bits_of(b, line, offset=0):
    """Load a line of bits, zero where it holds something else: cut while it is loaded, a mask costs two shuffles."""
    kind, used = vec(i64, 8), SIGN_BITS // 64
    mask = ir.Constant(vec(i1, 8), [1] * used + [0] * (8 - used))
    return call(b, "llvm.masked.load.v8i64.p0", kind, [at(b, line, kind, offset), i32(LINE), mask, const(kind, 0)])


def _pair_sums(b, vectors):
    """Fold 16 vectors of 8 int64 below 2^32 into the vector of their sums, int32: two of them share a register."""
    wide = vectors[0].type
    vectors = [b.or_(x, b.shl(y, const(wide, 32))) for x, y in zip(vectors[:8], vectors[8:], strict=True)]
    for width in (1, 2, 4):
        low = [(i & ~width) + (8 if i & width else 0) for i in range(8)]
        high = [(i | width) + (8 if i & width else 0) for i in range(8)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.add(take(b, x, y, low), take(b, x, y, high)) for x, y in pairs]
    sums = b.bitcast(vectors[0], V16I)
    return take(b, sums, sums, [*range(0, 16, 2), *range(1, 16, 2)])


@intrinsic
def estimate_signs(typingctx, slots, count, codes, lines, offsets, base, k0, k1, limit, out, work):
    """`estimate` for sign lines."""

    def gen(ctx, b, sig, args):
        slots, count, codes, lines, offsets, base, k0, k1, limit, out, work = args
        words = vec(i64, 8)
        planes = [_bits_of(b, lines, LINE * p) for p in range(PLANES)]
        loop = Loop(b, count, [])
        line = _line_of(b, slots, codes, loop.i)
        code = _bits_of(b, line)
        counts = [call(b, "llvm.ctpop.v8i64", words, [b.xor(code, p)]) for p in planes]
        total = counts[-1]
        for lower in reversed(counts[:-1]):
            total = b.add(b.add(total, total), lower)
        store(b, total, gathered(b, work, loop.i, LINE), _LANES, align=LINE)
        store(b, load(b, line, i64, ADD_AT), gathered(b, work, loop.i, 8), _FACTORS)
        cell = b.zext(load(b, line, i32, CELL_AT), i64)
        store(b, load(b, gathered(b, offsets, cell, 4), i32), gathered(b, work, loop.i, 4), _OFFSETS)
        loop.close([])
        return _finish(
            b,
            lambda half: _pair_sums(
                b, [load(b, work, words, _LANES + LINE * (16 * half + t), align=LINE) for t in range(16)]
            ),
            work,
            (base, k0, k1),
            limit,
            out,
            count,
            with_offsets=True,
        )

    address, number = types.intp, types.float32
    return types.int64(*[address] * 5, *[number] * 4, address, address), gen


def _tree_sums(b, vectors):
    """Fold 16 vectors of 16 int32 into the vector of their sums, by 15 adds of shuffles."""
    for width in (1, 2, 4, 8):
        low = [(i & ~width) + (16 if i & width else 0) for i in range(16)]
        high = [(i | width) + (16 if i & width else 0) for i in range(16)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.add(take(b, x, y, low), take(b, x, y, high)) for x, y in pairs]
    return vectors[0]


def _level_estimates(bits):
    """Make the intrinsic for lines of `bits` bits per dimension."""
    parts = 8 // bits
    low = sum(((1 << bits) - 1) << (8 * byte) for byte in range(4))

    @intrinsic
    def estimate_levels(typingctx, slots, count, codes, lines, base, k0, k1, limit, out, work):
        """`estimate` for lines of levels."""

        def gen(ctx, b, sig, args):
            slots, count, codes, lines, base, k0, k1, limit, out, work = args
            query = [load(b, lines, V16I, LINE * p, align=LINE) for p in range(parts)]
            loop = Loop(b, count, [])
            line = _line_of(b, slots, codes, loop.i)
            code = load(b, line, V16I, align=LINE)
            total = const(V16I, 0)
            for part in range(parts):
                levels = b.lshr(code, const(V16I, bits * part)) if part else code
                levels = b.and_(levels, const(V16I, low)) if parts > 1 else levels
                total = multiply_add(b, total, levels, query[part])
            store(b, total, gathered(b, work, loop.i, LINE), _LANES, align=LINE)
            store(b, load(b, line, i64, ADD_AT), gathered(b, work, loop.i, 8), _FACTORS)
            loop.close([])
            return _finish(
                b,
                lambda half: _tree_sums(
                    b,
                    [load(b, work, V16I, _LANES + LINE * (16 * half + t), align=LINE) for t in range(16)],
                ),
                work,
                (base, k0, k1),
                limit,
                out,
                count,
                with_offsets=False,
            )

        address, number = types.intp, types.float32
        return types.int64(*[address] * 4, *[number] * 4, address, address), gen

    return estimate_levels


estimate_nibbles, estimate_bytes = _level_estimates(4), _level_estimates(8)


def estimate(query, slots, count, limit, out, work):
    """Estimate the distances of up to BATCH listed nodes; give the mask of those below `limit`.

    `slots`: address of u32 slots, `count`: 1 .. BATCH of them, `out`: address of BATCH float32, `work`: WORK_BYTES,
    64-byte aligned.
    """
    raise NotImplementedError("compiled code only")


@overload(estimate)
def _estimate(query, slots, count, limit, out, work):
    """Choose the kind of line by the type of the query."""
    kind: Any = getattr(query, "instance_class", None)
    if kind is SignQuery:
        return lambda query, slots, count, limit, out, work: estimate_signs(
            slots,
            count,
            query.codes,
            query.lines,
            query.offsets,
            query.base,
            query.k0,
            query.k1,
            limit,
            out,
            work,
        )
    levels = {NibbleQuery: estimate_nibbles, ByteQuery: estimate_bytes}.get(kind)
    if levels is None:
        raise TypingError(f"no code lines for a query of type {query}")
    return lambda query, slots, count, limit, out, work: levels(
        slots, count, query.codes, query.lines, query.base, query.k0, query.k1, limit, out, work
    )


@intrinsic
def least_estimate(typingctx, estimates):
    """Place of the least of BATCH estimates at an address, the first of equals."""

    def gen(ctx, b, sig, args):
        places = ir.Constant(vec(i32, BATCH), list(range(BATCH)))
        return b.zext(least(b, load(b, args[0], vec(f32, BATCH)), places), i64)

    return types.int64(types.intp), gen


def lines_at(query, codes):
    """Give the query with its code lines at another address."""
    raise NotImplementedError("compiled code only")


@overload(lines_at)
def _lines_at(query, codes):
    if getattr(query, "instance_class", None) is SignQuery:
        return lambda query, codes: SignQuery(codes, query.lines, query.offsets, query.base, query.k0, query.k1)
    if getattr(query, "instance_class", None) is NibbleQuery:
        return lambda query, codes: NibbleQuery(codes, query.lines, query.base, query.k0, query.k1)
    return lambda query, codes: ByteQuery(codes, query.lines, query.base, query.k0, query.k1)


def kept_lines(kind, work, base, k0, k1):
    """Give a query prepared before, from its numbers; `kind`: any query for such lines, of the same codes."""
    raise NotImplementedError("compiled code only")


@overload(kept_lines)
def _kept_lines(kind, work, base, k0, k1):
    if getattr(kind, "instance_class", None) is SignQuery:
        return lambda kind, work, base, k0, k1: SignQuery(kind.codes, work.lines, work.scores, base, k0, k1)
    if getattr(kind, "instance_class", None) is NibbleQuery:
        return lambda kind, work, base, k0, k1: NibbleQuery(kind.codes, work.lines, base, k0, k1)
    return lambda kind, work, base, k0, k1: ByteQuery(kind.codes, work.lines, base, k0, k1)
