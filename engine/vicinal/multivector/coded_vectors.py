"""Wide vectors at 1, 4, 8 or 32 bits a component, and the largest inner products of some of them with a query.

1, 4 and 8 bits are those of `kernels.proxy_codes`, after a random rotation that spreads what sparse encodings hold in
few components; 32 keeps the floats and is what the others are measured against.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.proxies import Near, with_room
from vicinal.multivector.tokens import owned

__all__ = ["BITS", "Bits", "CodedVectors", "append", "check_count", "empty", "line_bytes", "nearest", "restored"]

Bits = Literal[1, 4, 8, 32]
BITS: Final[tuple[int, ...]] = get_args(Bits)
_BLOCK: Final = 256  # components are padded to a multiple of it, as the kernels want
_PART: Final = 1024  # rows of floats compared at once


class CodedVectors(NamedTuple):
    """The codes of vectors 0 .. n - 1 of `dim` components, which readers may hold on to.

    `signs` (2, padded) float32 are the rotation's; `lines` (capacity, bytes) uint8, or (capacity, dim) float32 of 32
    bits; `factors` (capacity,) float32.
    """

    dim: int
    bits: int
    signs: NDArray[np.float32]
    lines: NDArray[Any]
    factors: NDArray[np.float32]
    n: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes and factors; room behind the last is not touched yet."""
        return self.lines[: self.n].nbytes + self.factors[: self.n].nbytes + self.signs.nbytes


def line_bytes(dim: int, bits: int) -> int:
    """Bytes of one vector."""
    return 4 * dim if bits == 32 else _padded(dim) * bits // 8


def _padded(dim: int) -> int:
    return -(-dim // _BLOCK) * _BLOCK


def empty(dim: int, bits: int, seed: int) -> CodedVectors:
    """No vectors yet; the rotation is drawn from the seed."""
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (2, _padded(dim))) * np.float32(2**-3.5)
    lines = np.empty((0, dim), np.float32) if bits == 32 else np.empty((0, line_bytes(dim, bits)), np.uint8)
    return CodedVectors(dim, bits, signs, lines, np.empty(0, np.float32), 0)


def restored(dim: int, bits: int, seed: int, lines: NDArray[Any], factors: NDArray[Any]) -> CodedVectors:
    """The codes of a snapshot; ValueError unless they are such codes."""
    fresh = empty(dim, bits, seed)
    fits = lines.dtype == fresh.lines.dtype and factors.dtype == np.float32 and factors.ndim == 1
    if not fits or lines.shape != (len(factors), fresh.lines.shape[1]) or not np.isfinite(factors).all():
        raise ValueError(f"codes of {lines.shape} {lines.dtype}")
    return fresh._replace(lines=lines.copy(), factors=factors.copy(), n=len(factors))


def check_count(codes: CodedVectors, most: int) -> None:
    """ValueError unless there are at most so many vectors."""
    if codes.n > most:
        raise ValueError(f"{codes.n} slots of {most}")


def append(codes: CodedVectors, vectors: NDArray[np.float32]) -> CodedVectors:
    """The codes with vectors (k, dim) behind the others, in the same arrays while they have room."""
    from vicinal.kernels.proxy_codes import encode_levels

    stop = codes.n + len(vectors)
    lines, factors = with_room(codes.lines, codes.n, stop), with_room(codes.factors, codes.n, stop)
    if codes.bits == 32:
        lines[codes.n : stop] = vectors
    else:
        encode_levels(_rotated(codes, vectors), codes.bits, lines, factors, codes.n)
    return codes._replace(lines=lines, factors=factors, n=stop)


def nearest(codes: CodedVectors, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range) -> Near:
    """The `count` largest estimated products of a query (dim,) with the vectors `slots`: slots and products."""
    listed = owned(slots, np.uint32)
    assert not len(listed) or int(listed.max()) < codes.n, "a slot that has no code yet"
    scores = _products(codes, query, listed)
    best = np.arange(len(listed))
    if count < len(listed):
        best = np.sort(np.argpartition(-scores, count - 1)[:count])
    best = best[np.argsort(-scores[best], kind="stable")]
    return listed[best], scores[best]


def _products(codes: CodedVectors, query: NDArray[np.float32], slots: NDArray[np.uint32]) -> NDArray[np.float32]:
    from vicinal.kernels import proxy_codes

    scores = np.empty(len(slots), np.float32)
    if codes.bits == 32:
        for low in range(0, len(slots), _PART):
            scores[low : low + _PART] = codes.lines[slots[low : low + _PART]] @ query
        return scores
    rotated = _rotated(codes, query[None])[0]
    unit = max(float(np.abs(rotated).max()), 1e-30) / 127
    small = np.rint(rotated / unit).astype(np.int8)
    scan = {1: proxy_codes.scan_bits, 4: proxy_codes.scan_nibbles, 8: proxy_codes.scan_bytes}[codes.bits]
    scan(codes.lines, codes.factors, slots, small, small.sum(dtype=np.int64), np.float32(unit), scores)
    return scores


def _rotated(codes: CodedVectors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, padded and rotated."""
    from vicinal.kernels.rotate import rotate_rows

    out = np.zeros((len(vectors), codes.signs.shape[1]), np.float32)
    out[:, : codes.dim] = vectors
    rotate_rows(out, codes.signs)
    return out
