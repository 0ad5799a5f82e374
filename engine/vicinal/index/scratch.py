"""Memory a search writes to, lent to one thread at a time, and arrays that begin on a cache line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Scratch", "address", "aligned", "borrow"]

_LINE = 64


def address(array: NDArray[Any]) -> int:
    """The address of an array's first byte; the caller keeps the array alive."""
    start: int = array.__array_interface__["data"][0]
    return start


def aligned(shape: tuple[int, ...], dtype: DTypeLike, fill: int | None = None) -> NDArray[Any]:
    """An array that begins on a cache line: zeros from the system unless `fill` says otherwise."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -address(memory) % _LINE
    array = memory[start : start + size].view(kind).reshape(shape)
    if fill:
        array.fill(fill)
    return array


class Scratch:
    """The scratch memory of one search: visited marks, two pools, a list, the query.

    Addresses change when `fit` grows an array: read them after it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._visited = aligned((0,), np.uint8)
        self._keys = aligned((0,), np.int64)
        self._fresh = aligned((512,), np.uint32)
        self._query = aligned((0,), np.float32)
        self.pool = self.results = self.visited = self.query = 0
        self.fresh = address(self._fresh)
        self.pool_vectors = 0

    def fit(self, slots: int, vectors: int, dim: int) -> None:
        """Make room for `slots` visited marks, pools of 8 * `vectors` keys and a query of `dim` floats."""
        if slots > len(self._visited):
            self._visited = aligned((slots + slots // 4,), np.uint8)
            self.visited, self.epoch = address(self._visited), 0
        if vectors > self.pool_vectors:
            half = (vectors + 1) * 8  # a guard of eight keys before each pool
            self._keys = aligned((2 * half,), np.int64)
            self.pool = address(self._keys) + _LINE
            self.results = self.pool + half * 8
            self.pool_vectors = vectors
        if dim > len(self._query):
            self._query = aligned((dim,), np.float32)
            self.query = address(self._query)

    def next_epoch(self) -> int:
        """A value no visited mark holds yet (1..255); the marks are wiped when the values run out."""
        if self.epoch == 255:
            self._visited.fill(0)
            self.epoch = 0
        self.epoch += 1
        return self.epoch

    def put_query(self, query: NDArray[np.float32]) -> int:
        """Copy a query into the scratch and return its address there."""
        self._query[: len(query)] = query
        return self.query


_free: deque[Scratch] = deque()


@contextmanager
def borrow(slots: int, vectors: int, dim: int) -> Iterator[Scratch]:
    """Lend a scratch of at least that size to this thread; as many exist as searches ever ran at once."""
    try:
        scratch = _free.pop()  # a deque's pop and append are atomic
    except IndexError:
        scratch = Scratch()
    scratch.fit(slots, vectors, dim)
    try:
        yield scratch
    finally:
        _free.append(scratch)
