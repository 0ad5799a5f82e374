"""One node for near-copies: every member is found by its own distance, whatever is dead, filtered, late or reopened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.near_copies import near_copies
from tests.support.vectors_oracle import rows_of

from vicinal.bits import bits_from_mask
from vicinal.errors import CorruptData
from vicinal.index import field_index, shared
from vicinal.index.exact import exact_search
from vicinal.index.field_index import FieldIndex
from vicinal.index.mapped import is_mapped
from vicinal.index.shared import SharedIndex
from vicinal.index.shared_search import SharedSearcher
from vicinal.types import HnswParams, Metric, Rows

DIM, TOLERANCE = 24, 0.06
X = near_copies(500, 5, DIM, 0.03, 1)
QUERIES = near_copies(40, 1, DIM, 0.0, 2)


def index_of(metric: Metric, share: float = TOLERANCE, **options: Any) -> SharedIndex:
    index = FieldIndex(metric, DIM, HnswParams(), **{"coded_from": 10**9, **options})
    return SharedIndex(index, metric, DIM, np.dtype(np.float32), share)


def extend(index: SharedIndex, rows: Rows, stop: int, dead: Any = None) -> SharedSearcher:
    while index.n < stop:
        index.extend(rows, stop, lambda: False, dead)
    found = index.searcher()
    assert found is not None
    return found


def check_recall(searcher: SharedSearcher | None, rows: Rows, mask: Any, k: int, least: float, ef: int = 128) -> None:
    """Answers are full, allowed, by their own distances and, but for a few, the nearest."""
    assert searcher is not None
    allowed = None if mask is None else bits_from_mask(mask)
    stop, found = searcher.n, 0.0
    for query in QUERIES:
        slots, distances = searcher.search(query, k, ef, rows=rows, limit=stop, allowed=allowed)
        best_slots, _ = exact_search(searcher.metric, rows, query, k, start=0, stop=stop, allowed=allowed)
        assert len(np.unique(slots)) == len(slots) == len(best_slots)
        assert (slots < stop).all()
        assert mask is None or mask[slots].all()
        own = [exact_search(searcher.metric, rows, query, 1, start=int(s), stop=int(s) + 1)[1][0] for s in slots]
        np.testing.assert_array_equal(distances, np.array(own, np.float32))
        assert (np.diff(distances) >= 0).all()
        found += np.isin(slots, best_slots).mean() if len(slots) else 1
    assert found / len(QUERIES) >= least


@pytest.fixture(scope="module", params=[Metric.COSINE, Metric.DOT, Metric.L2])
def made(request: pytest.FixtureRequest) -> tuple[SharedSearcher, Rows]:
    rows = rows_of(request.param, X)
    return extend(index_of(request.param), rows, len(X)), rows


@pytest.mark.parametrize("k", [1, 10, 60])
def test_members_are_found_by_their_own_distances(made, k):
    searcher, rows = made
    check_recall(searcher, rows, None, k, 0.995)


@pytest.mark.parametrize("part", [0.5, 0.05, 0.004])
def test_members_of_groups_whose_leader_is_not_allowed_are_found(made, part):
    searcher, rows = made
    mask = np.random.default_rng(5).random(len(X)) < part
    mask[searcher.groups.first[: searcher.groups.total]] = False
    check_recall(searcher, rows, mask, 10, 0.995, 400)


def test_what_is_saved_is_told(made):
    told = made[0].shared
    assert told["rows"] == len(X)
    assert 500 <= told["groups"] <= 600
    assert made[0].nbytes > made[0].inner.nbytes


def test_a_group_whose_member_is_nearest_is_not_passed_over():
    """The leader of the second group is farther than that of the first by less than its radius."""
    vectors = np.zeros((4, DIM), np.float32)
    vectors[:, 1] = 10
    vectors[0, 0], vectors[1, 0], vectors[2, 0], vectors[3, 0] = 0.9, -1.2, -0.8, 5
    for metric in (Metric.L2, Metric.L1, Metric.COSINE, Metric.DOT):
        rows = rows_of(metric, vectors)
        searcher = extend(index_of(metric), rows, 4)
        assert searcher.groups.group_of[:4].tolist() == [0, 1, 1, 2]
        query = np.zeros(DIM, np.float32)
        query[1] = 10
        if metric is Metric.DOT:
            query[0], query[1] = 1, 0
            searcher, rows = _turned(searcher, rows, vectors)
        slots, _ = searcher.search(query, 1, 64, rows=rows, limit=4, allowed=None)
        true = exact_search(metric, rows, query, 1, start=0, stop=4)[0]
        assert slots.tolist() == true.tolist() == [2]


def _turned(searcher: SharedSearcher, rows: Rows, vectors: Any) -> tuple[SharedSearcher, Rows]:
    """The same groups, so that slot 2 has the largest product with the first axis."""
    del searcher, rows
    other = vectors.copy()
    other[:, 0] = [0.9, 0.8, 1.2, -5]
    rows = rows_of(Metric.DOT, other)
    return extend(index_of(Metric.DOT), rows, 4), rows


def test_without_tolerance_answers_are_those_of_a_scan():
    rng = np.random.default_rng(8)
    vectors = X[rng.integers(0, 200, 1200)]
    rows = rows_of(Metric.L2, vectors)
    searcher = extend(index_of(Metric.L2, 0.0), rows, 1200)
    assert searcher.candidates(10) == 10
    mask = rng.random(1200) < 0.3
    for k in (1, 10, 37):
        for query in QUERIES:
            for allowed in (None, bits_from_mask(mask)):
                found = searcher.search(query, k, 300, rows=rows, limit=1200, allowed=allowed)
                true = exact_search(Metric.L2, rows, query, k, start=0, stop=1200, allowed=allowed)
                np.testing.assert_array_equal(found[1], true[1])


def test_a_reader_of_fewer_slots_sees_no_later_member():
    rows = rows_of(Metric.L2, X)
    index = index_of(Metric.L2)
    early = extend(index, rows, 700)
    late = extend(index, rows, len(X))
    for searcher, limit in ((early, 700), (early, 500), (late, 700), (late, 3), (late, 1)):
        for query in QUERIES:
            slots, distances = searcher.search(query, 10, 300, rows=rows, limit=limit, allowed=None)
            true = exact_search(Metric.L2, rows, query, 10, start=0, stop=limit)
            assert len(slots) == min(10, limit)
            np.testing.assert_allclose(distances, true[1], rtol=1e-5)
    with pytest.raises(ValueError, match="not all among the rows"):
        early.search(QUERIES[0], 10, 300, rows=rows, limit=701, allowed=None)


def test_dead_leaders_keep_their_groups_alive_and_dead_groups_leave():
    rows, rng = rows_of(Metric.L2, X), np.random.default_rng(6)
    index = index_of(Metric.L2)
    searcher = extend(index, rows, 2000)
    dead = np.zeros(2000, np.bool_)
    dead[searcher.groups.first[: searcher.groups.total]] = True
    some = rng.choice(searcher.groups.total, 150, replace=False)
    dead |= np.isin(searcher.groups.group_of[:2000], some)
    while index.retire(rows, dead, lambda: False):
        pass
    removed = index._index._small.removed
    alive = np.bincount(searcher.groups.group_of[:2000][~dead], minlength=searcher.groups.total) > 0
    np.testing.assert_array_equal(removed, ~alive)
    check_recall(index.searcher(), rows, ~dead, 10, 0.995, 300)
    dead = np.append(dead, np.zeros(len(X) - 2000, np.bool_))
    after = extend(index, rows, len(X), dead)
    check_recall(after, rows, ~dead, 10, 0.995, 300)
    assert not np.isin(after.groups.group_of[2000 : len(X)], np.flatnonzero(~alive)).any()


@pytest.mark.parametrize("layout", ["graph", "cells"])
def test_codes_and_cells_hold_leaders_alone(layout, monkeypatch):
    monkeypatch.setattr(field_index, "CELLS_FROM_ROWS", 400)
    rows = rows_of(Metric.COSINE, X)
    index = index_of(Metric.COSINE, coded_from=400, layout=layout, filters=True)
    searcher = extend(index, rows, len(X))
    assert searcher.layout == ("coded" if layout == "graph" else "cells")
    assert searcher.inner.n == searcher.groups.total < 0.25 * len(X)
    check_recall(searcher, rows, None, 10, 0.98, 200)
    again = index_of(Metric.COSINE, coded_from=400, layout=layout, filters=True)
    again.decode(b"".join(index.chunks()), rows, len(X))
    assert again.n == index.n
    check_recall(again.searcher(), rows, None, 10, 0.98, 200)
    assert b"".join(again.chunks()) == b"".join(index.chunks())


def test_one_thread_and_two_give_the_same_bytes(monkeypatch):
    rows, written = rows_of(Metric.COSINE, X), []
    for threads in (1, 2):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        index = index_of(Metric.COSINE, coded_from=400)
        extend(index, rows, len(X))
        written.append(b"".join(index.chunks()))
    assert written[0] == written[1]


def test_a_snapshot_of_a_part_goes_on():
    rows = rows_of(Metric.L2, X)
    index = index_of(Metric.L2)
    extend(index, rows, 900)
    again = index_of(Metric.L2)
    again.decode(b"".join(index.chunks()), rows, 900)
    for one in (index, again):
        check_recall(extend(one, rows, len(X)), rows, None, 10, 0.995, 300)
    assert b"".join(index.chunks()) == b"".join(again.chunks())


def test_a_damaged_index_of_leaders_leaves_nothing_behind():
    rows = rows_of(Metric.L2, X)
    index = index_of(Metric.L2)
    extend(index, rows, 900)
    written = bytearray(b"".join(index.chunks()))
    for at in (len(written) - 5, 4 * 1200 + 64, len(written) // 2):
        written[at] ^= 1
        again = index_of(Metric.L2)
        with pytest.raises(CorruptData):
            again.decode(bytes(written), rows, 900)
        assert again.n == 0
        assert again.searcher() is None
        check_recall(extend(again, rows, 900), rows, None, 10, 0.995, 300)
        written[at] ^= 1


def test_graphs_that_lag_behind_groups_answer_for_what_they_have(monkeypatch):
    monkeypatch.setattr(field_index, "CHUNK_ROWS", 64)
    rows = rows_of(Metric.L2, X)
    index = index_of(Metric.L2)
    seen = []
    while index.n < len(X):
        index.extend(rows, len(X), lambda: False)
        searcher = index.searcher()
        assert searcher is not None
        seen.append(searcher.n)
        assert (searcher.groups.group_of[: searcher.n] < searcher.inner.n).all()
        check_recall(searcher, rows, None, 10, 0.98, 300)
    assert len(seen) > 5


def test_large_copies_of_leaders_lie_in_a_file(monkeypatch):
    monkeypatch.setattr(shared, "_FILE_FROM", 1 << 12)
    rows = rows_of(Metric.COSINE, X)
    searcher = extend(index_of(Metric.COSINE), rows, len(X))
    assert is_mapped(searcher.leaders.vectors)
    np.testing.assert_array_equal(
        searcher.leaders.vectors[: searcher.groups.total], X[searcher.groups.first[: searcher.groups.total]]
    )
    check_recall(searcher, rows, None, 10, 0.995)


def test_nothing_is_searched_before_there_is_something():
    index = index_of(Metric.L2)
    assert index.n == 0
    assert index.searcher() is None
    assert not index.retire(rows_of(Metric.L2, X), None, lambda: False)
