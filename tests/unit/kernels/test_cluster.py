"""k-means on int8 rows against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import half_distances, make_codes, random_codes, scores_of

from vicinal.index.bulk_cells import pack
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import cluster
from vicinal.kernels.build import Panel

ONE = Pieces(1)


def panel_of(codes, n) -> Panel:
    return pack(codes, np.array([0, n], np.int64), ONE)


@pytest.mark.parametrize("centres", [1, 5, 16, 70])
def test_rows_go_to_their_nearest_centre(centres):
    codes, middle = random_codes(77, 40, 1), random_codes(centres, 40, 2)
    rows = np.random.default_rng(3).permutation(77)[:50].astype(np.int32)
    panel = panel_of(middle, centres)
    groups = np.arange(len(panel.lanes), dtype=np.int32)
    best = np.full(50, -7, np.int32)
    names = panel.members.reshape(-1)
    cluster.assign(codes, rows, panel.lanes, panel.bias, groups, names, best, 10, 45)
    both = make_codes(np.concatenate([codes.rows[:77, :40], middle.rows[:centres, :40]]))
    want = scores_of(both, rows, np.arange(77, 77 + centres)).argmax(1)
    assert (best[10:45] == want[10:45]).all() and (best[:10] == -7).all() and (best[45:] == -7).all()


def test_training_ends_at_the_means_of_separate_clouds():
    draw = np.random.default_rng(4)
    clouds = draw.integers(-80, 80, (6, 20))
    values = np.clip(clouds[np.arange(300) // 50] + draw.integers(-3, 4, (300, 20)), -127, 127).astype(np.int8)
    codes = make_codes(values)
    rows = np.arange(300, dtype=np.int32)
    out = np.zeros((8 + 64, 64), np.int8)
    ends, firsts = np.array([0, 300, 300]), np.array([0, 6, 6])
    cluster.train(codes, rows, ends, firsts, 50, 4, out, 0, 2)
    for c in range(6):
        mean = np.rint(values[50 * c : 50 * c + 50].mean(0))
        assert np.abs(out[:6, :20] - mean).max(1).min() <= 1
    assert (out[6:] == 0).all()


def test_counting_sort_is_stable():
    keys = np.random.default_rng(5).integers(0, 9, 100).astype(np.int32)
    starts, order = cluster.counting_sort(keys, 12)
    assert (order == np.argsort(keys, kind="stable")).all()
    assert (starts == np.searchsorted(np.sort(keys), np.arange(13))).all()


@pytest.mark.parametrize(("cells", "listed"), [(1, 1), (2, 2), (40, 12), (40, 40), (300, 90)])
def test_near_cells_begin_with_the_cell_and_hold_the_nearest(cells, listed):
    codes = random_codes(cells, 30, cells)
    panel = panel_of(codes, cells)
    near = np.full((cells, listed), -9, np.int32)
    cluster.near_cells(codes.rows, panel.lanes, panel.bias, near, 0, cells)
    dist = half_distances(codes, np.arange(cells), np.arange(cells))
    assert (near[:, 0] == np.arange(cells)).all()
    for c in range(cells):
        others = near[c, 1:]
        assert (others >= 0).all() and len(np.unique(near[c])) == listed
        of_others = dist[c, others]
        if listed > 1:
            others_sorted = np.sort(np.delete(dist[c], c))
            limit = others_sorted[listed - 2]
            spread = others_sorted[: listed + 16].max() - others_sorted[0]  # the cut leaves up to sixteen more
            assert of_others.max() <= limit + spread / 255 + 1  # bins, not a sort, at the end of the list
            assert (np.diff(of_others) >= -(spread / 255 + 1)).all()


def test_the_chain_visits_every_cell_once_each_time_the_nearest_left():
    near = np.array([[0, 2, 1], [1, 0, 2], [2, 0, 1], [3, 2, 1], [4, -1, -1]], np.int32)
    assert cluster.chain(near).tolist() == [0, 2, 1, 3, 4]


def test_cells_are_counted_until_the_budget_is_reached():
    near = np.array([[0, 1, 2], [1, 2, -1], [2, -1, -1]], np.int32)
    used = np.zeros(3, np.int64)
    cluster.count_used(near, np.array([0, 3, 5, 9]), 4, used)
    assert used.tolist() == [2, 2, 1]
