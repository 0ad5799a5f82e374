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
from vicinal.kernels.simd import Loop, call, const, f32, get_f32, i64, load, reduce_add, vec

__all__ = ["COSINE", "DOT", "L2", "Space", "distance", "dot", "inverse_norm", "inverse_norms", "l2", "row_scale"]

L2, DOT, COSINE = 0, 1, 2


class Space(NamedTuple):
    """Where the vectors lie and how they compare; addresses as integers, valid while their arrays live."""

    metric: int  # L2, DOT or COSINE
    dim: int
    vectors: int  # address of (capacity, dim) float32
    inv_norms: int  # address of (capacity,) float32; read under COSINE only


_LANES = vec(f32, 16)


def _step(b, squared, x, y, total):
    """Add the products of x and y, or the squares of their differences, to the total."""
    kind = x.type
    name = "llvm.fma.v16f32" if kind is _LANES else "llvm.fma.f32"
    if squared:
        x = y = b.fsub(x, y)
    return call(b, name, kind, [x, y, total])


def _blocks(b, squared, first, second, dim):
    """The sum over whole blocks of sixteen, as a vector."""
    zero = const(_LANES, 0.0)
    loop = Loop(b, b.lshr(dim, i64(6)), [zero] * 4)
    offset = b.shl(loop.i, i64(8))
    new = []
    for u in range(4):
        at = b.add(offset, i64(64 * u))
        new.append(_step(b, squared, load(b, first, _LANES, at), load(b, second, _LANES, at), loop.vals[u]))
    sums = loop.close(new)
    start = b.shl(b.lshr(dim, i64(6)), i64(8))
    rest = Loop(b, b.lshr(b.and_(dim, i64(63)), i64(4)), [sums[0]])
    at = b.add(start, b.shl(rest.i, i64(6)))
    new = _step(b, squared, load(b, first, _LANES, at), load(b, second, _LANES, at), rest.vals[0])
    (sums[0],) = rest.close([new])
    return b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3]))


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


def _sum(b, squared, first, second, dim):
    """The whole sum as a scalar, whatever the dimension."""
    blocks, tail, short, done = (b.append_basic_block(n) for n in ("blocks", "tail", "short", "done"))
    b.cbranch(b.icmp_signed("<", dim, i64(16)), short, blocks)
    b.position_at_end(short)
    loop = Loop(b, dim, [f32(0.0)])
    at = b.shl(loop.i, i64(2))
    (little,) = loop.close([_step(b, squared, load(b, first, f32, at), load(b, second, f32, at), loop.vals[0])])
    after_short = b.block
    b.branch(done)
    b.position_at_end(blocks)
    total = _blocks(b, squared, first, second, dim)
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
    return result


@intrinsic
def l2(typingctx, first, second, dim):
    """Squared Euclidean distance of two rows by address."""

    def gen(ctx, b, sig, args):
        return _sum(b, True, *args)

    return types.float32(types.intp, types.intp, types.intp), gen


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
