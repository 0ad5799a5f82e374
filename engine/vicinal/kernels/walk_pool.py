"""Insertion into long pools, where most keys land near the end.

`heap.pool_insert` moves every vector without a branch, which is best up to some forty vectors. Beyond, a walk's keys
mostly belong near the end (what is found late is far), so this one stops where the key fits.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.heap import pool_insert
from vicinal.kernels.simd import call, i32, i64, load, splat, store, vec

__all__ = ["LONG", "insert"]

LONG = 40  # vectors of eight keys from which stopping early pays
_KEYS = vec(i64, 8)


@intrinsic
def _insert_late(typingctx, pool, vectors, key):
    """Insert a key as `heap.pool_insert` does, from the end, until the vector before holds smaller keys only."""

    def gen(ctx, b, sig, args):
        pool, vectors, key = args
        wanted = splat(b, key, 8)
        last = b.add(pool, b.shl(b.sub(vectors, i64(1)), i64(6)))
        before_loop, body, end = b.block, b.append_basic_block("shift"), b.append_basic_block("placed")
        first = load(b, last, _KEYS, align=64)
        b.branch(body)
        b.position_at_end(body)
        here, current = b.phi(i64), b.phi(_KEYS)
        here.add_incoming(last, before_loop)
        current.add_incoming(first, before_loop)
        previous = load(b, here, _KEYS, -64, align=64)
        shifted = b.shuffle_vector(previous, current, ir.Constant(vec(i32, 8), list(range(7, 15))))
        larger = call(b, "llvm.smax.v8i64", _KEYS, [shifted, wanted])
        store(b, call(b, "llvm.smin.v8i64", _KEYS, [larger, current]), here, align=64)
        here.add_incoming(b.sub(here, i64(64)), body)
        current.add_incoming(previous, body)
        greatest = b.extract_element(previous, i32(7))
        more = b.and_(b.icmp_signed(">", greatest, key), b.icmp_unsigned(">", here, pool))
        b.cbranch(more, body, end)
        b.position_at_end(end)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), gen


@njit
def insert(pool, vectors, key):
    """Insert a key into a pool of any length; the last falls out. Eight guards lie before the pool."""
    if vectors < LONG:
        pool_insert(pool, vectors, key)
    else:
        _insert_late(pool, vectors, key)
