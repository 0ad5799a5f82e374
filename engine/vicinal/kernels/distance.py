"""Distances between rows: squared Euclid, inner product and Jaccard in LLVM vector IR, any dimension >= 1.

One algorithm for every type of element (`kernels.elements`): kernels are specialised by the type of `Space.element`.
Four accumulators of one block each hide the latency of fma; a tail of less than a block reads the last block of the
row again with the lanes already counted blanked out, so nothing beyond the row is read. All are symmetric to the bit,
and equal rows give equal bits: the graph finds exact copies by that.

Every other metric is a function of two float32 rows that is called by its address (`kernels.functions`): one compiled
walk serves all of them, whichever are registered later.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.elements import DIFFERENCE, ELEMENTS, PRODUCT, UNION
from vicinal.kernels.simd import Loop, const, f32, get_f32, get_i64, i32, i64, vec

__all__ = [
    "COSINE",
    "DOT",
    "FUNCTION",
    "JACCARD",
    "L2",
    "Space",
    "difference",
    "difference_within",
    "distance",
    "distance_within",
    "dot",
    "inverse_norm",
    "inverse_norms",
    "jaccard",
    "product",
    "row_scale",
]

L2, DOT, COSINE, JACCARD, FUNCTION = 0, 1, 2, 3, 4  # L2 of bits is the Hamming distance


class Space(NamedTuple):
    """Where the vectors lie and how they compare; addresses as integers, valid while their arrays live."""

    metric: int  # L2, DOT, COSINE, FUNCTION, or JACCARD of bits
    dim: int  # elements of a row; of bits, their bytes
    vectors: int  # address of (capacity, dim) elements
    inv_norms: int  # address of (capacity,) float32; read under COSINE only
    row_bytes: int
    function: int  # address of float32(query, row: addresses of float32, dim); called under FUNCTION only
    element: Any  # a number whose type is that of the elements: uint16 stands for halves, uint64 for bits


@njit
def space_at(block, element):
    """The Space whose fields lie as int64 at an address, of elements of that type."""
    return Space(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        get_i64(block + 40),
        element,
    )


def _blocks(b, kind, what, first, second, dim, limit, enough):
    """The sum over whole blocks, as `kind.sums`; leaves for block `enough` when it exceeds the limit.

    Returns it and, for the phi of `enough`, the sum and the block it leaves from.
    """
    turn = b.append_basic_block("turn")
    go_on, over = b.append_basic_block("go_on"), b.append_basic_block("over")
    block = kind.lanes.bit_length() - 1  # log2 of its elements
    size = block + kind.shift  # and of its bytes
    turns, start, zero = b.lshr(dim, i64(block + 3)), b.block, const(kind.sums, _zero(kind))
    b.cbranch(b.icmp_signed(">", turns, i64(0)), turn, over)
    b.position_at_end(turn)
    i, carried = b.phi(i64), [b.phi(kind.sums) for _ in range(4)]
    sums, offset = list(carried), b.shl(i, i64(size + 3))
    for u in range(8):
        at = b.add(offset, i64(u << size))
        sums[u % 4] = kind.step(b, what, kind.read(b, first, at), kind.read(b, second, at), sums[u % 4])
    following = b.add(i, i64(1))
    more = b.icmp_signed("<", following, turns)
    partial = None
    if limit is not None:
        partial = kind.total(b, _join(b, kind, sums))
        b.cbranch(b.fcmp_ordered(">", partial, limit), enough, go_on)
    else:
        b.branch(go_on)
    left = b.block
    b.position_at_end(go_on)
    b.cbranch(more, turn, over)
    b.position_at_end(over)
    ended = []
    for x, now in zip(carried, sums, strict=True):
        x.add_incoming(zero, start)
        x.add_incoming(now, go_on)
        joined = b.phi(kind.sums)
        joined.add_incoming(zero, start)
        joined.add_incoming(now, go_on)
        ended.append(joined)
    i.add_incoming(i64(0), start)
    i.add_incoming(following, go_on)
    rest = Loop(b, b.lshr(b.and_(dim, i64((8 << block) - 1)), i64(block)), [ended[0]])
    at = b.add(b.shl(turns, i64(size + 3)), b.shl(rest.i, i64(size)))
    (ended[0],) = rest.close([kind.step(b, what, kind.read(b, first, at), kind.read(b, second, at), rest.vals[0])])
    return _join(b, kind, ended), partial, left


def _zero(kind):
    return 0 if isinstance(kind.sums.element, ir.IntType) else 0.0


def _join(b, kind, sums):
    """Four sums in one."""
    add = b.add if isinstance(kind.sums.element, ir.IntType) else b.fadd
    return add(add(sums[0], sums[1]), add(sums[2], sums[3]))


def _tail(b, kind, what, first, second, dim, total):
    """Add the last elements of rows of at least a block, fewer than one, from an overlapping load."""
    lanes = kind.lanes
    last = b.sub(b.shl(dim, i64(kind.shift)), i64(lanes << kind.shift))
    count = b.trunc(b.and_(dim, i64(lanes - 1)), kind.place)
    lane = ir.Constant(vec(kind.place, lanes), list(range(lanes - 1, -1, -1)))  # lanes from the end
    none = ir.Constant(lane.type, ir.Undefined)
    wanted = b.shuffle_vector(b.insert_element(none, count, i32(0)), none, const(vec(i32, lanes), 0))
    mask = b.icmp_unsigned("<", lane, wanted)
    x, y = kind.read(b, first, last), kind.read(b, second, last)
    zero = ir.Constant(x.type, None)
    return kind.step(b, what, b.select(mask, x, zero), b.select(mask, y, zero), total)


def _sum(b, kind, what, first, second, dim, limit=None):
    """The whole sum as a float32, whatever the dimension; or a part of it that exceeds the limit."""
    blocks, tail, short, done = (b.append_basic_block(n) for n in ("blocks", "tail", "short", "done"))
    b.cbranch(b.icmp_signed("<", dim, i64(kind.lanes)), short, blocks)
    b.position_at_end(short)
    loop = Loop(b, dim, [kind.zero_one()])
    at = b.shl(loop.i, i64(kind.shift))
    x, y = kind.read_one(b, first, at), kind.read_one(b, second, at)
    (little,) = loop.close([kind.step(b, what, x, y, loop.vals[0])])
    little = kind.total(b, little)
    after_short = b.block
    b.branch(done)
    b.position_at_end(blocks)
    total, partial, left = _blocks(b, kind, what, first, second, dim, limit, done)
    whole = b.icmp_signed("==", b.and_(dim, i64(kind.lanes - 1)), i64(0))
    after_blocks, join = b.block, b.append_basic_block("join")
    b.cbranch(whole, join, tail)
    b.position_at_end(tail)
    more = _tail(b, kind, what, first, second, dim, total)
    b.branch(join)
    b.position_at_end(join)
    lanes = b.phi(kind.sums)
    lanes.add_incoming(total, after_blocks)
    lanes.add_incoming(more, tail)
    big = kind.total(b, lanes)
    b.branch(done)
    b.position_at_end(done)
    result = b.phi(f32)
    result.add_incoming(little, after_short)
    result.add_incoming(big, join)
    if limit is not None:
        result.add_incoming(partial, left)
    return result


@intrinsic
def difference(typingctx, element, first, second, dim):
    """Squared Euclidean distance of two rows by address; of bits, how many differ."""

    def gen(ctx, b, sig, args):
        return _sum(b, ELEMENTS[element], DIFFERENCE, *args[1:])

    return types.float32(element, types.intp, types.intp, types.intp), gen


@intrinsic
def difference_within(typingctx, element, first, second, dim, limit):
    """The difference if it is at most the limit, else any number above the limit, sooner.

    Wide rows wait for memory: a candidate that is too far mostly shows it in half its row.
    """

    def gen(ctx, b, sig, args):
        return _sum(b, ELEMENTS[element], DIFFERENCE, *args[1:])

    return types.float32(element, types.intp, types.intp, types.intp, types.float32), gen


@intrinsic
def product(typingctx, element, first, second, dim):
    """Inner product of two rows by address; of bits, how many both have."""

    def gen(ctx, b, sig, args):
        return _sum(b, ELEMENTS[element], PRODUCT, *args[1:])

    return types.float32(element, types.intp, types.intp, types.intp), gen


@intrinsic
def jaccard(typingctx, element, first, second, dim):
    """1 - |both| / |either| of two rows of bits, 0 where neither has any; of other elements it is never asked."""

    def gen(ctx, b, sig, args):
        if element != types.uint64:
            return f32(0.0)
        both = _sum(b, ELEMENTS[element], PRODUCT, *args[1:])
        either = _sum(b, ELEMENTS[element], UNION, *args[1:])
        unlike = b.fdiv(b.fsub(either, both), either)
        return b.select(b.fcmp_ordered("==", either, f32(0.0)), f32(0.0), unlike)

    return types.float32(element, types.intp, types.intp, types.intp), gen


@intrinsic
def _call(typingctx, function, query, row, dim):
    """What the function at an address says of a query and a row."""

    def gen(ctx, b, sig, args):
        shape = ir.FunctionType(f32, [i64, i64, i64])
        return b.call(b.inttoptr(args[0], shape.as_pointer()), args[1:])

    return types.float32(types.intp, types.intp, types.intp, types.intp), gen


@njit
def dot(first, second, dim):
    """Inner product of two float32 rows by address."""
    return product(np.float32(0), first, second, dim)


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
    if space.metric != COSINE:
        return np.float32(1)
    norm = np.sqrt(product(space.element, query, query, space.dim))
    return np.float32(0) if norm == 0 else np.float32(1) / norm


@njit
def row_scale(space, slot):
    """The factor of a stored row in `distance` when it takes the query's place."""
    return get_f32(space.inv_norms + slot * 4) if space.metric == COSINE else np.float32(1)


@njit
def distance(space, query, scale, slot):
    """Distance of a stored row from the query at an address; scale is 1 / |query| under COSINE.

    L2: squared Euclid. DOT: -<q, x>. COSINE: 1 - cos(q, x). JACCARD: 1 - |both| / |either|.
    FUNCTION: what the function says of the query and the row.
    """
    row = space.vectors + slot * space.row_bytes
    if space.metric == L2:
        return difference(space.element, query, row, space.dim)
    if space.metric == JACCARD:
        return jaccard(space.element, query, row, space.dim)
    if space.metric == FUNCTION:
        return _call(space.function, query, row, space.dim)
    inner = product(space.element, query, row, space.dim)
    if space.metric == COSINE:
        return np.float32(1) - inner * (scale * get_f32(space.inv_norms + slot * 4))
    return -inner


@njit
def distance_within(space, query, scale, slot, limit):
    """As `distance`, but a distance above the limit may come out as any number above the limit."""
    if space.metric == L2:
        row = space.vectors + slot * space.row_bytes
        return difference_within(space.element, query, row, space.dim, limit)
    return distance(space, query, scale, slot)
