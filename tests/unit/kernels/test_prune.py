"""The heuristic, reverse links and their merge against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import half_distances, heuristic, nearest, random_codes

from vicinal.kernels import prune
from vicinal.kernels.build import FAR, Candidates


@pytest.mark.parametrize(("n", "alpha2"), [(1, 1000), (15, 1000), (64, 1000), (64, 1102), (112, 1440), (128, 1000)])
@pytest.mark.parametrize("most", [1, 16, 128])
def test_pruning_is_the_heuristic_on_integers(n, alpha2, most):
    codes = random_codes(200, 20, n)
    ids, dist = nearest(codes, 200, n)
    room = prune.prune_room(64)
    for p in (0, 17):
        room.ids[:n], room.dist[:n] = ids[p], dist[p]
        kept = prune.prune(codes, room, n, most, 1000, alpha2)
        want = heuristic(codes, ids[p].tolist(), dist[p].tolist(), most, 1000, alpha2)
        assert room.kept[:kept].tolist() == want


def test_selection_takes_candidates_in_order_and_marks_unused_places():
    codes = random_codes(60, 20, 5)
    ids, dist = nearest(codes, 60, 30)
    given = Candidates(np.full((60, 40), -1, np.int32), np.full((60, 40), FAR, np.int32))
    given.ids[:, :30], given.dist[:, :30] = ids, dist
    given.ids[9] = -1
    links, out, degree = np.full((60, 8), 7, np.int32), np.zeros((60, 8), np.int32), np.zeros(60, np.int32)
    prune.select(codes, given, 8, 1000, 1102, links, out, degree, 0, 60)
    for p in range(60):
        want = [] if p == 9 else heuristic(codes, ids[p].tolist(), dist[p].tolist(), 8, 1000, 1102)
        assert degree[p] == len(want)
        assert links[p].tolist() == ids[p][want].tolist() + [-1] * (8 - len(want))
        assert out[p, : len(want)].tolist() == dist[p][want].tolist()


def test_merge_joins_both_directions_and_prunes_only_what_is_too_long():
    n = 150
    codes = random_codes(n, 10, 6)
    chosen, dist = (x[:, :6].astype(np.int32) for x in nearest(codes, n, 6))
    chosen[:, 5] = 3  # a hub that everybody links to
    chosen[3, 5] = 4
    dist[:, 5] = half_distances(codes, np.arange(n), np.array([3]))[:, 0]
    dist[3, 5] = half_distances(codes, np.array([3]), np.array([4]))[0, 0]
    degree = np.array([len(set(row.tolist())) == 6 for row in chosen]).astype(np.int32) + 5
    starts, sources, source_dist = prune.reverse(chosen, dist, degree)
    links, count = np.full((n, 12), 7, np.int32), np.zeros(n, np.int32)
    places = np.where(np.arange(n) % 2, 12, 9).astype(np.int32)
    prune.merge(codes, chosen, dist, degree, starts, sources, source_dist, 1000, 1102, places, links, count, 0, n)
    for p in range(n):
        own = chosen[p, : degree[p]].tolist()
        cited = [s for s in range(n) if p in chosen[s, : degree[s]]]
        assert sources[starts[p] : starts[p + 1]].tolist() == cited
        everyone = own + [s for s in cited if s not in own]
        away = half_distances(codes, np.array([p]), np.array(everyone))[0]
        order = np.argsort(away, kind="stable")
        want = np.array(everyone)[order]
        if len(want) > places[p]:
            want, away = want[:112], away[order][:112]
            kept = heuristic(codes, want.tolist(), away.tolist(), int(places[p]), 1000, 1102)
            want = want[kept]
        got = links[p, : count[p]]
        if p != 3:
            assert got.tolist() == want.tolist()
        assert count[p] <= places[p] and (links[p, count[p] :] == -1).all()


def test_filling_up_adds_the_nearest_candidates_that_lack():
    links = np.full((2, 5), -1, np.int32)
    links[0, :2], links[1, :1] = [4, 9], [3]
    degree = np.array([2, 1], np.int32)
    ids = np.array([[4, 8, 9, 7, 6, 5], [3, 2, -1, -1, -1, -1]], np.int32)
    prune.top_up(links, degree, np.array([4, 5], np.int32), ids, 0, 2)
    assert links.tolist() == [[4, 9, 8, 7, -1], [3, 2, -1, -1, -1]] and degree.tolist() == [4, 2]


def test_another_graphs_links_are_mixed_in_evenly():
    links = np.full((3, 6), -1, np.int32)
    links[0, :3], links[1, :5], links[2, :1] = [4, 9, 2], [3, 1, 2, 8, 6], [7]
    degree, places = np.array([3, 5, 1], np.int32), np.array([5, 5, 6], np.int32)
    other = np.array([[9, 10, 11, 12, 13, 2], [20, 21, -1, -1, -1, -1], [7, 30, -1, -1, -1, -1]], np.int32)
    prune.mix_in(links, degree, places, other, 0, 3)
    assert links.tolist() == [[4, 9, 2, 10, 12, -1], [3, 1, 2, 8, 6, -1], [7, 30, -1, -1, -1, -1]]
    assert degree.tolist() == [5, 5, 2]


def test_long_candidates_replace_the_farthest_in_order():
    given = Candidates(
        np.array([[1, 2, 3, 4], [5, -1, -1, -1]], np.int32), np.array([[10, 20, 30, 40], [7, FAR, FAR, FAR]], np.int32)
    )
    far = np.array([[2, 9, 8], [6, 7, -1]], np.int32)
    prune.lengthen(given, np.array([0, 1]), far, np.array([[20, 25, 99], [3, 9, 0]], np.int32), 2)
    assert given.ids.tolist() == [[1, 2, 9, 8], [6, 5, 7, -1]]
    assert given.dist.tolist() == [[10, 20, 25, 99], [3, 7, 9, FAR]]
