"""A random rotation that costs n log 128: signs and 128-point Hadamards, twice (Gao & Long 2024 use the same idea).

A vector has m = 128 g floats. The first round mixes each run of 128; the second mixes every g-th run of sixteen, so
that every coordinate reaches every other. The signs carry the factor 2^-3.5 that keeps lengths.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.simd import load, store
from vicinal.kernels.walk_ir import V16F, take

__all__ = ["RUN", "rotate", "rotate_rows"]

RUN = 128  # floats mixed at once: eight vectors of sixteen


@intrinsic
def hadamard128(typingctx, x, stride, signs):
    """Multiply eight vectors of 16 floats at x + i * stride (bytes) by the signs, then mix all 128 in place."""

    def gen(ctx, b, sig, args):
        x, stride, signs = args
        places = [b.mul(stride, stride.type(i)) for i in range(8)]
        r = [b.fmul(load(b, x, V16F, at), load(b, signs, V16F, at)) for at in places]
        for h in (1, 2, 4):
            for i in range(8):
                if not i & h:
                    r[i], r[i + h] = b.fadd(r[i], r[i + h]), b.fsub(r[i], r[i + h])
        for h in (1, 2, 4, 8):
            sign = ir.Constant(V16F, [-1.0 if i & h else 1.0 for i in range(16)])
            r = [b.fadd(b.fmul(v, sign), take(b, v, v, [i ^ h for i in range(16)])) for v in r]
        for v, at in zip(r, places, strict=True):
            store(b, v, x, at)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), gen


@njit
def rotate(x, signs, m):
    """Rotate the m floats (a multiple of RUN) at address x in place; signs: 2 m float32."""
    groups = m // RUN
    for i in range(groups):
        hadamard128(x + i * RUN * 4, 64, signs + i * RUN * 4)
    for i in range(groups):
        hadamard128(x + i * 64, 64 * groups, signs + m * 4 + i * 64)


@njit
def rotate_rows(rows, signs):
    """Rotate every row of a C-contiguous (n, m) float32 array in place; signs (2, m) float32."""
    m = rows.shape[1]
    for i in range(rows.shape[0]):
        rotate(rows[i].ctypes.data, signs.ctypes.data, m)
