"""Memory a search writes to, lent to one thread at a time, and arrays that begin on a cache line."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vicinal.kernels.exact import Work

__all__ = ["Scratch", "address", "aligned", "give_back", "take"]

_LINE = 64
FLOAT32 = np.dtype(np.float32)


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

    `at` is the address of a block of int64 that the kernels read as `beam.Work`; `fit` keeps it true.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._visited = aligned((0,), np.uint8)
        self._keys = aligned((0,), np.int64)
        self._fresh = aligned((512,), np.uint32)
        self.query: NDArray[Any] = aligned((0,), np.float32)
        self.pool_vectors = 0
        self._block = np.zeros(len(Work._fields), np.int64)
        self.at = address(self._block)

    def fit(self, slots: int, vectors: int, dim: int, dtype: np.dtype[Any] = FLOAT32) -> None:
        """Make room for `slots` visited marks, pools of 8 * `vectors` keys and a query of `dim` elements of `dtype`."""
        same = dim == len(self.query) and dtype is self.query.dtype
        if slots <= len(self._visited) and vectors <= self.pool_vectors and same:
            return
        if slots > len(self._visited):
            self._visited = aligned((slots + slots // 4,), np.uint8)
            self.epoch = 0
        if vectors > self.pool_vectors:
            self._keys = aligned((16 * (vectors + 1),), np.int64)  # a guard of eight keys before each pool
            self.pool_vectors = vectors
        if not same:
            self.query = aligned((dim,), dtype)
        self._block[:] = self.work()

    def work(self) -> Work:
        """The addresses as the kernels see them; they change when `fit` makes an array anew."""
        pool = address(self._keys) + _LINE
        return Work(
            visited=address(self._visited),
            pool=pool,
            pool_vectors=self.pool_vectors,
            results=pool + (self.pool_vectors + 1) * _LINE,
            fresh=address(self._fresh),
            query=address(self.query),
        )

    @property
    def visited(self) -> NDArray[np.uint8]:
        """Marks by slot; a slot marked with a search's epoch is not met by it."""
        return self._visited

    def put_query(self, query: NDArray[Any]) -> None:
        """Copy the query in; refuses another dimension or dtype, which numpy might stretch or cut."""
        if query.shape != self.query.shape:
            raise ValueError(f"query has shape {query.shape}, the rows have {len(self.query)} dimensions")
        if query.dtype != self.query.dtype:
            raise ValueError(f"query is of {query.dtype}, the rows are of {self.query.dtype}")
        self.query[:] = query

    def next_epoch(self) -> int:
        """A value no visited mark holds yet (1..255); the marks are wiped when the values run out."""
        if self.epoch == 255:
            self._visited.fill(0)
            self.epoch = 0
        self.epoch += 1
        return self.epoch


_free: deque[Scratch] = deque()


def take(slots: int, vectors: int, dim: int, dtype: np.dtype[Any] = FLOAT32) -> Scratch:
    """A scratch of at least that size, for this thread alone until `give_back`.

    As many exist as searches ever ran at once. (No context manager: it would cost a tenth of a short search.)
    """
    try:
        scratch = _free.pop()  # a deque's pop and append are atomic
    except IndexError:
        scratch = Scratch()
    scratch.fit(slots, vectors, dim, dtype)
    return scratch


def give_back(scratch: Scratch) -> None:
    """Return a scratch taken before."""
    _free.append(scratch)
