"""Bridges between islands, against numpy."""

from __future__ import annotations

import numpy as np
from tests.support.build_oracle import half_distances, make_codes, nearest, random_codes

from vicinal.kernels import bridges
from vicinal.kernels.rows8 import fill_groups


def targets_of(codes, goals):
    lanes = np.empty((len(goals) // 16, codes.rows.shape[1] * 16), np.uint8)
    bias = np.empty((len(goals) // 16, 16), np.int32)
    fill_groups(codes, goals.reshape(-1, 16).astype(np.int32), lanes, bias, 0, len(lanes))
    return lanes, bias


def test_distances_to_targets_and_their_least_over_links():
    codes = random_codes(100, 40, 1)
    goals = np.random.default_rng(2).integers(0, 100, 64)
    lanes, bias = targets_of(codes, goals)
    shift = int(4 * int(codes.half.max())).bit_length() - 16
    out, least = np.zeros((100, 64), np.uint16), np.zeros((100, 64), np.uint16)
    bridges.to_targets(codes, lanes, bias, shift, out, 0, 100)
    want = np.maximum(half_distances(codes, np.arange(100), goals), 0) >> shift
    assert want.max() < 1 << 16 and (out == want).all()
    links = np.random.default_rng(3).integers(0, 100, (100, 5)).astype(np.int32)
    links[::3, 3:] = -1
    links[7] = -1
    bridges.least_over_links(links, out, least, 0, 100)
    for p in range(100):
        row = links[p][links[p] >= 0]
        assert (least[p] == (out[row].min(0) if len(row) else 65535)).all()


def two_islands():
    """Two clouds far apart; links stay inside each."""
    draw = np.random.default_rng(5)
    values = draw.integers(-12, 13, (256, 16))
    values[:128, 0] -= 100
    values[128:, 0] += 100
    codes = make_codes(values.astype(np.int8))
    ids, _ = nearest(codes, 256, 8)
    links = np.full((256, 12), -1, np.int32)
    links[:, :8] = ids
    return codes, links


def found_bridges(codes, links, dense):
    goals = np.arange(2, 256, 4).astype(np.int32)
    lanes, bias = targets_of(codes, goals)
    shift = max(0, int(4 * int(codes.half.max())).bit_length() - 16)
    far, least = np.zeros((256, 64), np.uint16), np.zeros((256, 64), np.uint16)
    bridges.to_targets(codes, lanes, bias, shift, far, 0, 256)
    bridges.least_over_links(links, far, least, 0, 256)
    out, count, stuck = np.full((256, 3), -1, np.int32), np.zeros(256, np.int32), np.zeros(256, np.int32)
    regions = np.zeros(5, np.uint8)
    bridges.bridges(codes, links, goals, far, least, dense, 8, out, count, stuck, regions, 0, 256)
    return goals, far, least, out, count, stuck, regions


def test_stuck_rows_are_those_without_a_nearer_row_within_two_hops():
    codes, links = two_islands()
    goals, far, _, out, count, stuck, regions = found_bridges(codes, links, 10**6)
    for p in range(256):
        one = links[p][links[p] >= 0]
        two = np.unique(links[one][links[one] >= 0])
        near = far[np.concatenate([one, two])].min(0)
        want = (far[p] <= near) & (far[p] < far[one].min(0)) & (goals != p)
        assert stuck[p] == want.sum()
        assert (count[p] > 0) <= want.any() and (regions == 0).all()
        row = out[p, : count[p]]
        assert p not in row and len(set(row.tolist())) == count[p] and not np.isin(row, links[p]).any()
    crossing = [(out[p, : count[p]] < 128).any() != (p < 128) for p in range(256) if count[p]]
    assert any(crossing)


def test_added_bridges_join_the_islands_both_ways():
    codes, links = two_islands()
    *_, out, count, _, regions = found_bridges(codes, links, 2)
    assert regions[:4].any()
    degree, places = np.full(256, 8, np.int32), np.full(256, 12, np.int32)
    before = links.copy()
    added = bridges.add_bridges(links, degree, places, out, count)
    assert added > 0 and degree.max() <= 12
    assert (links[:, :8] == before[:, :8]).sum() >= 256 * 8 - added
    across = [(p, q) for p in range(256) for q in links[p] if q >= 0 and (p < 128) != (q < 128)]
    assert across and any(p < 128 for p, _ in across) and any(p >= 128 for p, _ in across)
