"""Segment graphs hold the graph of every range: against graphs of the prefix alone and the heuristic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import InvalidArgument
from vicinal.index import segment_graph
from vicinal.index.attributes import Between, Keys
from vicinal.index.bulk_codes import encode_rows
from vicinal.index.bulk_pieces import Pieces
from vicinal.index.rank_order import RankOrder
from vicinal.index.segment_graph import SegmentGraph, link_codes, table_of
from vicinal.kernels.rows8 import Codes
from vicinal.kernels.segment_candidates import Plan
from vicinal.kernels.segment_links import MINIMUM
from vicinal.types import Metric

N, DIM, M, KEEP = 80, 8, 4, 64  # so few that every earlier rank is a candidate
VECTORS = clustered(1200, DIM, seed=1, clusters=4)


def _codes(n: int) -> Codes:
    """The first n rows, in the codes of all."""
    with Pieces(1) as pieces:
        _, codes = encode_rows(VECTORS[:N], np.arange(N), Metric.L2, pieces)
    cut = Codes(codes.rows[: n + 64].copy(), codes.half[: n + 64].copy(), codes.offset[: n + 64].copy())
    for array in cut:
        array[n:] = 0
    return cut


def _tables(n: int = N, leap: int = MINIMUM) -> tuple[Any, Any]:
    """Both graphs of the first n rows, whose ranks are their numbers."""
    codes = _codes(n)
    with Pieces(1) as pieces:
        prefixes, segments = link_codes(codes, codes, n, Plan(KEEP, KEEP, 1 << 16, M, leap), 0, pieces)
    order = RankOrder.of(Keys(np.arange(n)), n)
    return table_of(order, prefixes, both=False), table_of(order, segments, both=True)


def _built(n: int, **options: Any) -> SegmentGraph:
    rows = rows_of(Metric.L2, VECTORS[:n])
    return SegmentGraph.build(rows, n, Metric.L2, Keys(np.arange(n)), **({"M": M} | options))


def _links(table: Any, rank: int, low: int, stop: int, bound: int) -> list[int]:
    """The links of a rank that hold for a range, as the kernel reads them."""
    edges = table.edges[table.ends[rank] : table.ends[rank + 1]].astype(np.int64)
    bound >>= int(table.block[4])
    holds = (edges[:, 0] >= low) & (edges[:, 0] < stop)
    holds &= (edges[:, 1] & 0xFFFF <= bound) & (bound <= edges[:, 1] >> 16)
    return edges[holds, 0].tolist()


def _half(codes: Codes, i: Any, j: Any) -> np.ndarray:
    """Half squared distances of codes, as the kernels round them."""
    dots = codes.rows[i].astype(np.int64) @ codes.rows[j].astype(np.int64).T
    return codes.half[i].astype(np.int64)[..., None] + codes.half[j] - dots


def _heuristic(codes: Codes, rank: int, candidates: np.ndarray) -> set[int]:
    """Algorithm 4 of HNSW: nearest first, those nearer to the base than to all taken before."""
    near = _half(codes, np.array([rank]), candidates)[0]
    taken: list[int] = []
    for j in np.argsort(near, kind="stable"):
        between = _half(codes, candidates[[j]], np.array(taken, np.int64))[0]
        if len(taken) < M and (between >= near[j]).all():
            taken.append(int(candidates[j]))
    return set(taken)


def test_every_prefix_has_the_graph_it_would_have_alone() -> None:
    whole, _ = _tables()
    died = 0
    for stop in (1, 2, 30, 57, 75, N):
        alone, _ = _tables(stop)
        for rank in range(stop):
            expected = sorted(_links(alone, rank, 0, stop, stop))
            assert sorted(_links(whole, rank, 0, stop, stop)) == expected
            assert len(expected) <= 2 * M
            died += sum(1 for other in expected if other not in _links(whole, rank, 0, N, N))
    assert died  # rows were full, and links were dropped that some prefix still has


def test_every_left_bound_has_the_neighbours_it_would_choose() -> None:
    _, segments = _tables()
    codes = _codes(N)
    for rank in range(1, N):
        for low in range(0, rank, 3):
            found = _links(segments, rank, low, rank, low)
            assert len(set(found)) == len(found)
            assert set(found) == _heuristic(codes, rank, np.arange(low, rank)), (rank, low)


def test_links_to_later_ranks_reverse_those_to_earlier_ones() -> None:
    _, segments = _tables()
    forward = {(rank, near) for rank in range(N) for near in _links(segments, rank, 20, rank, 20)}
    later = {(near, rank) for rank in range(N) for near in _links(segments, rank, rank, N, 20)}
    assert {(a, b) for a, b in forward if b >= 20} == {(a, b) for a, b in later if b >= 20} != set()


def test_the_nearest_rank_above_any_left_bound_is_linked() -> None:
    """Windows keep candidates of narrow ranges apart: the nearest of all ranks alone would leave these without."""
    n = 1200
    graph = _built(n, scan=0, M=8, candidates=16)
    missed, asked, rng = 0, 0, np.random.default_rng(3)
    for rank in range(64, n, 7):
        for low in (0, *rng.integers(0, rank, 3), rank - 20):
            near = np.argmin(((VECTORS[low:rank] - VECTORS[rank]) ** 2).sum(1)) + low
            missed += near not in _links(graph._segments, rank, low, rank, low)
            asked += 1
    assert missed <= 0.03 * asked  # of windows with that many rows some lose a nearest one, and codes are rounded


def test_the_greatest_leap_is_smaller_and_its_links_stay_in_bounds() -> None:
    whole, lossy = _built(1200, scan=0), _built(1200, scan=0, leap="maximum")
    assert lossy.nbytes < whole.nbytes
    for graph in (whole, lossy):
        bounds = graph._segments.edges[:, 1]
        assert (bounds & 0xFFFF <= bounds >> 16).all()


def test_threads_do_not_change_the_graphs() -> None:
    one, two = _built(1200), _built(1200, threads=2)
    for mine, theirs in ((one._prefixes, two._prefixes), (one._segments, two._segments)):
        assert np.array_equal(mine.ends, theirs.ends) and np.array_equal(mine.edges, theirs.edges)


def test_ranks_beyond_the_widest_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more ranks than are all compared, the base graph's candidates join in, and wide ranges are still linked."""
    monkeypatch.setattr(segment_graph, "_WIDEST", 256)
    graph = _built(1200, scan=16, M=16)
    edges = graph._segments.edges
    owners = np.repeat(np.arange(1200), np.diff(graph._segments.ends))
    assert (owners - edges[:, 0].astype(np.int64)).max() > 512


def test_bounds_of_more_ranks_than_sixteen_bits_hold() -> None:
    """Bounds that lost their lowest bits hold wherever the whole ones do, and hardly anywhere else."""
    n, count, rng = 200_000, 5000, np.random.default_rng(2)
    ranks, bounds = np.sort(rng.integers(0, n, (2, count)), 0), np.sort(rng.integers(0, n, (2, count)), 0)
    bounds[1, ::10] = 0xFFFFFFFF
    log = np.stack([ranks[1], ranks[0], *bounds], 1).astype(np.uint32)[np.argsort(ranks[1])]
    table = table_of(RankOrder.of(Keys(np.arange(n)), n), [log[:2000], log[2000:]], both=True)
    assert table.block[4] == 2 and table.ends[-1] == 2 * count
    for owner, other, first, last in log[::25].astype(np.int64).tolist():
        for rank, near in ((owner, other), (other, owner)):
            for bound in (first, min(last, n), (first + min(last, n)) // 2):
                assert near in _links(table, rank, 0, n, bound)
            for bound in (first - 4, last + 4):
                known = log[(log[:, :2] == (owner, other)).all(1)]
                if 0 <= bound <= n and len(known) == 1:
                    assert near not in _links(table, rank, 0, n, bound)


def test_rows_that_bytes_take_for_others_are_scanned() -> None:
    rng, n = np.random.default_rng(5), 1200
    vectors = VECTORS[:n].copy()
    tight = rng.permutation(n)[: n // 2]
    vectors[tight] = vectors[tight[0]] + 1e-4 * rng.standard_normal((n // 2, DIM)).astype(np.float32)
    graph = SegmentGraph.build(rows_of(Metric.L2, vectors), n, Metric.L2, Keys(np.arange(n)), M=M, scan=0)
    for query in vectors[tight[:20]]:
        found, _ = graph.search(query, Between(100, 900), 10, 32)
        near = 100 + np.argsort(np.square(vectors[100:901] - query).sum(1))[:10]
        assert len(np.intersect1d(found, near)) >= 9  # distances within rounding of each other may change places


def test_small_ranges_are_scanned() -> None:
    """A range no candidate of which was linked is still answered in full."""
    graph = _built(1200, candidates=8, scan=1000)
    assert graph.scan == 1000 and _built(80).scan == 1024
    for low in (0, 700, 1190):
        found, _ = graph.search(VECTORS[3], Between(low, low + 9), 10, 10)
        assert sorted(found.tolist()) == list(range(low, low + 10))


@pytest.mark.parametrize("options", [{"M": 1}, {"M": 33}, {"candidates": 3}, {"candidates": 65}, {"leap": "middle"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        _built(N, **options)
