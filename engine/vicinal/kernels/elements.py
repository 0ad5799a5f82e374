"""What a row is made of: how elements of each type are loaded, multiplied and summed, in LLVM vector IR.

Rows of float32, float16, int8, uint8 or bits are compared by one algorithm (`kernels.distance`), written against the
type here. Halves are widened to float32 by the processor (F16C, AVX-512), or by shifting their bits where it cannot;
bytes are widened to 16 bits and summed in pairs, which LLVM turns into `vpmaddwd` or `vpdpwssd`; bits go through the
population count of 64-bit words (`vpopcntq` where there is one). Sums of bytes and bits are integers and exact.
"""

from __future__ import annotations

from typing import Any, ClassVar

from llvmlite import ir
from numba import types

from vicinal.kernels.cpu import HAS_AVX2
from vicinal.kernels.simd import call, const, f16, f32, i8, i16, i32, i64, load, reduce_add, vec

__all__ = ["DIFFERENCE", "ELEMENTS", "PRODUCT", "UNION", "Element"]

DIFFERENCE, PRODUCT, UNION = "difference", "product", "union"  # what of two elements is summed; UNION of bits only
_HALF_SCALE = 2.0**112  # a half's bits, moved to a float's places, are this much too small


class Element:
    """float32 elements; the other types say what differs.

    `lanes`: elements of a block, which is loaded at once. `shift`: log2 of an element's bytes. `place`: an integer as
    wide as a loaded lane, for masks. `sums`: the type that adds up blocks.
    """

    lanes: ClassVar[int] = 16
    shift: ClassVar[int] = 2
    place: ClassVar[Any] = i32
    sums: ClassVar[Any] = vec(f32, 16)

    def read(self, b, address, offset):
        """Load a block."""
        return load(b, address, self.sums, offset)

    def read_one(self, b, address, offset):
        """Load an element."""
        return load(b, address, f32, offset)

    def step(self, b, what, x, y, total):
        """Add what is asked of two blocks (to `sums`), or of two elements (to a scalar)."""
        name = "llvm.fmuladd.v16f32" if x.type == self.sums else "llvm.fmuladd.f32"  # fused where the target can
        if what == DIFFERENCE:
            x = y = b.fsub(x, y)
        return call(b, name, x.type, [x, y, total])

    def zero_one(self):
        """The scalar sum of nothing."""
        return f32(0.0)

    def total(self, b, sums):
        """The sum as a float32, from `sums` or a scalar."""
        return reduce_add(b, sums) if sums.type == self.sums else sums


class _Half(Element):
    shift = 1

    def _widen(self, b, bits, count):
        def kind(element):
            return vec(element, count) if count > 1 else element

        def constant(element, x):
            return const(kind(element), x) if count > 1 else element(x)

        if HAS_AVX2:  # every processor that has it converts halves
            return b.fpext(b.bitcast(bits, kind(f16)), kind(f32))
        wide = b.zext(bits, kind(i32))
        size = b.shl(b.and_(wide, constant(i32, 0x7FFF)), constant(i32, 13))
        size = b.fmul(b.bitcast(size, kind(f32)), constant(f32, _HALF_SCALE))
        sign = b.shl(b.and_(wide, constant(i32, 0x8000)), constant(i32, 16))
        return b.bitcast(b.or_(b.bitcast(size, kind(i32)), sign), kind(f32))

    def read(self, b, address, offset):
        return self._widen(b, load(b, address, vec(i16, 16), offset), 16)

    def read_one(self, b, address, offset):
        return self._widen(b, load(b, address, i16, offset), 1)


class _Byte(Element):
    lanes = 32
    shift = 0
    place = i16
    sums = vec(i32, 16)

    def __init__(self, *, signed):
        self._signed = signed

    def _wider(self, b, x, kind):
        return b.sext(x, kind) if self._signed else b.zext(x, kind)

    def read(self, b, address, offset):
        return self._wider(b, load(b, address, vec(i8, 32), offset), vec(i16, 32))

    def read_one(self, b, address, offset):
        return self._wider(b, load(b, address, i8, offset), i32)

    def step(self, b, what, x, y, total):
        if what == DIFFERENCE:
            x = y = b.sub(x, y)
        if x.type == i32:
            return b.add(total, b.mul(x, y))
        products = b.mul(b.sext(x, vec(i32, 32)), b.sext(y, vec(i32, 32)))
        for part in range(2):
            pick = ir.Constant(vec(i32, 16), list(range(part, 32, 2)))
            total = b.add(total, b.shuffle_vector(products, products, pick))
        return total

    def zero_one(self):
        return i32(0)

    def total(self, b, sums):
        return b.sitofp(reduce_add(b, sums) if sums.type == self.sums else sums, f32)


class _Bits(Element):
    """Elements are bytes of eight bits."""

    lanes = 32
    shift = 0
    place = i8
    sums = vec(i64, 4)

    def read(self, b, address, offset):
        return load(b, address, vec(i8, 32), offset)

    def read_one(self, b, address, offset):
        return load(b, address, i8, offset)

    def step(self, b, what, x, y, total):
        mixed = {DIFFERENCE: b.xor, PRODUCT: b.and_, UNION: b.or_}[what](x, y)
        if mixed.type == i8:
            return b.add(total, b.zext(call(b, "llvm.ctpop.i8", i8, [mixed]), i64))
        return b.add(total, call(b, "llvm.ctpop.v4i64", self.sums, [b.bitcast(mixed, self.sums)]))

    def zero_one(self):
        return i64(0)

    def total(self, b, sums):
        return b.sitofp(reduce_add(b, sums) if sums.type == self.sums else sums, f32)


# by the type of the number that stands for the rows' type in a kernel's arguments; numba has no float16 or bits
ELEMENTS = {
    types.float32: Element(),
    types.uint16: _Half(),
    types.int8: _Byte(signed=True),
    types.uint8: _Byte(signed=False),
    types.uint64: _Bits(),
}
