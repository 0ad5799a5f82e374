"""The u8 . s8 dot step in three bodies with equal integer results: AVX-512 VNNI, AVX2 and plain IR.

Every stored byte is a code in -127 .. 127. The lane side of a product is read as u8 = s8 + 128, the broadcast
side as s8,
because that is what `vpdpbusd` multiplies: product(x, a) = dot(x, a) + 128 sum(a).

AVX2 has no such instruction, and `vpmaddubsw` saturates at 16 bits: 255 * 127 * 2 does not fit. So that body
multiplies
|x| by sign(x) a, at most 2 * 127 * 127 = 32,258, and the term 128 sum(a) is added once per row
(`Body.signed`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from vicinal.kernels.cpu import HAS_AVX2, HAS_VNNI
from vicinal.kernels.simd import call, const, i1, i8, i16, i32, splat, vec

__all__ = ["Body", "best_body"]


class Body(NamedTuple):
    """How one instruction set multiplies four bytes per lane.

    `lanes`: 32-bit sums per register. `rows` and `columns`: how many rows and registers a tile keeps in
    registers at once;
    `unroll`: steps of four bytes per loop turn. `signed`: the step leaves out 128 sum(a).
    """

    name: str
    lanes: int
    rows: int
    columns: int
    unroll: int
    signed: bool

    def prepare(self, b, x) -> Any:
        """Turn loaded u8 lanes into what `step` multiplies, once per register and not once per row."""
        if self.name == "avx2":
            s = b.xor(x, const(x.type, 0x80))
            return s, call(b, "llvm.abs.v32i8", x.type, [s, i1(0)])
        return x

    def step(self, b, total, prepared, a):
        """Add the products of four bytes per lane: `a` holds the row's bytes, the same four in every lane."""
        sums = total.type
        if self.name == "avx512":
            return call(b, "llvm.x86.avx512.vpdpbusd.512", sums, [total, prepared, a])
        if self.name == "avx2":
            x, absolute = prepared
            signed = call(b, "llvm.x86.avx2.psign.b", a.type, [a, x])
            return b.add(total, _fours(b, absolute, signed))
        wide = vec(i32, a.type.count)
        products = b.mul(b.zext(prepared, wide), b.sext(a, wide))
        for part in range(4):
            pick = ir.Constant(vec(i32, sums.count), [4 * lane + part for lane in range(sums.count)])
            total = b.add(total, b.shuffle_vector(products, products, pick))
        return total

    def byte_sum(self, b, total, a):
        """Add 128 times the sum of each lane's four bytes of `a` (the term `step` left out)."""
        return b.add(total, _fours(b, const(a.type, 0x80), a))  # 2 * 128 * 127 still fits 16 bits

    def broadcast(self, b, word):
        """Give four bytes (one i32) in every lane."""
        return b.bitcast(splat(b, word, self.lanes), vec(i8, 4 * self.lanes))


def _fours(b, unsigned, signed):
    """Emit the AVX2 sums of four byte products per lane; pairs of products must fit 16 bits."""
    words = vec(i16, 16)
    pairs = call(b, "llvm.x86.avx2.pmadd.ub.sw", words, [unsigned, signed])
    return call(b, "llvm.x86.avx2.pmadd.wd", vec(i32, 8), [pairs, const(words, 1)])


_BODIES = {
    "avx512": Body("avx512", 16, 6, 4, 4, signed=False),
    "avx2": Body("avx2", 8, 3, 2, 1, signed=True),
    "portable": Body("portable", 16, 1, 1, 1, signed=False),
}


def best_body() -> Body:
    """Give the best body of the processor that numba compiles for."""
    if HAS_VNNI:
        return _BODIES["avx512"]
    return _BODIES["avx2" if HAS_AVX2 else "portable"]
