"""Distances between float32 rows: squared Euclid and inner product in LLVM vector IR, any dimension >= 1.

Four accumulators of sixteen lanes hide the latency of fma; a tail of fewer than sixteen floats reads the last
sixteen of the row again with the lanes already counted blanked out, so nothing beyond the row is read. Both are
symmetric to the bit, and equal rows give equal bits: the graph finds exact copies by that.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.simd import Loop, call, const, f32, get_f32, get_i64, i64, load, reduce_add, vec

__all__ = [
    "COSINE",
    "DOT",
    "L2",
    "Space",
    "distance",
    "distance_within",
    "dot",
    "inverse_norm",
    "inverse_norms",
    "l2",
    "l2_within",
    "row_scale",
]

L2, DOT, COSINE = 0, 1, 2


class Space(NamedTuple):
    """Where the vectors lie and how they compare; addresses as integers, valid while their arrays live."""

    metric: int  # L2, DOT or COSINE
    dim: int
    vectors: int  # address of (capacity, dim) float32
    inv_norms: int  # address of (capacity,) float32; read under COSINE only


@njit
def space_at(block):
    """The Space whose fields lie as int64 at an address."""
    return Space(get_i64(block), get_i64(block + 8), get_i64(block + 16), get_i64(block + 24))


_LANES = vec(f32, 16)


def _step(b, squared, x, y, total):
    """Add the products of x and y, or the squares of their differences, to the total."""
    kind = x.type
    name = "llvm.fmuladd.v16f32" if kind is _LANES else "llvm.fmuladd.f32"  # fused where the target can
    if squared:
        x = y = b.fsub(x, y)
    return call(b, name, kind, [x, y, total])


def _blocks(b, squared, first, second, dim, limit, enough):
    """The sum over whole blocks of sixteen, as a vector; leaves for block `enough` when it exceeds the limit.

    Returns it and, for the phi of `enough`, the sum and the block it leaves from.
    """
    turn = b.append_basic_block("turn")
    go_on, over = b.append_basic_block("go_on"), b.append_basic_block("over")
    turns, start, zero = b.lshr(dim, i64(7)), b.block, const(_LANES, 0.0)
    b.cbranch(b.icmp_signed(">", turns, i64(0)), turn, over)
    b.position_at_end(turn)
    i, carried = b.phi(i64), [b.phi(_LANES) for _ in range(4)]
    sums, offset = list(carried), b.shl(i, i64(9))
    for u in range(8):
        at = b.add(offset, i64(64 * u))
        sums[u % 4] = _step(b, squared, load(b, first, _LANES, at), load(b, second, _LANES, at), sums[u % 4])
    following = b.add(i, i64(1))
    more = b.icmp_signed("<", following, turns)
    partial = None
    if limit is not None:
        partial = reduce_add(b, b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3])))
        b.cbranch(b.fcmp_ordered(">", partial, limit), enough, go_on)
    else:
        b.branch(go_on)
    b.position_at_end(go_on)
    b.cbranch(more, turn, over)
    b.position_at_end(over)
    ended = []
    for x, now in zip(carried, sums, strict=True):
        x.add_incoming(zero, start)
        x.add_incoming(now, go_on)
        joined = b.phi(_LANES)
        joined.add_incoming(zero, start)
        joined.add_incoming(now, go_on)
        ended.append(joined)
    i.add_incoming(i64(0), start)
    i.add_incoming(following, go_on)
    rest = Loop(b, b.lshr(b.and_(dim, i64(127)), i64(4)), [ended[0]])
    at = b.add(b.shl(turns, i64(9)), b.shl(rest.i, i64(6)))
    new = _step(b, squared, load(b, first, _LANES, at), load(b, second, _LANES, at), rest.vals[0])
    (ended[0],) = rest.close([new])
    return b.fadd(b.fadd(ended[0], ended[1]), b.fadd(ended[2], ended[3])), partial, turn


def _tail(b, squared, first, second, dim, total):
    """Add the last dim % 16 floats of rows of at least sixteen, from an overlapping load."""
    last = b.sub(b.shl(dim, i64(2)), i64(64))
    count = b.trunc(b.and_(dim, i64(15)), ir.IntType(32))
    lane = ir.Constant(vec(ir.IntType(32), 16), list(range(15, -1, -1)))  # lanes from the end
    wanted = b.insert_element(ir.Constant(lane.type, ir.Undefined), count, ir.IntType(32)(0))
    wanted = b.shuffle_vector(wanted, ir.Constant(lane.type, ir.Undefined), const(lane.type, 0))
    mask = b.icmp_unsigned("<", lane, wanted)
    zero = const(_LANES, 0.0)
    x = b.select(mask, load(b, first, _LANES, last), zero)
    y = b.select(mask, load(b, second, _LANES, last), zero)
    return _step(b, squared, x, y, total)


def _sum(b, squared, first, second, dim, limit=None):
    """The whole sum as a scalar, whatever the dimension; or a part of it that exceeds the limit."""
    blocks, tail, short, done = (b.append_basic_block(n) for n in ("blocks", "tail", "short", "done"))
    b.cbranch(b.icmp_signed("<", dim, i64(16)), short, blocks)
    b.position_at_end(short)
    loop = Loop(b, dim, [f32(0.0)])
    at = b.shl(loop.i, i64(2))
    (little,) = loop.close([_step(b, squared, load(b, first, f32, at), load(b, second, f32, at), loop.vals[0])])
    after_short = b.block
    b.branch(done)
    b.position_at_end(blocks)
    total, partial, turn = _blocks(b, squared, first, second, dim, limit, done)
    whole = b.icmp_signed("==", b.and_(dim, i64(15)), i64(0))
    after_blocks, join = b.block, b.append_basic_block("join")
    b.cbranch(whole, join, tail)
    b.position_at_end(tail)
    more = _tail(b, squared, first, second, dim, total)
    b.branch(join)
    b.position_at_end(join)
    lanes = b.phi(_LANES)
    lanes.add_incoming(total, after_blocks)
    lanes.add_incoming(more, tail)
    big = reduce_add(b, lanes)
    b.branch(done)
    b.position_at_end(done)
    result = b.phi(f32)
    result.add_incoming(little, after_short)
    result.add_incoming(big, join)
    if limit is not None:
        result.add_incoming(partial, turn)
    return result


@intrinsic
def l2(typingctx, first, second, dim):
    """Squared Euclidean distance of two rows by address."""

    def gen(ctx, b, sig, args):
        return _sum(b, True, *args)

    return types.float32(types.intp, types.intp, types.intp), gen


@intrinsic
def l2_within(typingctx, first, second, dim, limit):
    """Squared Euclidean distance if it is at most the limit, else any number above the limit, sooner.

    Wide rows wait for memory: a candidate that is too far mostly shows it in half its row.
    """

    def gen(ctx, b, sig, args):
        return _sum(b, True, *args)

    return types.float32(types.intp, types.intp, types.intp, types.float32), gen


@intrinsic
def dot(typingctx, first, second, dim):
    """Inner product of two rows by address."""

    def gen(ctx, b, sig, args):
        return _sum(b, False, *args)

    return types.float32(types.intp, types.intp, types.intp), gen


@njit
def inverse_norm(address, dim):
    """1 / |x|, or 0 for a row of zeros."""
    norm = np.sqrt(dot(address, address, dim))
    return np.float32(0) if norm == 0 else np.float32(1) / norm


@njit
def inverse_norms(vectors, count, dim, out):
    """Write 1 / |x| of `count` rows at address `vectors` to the float32 array out."""
    for i in range(count):
        out[i] = inverse_norm(vectors + i * dim * 4, dim)


@njit
def query_scale(space, query):
    """1 / |query| under COSINE, else 1."""
    return inverse_norm(query, space.dim) if space.metric == COSINE else np.float32(1)


@njit
def row_scale(space, slot):
    """The factor of a stored row in `distance` when it takes the query's place."""
    return get_f32(space.inv_norms + slot * 4) if space.metric == COSINE else np.float32(1)


@njit
def distance(space, query, scale, slot):
    """Distance of a stored row from the query at an address; scale is 1 / |query| under COSINE.

    L2: squared Euclid. DOT: -<q, x>. COSINE: 1 - cos(q, x).
    """
    row = space.vectors + slot * space.dim * 4
    if space.metric == L2:
        return l2(query, row, space.dim)
    product = dot(query, row, space.dim)
    if space.metric == COSINE:
        return np.float32(1) - product * (scale * get_f32(space.inv_norms + slot * 4))
    return -product


@njit
def distance_within(space, query, scale, slot, limit):
    """As `distance`, but a distance above the limit may come out as any number above the limit."""
    row = space.vectors + slot * space.dim * 4
    if space.metric == L2:
        return l2_within(query, row, space.dim, limit)
    return distance(space, query, scale, slot)
