"""Arrays as operands of intrinsics: the array and an element offset, where `simd` has bare addresses.

The array stays a variable of the calling kernel, so numba keeps it alive, and a wrong dtype or a strided view is
refused while the kernel compiles. Bounds are the caller's business, as in every compiled kernel.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from vicinal.kernels.simd import call, i8, i32, i64

__all__ = ["fetch", "greater", "lesser", "operand", "pointer", "read", "row_width", "write"]


def operand(given, dtype):
    """Check, while compiling, that an intrinsic was given a C-contiguous array of `dtype`; return its type."""
    if not isinstance(given, types.Array) or given.dtype != dtype or given.layout != "C":
        raise TypingError(f"needs a C-contiguous array of {dtype}, got {given}")
    return given


def pointer(ctx, b, given, value, offset):
    """Give the address (i8*) of element `offset` (i64, counted in elements) of an array operand."""
    base = b.bitcast(ctx.make_array(given)(ctx, b, value).data, i8.as_pointer())
    return b.gep(base, [b.mul(offset, i64(given.dtype.bitwidth // 8))])


def row_width(ctx, b, given, value):
    """Give the length (i64) of a row of a two-dimensional array operand."""
    return cgutils.unpack_tuple(b, ctx.make_array(given)(ctx, b, value).shape)[1]


def read(b, address, kind):
    """Load a value or vector of type `kind` from an i8*, unaligned."""
    return b.load(b.bitcast(address, kind.as_pointer()), align=1)


def write(b, value, address):
    """Store a value or vector at an i8*, unaligned."""
    b.store(value, b.bitcast(address, value.type.as_pointer()), align=1)


@intrinsic(prefer_literal=False)
def fetch(typingctx, array, place):
    """Ask for the cache line of element `place` of an array, counted over all its dimensions."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError(f"needs a C-contiguous array, got {array}")

    def generate(ctx, b, sig, args):
        address = pointer(ctx, b, sig.args[0], args[0], args[1])
        call(b, "llvm.prefetch.p0", ir.VoidType(), [address, i32(0), i32(3), i32(1)])
        return ctx.get_dummy_value()

    return types.void(array, types.intp), generate


def _chooser(comparison):
    """Make the intrinsic that gives the one of two int64 that the comparison prefers."""

    @intrinsic(prefer_literal=False)
    def choose(typingctx, one, other):
        def generate(ctx, b, sig, args):
            return b.select(b.icmp_signed(comparison, *args), *args)

        return types.int64(types.int64, types.int64), generate

    return choose


# Python's min and max compile anew for every pair of types, a tenth of a second each
lesser = _chooser("<")
greater = _chooser(">")
