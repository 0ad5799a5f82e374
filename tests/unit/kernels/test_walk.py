"""The coded walk against a plain walk in Python, in every body, to the last bit of the estimates."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from tests.support import codes_oracle as oracle
from tests.support.other_processor import run_again_on

from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL, aligned
from vicinal.index.coded_effort import Effort
from vicinal.kernels import lines, walk_links
from vicinal.types import Metric, Rows

N = 700
KINDS = [
    ("signs", 384, Metric.COSINE, False),
    ("signs", 100, Metric.DOT, False),
    ("signs", 500, Metric.L2, True),
    ("nibbles", 112, Metric.L2, False),
    ("nibbles", 77, Metric.DOT, False),
    ("nibbles", 150, Metric.COSINE, False),
    ("bytes", 50, Metric.L2, False),
    ("bytes", 1, Metric.L2, False),
    ("bytes", 56, Metric.DOT, False),
]
ONE_PER_CODE = [KINDS[0], KINDS[2], KINDS[3], KINDS[6]]


@functools.cache
def make_index(kind, dim, metric, whole, n=N):
    rows = oracle.make_rows(n + 20, dim, metric, dim, whole=whole)
    links = oracle.make_links(rows, n, metric, dim)
    return CodedIndex.build(rows, n, metric, links, codec=kind), rows, links


def query_of(rows, at, *, whole=False):
    """A row that is not in the graph."""
    query = rows.vectors[N + at] * np.float32(1.01) + np.float32(0.01)
    return np.rint(query) if whole else query


def run(index, query, rows, effort, *, allowed=None, limit=N, hidden=-1, k=10):
    scratch = oracle.fresh_scratch(index)
    packed = effort.pool | effort.stop << 16 | effort.rescore << 32 | effort.settle << 48
    slots, distances = np.zeros(k, np.uint32), np.zeros(k, np.float32)
    scratch.aim(index._arrays, rows, index._bind(rows)[:2], limit, allowed, hidden)
    found = index._walk(query, scratch.call_at, packed, slots, distances)
    return slots[:found], distances[:found], scratch


@njit(cache=False)
def estimate_lines(code, slots, limit, out, work):
    return lines.estimate(code, slots.ctypes.data, slots.shape[0], limit, out.ctypes.data, work.ctypes.data)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
@pytest.mark.parametrize("count", [1, 17, 32])
def test_estimates_equal_numpy(kind, dim, metric, whole, count):
    index, rows, _ = make_index(kind, dim, metric, whole, n=60)
    prepared = oracle.prepare(index, rows.vectors[3])
    codes = index._arrays.lines.bytes
    wanted = oracle.estimates(kind, codes, prepared)
    slots = np.random.default_rng(count).permutation(60)[:count].astype(np.uint32)
    limit = np.float32(np.median(wanted))
    out, work = aligned((32,), np.float32), aligned((lines.WORK_BYTES,), np.uint8)
    query_lines = aligned((256,), np.uint8)
    query_lines[:] = prepared.lines.reshape(-1)
    base, k0, k1 = prepared.numbers[:3]
    for far in (0, (1 << 32) - 61):  # as if the lines were the last of so many, which 32 bits do not address
        first = codes.ctypes.data - far * 64
        if kind == "signs":
            code: Any = lines.SignQuery(first, query_lines.ctypes.data, prepared.scores.ctypes.data, base, k0, k1)
        else:
            make = lines.NibbleQuery if kind == "nibbles" else lines.ByteQuery
            code = make(first, query_lines.ctypes.data, base, k0, k1)
        out[:] = 0
        mask = estimate_lines(code, slots + np.uint32(far), limit, out, work)
        assert (out[:count] == wanted[slots]).all()
        assert mask == sum(1 << at for at, slot in enumerate(slots) if wanted[slot] < limit)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
def test_estimates_follow_distances(kind, dim, metric, whole):
    index, rows, _ = make_index(kind, dim, metric, whole)
    for at in range(5):
        query = query_of(rows, at, whole=whole)
        true = oracle.distances(metric, rows, query, N)
        estimated = oracle.estimates(kind, index._arrays.lines.bytes[:N], oracle.prepare(index, query))
        assert np.corrcoef(true, estimated)[0, 1] > (0.85 if kind == "signs" else 0.98)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS[:3])
def test_row_scores_are_near_exact(kind, dim, metric, whole):
    index, rows, _ = make_index(kind, dim, metric, whole)
    query = query_of(rows, 1, whole=whole)
    true = oracle.distances(metric, rows, query, N)
    assert np.corrcoef(true, oracle.row_scores(index, oracle.prepare(index, query))[:N])[0, 1] > 0.9999


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
@pytest.mark.parametrize("effort", [Effort(32, 5, 12, 12), Effort(64, 26, 24, 24), Effort(320, 290, 40, 48)])
def test_the_walk_takes_the_steps_of_a_plain_walk(kind, dim, metric, whole, effort):
    index, rows, links = make_index(kind, dim, metric, whole)
    arrays = index._arrays
    mask = np.random.default_rng(7).random(N) < 0.5
    bits = np.packbits(np.resize(mask, 704) & (np.arange(704) < N), bitorder="little").view(np.uint64)
    for at, (allowed, limit, hidden) in enumerate(
        [(None, N, -1), (None, N // 2, -1), (bits, N, -1), (None, N, 5), (bits, 90, 17)]
    ):
        query = query_of(rows, at, whole=whole)
        prepared = oracle.prepare(index, query)
        estimates = oracle.estimates(kind, arrays.lines.bytes, prepared)
        exact = oracle.row_scores(index, prepared) if arrays.exact_walk else None
        nodes = index._choice.cell_nodes[prepared.cell]
        entry = int(nodes[estimates[nodes].argmin()])

        def passes(slot, limit=limit, allowed=allowed):
            return slot < limit and (allowed is None or bool(mask[slot]))

        wanted = oracle.walk(links, entry, estimates, exact, effort, passes, hidden=hidden)
        slots, distances, scratch = run(index, query, rows, effort, allowed=allowed, limit=limit, hidden=hidden)
        assert list(scratch.hops) == [wanted.hops, wanted.listed]
        true = oracle.distances(metric, rows, query, N)
        settled = sorted({(true[slot], slot) for _, slot in wanted.results[: max(effort.settle, 10)]})[:10]
        assert np.allclose(distances, [d for d, _ in settled], rtol=1e-4, atol=1e-5)
        assert np.allclose(true[slots], distances, rtol=1e-4, atol=1e-5)
        assert all(passes(int(s)) for s in slots)
        assert hidden not in slots.tolist()
        assert not scratch._arrays["seen"].any(), "the next walk begins with nothing seen"


def test_a_narrow_projection_leaves_nothing_of_the_query_before():
    rng = np.random.default_rng(3)
    thin = rng.standard_normal((N + 20, 90)) @ rng.standard_normal((90, 500))
    rows = Rows(thin.astype(np.float32), np.zeros(0, np.float32))
    links = oracle.make_links(rows, N, Metric.L2, 1)
    index = CodedIndex.build(rows, N, Metric.L2, links, codec="signs")
    assert index.info["projected"] == 128
    codec, lines = index.choice.codec, index._arrays.lines
    for at in range(3):  # in the same scratch memory
        query = query_of(rows, at)
        slots, _ = index.search(query, 10, 150, rows=rows)
        true = oracle.distances(Metric.L2, rows, query, N)
        assert len(set(np.argsort(true)[:10]) & set(slots.tolist())) >= 9
        prepared = oracle.prepare(index, query)
        framed = query[None] * np.float32(index._frame.scale) - index._frame.query_shift[None, :500]
        plain = codec.estimate(index._frame, index.choice.cells, framed, lines)[0, :N]
        assert np.corrcoef(plain, oracle.estimates("signs", lines.bytes[:N], prepared))[0, 1] > 0.99


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), ONE_PER_CODE)
def test_nothing_is_written_beyond_the_scratch_memory_a_walk_was_promised(kind, dim, metric, whole):
    index, rows, _ = make_index(kind, dim, metric, whole)
    effort = Effort(64, 60, 48, 48)
    pool, results = effort.pool, 72
    scratch = oracle.fresh_scratch(index, pool=pool, results=results)
    held = {name: array[0] for name, array in scratch._arrays.items()}
    guard = held["listed"].view(np.uint8)[-32:]
    guard[:] = 0xA5
    packed = pool | effort.stop << 16 | effort.rescore << 32 | effort.settle << 48
    slots, distances = np.zeros(10, np.uint32), np.zeros(10, np.float32)
    scratch.aim(index._arrays, rows, index._bind(rows)[:2], N)
    for i in range(20):
        index._walk(query_of(rows, i), scratch.call_at, packed, slots, distances)
        assert scratch.hops[1] <= (pool + 2) * 32
    assert (guard == 0xA5).all()
    assert (held["pool"][:8] == -(1 << 63)).all()


@njit(cache=False)
def unseen(links, seen, out):
    return walk_links.unseen_links(links.ctypes.data, seen.ctypes.data, out.ctypes.data)


@pytest.mark.parametrize("degree", [0, 1, 16, 31, 32])
def test_unseen_links_come_in_order_without_sentinels(degree):
    rng = np.random.default_rng(degree)
    links = np.full(32, SENTINEL, np.uint32)
    links[:degree] = rng.permutation(1000)[:degree]
    marks = rng.random(1024) < 0.5
    seen = np.packbits(marks, bitorder="little").view(np.int64)
    out = np.zeros(96, np.uint32)
    wanted = [slot for slot in links[:degree] if not marks[slot]]
    assert unseen(links, seen, out) == len(wanted)
    assert list(out[: len(wanted)]) == wanted


@pytest.mark.parametrize("many", [True, False])
def test_marks_are_cleared_either_way(many):
    words = 16
    seen = aligned((words,), np.int64)
    slots = np.arange(0, 1024, 3 if many else 700).astype(np.uint32)

    @njit(cache=False)
    def cycle(seen, slots):
        for slot in slots:
            walk_links.mark_seen(seen.ctypes.data, np.int64(slot))
        marked = seen.copy()
        walk_links.clear_seen(seen.ctypes.data, seen.shape[0], slots.ctypes.data, slots.shape[0])
        return marked

    marked = cycle(seen, slots)
    assert (np.flatnonzero(np.unpackbits(marked.view(np.uint8), bitorder="little")) == slots).all()
    assert not seen.any()


@pytest.mark.parametrize("name", ["haswell", pytest.param("x86-64", marks=pytest.mark.full)])
def test_other_bodies_take_the_same_steps(name, tmp_path):
    """A fresh process that compiles for another processor runs these tests again; numpy's answers are the same."""
    here = Path(__file__)
    batches = here.parents[1] / "index" / "test_coded_batch.py"
    run_again_on(name, tmp_path, here, here.with_name("test_vnni.py"), batches)
