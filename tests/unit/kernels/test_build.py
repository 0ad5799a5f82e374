"""Dense comparison and refinement against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import half_distances, make_codes, nearest, random_codes

from vicinal.index.bulk_cells import blocks_of, pack
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import build, cluster
from vicinal.kernels.build import FAR, Candidates
from vicinal.kernels.refine import refine

ONE = Pieces(1)


def empty(n, length):
    return Candidates(np.full((n, length), -5, np.int32), np.full((n, length), -5, np.int32))


def compare(codes, starts, near, budget, length):
    starts, near = np.asarray(starts, np.int64), np.asarray(near, np.int32)
    panel = pack(codes, starts, ONE)
    used = np.zeros(len(near), np.int64)
    cluster.count_used(near, panel.starts, budget, used)
    out, blocks = empty(int(starts[-1]), length), blocks_of(starts)
    build.block_candidates(codes, panel, starts, blocks, near, used, out, 0, len(blocks))
    return out, blocks, used


def check_rows(codes, out):
    """Ids distinct, distances right and ascending, unused places at the end."""
    for p, (ids, dist) in enumerate(zip(out.ids, out.dist, strict=True)):
        k = int((ids >= 0).sum())
        assert (ids[:k] >= 0).all() and (dist[k:] == FAR).all() and p not in ids[:k]
        assert len(set(ids[:k].tolist())) == k
        assert (dist[:k] == half_distances(codes, np.array([p]), ids[:k])[0]).all()
        assert (np.diff(dist[:k]) >= 0).all()


@pytest.mark.parametrize(
    ("n", "dim", "low"), [(1, 4, -127), (2, 4, -127), (50, 64, -127), (700, 20, -127), (700, 2, 120)]
)
def test_one_cell_compares_everything_with_everything(n, dim, low):
    codes = random_codes(n, dim, n, low)
    out, _, _ = compare(codes, [0, n], [[0]], 10**6, 64)
    check_rows(codes, out)
    _, dist = nearest(codes, n, 64)
    k = min(64, n - 1)
    if low == -127:
        assert (out.dist[:, :k] == dist[:, :k]).all()
    else:  # hundreds of rows in 64 places: ties beyond the list may lack, never nearer ones
        assert (out.dist[:, 0] == dist[:, 0]).all()
    assert (out.ids[:, k:] == -1).all()


def test_cells_outside_the_budget_are_not_compared():
    codes = random_codes(300, 30, 1)
    starts = [0, 96, 100, 200, 300]
    near = [[0, 2, 1, 3], [1, 0, -1, -1], [2, 1, 3, 0], [3, 2, 1, 0]]
    out, _, used = compare(codes, starts, near, 7, 40)
    assert used.tolist() == [2, 2, 1, 1]
    check_rows(codes, out)
    for c in range(4):
        members = np.concatenate([np.arange(starts[t], starts[t + 1]) for t in near[c][: used[c]]])
        for p in range(starts[c], starts[c + 1]):
            others = members[members != p]
            want = np.sort(half_distances(codes, np.array([p]), others)[0])[:40]
            assert (out.dist[p] == want).all()


def test_reverse_lists_hold_the_best_ranked_citations():
    ids = np.array([[1, 2], [2, 0], [1, 0], [1, -1]], np.int32)
    out = np.full((4, 2), -5, np.int32)
    build.reverse_lists(ids, 2, out)
    assert out.tolist() == [[1, 2], [0, 2], [1, 0], [-1, -1]]


@pytest.mark.parametrize("cap", [64, 2048])
def test_refinement_never_loses_and_finds_what_neighbours_cite(cap):
    draw = np.random.default_rng(7)
    n = 1200
    codes = make_codes((draw.standard_normal((n, 12)) * 30).clip(-127, 127).astype(np.int8))
    starts = np.arange(0, n + 1, 40)
    near = np.arange(30)[:, None]  # cells see themselves only; they are random sets of rows, so little is found
    given, blocks, used = compare(codes, starts, near, 10**6, 32)
    rev = np.empty((n, 8), np.int32)
    better = given
    for _ in range(3):
        build.reverse_lists(better.ids, 12, rev)
        out = empty(n, 32)
        refine(codes, blocks, near.astype(np.int32), used, starts, better, rev, 12, 12, cap, out, 0, len(blocks))
        check_rows(codes, out)
        assert (out.dist <= better.dist).all()
        better = out
    assert (given.dist == compare(codes, starts, near, 10**6, 32)[0].dist).all()  # what is given stays


def test_refinement_of_linked_cells_comes_close_to_all_pairs():
    draw = np.random.default_rng(8)
    n = 1200
    values = (draw.standard_normal((n, 6)) * 30).clip(-127, 127).astype(np.int8)
    codes = make_codes(values[np.argsort(values[:, 0])])
    starts = np.arange(0, n + 1, 40)
    near = np.stack([np.arange(30), (np.arange(30) + 1) % 30, (np.arange(30) - 1) % 30], 1)
    given, blocks, used = compare(codes, starts, near, 10**6, 32)
    rev, out = np.empty((n, 8), np.int32), empty(n, 32)
    build.reverse_lists(given.ids, 12, rev)
    refine(codes, blocks, near.astype(np.int32), used, starts, given, rev, 12, 12, 2048, out, 0, len(blocks))
    _, want = nearest(codes, n, 32)
    found = [(g <= w[-1]).mean() for g, w in zip(given.dist, want, strict=True)]
    refined = [(g <= w[-1]).mean() for g, w in zip(out.dist, want, strict=True)]
    assert np.mean(refined) > np.mean(found) + 0.1
