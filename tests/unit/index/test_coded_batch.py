"""A share of a batch gives the answers that each query gets alone, under bits of its own too."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tests.support import codes_oracle as oracle

from vicinal.errors import InvalidArgument
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_batch import search_share
from vicinal.types import Metric

N, K, EF = 700, 10, 48
KINDS = [
    (Metric.COSINE, "signs", 96, False),
    (Metric.L2, "signs", 100, True),
    (Metric.L2, "nibbles", 96, False),
    (Metric.DOT, "bytes", 40, False),
]


@functools.cache
def make(metric, codec, dim, whole):
    rows = oracle.make_rows(N + 40, dim, metric, 1, whole=whole)
    links = oracle.make_links(rows, N, metric, 2)
    return CodedIndex.build(rows, N, metric, links, codec=codec), rows


def asked(rows, count):
    """Rows outside the graph; every third falls between whole numbers."""
    queries = rows.vectors[N : N + count].copy()
    queries[::3] += np.float32(0.25)
    return queries


def share(index, rows, queries, start, stop, **options):
    return share_of(index, rows, queries, start, stop, **options)[:3]


def share_of(index, rows, queries, start, stop, *, allowed=None, limit=N):
    n = len(queries)
    slots, distances = np.full((n, K), 7, np.uint32), np.full((n, K), -1, np.float32)
    counts = np.full(n, -1, np.int64)
    unsure = search_share(
        index, queries, EF, start, stop, rows=rows, limit=limit, allowed=allowed,
        slots=slots, distances=distances, counts=counts,
    )  # fmt: skip
    return slots, distances, counts, unsure


def bits_of(mask):
    return np.packbits(np.resize(mask, 704) & (np.arange(704) < N), bitorder="little").view(np.uint64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 4), (2, 4), (0, 33)])
def test_a_share_answers_as_each_query_alone(kind, start, stop):
    index, rows = make(*kind)
    queries = asked(rows, 33)
    slots, distances, counts = share(index, rows, queries, start, stop)
    for row in range(33):
        if not start <= row < stop:
            assert (slots[row] == 7).all()
            assert counts[row] == -1
            continue
        alone, near = index.search(queries[row], K, EF, rows=rows)
        assert (slots[row] == alone).all()
        assert (distances[row] == near).all()
        assert counts[row] == K


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_tells_how_many_queries_are_not_sure(kind):
    index, rows = make(*kind)
    queries = asked(rows, 20)
    assert share_of(index, rows, queries, 0, 20)[3] == 0
    for row, bad in ((0, np.nan), (9, np.inf), (19, -np.inf)):
        queries[row, 3] = bad
    *found, unsure = share_of(index, rows, queries, 0, 20)
    assert unsure == 3
    assert share_of(index, rows, queries, 1, 19)[3] == 1
    for row in (1, 8, 18):
        alone, _ = index.search(queries[row], K, EF, rows=rows)
        assert (found[0][row] == alone).all(), "the others' answers do not suffer"


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_may_have_bits_of_its_own(kind):
    index, rows = make(*kind)
    queries = asked(rows, 12)
    rng = np.random.default_rng(5)
    each = [None if row % 4 == 2 else bits_of(rng.random(N) < 0.5) for row in range(12)]
    before, _ = index.search(queries[0], K, EF, rows=rows, limit=N - 60)
    slots, distances, counts = share(index, rows, queries, 0, 12, allowed=each, limit=N - 60)
    after, _ = index.search(queries[0], K, EF, rows=rows, limit=N - 60)
    assert (after == before).all(), "no row's bits remain"
    for row, bits in enumerate(each):
        alone, near = index.search(queries[row], K, EF, rows=rows, limit=N - 60, allowed=bits)
        assert (slots[row, : counts[row]] == alone).all()
        assert (distances[row, : counts[row]] == near).all()
    common = bits_of(rng.random(N) < 0.3)
    slots, _, counts = share(index, rows, queries, 0, 12, allowed=common)
    for row in range(12):
        alone, _ = index.search(queries[row], K, EF, rows=rows, allowed=common)
        assert (slots[row, : counts[row]] == alone).all()


def test_rows_bits_are_checked():
    index, rows = make(*KINDS[0])
    queries = asked(rows, 4)
    with pytest.raises(InvalidArgument, match="each of 4 queries"):
        share(index, rows, queries, 0, 4, allowed=[None] * 3)
    with pytest.raises(InvalidArgument, match="a bit for each"):
        share(index, rows, queries, 0, 4, allowed=[None, np.zeros(2, np.uint64), None, None])
