"""The rows of a field as the kernels see them: a block of addresses, remembered as long as the arrays live."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.functions import function_at
from vicinal.index.scratch import address
from vicinal.kernels import distance as kernel
from vicinal.kernels.bitset import words_of
from vicinal.types import Bits, Metric, Rows

__all__ = ["VECTOR_DTYPES", "bits_at", "capacity_of", "inverse_norms", "space_at", "space_of"]

_CODES = {
    Metric.L2: kernel.L2,
    Metric.DOT: kernel.DOT,
    Metric.COSINE: kernel.COSINE,
    Metric.HAMMING: kernel.L2,
    Metric.JACCARD: kernel.JACCARD,
}  # others: kernel.FUNCTION
# the numbers by whose type kernels are specialised, see `kernels.elements`
_ELEMENTS = {
    np.dtype(np.float32): np.float32(0),
    np.dtype(np.float16): np.uint16(0),
    np.dtype(np.int8): np.int8(0),
    np.dtype(np.uint8): np.uint8(0),
}
_BIT = np.uint64(0)
VECTOR_DTYPES = tuple(_ELEMENTS)


class _Known(NamedTuple):
    vectors: weakref.ref[NDArray[Any]]
    inv_norms: weakref.ref[NDArray[Any]]
    block: NDArray[np.int64]
    at: tuple[Any, int]


# by the identity of both arrays, and metric: another thread that compares the same vectors in another way must not take
# away the block that a kernel is about to read
_known: dict[tuple[int, int, Metric], _Known] = {}


def space_of(metric: Metric, rows: Rows) -> kernel.Space:
    """Where the rows lie; valid while the arrays of `rows` live. Refuses what a kernel would misread.

    Rows may lie apart, as leading dimensions of longer ones do.
    """
    vectors, norms = rows
    element = _BIT if metric.of_bits else _ELEMENTS.get(vectors.dtype)
    whole = vectors.ndim == 2 and (vectors.size == 0 or vectors.shape[1] == 1 or vectors.strides[1] == vectors.itemsize)
    if element is None or not whole:
        known = [str(dtype) for dtype in VECTOR_DTYPES]
        raise ValueError(
            f"rows.vectors must be (capacity, dim), each row whole, of {known}, got {vectors.dtype} {vectors.shape}"
        )
    if metric.of_bits and vectors.dtype != np.uint8:
        raise ValueError(f"bits are packed in uint8, got {vectors.dtype}")
    if metric is Metric.COSINE and (norms.dtype != np.float32 or not norms.flags.c_contiguous):
        raise ValueError(f"rows.inv_norms must be a C-contiguous float32 array, got {norms.dtype}")
    inv_norms = address(norms) if metric is Metric.COSINE else 0
    width = vectors.shape[1]
    function, code = 0, _CODES.get(metric, kernel.FUNCTION)
    if code == kernel.FUNCTION:
        if vectors.dtype != np.float32:
            raise ValueError(f"{metric} compares float32 vectors, got {vectors.dtype}")
        function = function_at(metric)
    return kernel.Space(code, width, address(vectors), inv_norms, vectors.strides[0], function, element)


def space_at(metric: Metric, rows: Rows) -> tuple[Any, int]:
    """The rows' element and the address of their Space as int64s, as kernels take them.

    Looked up when the same arrays were seen before (1 us, otherwise 10).
    """
    vectors, norms = rows
    key = id(vectors), id(norms), metric
    known = _known.get(key)
    if known and known.vectors() is vectors and known.inv_norms() is norms:
        return known.at
    space = space_of(metric, rows)
    block = np.array(space[:-1], np.int64)
    gone = [weakref.ref(array, lambda _: _known.pop(key, None)) for array in (vectors, norms)]
    known = _Known(gone[0], gone[1], block, (space.element, address(block)))
    _known[key] = known
    return known.at


def bits_at(allowed: Bits | None, slots: int) -> int:
    """The address of a set that holds bits for so many slots, 0 for None."""
    if allowed is None:
        return 0
    if allowed.dtype != np.uint64 or not allowed.flags.c_contiguous or len(allowed) < words_of(slots):
        raise ValueError(
            f"allowed must be {words_of(slots)} uint64 words for {slots} slots, got {len(allowed)} of {allowed.dtype}"
        )
    return address(allowed)


def capacity_of(metric: Metric, rows: Rows) -> int:
    """How many slots the rows have room for."""
    return min(len(rows.vectors), len(rows.inv_norms)) if metric is Metric.COSINE else len(rows.vectors)


def inverse_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / |x| of each row of a C-contiguous (n, dim) float32 array; 0 for a row of zeros."""
    out = np.empty(len(vectors), np.float32)
    kernel.inverse_norms(address(vectors), len(vectors), vectors.shape[1], out)
    return out
