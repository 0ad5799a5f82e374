"""Compile every search and insertion kernel, and see that each agrees with numpy on this processor.

The jobs call the kernels with the argument types the engine uses, so what they compile is what it will load.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels.beam import Graph, search
from vicinal.kernels.bitset import bits_to_slots, slots_to_bits
from vicinal.kernels.distance import COSINE, DOT, FUNCTION, L2, Space, inverse_norms
from vicinal.kernels.exact import Work, scan_list, scan_range
from vicinal.kernels.functions import l1_function
from vicinal.kernels.insert import Builder, draw_levels, insert
from vicinal.kernels.reach import flood, mend
from vicinal.kernels.simd import SENTINEL
from vicinal.kernels.spans import flip_spans, set_spans
from vicinal.kernels.stretch import (
    KINDS,
    StretchFields,
    copy_stretch,
    find_stretch,
    join_stretches,
    mark_stretch,
    narrow,
)

__all__ = ["KernelMismatch", "warm"]

_N, _DIM, _K, _M = 300, 37, 10, 8
_EF = 64
_ELEMENT = np.float32(0)  # the other types are compiled when a field of theirs is first searched


class KernelMismatch(RuntimeError):
    """A compiled kernel disagrees with numpy: this processor or compiler must not be trusted with it."""


class _Bench:
    """A few rows, and memory for every kernel, aligned as the engine's."""

    def __init__(self, metric: int) -> None:
        rng = np.random.default_rng(metric)
        self._kept: list[NDArray[Any]] = []
        self.vectors = rng.standard_normal((_N, _DIM), dtype=np.float32)
        self.query = rng.standard_normal(_DIM, dtype=np.float32)
        self.norms = np.ones(_N, np.float32)
        vectors = self.keep(self.vectors)
        inverse_norms(vectors, _N, _DIM, self.norms)
        self._function = l1_function() if metric == FUNCTION else None
        function = self._function.address if self._function is not None else 0
        self.space = Space(metric, _DIM, vectors, self.keep(self.norms), 4 * _DIM, function, _ELEMENT)
        self.graph = Graph(
            self.make(_N * 16, np.uint32, SENTINEL), 64, 2 * _M,
            self.make(_N * 16, np.uint32, SENTINEL), 64, _M, self.make(_N, np.uint32), _N,
        )  # fmt: skip
        keys = self.make(1024, np.int64)
        self.work = Work(
            self.make(_N, np.uint8), keys + 64, 32, keys + 4096, self.make(64, np.uint32), self.keep(self.query)
        )
        self.state = np.array([-1, 0, 0], np.int64)
        self.levels = np.zeros(_N, np.uint8)
        self.builder = Builder(
            self.keep(self.state), self.keep(self.levels), self.make(_N, np.uint32), _EF // 8,
            self.make(64, np.uint32), self.make(64, np.int64) + 64, 3,
        )  # fmt: skip
        self.slots, self.found = np.empty(_K, np.uint32), np.empty(_K, np.float32)

    def keep(self, array: NDArray[Any]) -> int:
        """The address of an array that lives as long as this."""
        self._kept.append(array)
        return int(array.ctypes.data)

    def make(self, count: int, dtype: type[np.generic], fill: int = 0) -> int:
        """The address of an aligned array of so many elements."""
        size = count * np.dtype(dtype).itemsize
        memory = np.zeros(size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        memory[start : start + size].view(dtype).fill(fill)
        return self.keep(memory) + start

    def blocks(self) -> tuple[int, int, int]:
        """Addresses of the space, the graph and the work as the engine hands them over."""
        space, graph, work = (self.keep(np.array(x, np.int64)) for x in (self.space[:-1], self.graph, self.work))
        return space, graph, work

    def nearest(self) -> NDArray[np.float64]:
        """The distances of all rows from the query, in float64."""
        x, q = self.vectors.astype(np.float64), self.query.astype(np.float64)
        if self.space.metric == L2:
            return ((x - q) ** 2).sum(axis=1)
        if self.space.metric == FUNCTION:
            return np.abs(x - q).sum(axis=1)
        dots = x @ q
        return -dots if self.space.metric == DOT else 1 - dots / np.linalg.norm(x, axis=1) / np.linalg.norm(q)

    def expect(self, what: str, count: int, among: NDArray[np.integer]) -> None:
        """The output arrays must hold the nearest of the given slots."""
        true = self.nearest()
        best = np.sort(true[among])[:_K]
        if count != len(best) or not np.allclose(self.found[:count], best, rtol=1e-4, atol=1e-4):
            raise KernelMismatch(f"{what} disagrees with numpy under metric {self.space.metric}")


def _norms(bench: _Bench) -> None:
    if not np.allclose(bench.norms, 1 / np.linalg.norm(bench.vectors, axis=1), rtol=1e-5):
        raise KernelMismatch("inverse_norms disagrees with numpy")


def _levels(bench: _Bench) -> None:
    draw_levels(0, _N, _M, 42, bench.levels)
    if bench.levels.max() > 6:
        raise KernelMismatch("draw_levels gives levels that are too high")


def _range(bench: _Bench) -> None:
    space, _, work = bench.blocks()
    count = scan_range(_ELEMENT, space, work, 3, _N, 0, bench.slots, bench.found)
    bench.expect("scan_range", count, np.arange(3, _N))


def _list(bench: _Bench) -> None:
    some = bits_to_slots(slots_to_bits(np.arange(0, _N, 3), _N))
    space, _, work = bench.blocks()
    count = scan_list(_ELEMENT, space, work, bench.keep(some), len(some), bench.slots, bench.found)
    bench.expect("scan_list", count, some)


def _insert(bench: _Bench) -> None:
    starts = np.cumsum(bench.levels, dtype=np.uint32) - bench.levels.astype(np.uint32)
    offsets = bench.keep(starts)
    bench.graph = bench.graph._replace(offsets=offsets)
    insert(bench.space, bench.graph, bench.work, bench.builder, 0, _N)


def _mend(bench: _Bench) -> None:
    marks = np.zeros(_N, np.uint8)
    parents, queue = np.empty((2, _N), np.uint32)
    mend(bench.space, bench.graph, bench.work, bench.builder, marks, parents, queue)
    marks[:] = 0
    if flood(bench.graph, int(bench.state[0]), marks, parents, queue) != _N:
        raise KernelMismatch("insert leaves slots that no path reaches")


def _spans(bench: _Bench) -> None:
    order = np.argsort(bench.vectors[:, 0]).astype(np.uint32)
    ranks = np.array([0, 100, 200, _N], np.int64)
    sets = np.stack([slots_to_bits(order[:rank], _N) for rank in ranks[1:]])
    spans = np.array(((3, 7), (90, 215)), np.int64)
    true = slots_to_bits(np.concatenate([order[i:j] for i, j in spans]), _N)
    for fill in (lambda out: flip_spans(order, ranks, sets, spans, out), lambda out: set_spans(order, spans, out)):
        out = np.zeros(len(true), np.uint64)
        fill(out)
        if not np.array_equal(out, true):
            raise KernelMismatch("spans disagree with numpy")
    _stretch(order, ranks, sets, bench)


def _stretch(order: NDArray[np.uint32], ranks: NDArray[np.int64], sets: NDArray[np.uint64], bench: _Bench) -> None:
    keys = np.arange(len(order)) // 2
    at_order, words = bench.keep(order), sets.shape[1]
    fields = StretchFields(
        bench.keep(keys),
        KINDS["i8"],
        len(keys),
        at_order,
        bench.keep(ranks),
        len(sets),
        bench.keep(sets),
        words,
        0,
        bench.keep(np.array([[20, 99]])),
        1,
        0,
        _N,
    )
    ends, listed = np.zeros(2, np.int64), np.zeros(160, np.uint32)
    at, at_ends = bench.keep(np.array(fields, np.int64)), bench.keep(ends)
    count = find_stretch(at, at_ends)
    copy_stretch(at, at_ends, bench.keep(listed))
    lines = -(-words // 8)
    marked, spare = bench.make(_N, np.uint64), bench.make(_N, np.uint64)
    twice = bench.keep(np.array([at, at]))
    joined = join_stretches(twice, 2, 1, at_ends, marked, spare, lines)
    mark_stretch(at, at_ends, marked, lines)
    even = bench.keep(slots_to_bits(np.arange(0, _N, 2), _N))
    both = narrow(marked, even, words)
    true = (160, 160, (order[40:200] % 2 == 0).sum())
    if (count, joined, both) != true or not np.array_equal(listed, order[40:200]):
        raise KernelMismatch("stretches disagree with numpy")


def _search(bench: _Bench) -> None:
    space, graph, work = bench.blocks()
    entry, top = int(bench.state[0]), int(bench.state[1])
    epoch = 1 + int(bench.state[2])
    for apart in (0, 1):
        count = search(
            _ELEMENT, space, graph, _N, work, epoch + apart, entry, top, 200, _N, 0, apart, bench.slots, bench.found
        )
        bench.expect("search", count, np.arange(_N))


class _Job(NamedTuple):
    name: str
    run: Callable[[_Bench], None]


_JOBS = (
    _Job("inverse_norms", _norms),
    _Job("draw_levels", _levels),
    _Job("scan_range", _range),
    _Job("scan_list", _list),
    _Job("spans", _spans),
    _Job("insert", _insert),
    _Job("mend", _mend),
    _Job("search", _search),
)


def warm(report: Callable[[str, float], None] | None = None) -> dict[str, float]:
    """Compile all kernels, or load them from the cache; returns seconds by kernel, in order.

    report: called with a kernel's name and seconds as each is done. Raises KernelMismatch when a result is wrong.
    """
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    benches = [_Bench(metric) for metric in (L2, DOT, COSINE, FUNCTION)]
    for job in _JOBS:
        for bench in benches:
            job.run(bench)
        seconds[job.name] = time.perf_counter() - began
        if report is not None:
            report(job.name, seconds[job.name])
        began = time.perf_counter()
    return seconds
