"""The coded index as its callers see it."""

from __future__ import annotations

import functools
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from tests.support import codes_oracle as oracle
from tests.support.vectors_oracle import METRICS

from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL
from vicinal.types import Metric, Rows

N = 1500
CODES = [
    (Metric.COSINE, "signs", 96),
    (Metric.L2, "nibbles", 96),
    (Metric.DOT, "bytes", 40),
    (Metric.L2, "signs", 40),
]


@functools.cache
def graph(metric, dim, whole=False, n=N):
    rows = oracle.make_rows(n, dim, metric, 1, whole=whole, capacity=n + 300)
    return rows, oracle.make_links(rows, n + 200, metric, 2)


def build(metric=Metric.COSINE, codec="signs", dim=96, *, whole=False, n=N):
    rows, links = graph(metric, dim, whole, n)
    short = links[:n].copy()
    short[short >= n] = SENTINEL
    short = np.sort(short, axis=1)
    return CodedIndex.build(rows, n, metric, short, codec=codec), rows


def queries(rows, count=40, n=N):
    return [rows.vectors[n + 220 + i] + np.float32(0.02) for i in range(count)]


def true_nearest(metric, rows, query, n, k=10, keep=None):
    d = oracle.distances(metric, rows, query, n)
    if keep is not None:
        d = np.where(keep[:n], d, np.inf)
    order = np.argsort(d, kind="stable")[:k]
    return order[d[order] < np.inf], d


@pytest.mark.parametrize(("metric", "codec", "dim"), CODES)
def test_finds_the_nearest_with_exact_distances(metric, codec, dim):
    index, rows = build(metric, codec, dim)
    recall = []
    for query in queries(rows):
        slots, found = index.search(query, 10, 100, rows=rows)
        order, d = true_nearest(metric, rows, query, N)
        recall.append(len(set(slots.tolist()) & set(order.tolist())) / 10)
        assert slots.dtype == np.uint32
        assert found.dtype == np.float32
        assert (np.diff(found) >= 0).all()
        assert np.allclose(found, d[slots], rtol=1e-4, atol=1e-5)
    assert np.mean(recall) > 0.95


def test_whole_numbers_are_settled_exactly_as_integers():
    index, rows = build(Metric.L2, "signs", 100, whole=True)
    assert index.info["whole_numbers"]
    wrong = Rows(np.zeros_like(rows.vectors), rows.inv_norms)  # not read: the bytes are exact
    for i in range(10):
        query = np.rint(rows.vectors[N + 220 + i] * 0.9)
        slots, found = index.search(query, 10, 80, rows=wrong)
        wanted = ((rows.vectors[slots].astype(np.int64) - query.astype(np.int64)) ** 2).sum(1)
        assert (found == wanted).all()


@pytest.mark.parametrize(("codec", "dim"), [("auto", 100), ("nibbles", 100), ("auto", 40), ("auto", 200)])
def test_whole_numbers_under_every_code(codec, dim):
    index, rows = build(Metric.L2, codec, dim, whole=True)
    recall = []
    for i in range(20):
        query = np.rint(rows.vectors[N + 220 + i] * 0.95)
        slots, found = index.search(query, 10, 100, rows=rows)
        order, d = true_nearest(Metric.L2, rows, query, N)
        assert np.allclose(found, d[slots], rtol=1e-6)
        recall.append(len(set(slots.tolist()) & set(order.tolist())) / 10)
    assert np.mean(recall) > 0.9


def test_queries_that_are_not_whole_are_settled_on_the_floats():
    index, rows = build(Metric.L2, "signs", 100, whole=True)
    for scale in (1.0, 1.2, 0.9):
        query = rows.vectors[N + 230] * np.float32(scale) + np.float32(0.25)
        slots, found = index.search(query, 10, 80, rows=rows)
        order, d = true_nearest(Metric.L2, rows, query, N)
        assert np.allclose(found, d[slots], rtol=1e-5)
        assert len(set(slots.tolist()) & set(order.tolist())) >= 7


def test_whole_numbers_about_zero_are_kept_too():
    rows, links = graph(Metric.L2, 60, True)
    moved = Rows(rows.vectors - 128, rows.inv_norms)
    index = CodedIndex.build(moved, N, Metric.L2, np.where(links[:N] >= N, SENTINEL, links[:N]), codec="signs")
    assert index.info["whole_numbers"]
    query = moved.vectors[N + 230]
    slots, found = index.search(query, 10, 80, rows=moved)
    assert (found == ((moved.vectors[slots] - query) ** 2).sum(1)).all()


@pytest.mark.parametrize(("metric", "codec", "dim"), CODES)
def test_a_filter_and_a_limit_mask_the_results_only(metric, codec, dim):
    index, rows = build(metric, codec, dim)
    keep = np.random.default_rng(3).random(N) < 0.4
    bits = np.packbits(np.resize(keep, 1536) & (np.arange(1536) < N), bitorder="little").view(np.uint64)
    recall = []
    for query in queries(rows, 20):
        slots, _ = index.search(query, 10, 200, rows=rows, allowed=bits)
        assert keep[slots].all()
        order, _ = true_nearest(metric, rows, query, N, keep=keep)
        recall.append(len(set(slots.tolist()) & set(order.tolist())) / 10)
        assert (index.search(query, 10, 200, rows=rows, limit=700)[0] < 700).all()
    assert np.mean(recall) > 0.9
    assert len(index.search(query, 10, 64, rows=rows, limit=0)[0]) == 0


@pytest.mark.parametrize(("metric", "codec", "dim"), CODES)
def test_appended_rows_are_found_once_linked(metric, codec, dim):
    index, rows = build(metric, codec, dim)
    _, links = graph(metric, dim)
    index.append(rows, N, N + 150)
    assert index.n == N + 150
    query = rows.vectors[N + 3]
    assert (index.search(query, 10, 100, rows=rows)[0] < N).all(), "nothing leads there yet"
    some = links[: N + 150].copy()
    some[some >= N + 150] = SENTINEL
    index.patch_links(np.arange(N + 150, dtype=np.uint32), np.sort(some, axis=1))
    recall = []
    for at in range(20):
        query = rows.vectors[N + at] * np.float32(1.01)
        slots, _ = index.search(query, 10, 100, rows=rows)
        order, _ = true_nearest(metric, rows, query, N + 150)
        recall.append(len(set(slots.tolist()) & set(order.tolist())) / 10)
        assert (index.search(query, 10, 100, rows=rows, limit=N)[0] < N).all()
    assert np.mean(recall) > 0.93


def test_rows_that_are_not_whole_end_exactness_not_correctness():
    index, rows = build(Metric.L2, "signs", 100, whole=True)
    odd = Rows(rows.vectors.copy(), rows.inv_norms)
    odd.vectors[N : N + 10] += np.float32(0.25)
    odd.vectors[N : N + 10, 0] = 300
    index.append(odd, N, N + 10)
    assert not index.info["whole_numbers"]
    query = odd.vectors[N + 230]
    slots, found = index.search(query, 10, 80, rows=odd)
    assert np.allclose(found, ((odd.vectors[slots] - query) ** 2).sum(1), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 9, 33])
@pytest.mark.parametrize(("metric", "codec", "dim"), [(Metric.COSINE, "signs", 1), *CODES])
def test_the_smallest_indexes_return_everything(metric, codec, dim, n):
    rows = oracle.make_rows(n, dim, metric, n)
    ring = np.full((n, 32), SENTINEL, np.uint32)
    ring[:, 0] = (np.arange(n) + 1) % n
    index = CodedIndex.build(rows, n, metric, ring, codec=codec)
    slots, found = index.search(rows.vectors[0], 50, 64, rows=rows)
    assert sorted(slots.tolist()) == list(range(n))
    assert np.isfinite(found).all()


def test_equal_rows_do_no_harm():
    rows = Rows(np.ones((100, 20), np.float32), np.full(100, 20**-0.5, np.float32))
    ring = ((np.arange(100)[:, None] + np.arange(1, 33)) % 100).astype(np.uint32)
    for metric in METRICS:
        index = CodedIndex.build(rows, 100, metric, ring)
        slots, found = index.search(rows.vectors[0], 10, 64, rows=rows)
        assert len(set(slots.tolist())) == 10
        assert (found == found[0]).all()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("metric", METRICS)
def test_tiny_and_huge_numbers_are_scaled(metric, scale):
    rows, links = graph(metric, 96)
    big = Rows(rows.vectors * np.float32(scale), rows.inv_norms / np.float32(scale))
    index = CodedIndex.build(big, N, metric, np.where(links[:N] >= N, SENTINEL, links[:N]), codec="signs")
    recall = []
    for query in queries(rows, 10):
        slots, _ = index.search(query * np.float32(scale), 10, 100, rows=big)
        recall.append(len(set(slots.tolist()) & set(true_nearest(metric, rows, query, N)[0].tolist())) / 10)
    assert np.mean(recall) > 0.9


def test_threads_search_while_one_appends_and_links():
    index, rows = build(Metric.COSINE, "signs", 96)
    _, links = graph(Metric.COSINE, 96)
    wrong: list[str] = []
    stop = threading.Event()

    def read():
        at = 0
        while not stop.is_set():
            at += 1
            query = rows.vectors[at % (N + 200)]
            limit = index.n
            slots, found = index.search(query, 10, 64, rows=rows, limit=limit)
            true = oracle.distances(Metric.COSINE, rows, query, N + 200)[slots]
            if (slots >= limit).any() or not np.allclose(found, true, atol=1e-5) or len(set(slots.tolist())) != 10:
                wrong.append(f"{slots} {found} {true}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(N, N + 200, 10):
        index.append(rows, start, start + 10)
        some = links[: start + 10].copy()
        some[some >= start + 10] = SENTINEL
        changed = np.unique(np.concatenate([np.arange(start, start + 10), some[start : start + 10].reshape(-1)]))
        changed = changed[changed < start + 10].astype(np.uint32)
        index.patch_links(changed, np.sort(some[changed], axis=1))
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong, wrong[:3]


@pytest.mark.parametrize(("metric", "dim"), [(Metric.COSINE, 96), (Metric.L2, 398), (Metric.DOT, 97)])
def test_sixteen_bits_a_dimension_settle_without_the_floats(metric, dim):
    rows, links = graph(metric, dim)
    short = np.where(links[:N] >= N, SENTINEL, links[:N])
    index = CodedIndex.build(rows, N, metric, short, codec="signs", fine=True)
    assert index.info["fine"]
    index.append(rows, N, N + 200)
    index.patch_links(np.arange(N + 200, dtype=np.uint32), links)
    unread = Rows(np.full_like(rows.vectors, np.nan), rows.inv_norms)
    recall, met = [], 0
    for query in queries(rows, 20):
        slots, found = index.search(query, 10, 150, rows=unread)
        settled = np.isfinite(found)  # the others are too near or too far for 16 bits
        slots, found = slots[settled], found[settled]
        met += len(found)
        true = oracle.distances(metric, rows, query, N + 200)
        square = 1 if metric is Metric.COSINE else (rows.vectors.astype(np.float64) ** 2).sum(1).max()
        assert np.allclose(found, true[slots], atol=1e-5 * square, rtol=1e-5)
        slots, _ = index.search(query, 10, 150, rows=rows)
        recall.append(len(set(slots.tolist()) & set(np.argsort(true)[:10].tolist())) / 10)
    assert met > 80
    assert np.mean(recall) > 0.93


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE, Metric.DOT])
def test_rows_led_by_one_dimension_are_settled_on_the_floats(metric):
    rows, links = graph(metric, 96)
    vectors = rows.vectors.copy()
    vectors[np.arange(len(vectors)), np.arange(len(vectors)) % 7] += 30
    lengths = np.linalg.norm(vectors, axis=1)
    rows = Rows(vectors, (1 / lengths).astype(np.float32) if metric is Metric.COSINE else rows.inv_norms)
    index = CodedIndex.build(rows, N, metric, np.where(links[:N] >= N, SENTINEL, links[:N]), codec="signs")
    assert index.info["fine"]
    square = 1 if metric is Metric.COSINE else lengths.max() ** 2
    for query in vectors[N : N + 40]:
        slots, found = index.search(query, 10, 64, rows=rows)
        true = oracle.distances(metric, rows, query, N)[slots]
        assert np.abs(found - true).max() <= 1e-6 * square


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
def test_rows_near_the_query_are_settled_on_the_floats(metric):
    index, rows = build(metric, "signs", 96)
    assert index.info["fine"]
    met = 0
    for at in range(20):
        for query in (rows.vectors[at], rows.vectors[at] + np.float32(0.001) * rows.vectors[at + 1]):
            slots, found = index.search(query, 10, 64, rows=rows)
            true = oracle.distances(metric, rows, query, N)[slots]
            near = slots == at
            met += near.sum()
            assert np.allclose(found[near], true[near], rtol=1e-4, atol=2e-7 if metric is Metric.COSINE else 0)
    assert met > 20


def test_whole_numbers_and_links_alone_need_no_second_byte():
    assert not build(Metric.L2, "signs", 100, whole=True)[0].info["fine"]
    assert not build(Metric.L2, "nibbles", 96)[0].info["fine"]


def test_the_next_search_knows_that_rows_are_no_longer_whole():
    rows = oracle.make_rows(N + 10, 100, Metric.L2, 1, whole=True)
    links = oracle.make_links(rows, N, Metric.L2, 2)
    index = CodedIndex.build(rows, N, Metric.L2, links, codec="signs", capacity=N + 10)
    rows.vectors[N] = rows.vectors[0] + np.float32(0.25)
    index.search(rows.vectors[0], 10, 64, rows=rows, limit=N + 1)
    index.append(rows, N, N + 1)
    links[:, 0] = N
    index.patch_links(np.arange(N, dtype=np.uint32), links)
    slots, found = index.search(rows.vectors[0], 10, 64, rows=rows, limit=N + 1)
    assert found[slots == N] == pytest.approx(6.25)


def test_growth_leaves_old_arrays_alone():
    index, rows = build(Metric.COSINE, "signs", 96)
    old = index._arrays
    before = old.rows.bytes.copy(), old.lines.bytes.copy()
    index.append(rows, N, N + 200)
    assert index._arrays is not old
    assert (old.rows.bytes == before[0]).all()
    assert (old.lines.bytes == before[1]).all()
    assert index.memory_bytes > old.memory_bytes


def test_memory_is_a_line_a_head_links_and_two_bytes_a_dimension():
    index, _ = build(Metric.COSINE, "signs", 96)
    per_node = 64 + 64 + 128 + 128 + 128
    assert per_node * N <= index.memory_bytes < per_node * N + 200_000
    index, _ = build(Metric.L2, "nibbles", 96)
    assert 192 * N <= index.memory_bytes < 192 * N + 200_000


def test_bad_arguments_are_refused():
    index, rows = build(Metric.COSINE, "signs", 96)
    query = rows.vectors[0]
    with pytest.raises(InvalidVector, match="96 dimensions"):
        index.search(query[:50], 10, 64, rows=rows)
    with pytest.raises(InvalidVector, match="96 dimensions"):
        index.search(query, 10, 64, rows=Rows(np.zeros((N, 95), np.float32), np.zeros(N, np.float32)))
    with pytest.raises(InvalidVector, match="norms"):
        index.search(query, 10, 64, rows=Rows(rows.vectors, np.zeros(3, np.float32)))
    with pytest.raises(InvalidVector, match="whole rows"):
        index.search(query, 10, 64, rows=Rows(rows.vectors[:, ::-1], rows.inv_norms))
    with pytest.raises(LimitExceeded, match="k is 1"):
        index.search(query, 0, 64, rows=rows)
    with pytest.raises(LimitExceeded, match="ef is 1"):
        index.search(query, 10, 5000, rows=rows)
    with pytest.raises(InvalidArgument, match="rows hold"):
        index.search(query, 10, 64, rows=rows, limit=len(rows.vectors) + 1)
    with pytest.raises(InvalidArgument, match="allowed"):
        index.search(query, 10, 64, rows=rows, allowed=np.zeros(3, np.uint64))
    with pytest.raises(InvalidArgument, match="allowed"):
        index.search(query, 10, 64, rows=rows, allowed=np.zeros(100, np.int64))
    with pytest.raises(InvalidArgument, match="append begins"):
        index.append(rows, 5, 10)
    bad = np.full((1, 32), SENTINEL, np.uint32)
    bad[0, 3] = N
    with pytest.raises(InvalidArgument, match="slots below"):
        index.patch_links(np.array([0], np.uint32), bad)
    with pytest.raises(InvalidArgument, match="links are"):
        index.patch_links(np.array([0], np.uint32), bad[:, :16])
    with pytest.raises(InvalidArgument, match="codec"):
        CodedIndex.build(rows, N, Metric.COSINE, np.zeros((N, 32), np.uint32), codec="pq")
    with pytest.raises(InvalidArgument, match="at least one row"):
        CodedIndex.build(rows, 0, Metric.COSINE, np.zeros((0, 32), np.uint32))


def test_a_query_of_another_dtype_or_stride_is_converted():
    index, rows = build(Metric.COSINE, "signs", 96)
    query = rows.vectors[7]
    wanted = index.search(query, 10, 64, rows=rows)[0]
    wide = np.zeros((96, 2), np.float64)
    wide[:, 0] = query
    assert (index.search(wide[:, 0], 10, 64, rows=rows)[0] == wanted).all()


def test_a_slot_linked_twice_is_returned_once():
    rows, links = graph(Metric.COSINE, 96)
    twice = np.where(links[:N] >= N, SENTINEL, links[:N])
    twice[:, 26:32] = twice[:, :6]
    index = CodedIndex.build(rows, N, Metric.COSINE, twice, codec="signs")
    for query in queries(rows, 10):
        slots, _ = index.search(query, 10, 100, rows=rows)
        assert len(set(slots.tolist())) == len(slots)


@pytest.mark.parametrize(("metric", "codec", "dim"), CODES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0])
def test_the_worst_queries_are_refused_and_leave_the_index_usable(metric, codec, dim, value):
    index, rows = build(metric, codec, dim)
    one = rows.vectors[0].copy()
    one[1] = value
    all_alike = np.full(dim, value, np.float32)
    for query, refused in ((one, value != 0), (all_alike, value != 0 or metric is Metric.COSINE)):
        with pytest.raises(InvalidVector) if refused else nullcontext():
            index.search(query, 10, 64, rows=rows)
    slots, _ = index.search(rows.vectors[5], 10, 200, rows=rows)
    order, _ = true_nearest(metric, rows, rows.vectors[5], N)
    assert len(set(slots.tolist()) & set(order.tolist())) >= 7


def test_large_k_is_found():
    index, rows = build(Metric.COSINE, "signs", 96)
    query = queries(rows, 1)[0]
    slots, found = index.search(query, 300, 64, rows=rows)
    assert len(set(slots.tolist())) == len(slots) >= 295
    order, _ = true_nearest(Metric.COSINE, rows, query, N, 300)
    assert len(set(slots.tolist()) & set(order.tolist())) > 260
    assert (np.diff(found) >= 0).all()
