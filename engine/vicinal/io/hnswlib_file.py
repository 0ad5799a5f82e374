"""Indexes saved by hnswlib 0.8.0 (`save_index` of `Index` and of `BFIndex`), every length and link checked.

    Index    offset of level 0 u64 · max elements u64 · elements u64 · bytes per element u64 · offset of the label u64 ·
             offset of the vector u64 · top level i32 · entry u32 · M u64 · M of level 0 u64 · M u64 ·
             level factor f64 · ef_construction u64
             per element: links u16 · flags u8 (1: deleted) · 0 u8 · links u32[M of level 0] · vector f32[dim] ·
             label u64
             per element: bytes of its upper lists u32 · per level: count u32 · links u32[M]
    BFIndex  max elements u64 · bytes per element u64 · elements u64
             per element, max elements of them: vector f32[dim] · label u64

The file names neither its space nor its dimension; the dimension follows from the sizes. Under cosine hnswlib keeps
normalised vectors only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData
from vicinal.limits import DIM_MAX, M_MAX, M_MIN, SLOTS_MAX

__all__ = ["HnswlibPoints", "read_brute_force", "read_hnsw"]

_HEAD: Final = struct.Struct("<QQQQQQiIQQQdQ")
_BRUTE: Final = struct.Struct("<QQQ")
_DELETED: Final = 1
_LEVELS_MAX: Final = 64


class HnswlibPoints(NamedTuple):
    """What a file holds; M and ef_construction are 0 for one without a graph.

    `vectors` (n, dim) float32 and `labels` (n,) uint64 are copies; `deleted` (n,) bool.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.uint64]
    deleted: NDArray[np.bool_]
    max_elements: int
    M: int = 0
    ef_construction: int = 0


class _Head(NamedTuple):
    """The fixed part of an Index file."""

    offset: int
    max_elements: int
    n: int
    element_bytes: int
    label_at: int
    vector_at: int
    top: int
    entry: int
    upper_links: int
    links: int
    M: int
    factor: float
    ef_construction: int


def _corrupt(name: str, what: str) -> CorruptData:
    return CorruptData(f"{name} is no sound hnswlib index: {what}", field=name)


def read_hnsw(buffer: memoryview, dim: int, name: str) -> HnswlibPoints:
    """The points of an `hnswlib.Index` file's bytes.

    Raises CorruptData when a size, a link, a level or the entry point cannot be, before anything of that size is
    allocated, or when the file's vectors do not have `dim` dimensions.
    """
    if len(buffer) < _HEAD.size:
        raise _corrupt(name, f"{len(buffer)} bytes are too few for a header of {_HEAD.size}")
    head = _Head(*_HEAD.unpack_from(buffer))
    _check_head(head, len(buffer), dim, name)
    elements = np.frombuffer(buffer, _element_type(head, dim), head.n, _HEAD.size)
    levels = _check_upper(buffer, head, name)
    _check_entry(head, levels, name)
    counts, links = elements["count"], elements["links"]
    used = np.arange(head.links) < counts[:, None]
    if (counts > head.links).any() or (links >= head.n)[used].any():
        raise _corrupt(name, "a link of level 0 leads to an element that does not exist")
    deleted = (elements["flags"] & _DELETED).astype(np.bool_)
    return _points(elements, deleted, head.max_elements, name)._replace(M=head.M, ef_construction=head.ef_construction)


def _check_head(head: _Head, length: int, dim: int, name: str) -> None:
    """Refuse sizes that do not fit each other or the file."""
    if head.offset or not M_MIN <= head.M <= M_MAX or (head.upper_links, head.links) != (head.M, 2 * head.M):
        raise _corrupt(name, f"M = {head.M} with {head.links} and {head.upper_links} links cannot be")
    if head.n > min(head.max_elements, SLOTS_MAX):
        raise _corrupt(name, f"{head.n} elements in room for {head.max_elements} cannot be")
    vector_at = 4 * head.links + 4
    size = head.label_at - vector_at
    if (
        head.vector_at != vector_at
        or size % 4
        or not 4 <= size <= 4 * DIM_MAX
        or head.element_bytes != head.label_at + 8
    ):
        raise _corrupt(name, f"elements of {head.element_bytes} bytes cannot be")
    if size != 4 * dim:
        raise _corrupt(name, f"its vectors have {size // 4} dimensions, not {dim}")
    if head.n * (head.element_bytes + 4) > length - _HEAD.size:
        raise _corrupt(name, f"{length} bytes are too few for {head.n} elements")
    if not math.isfinite(head.factor) or head.ef_construction < 1:
        raise _corrupt(name, f"ef_construction {head.ef_construction} and level factor {head.factor} cannot be")


def _element_type(head: _Head, dim: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("count", "<u2"),
            ("flags", "u1"),
            ("zero", "u1"),
            ("links", "<u4", (head.links,)),
            ("vector", "<f4", (dim,)),
            ("label", "<u8"),
        ]
    )


def _check_upper(buffer: memoryview, head: _Head, name: str) -> NDArray[np.int64]:
    """The elements' levels, after a look at all upper lists."""
    levels = np.zeros(head.n, np.int64)
    lists: list[tuple[int, int, NDArray[np.uint32]]] = []
    at, list_bytes = _HEAD.size + head.n * head.element_bytes, 4 * head.M + 4
    for slot in range(head.n):
        if at + 4 > len(buffer):
            raise _corrupt(name, f"it ends before the upper lists of element {slot}")
        (size,) = struct.unpack_from("<I", buffer, at)
        at += 4
        if size % list_bytes or size > min(_LEVELS_MAX * list_bytes, len(buffer) - at):
            raise _corrupt(name, f"upper lists of {size} bytes at offset {at - 4} cannot be")
        if size:
            levels[slot] = size // list_bytes
            lists.append((slot, at, np.frombuffer(buffer, "<u4", size // 4, at).reshape(-1, head.M + 1)))
            at += size
    if at != len(buffer):
        raise _corrupt(name, f"{len(buffer) - at} bytes follow its end")
    for problem in _bad_lists(lists, levels, head):
        raise _corrupt(name, problem)
    return levels


def _bad_lists(
    lists: list[tuple[int, int, NDArray[np.uint32]]], levels: NDArray[np.int64], head: _Head
) -> Iterator[str]:
    """What is wrong with upper lists: too long, or leading where there is no element of that level."""
    for slot, at, rows in lists:
        for level, row in enumerate(rows, 1):
            count = int(row[0]) & 0xFFFF
            links = row[1 : count + 1]
            if count > head.M or (links >= head.n).any() or (levels[links] < level).any():
                yield f"a link of element {slot} on level {level} (offset {at}) leads nowhere"


def _check_entry(head: _Head, levels: NDArray[np.int64], name: str) -> None:
    if head.n == 0:
        return
    if head.entry >= head.n or not head.top == int(levels[head.entry]) == int(levels.max()):
        raise _corrupt(name, f"entry point {head.entry} on level {head.top} cannot be")


def read_brute_force(buffer: memoryview, dim: int, name: str) -> HnswlibPoints:
    """The points of an `hnswlib.BFIndex` file's bytes; CorruptData as for `read_hnsw`."""
    if len(buffer) < _BRUTE.size:
        raise _corrupt(name, f"{len(buffer)} bytes are too few for a header of {_BRUTE.size}")
    max_elements, element_bytes, n = _BRUTE.unpack_from(buffer)
    if element_bytes != 4 * dim + 8:
        raise _corrupt(name, f"elements of {element_bytes} bytes do not hold {dim} dimensions and a label")
    if n > min(max_elements, SLOTS_MAX) or max_elements * element_bytes != len(buffer) - _BRUTE.size:
        raise _corrupt(name, f"{n} of {max_elements} elements in {len(buffer)} bytes cannot be")
    kind = np.dtype([("vector", "<f4", (dim,)), ("label", "<u8")])
    elements = np.frombuffer(buffer, kind, n, _BRUTE.size)
    return _points(elements, np.zeros(n, np.bool_), max_elements, name)


def _points(elements: NDArray[Any], deleted: NDArray[np.bool_], max_elements: int, name: str) -> HnswlibPoints:
    """Copies of vectors and labels, which must be finite and differ."""
    vectors = np.ascontiguousarray(elements["vector"], np.float32)
    labels = np.ascontiguousarray(elements["label"], np.uint64)
    if len(np.unique(labels)) != len(labels):
        raise _corrupt(name, "two elements have the same label")
    if not np.isfinite(vectors).all():
        raise _corrupt(name, "a vector holds NaN or infinity")
    return HnswlibPoints(vectors, labels, deleted, max_elements)
