"""Damaged copies of valid bytes: what a careless or a hostile writer may have made of them."""

from __future__ import annotations

import random
import struct

__all__ = ["mutate"]

_BITS = (15, 16, 31, 32, 40, 63)
_NUMBERS = (0, 1, 2, 3, 255, *((1 << bits) - less for bits in _BITS for less in (0, 1)))
_WORDS = (b"-1", b"99999999999999999999", b"null", b"NaN", b"1e999", b"[]", b"{}", b'"', b"true", b"0x7f", b"[" * 200)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to three changes; half of them near the beginning, where headers are."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(changed, rng)
    return bytes(changed)


def _change(content: bytearray, rng: random.Random) -> None:
    size = len(content)
    at = rng.randrange(min(size, 256) if rng.random() < 0.5 and size else size or 1)
    kind = rng.choice(("bit", "byte", "number", "number", "cut", "insert", "repeat", "word", "zero"))
    if kind == "bit" and size:
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "byte" and size:
        content[at] = rng.randrange(256)
    elif kind == "number":
        number = (rng.choice(_NUMBERS) + rng.choice((-1, 0, 0, 1))) & ((1 << 64) - 1)
        packed = struct.pack("<Q", number)[: rng.choice((1, 2, 4, 4, 8))]
        content[at : at + len(packed)] = packed
    elif kind == "cut":
        del content[at : at + rng.choice((1, 2, 8, 64, size))]
    elif kind == "insert":
        content[at:at] = rng.randbytes(rng.choice((1, 4, 8, 64)))
    elif kind == "repeat":
        content[at:at] = content[at : at + rng.choice((4, 8, 64))]
    elif kind == "word":
        word = rng.choice(_WORDS)
        content[at : at + rng.choice((0, 1, len(word)))] = word
    elif kind == "zero":
        stop = min(size, at + rng.choice((4, 8, 64)))
        content[at:stop] = bytes(stop - at)
