"""The links of a node that a walk has not seen yet."""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from vicinal.kernels import njit
from vicinal.kernels.bitset import has_bit
from vicinal.kernels.cpu import HAS_AVX512
from vicinal.kernels.heap import pool_fill
from vicinal.kernels.simd import (
    SENTINEL,
    at,
    call,
    const,
    get_i64,
    get_u32,
    i8,
    i16,
    i32,
    i64,
    load,
    publish_fence,
    set_i64,
    set_u32,
    store,
)
from vicinal.kernels.walk_ir import LINE, V16I, gathered

__all__ = ["DEGREE", "LINK_BYTES", "clear_seen", "mark_seen", "unseen_links", "write_links"]

DEGREE = 32  # links of a node; fewer end with SENTINEL
LINK_BYTES = 4 * DEGREE


@intrinsic
def _unseen_vector(typingctx, links, seen, out):
    """Pack to `out` those of DEGREE links that are slots with a clear bit; give how many.

    Packed in a register and stored whole (compressing stores are microcode on Zen 4), so `out` needs room for DEGREE
    more.
    """

    def gen(ctx, b, sig, args):
        links, seen, out = args
        count = i64(0)
        for half in range(DEGREE // 16):
            slots = load(b, links, V16I, LINE * half)
            real = b.icmp_signed(">=", slots, const(V16I, 0))
            words = call(
                b,
                "llvm.x86.avx512.mask.gather.dpi.512",
                V16I,
                [const(V16I, 0), at(b, seen, i8), b.lshr(slots, const(V16I, 5)), real, i32(4)],
            )
            bit = b.and_(b.lshr(words, b.and_(slots, const(V16I, 31))), const(V16I, 1))
            fresh = b.and_(real, b.icmp_unsigned("==", bit, const(V16I, 0)))
            name = "llvm.x86.avx512.mask.compress.v16i32"
            packed = call(b, name, V16I, [slots, const(V16I, 0), fresh])
            store(b, packed, gathered(b, out, count, 4))
            count = b.add(count, b.zext(call(b, "llvm.ctpop.i16", i16, [b.bitcast(fresh, i16)]), i64))
        return count

    return types.int64(types.intp, types.intp, types.intp), gen


@njit
def _unseen_scalar(links, seen, out):
    """Do the same one link at a time."""
    count = 0
    for i in range(DEGREE):
        slot = get_u32(links + i * 4)
        if slot < SENTINEL >> 1 and has_bit(seen, slot) == 0:
            set_u32(out + count * 4, slot)
            count += 1
    return count


unseen_links = _unseen_vector if HAS_AVX512 else _unseen_scalar


@njit
def write_links(slots, links, n, out):
    """Write links (m, DEGREE) to rows slots of `out`, uint32, when everything written before is visible to readers.

    Gives False, having written nothing, where a slot is not below n or a link neither below n nor SENTINEL.
    """
    for i in range(slots.shape[0]):
        if slots[i] >= n:
            return False
        for j in range(DEGREE):
            if links[i, j] >= n and links[i, j] != SENTINEL:
                return False
    publish_fence()
    for i in range(slots.shape[0]):
        for j in range(DEGREE):
            out[slots[i], j] = links[i, j]
    return True


@njit
def mark_seen(seen, slot):
    """Set the bit of a slot."""
    word = seen + (slot >> 6) * 8
    set_i64(word, get_i64(word) | (1 << (slot & 63)))


@njit
def clear_seen(seen, words, slots, count):
    """Clear the bits of `count` listed slots, or all words (a multiple of 8) where that is less work."""
    if words < 16 * count:
        pool_fill(seen, words >> 3, 0)
    else:
        for i in range(count):
            set_i64(seen + (get_u32(slots + i * 4) >> 6) * 8, 0)
