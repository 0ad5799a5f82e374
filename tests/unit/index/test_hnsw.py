from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.support.vectors_oracle import FLOAT_METRICS, clustered, nearest, recall, rows_of

from vicinal.index import scratch
from vicinal.index.check import check_graph, self_recall
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import HnswParams, Metric, Rows

FAST = HnswParams(M=16, ef_construction=100)


def _built(metric: Metric, vectors: np.ndarray, params: HnswParams = FAST) -> tuple[HnswIndex, Rows]:
    rows = rows_of(metric, vectors)
    index = HnswIndex(metric, vectors.shape[1], params)
    index.extend(rows, len(vectors))
    return index, rows


def _recall(index, metric, rows, queries, n, *, k=10, ef=100, allowed=None, limit=None) -> float:
    among = np.arange(n) if allowed is None else allowed
    bits = None if allowed is None else slots_to_bits(allowed, n)
    total = 0.0
    for query in queries:
        slots, distances = search_graph(index.picture(), metric, rows, query, k, ef, limit=limit or n, allowed=bits)
        expected, _ = nearest(metric, rows.vectors[:n], query, k, among)
        assert len(np.unique(slots)) == len(slots)
        assert (np.diff(distances) >= 0).all()
        assert np.isin(slots, among).all()
        total += recall(slots, expected)
    return total / len(queries)


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("dim", [*range(1, 18), 50, 384, 784])
def test_every_dimension(metric, dim):
    n = 300 if dim < 384 else 150
    vectors = clustered(n + 5, dim, dim)
    index, rows = _built(metric, vectors[:n])
    report = check_graph(index.picture())
    assert not report.problems
    if dim > 1 or metric is Metric.L2:  # on a line, cosine and dot tie almost everywhere
        assert _recall(index, metric, rows, vectors[n:], n) >= 0.95


@pytest.mark.parametrize("metric", FLOAT_METRICS)
def test_recall_and_order_at_size(metric):
    vectors = clustered(4100, 32, 5)
    index, rows = _built(metric, vectors[:4000])
    assert not check_graph(index.picture()).problems
    assert _recall(index, metric, rows, vectors[4000:], 4000, ef=150) >= 0.95
    least = 0.97 if metric is Metric.DOT else 0.999  # no triangle inequality: short vectors are hard to come by
    assert self_recall(index.picture(), metric, rows, np.arange(0, 4000, 7, dtype=np.uint32)) >= least


@pytest.mark.parametrize("metric", FLOAT_METRICS)
def test_distances_are_those_of_the_metric(metric):
    vectors = clustered(500, 20, 6)
    index, rows = _built(metric, vectors)
    slots, distances = search_graph(index.picture(), metric, rows, vectors[7], 10, 200, limit=500)
    expected, true = nearest(metric, vectors, vectors[7], 10)
    assert slots.tolist() == expected.tolist()
    np.testing.assert_allclose(distances, true, rtol=1e-4, atol=1e-4)


def test_nothing_and_one():
    rows = rows_of(Metric.L2, np.ones((1, 3), np.float32))
    index = HnswIndex(Metric.L2, 3, FAST)
    query = np.zeros(3, np.float32)
    assert len(search_graph(index.picture(), Metric.L2, rows, query, 5, 10, limit=0)[0]) == 0
    assert len(search_graph(index.picture(), Metric.L2, rows, query, 5, 10, limit=1)[0]) == 0
    assert not check_graph(index.picture()).problems
    index.extend(rows, 0)
    assert index.mend(rows) == 0
    index.extend(rows, 1)
    slots, distances = search_graph(index.picture(), Metric.L2, rows, query, 5, 10, limit=1)
    assert (slots.tolist(), distances.tolist()) == ([0], [3.0])
    assert not check_graph(index.picture()).problems


@pytest.mark.parametrize("k", [1, 9, 300, 5000])
@pytest.mark.parametrize("ef", [1, 7, 64])
def test_k_above_ef_and_above_n(k, ef):
    vectors = clustered(300, 8, 7)
    index, rows = _built(Metric.L2, vectors)
    slots, _ = search_graph(index.picture(), Metric.L2, rows, vectors[0], k, ef, limit=300)
    assert len(slots) == min(k, 300)
    assert slots[0] == 0


@pytest.mark.parametrize("M", [2, 3, 5, 128])
def test_few_and_many_links(M):
    vectors = clustered(1000, 12, 8)
    index, rows = _built(Metric.L2, vectors, HnswParams(M=M, ef_construction=40))
    assert not check_graph(index.picture()).problems
    assert _recall(index, Metric.L2, rows, vectors[:40], 1000, ef=200) >= (0.9 if M < 5 else 0.99)


@pytest.mark.parametrize("kind", ["line", "grid", "same", "tiny", "huge"])
def test_awkward_geometry(kind):
    n = 400
    vectors = {
        "line": np.arange(n, dtype=np.float32)[:, None] * np.ones(4, np.float32),
        "grid": np.stack(np.meshgrid(*[np.arange(20, dtype=np.float32)] * 2), -1).reshape(-1, 2),
        "same": np.ones((n, 4), np.float32),
        "tiny": np.float32(1e-30) * clustered(n, 4, 1),
        "huge": np.float32(1e20) * clustered(n, 4, 1),
    }[kind]
    index, rows = _built(Metric.L2, vectors)
    assert not check_graph(index.picture()).problems
    slots, distances = search_graph(index.picture(), Metric.L2, rows, vectors[200], 400, 400, limit=n)
    assert sorted(slots.tolist()) == list(range(n))
    assert distances[0] == 0


def test_insertion_order_from_sorted_data_leaves_no_slot_behind():
    vectors = np.sort(clustered(3000, 6, 9), axis=0)
    index, rows = _built(Metric.L2, vectors, HnswParams(M=4, ef_construction=20))
    assert not check_graph(index.picture()).problems
    assert self_recall(index.picture(), Metric.L2, rows, np.arange(3000, dtype=np.uint32)) >= 0.999


# --- exact copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("M", [2, 16])
def test_a_thousand_copies_harm_nobody(metric, M):
    n, copies = 5000, 1000
    vectors = clustered(n + 50, 24, 10)
    queries = vectors[n:]
    rng = np.random.default_rng(0)
    where = np.sort(rng.permutation(n)[:copies])
    with_copies = vectors[:n].copy()
    with_copies[where] = vectors[where[0]]
    params = HnswParams(M=M, ef_construction=100)
    plain, plain_rows = _built(metric, vectors[:n], params)
    index, rows = _built(metric, with_copies, params)
    assert not check_graph(index.picture()).problems
    before = _recall(plain, metric, plain_rows, queries, n)
    assert _recall(index, metric, rows, queries, n) >= before - 0.03  # other neighbours, other luck
    found, distances = search_graph(index.picture(), metric, rows, vectors[where[0]], n, n, limit=n)
    place = {int(s): i for i, s in enumerate(found)}
    assert all(s in place for s in where.tolist())
    same = distances[place[int(where[0])]]
    assert (distances[[place[s] for s in where.tolist()]] == same).all()


def test_all_copies_are_found_when_k_allows():
    vectors = clustered(3000, 16, 11)
    vectors[500:2500:2] = vectors[500]
    index, rows = _built(Metric.L2, vectors)
    slots, distances = search_graph(index.picture(), Metric.L2, rows, vectors[500], 1000, 1000, limit=3000)
    assert sorted(slots.tolist()) == list(range(500, 2500, 2))
    assert not distances.any()


def test_zero_rows_are_copies_of_each_other_under_cosine():
    """A slot without a vector holds zeros: thousands of those must cost nothing and hide nothing."""
    vectors = clustered(2000, 16, 12)
    vectors[::2] = 0
    index, rows = _built(Metric.COSINE, vectors)
    assert not check_graph(index.picture()).problems
    odd = np.arange(1, 2000, 2)
    assert _recall(index, Metric.COSINE, rows, clustered(30, 16, 13), 2000, allowed=odd) >= 0.95


# --- what may be returned -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("share", [0.999, 0.5, 0.1, 0.02])
def test_disallowed_slots_are_routed_through(metric, share):
    n = 4000
    vectors = clustered(n + 30, 24, 14)
    index, rows = _built(metric, vectors[:n])
    some = np.flatnonzero(np.random.default_rng(1).random(n) < share)
    assert _recall(index, metric, rows, vectors[n:], n, allowed=some) >= 0.95


def test_as_many_results_as_are_alive():
    """hnswlib's defect: the beam ends on dead nodes and brings too few."""
    n = 2000
    vectors = clustered(n, 16, 15)
    index, rows = _built(Metric.L2, vectors)
    query = vectors[3]
    order, _ = nearest(Metric.L2, vectors, query, n)
    alive = order[1500:]  # everything near the query is dead
    slots, _ = search_graph(index.picture(), Metric.L2, rows, query, 10, 20, limit=n, allowed=slots_to_bits(alive, n))
    assert slots.tolist() == order[1500:1510].tolist()


def test_none_allowed():
    vectors = clustered(200, 8, 16)
    index, rows = _built(Metric.L2, vectors)
    found = search_graph(index.picture(), Metric.L2, rows, vectors[0], 5, 20, limit=200, allowed=np.zeros(4, np.uint64))
    assert len(found[0]) == len(found[1]) == 0


def test_the_entry_point_may_be_dead():
    vectors = clustered(500, 8, 17)
    index, rows = _built(Metric.L2, vectors)
    picture = index.picture()
    others = np.delete(np.arange(500), picture.entry)
    slots, _ = search_graph(
        picture, Metric.L2, rows, vectors[picture.entry], 499, 499, limit=500, allowed=slots_to_bits(others, 500)
    )
    assert sorted(slots.tolist()) == others.tolist()


@pytest.mark.parametrize("limit", [1, 100, 1500, 1999, 2000])
def test_slots_beyond_the_limit_are_never_returned(limit):
    vectors = clustered(2030, 16, 18)
    index, rows = _built(Metric.L2, vectors[:2000])
    among = np.arange(limit)
    for query in vectors[2000:]:
        slots, _ = search_graph(index.picture(), Metric.L2, rows, query, 10, 100, limit=limit)
        expected, _ = nearest(Metric.L2, vectors, query, 10, among)
        assert len(slots) == min(10, limit)
        assert recall(slots, expected) >= 0.8
        assert (slots < limit).all()


# --- readers beside the writer --------------------------------------------------------------------


def test_an_old_picture_stays_searchable_while_the_graph_grows():
    vectors = clustered(6000, 16, 19)
    rows = rows_of(Metric.L2, vectors)
    index = HnswIndex(Metric.L2, 16, FAST)
    index.extend(rows, 1500)
    picture, few = index.picture(), Rows(vectors[:2000], rows.inv_norms)
    queries = clustered(200, 16, 20)
    problems: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for query in queries:
                slots, distances = search_graph(picture, Metric.L2, few, query, 10, 60, limit=1500)
                if len(slots) != 10 or (slots >= 1500).any() or (np.diff(distances) < 0).any():
                    problems.append(f"{slots} {distances}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    index.extend(rows, 6000)
    done.set()
    for reader in readers:
        reader.join()
    assert not problems
    expected = [nearest(Metric.L2, vectors, q, 10, np.arange(1500))[0] for q in queries]
    found = [search_graph(picture, Metric.L2, few, q, 10, 100, limit=1500)[0] for q in queries]
    assert np.mean([recall(f, e) for f, e in zip(found, expected, strict=True)]) >= 0.9


def test_one_scratch_for_each_search_at_once():
    vectors = clustered(1000, 8, 21)
    index, rows = _built(Metric.L2, vectors)
    picture = index.picture()
    alone = [search_graph(picture, Metric.L2, rows, q, 5, 50, limit=1000)[0].tolist() for q in vectors]
    together: dict[int, list[list[int]]] = {}

    def run(number: int) -> None:
        together[number] = [search_graph(picture, Metric.L2, rows, q, 5, 50, limit=1000)[0].tolist() for q in vectors]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(together[i] == alone for i in range(6))


def test_marks_are_wiped_when_epochs_run_out():
    vectors = clustered(4000, 8, 22)
    index, rows = _built(Metric.L2, vectors)
    one, other = vectors[0], vectors[nearest(Metric.L2, vectors, vectors[0], 4000)[0][-1]]
    picture = index.picture()
    for _ in range(3):  # every 255th search has the same epoch; between them nobody visits where the first went
        for query in [one, *[other] * 254]:
            slots, distances = search_graph(picture, Metric.L2, rows, query, 5, 16, limit=4000)
            assert len(slots) == 5
            assert distances[0] == 0
    assert all(1 <= s.epoch <= 255 for s in scratch._free)


def test_slots_beyond_the_readers_rows_are_not_looked_at():
    vectors = clustered(3000, 16, 27)
    index, rows = _built(Metric.L2, vectors)
    entry = index.picture().entry
    few = Rows(vectors[: max(2000, entry + 1)], rows.inv_norms)
    for query in vectors[-50:]:
        slots, _ = search_graph(index.picture(), Metric.L2, few, query, 10, 60, limit=3000)
        assert len(slots) == 10
        assert (slots < len(few.vectors)).all()


# --- building -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", FLOAT_METRICS)
def test_the_same_seed_gives_the_same_bytes(metric):
    vectors = clustered(1500, 16, 23)
    vectors[::50] = vectors[0]
    once = _built(metric, vectors)[0].encode()
    assert once == _built(metric, vectors)[0].encode()
    assert once != _built(metric, vectors, HnswParams(16, 100, seed=7))[0].encode()


def test_growth_one_slot_at_a_time():
    vectors = clustered(400, 8, 24)
    rows = rows_of(Metric.L2, vectors)
    index = HnswIndex(Metric.L2, 8, FAST)
    for stop in range(1, 401):
        index.extend(rows, stop)
        assert index.n == stop
    assert not check_graph(index.picture()).problems
    assert _recall(index, Metric.L2, rows, vectors[:50], 400) >= 0.99


def test_cancelled_between_chunks():
    vectors = clustered(1000, 8, 25)
    rows = rows_of(Metric.L2, vectors)
    index = HnswIndex(Metric.L2, 8, FAST)
    calls = iter([False, False, True])
    index.extend(rows, 1000, lambda: next(calls))
    assert 0 < index.n < 1000
    assert not check_graph(index.picture()).problems
    index.extend(rows, 1000)
    assert index.n == 1000
    assert index.encode() == _built(Metric.L2, vectors)[0].encode()


def test_refuses_rows_that_do_not_fit():
    index = HnswIndex(Metric.COSINE, 8, FAST)
    rows = rows_of(Metric.COSINE, clustered(10, 8, 26))
    with pytest.raises(ValueError, match="do not hold"):
        index.extend(rows, 11)
    with pytest.raises(ValueError, match="do not hold"):
        index.extend(rows_of(Metric.COSINE, clustered(10, 9, 26)), 10)
    with pytest.raises(ValueError, match="inv_norms"):
        index.extend(rows._replace(inv_norms=rows.inv_norms[:5]), 10)
    index.extend(rows, 10)
    query = rows.vectors[0]
    few = Rows(rows.vectors[: index.picture().entry], rows.inv_norms)
    with pytest.raises(ValueError, match="has room for"):
        search_graph(index.picture(), Metric.COSINE, few, query, 3, 10, limit=10)
    with pytest.raises(ValueError, match="words"):
        search_graph(index.picture(), Metric.COSINE, rows, query, 3, 10, limit=10, allowed=np.empty(0, np.uint64))
