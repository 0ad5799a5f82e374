"""Insertion's kernels against plain Python."""

from __future__ import annotations

import numpy as np
from tests.support.build_oracle import half_distances, make_codes, nearest, random_codes

from vicinal.index.bulk_cells import pack
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import patch
from vicinal.kernels.build import FAR, Candidates
from vicinal.kernels.grow import measure_found
from vicinal.kernels.simd import SENTINEL


def empty(n, length):
    return Candidates(np.full((n, length), -5, np.int32), np.full((n, length), -5, np.int32))


def test_a_search_of_a_connected_graph_with_room_for_all_finds_the_nearest():
    codes = random_codes(220, 24, 1)
    ids, _ = nearest(codes, 200, 12)
    links = np.full((220, 16), -1, np.int32)
    links[:200, :12] = ids
    links[:200, 12] = (np.arange(200) + 1) % 200
    rows = np.arange(200, 220, dtype=np.int32)
    entries = np.arange(20, dtype=np.int32)
    marks = np.zeros(220, np.int32)
    out = empty(20, 30)
    for start, stop in ((0, 7), (7, 20)):
        patch.search_frozen(codes, links, rows, entries, np.empty(200, np.int64), marks, 1 + start, out, start, stop)
    away = half_distances(codes, rows, np.arange(200))
    want = np.sort(away, 1)[:, :30]
    assert (out.dist == want).all()
    assert (np.take_along_axis(away, out.ids.astype(np.int64), 1) == want).all()


def test_a_narrow_search_still_gives_its_beam_in_order_and_marks_the_rest_unused():
    codes = random_codes(60, 24, 2)
    links = np.full((60, 16), -1, np.int32)
    links[:50, 0] = (np.arange(50) + 1) % 50
    out = empty(1, 30)
    rows = np.array([55], np.int32)
    patch.search_frozen(
        codes, links, rows, np.array([3], np.int32), np.empty(8, np.int64), np.zeros(60, np.int32), 1, out, 0, 1
    )
    k = int((out.ids[0] >= 0).sum())
    assert 1 <= k <= 8 and (np.diff(out.dist[0, :k]) >= 0).all() and (out.dist[0, k:] == FAR).all()
    assert (out.dist[0, :k] == half_distances(codes, rows, out.ids[0, :k])[0]).all()


def test_rows_of_a_batch_meet():
    codes = random_codes(300, 24, 3)
    rows = np.arange(150, 300, dtype=np.int32)
    ids, dist = nearest(codes, 150, 20)
    given = empty(150, 20)
    away = half_distances(codes, rows, np.arange(150))
    given.ids[:] = np.argsort(away, 1, kind="stable")[:, :20]
    given.dist[:] = np.sort(away, 1)[:, :20]
    only = make_codes(codes.rows[150:300, :24])
    panel = pack(only, np.array([0, 150], np.int64), Pieces(1))
    panel.members[panel.members >= 0] += 150
    out = empty(150, 20)
    groups = np.arange(len(panel.lanes) // 4 * 4, dtype=np.int32)
    patch.meet(codes, rows, given, panel, groups, out, 0, 150)
    every = half_distances(codes, rows, np.arange(300))
    every[np.arange(150), rows] = 1 << 40
    assert (out.dist == np.sort(every, 1)[:, :20]).all()
    assert (out.ids != rows[:, None]).all() and ids.shape == dist.shape


def test_rows_that_nothing_leads_to_get_the_place_of_a_link_that_is_not_the_last():
    links = np.array([[1, 2], [0, 2], [1, 0], [0, 1]], np.int32)
    degree = np.full(4, 2, np.int32)
    incoming = np.bincount(links.reshape(-1), minlength=4).astype(np.int32)
    given = np.zeros(1, np.int32)
    assert patch.link_lonely(links, degree, np.array([3], np.int32), incoming, given) == 1
    assert given[0] == 0 and links[0].tolist() == [1, 3]
    assert (incoming == np.bincount(links.reshape(-1), minlength=4)).all() and incoming.min() >= 1


def test_a_batch_that_links_only_to_itself_is_anchored():
    links, degree = np.full((10, 3), -1, np.int32), np.zeros(10, np.int32)
    links[:6, :2] = (np.arange(6)[:, None] + [1, 2]) % 6
    links[2] = [3, 4, 0]
    links[6:, 0] = [7, 6, 9, 8]  # two pairs
    degree[:], degree[2] = [2] * 6 + [1] * 4, 3
    incoming = np.bincount(links[links >= 0], minlength=10).astype(np.int32)
    given = np.zeros(4, np.int32)
    rows = np.arange(6, 10, dtype=np.int32)
    old = np.array([[2, 1], [3, 1], [5, 1], [5, 1]], np.int32)
    gave = patch.anchor(links, degree, incoming, rows, old, np.array([7, 6], np.int32), 6, 10, given)
    assert given[:gave].tolist() == [2, 5]
    assert 6 in links[2] and 8 in links[5] and links[6].tolist() == [7, 2, -1] and links[8].tolist() == [9, 5, -1]
    assert (incoming == np.bincount(links[links >= 0], minlength=10)).all() and incoming.min() >= 1
    assert patch.anchor(links, degree, incoming, rows, old, np.array([2, 5], np.int32), 6, 10, given) == 0


def test_copies_hang_four_to_a_row_and_take_the_way_out():
    values = np.random.default_rng(5).integers(-60, 60, (60, 10)).astype(np.int8)
    values[20:] = values[3]
    codes = make_codes(values)
    links, degree = np.full((60, 8), -1, np.int32), np.zeros(60, np.int32)
    for p in range(20):  # row 3 is full, and every row has several incoming links
        links[p] = (p + 1 + np.arange(8)) % 20
        degree[p] = 8
    incoming = np.bincount(links[links >= 0], minlength=60).astype(np.int32)
    rows = np.arange(20, 60, dtype=np.int32)
    parents = np.zeros(40, np.int32)
    patch.attach_copies(codes, links, degree, rows, np.full(40, 3, np.int32), incoming, parents)
    used = links >= 0
    assert (used.sum(1) == degree).all()
    assert (incoming == np.bincount(links[used], minlength=60)).all() and incoming.min() >= 1
    for i, p in enumerate(rows.tolist()):
        assert parents[i] in links[p] and p in links[parents[i]] and (links[p, : degree[p]] < 20).any()
    for node in (3, *range(20, 60)):
        assert sum(int(t) > node and int(t) >= 20 for t in links[node] if t >= 0) <= 4


def test_what_was_found_elsewhere_is_sorted_by_its_codes():
    codes, rng = random_codes(500, 30, 5), np.random.default_rng(6)
    rows, ids = np.array([3, 400, 77], np.int32), rng.permuted(np.tile(np.arange(500), (3, 1)), axis=1)[:, :20]
    counts = (20, 12, 0)
    given = np.where(np.arange(20) < np.array(counts)[:, None], ids, SENTINEL).astype(np.uint32)
    out = empty(3, 20)
    measure_found(codes, rows, given, out, 0, 3)
    for b, count in enumerate(counts):
        away = half_distances(codes, rows[b : b + 1], out.ids[b, :count])[0]
        assert (out.dist[b, :count] == away).all() and (np.diff(away) >= 0).all()
        assert (np.sort(out.ids[b, :count]) == np.sort(ids[b, :count])).all()
        assert (out.ids[b, count:] == -1).all() and (out.dist[b, count:] == FAR).all()
