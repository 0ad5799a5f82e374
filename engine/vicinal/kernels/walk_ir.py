"""LLVM building blocks of the coded walk beside those that all kernels share.

The coded walk reads memory by address: one int64 per array instead of one numba array each, because unboxing an array
costs a quarter of a microsecond and a whole query takes ten. Every address belongs to an object that keeps the array
alive and has checked its length (`vicinal.index.coded_arrays`).

Estimates must not depend on the processor: float sums have a fixed order, and nothing is fused or reassociated.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vicinal.kernels.simd import f32, i32, i64, load, store, vec

__all__ = [
    "LINE",
    "V16F",
    "V16I",
    "gathered",
    "halves",
    "larger",
    "least",
    "read_fields",
    "smaller",
    "sum_lanes",
    "take",
    "write_fields",
]

LINE = 64  # bytes of a cache line and of one 512-bit register
V16F, V16I = vec(f32, 16), vec(i32, 16)


def take(b, x, y, lanes):
    """Give the named lanes of x followed by y."""
    return b.shuffle_vector(x, y, ir.Constant(vec(i32, len(lanes)), lanes))


def larger(b, x, y):
    """Give the lane-wise maximum; y where x is not a number."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def smaller(b, x, y):
    """Give the lane-wise minimum; y where x is not a number."""
    return b.select(b.fcmp_ordered("<", x, y), x, y)


def sum_lanes(b, x, combine=None):
    """Fold the lanes of a vector in halves, in an order that is the same on every processor."""
    combine = combine or b.fadd
    while x.type.count > 1:
        half = x.type.count // 2
        x = combine(take(b, x, x, list(range(half))), take(b, x, x, list(range(half, 2 * half))))
    return b.extract_element(x, i32(0))


def halves(b, x):
    """Split a vector into its two halves."""
    n = x.type.count // 2
    return take(b, x, x, list(range(n))), take(b, x, x, list(range(n, 2 * n)))


def least(b, values, names):
    """Give the name (u32) that goes with the least value; the lower name among equals."""
    while values.type.count > 1:
        (v, w), (x, y) = halves(b, values), halves(b, names)
        less = b.or_(b.fcmp_ordered("<", w, v), b.and_(b.fcmp_ordered("==", w, v), b.icmp_unsigned("<", y, x)))
        values, names = b.select(less, w, v), b.select(less, y, x)
    return b.extract_element(names, i32(0))


def gathered(b, base, index, step):
    """Give the address base + index * step, all integers."""
    return b.add(base, b.mul(index, index.type(step)))


@intrinsic
def read_fields(typingctx, kind, address):
    """Read a NamedTuple of int64 fields from the int64 array at an address, in the order of its fields."""
    del typingctx, address
    fields = types.NamedUniTuple(types.int64, len(kind.instance_class._fields), kind.instance_class)

    def generate(context, b, signature, args):
        values = [load(b, args[1], i64, 8 * at, align=8) for at in range(signature.return_type.count)]
        return context.make_tuple(b, signature.return_type, values)

    return fields(kind, types.intp), generate


@intrinsic
def write_fields(typingctx, values, address):
    """Write a NamedTuple of int64 fields to an address, for `read_fields`."""
    del typingctx, address

    def generate(context, b, _, args):
        for at in range(len(values.instance_class._fields)):
            store(b, b.extract_value(args[0], at), args[1], 8 * at, align=8)
        return context.get_dummy_value()

    return types.void(values, types.intp), generate
