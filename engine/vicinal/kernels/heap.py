"""Bounded pools of the nearest so far: sorted arrays of int64 keys (`simd.make_key`), by address.

A pool has 8 * vectors entries, ascending, filled with INF_KEY; the eight entries before the first hold keys
smaller than any other (`pool_clear` writes them), so a pool's buffer begins 64 bytes before its address. At the
sizes of a beam (tens to a few hundred) a branch-free insertion into a sorted array beats a binary heap: no
mispredicted branches, and the bound, the best open entry and the final order are there for nothing.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.simd import INF_KEY, Loop, call, const, i1, i8, i32, i64, load, splat, store, vec

__all__ = ["pool_clear", "pool_fill", "pool_first_open", "pool_insert"]

_KEYS = vec(i64, 8)
_LEAST = -(1 << 63)


@intrinsic
def pool_fill(typingctx, pool, vectors, value):
    """Write value to every entry."""

    def gen(ctx, b, sig, args):
        loop = Loop(b, args[1], [])
        store(b, splat(b, args[2], 8), args[0], b.shl(loop.i, i64(6)), align=64)
        loop.close([])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), gen


@njit
def pool_clear(pool, vectors):
    """Empty the pool and write the guard before it."""
    pool_fill(pool - 64, 1, _LEAST)
    pool_fill(pool, vectors, INF_KEY)


@intrinsic
def pool_insert(typingctx, pool, vectors, key):
    """Insert a key in order; the last entry falls out.

    new[i] = min(max(old[i-1], key), old[i]) from the end, without branches. Only aligned vectors are loaded and the
    neighbour comes by a lane shift: an unaligned load across two fresh stores could not be forwarded.
    """

    def gen(ctx, b, sig, args):
        pool, vectors, key = args
        wanted = splat(b, key, 8)
        last = b.add(pool, b.shl(b.sub(vectors, i64(1)), i64(6)))
        loop = Loop(b, vectors, [load(b, last, _KEYS, align=64)])
        here = b.sub(last, b.shl(loop.i, i64(6)))
        current, before = loop.vals[0], load(b, here, _KEYS, -64, align=64)
        shifted = b.shuffle_vector(before, current, ir.Constant(vec(i32, 8), list(range(7, 15))))
        larger = call(b, "llvm.smax.v8i64", _KEYS, [shifted, wanted])
        store(b, call(b, "llvm.smin.v8i64", _KEYS, [larger, current]), here, align=64)
        loop.close([before])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), gen


@intrinsic
def pool_first_open(typingctx, pool, vectors):
    """Position of the first entry whose flag (bit 0) is clear, or 8 * vectors."""

    def gen(ctx, b, sig, args):
        pool, vectors = args
        start = b.block
        test, step, done = (b.append_basic_block(n) for n in ("test", "step", "done"))
        b.branch(test)
        b.position_at_end(test)
        i = b.phi(i64)
        i.add_incoming(i64(0), start)
        keys = load(b, pool, _KEYS, b.shl(i, i64(6)), align=64)
        flags = b.and_(keys, const(_KEYS, 1))
        mask = b.bitcast(b.icmp_unsigned("==", flags, const(_KEYS, 0)), i8)
        lane = b.zext(call(b, "llvm.cttz.i8", i8, [mask, i1(0)]), i64)  # 8 when there is none
        position = b.add(b.shl(i, i64(3)), lane)
        b.cbranch(b.icmp_unsigned("!=", mask, i8(0)), done, step)
        b.position_at_end(step)
        following = b.add(i, i64(1))
        i.add_incoming(following, step)
        b.cbranch(b.icmp_signed("<", following, vectors), test, done)
        b.position_at_end(done)
        found = b.phi(i64)
        found.add_incoming(position, step)
        found.add_incoming(position, test)
        return found

    return types.int64(types.intp, types.intp), gen
