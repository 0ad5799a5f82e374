"""Repair of cut-off rows, copies, and the way back to the caller's rows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import nearest, random_codes, reached

from vicinal.kernels import repair as kernels
from vicinal.kernels.simd import SENTINEL


def as_graph(links):
    return np.where(links >= 0, links, SENTINEL).astype(np.uint32)


@pytest.mark.parametrize(("degree", "width"), [(3, 8), (8, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_can_be_reached_after_repair(degree, width, seed):
    """Links that only ever point to the next of a hundred rings: islands, full rows among them."""
    n = 600
    codes = random_codes(n, 12, seed)
    ids = np.full((n, 16), -1, np.int32)
    links = np.full((n, width), -1, np.int32)
    for p in range(n):
        ring = p // 6 * 6
        links[p, :degree] = ring + (p - ring + 1 + np.arange(degree)) % 6
    ids[: n // 2] = nearest(codes, n, 16)[0][: n // 2]  # half of the rows have candidates elsewhere
    count, places = np.full(n, degree, np.int32), np.full(n, width, np.int32)
    fixed, islands, left = kernels.repair(codes, links, count, places, ids, 5, kernels.EVERY)
    assert left == 0 and fixed + islands > 0
    assert reached(as_graph(links), 5).all()
    assert (count <= width).all() and ((links >= 0).sum(1) == count).all()


def test_a_graph_in_order_is_left_alone():
    n = 50
    codes = random_codes(n, 12, 1)
    links = np.full((n, 4), -1, np.int32)
    links[:, 0] = (np.arange(n) + 1) % n
    before = links.copy()
    ids = np.full((n, 2), -1, np.int32)
    found = kernels.repair(codes, links, np.ones(n, np.int32), np.full(n, 4, np.int32), ids, 9, kernels.EVERY)
    assert found == (0, 0, 0) and (links == before).all()


def test_attaching_fills_then_overwrites_at_most_a_quarter():
    links = np.array([[1, 2, 3, -1, 9, 9, 9, 9]], np.int32)
    degree, places, replaced = np.array([3], np.int32), np.array([4], np.int32), np.zeros(1, np.int32)
    assert kernels.attach(links, degree, places, replaced, 0, 7)
    assert kernels.attach(links, degree, places, replaced, 0, 8)
    assert not kernels.attach(links, degree, places, replaced, 0, 6)
    assert links.tolist() == [[1, 2, 3, 8, 9, 9, 9, 9]] and degree[0] == 4  # beyond `places` nothing is touched


def test_links_are_renamed_to_the_callers_rows():
    links = np.array([[1, -1], [0, 2], [-1, -1]], np.int32)
    out, degree = np.zeros((9, 2), np.uint32), np.zeros(9, np.int32)
    kernels.rename(links, np.array([1, 2, 0], np.int32), np.array([8, 3, 5]), out, degree, 0, 3)
    assert out[8].tolist() == [3, SENTINEL] and out[3].tolist() == [8, 5] and out[5].tolist() == [SENTINEL] * 2
    assert degree.tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("copies", [1, 4, 5, 100])
def test_copies_hang_below_their_owner_and_lead_out_again(copies):
    n = copies + 3
    own = np.zeros(n, np.int64)
    own[:3] = [0, 1, 2]
    own[3] = 0
    links, degree = np.full((n, 32), SENTINEL, np.uint32), np.zeros(n, np.int32)
    links[0, :2], links[1, 0], links[2, 0] = [1, 2], 0, 1
    degree[:3] = [2, 1, 1]
    kernels.hang_copies(links, degree, own, 4)
    assert reached(links, 2).all()
    assert ((links != SENTINEL).sum(1) == degree).all() and degree.max() <= 32
    for p in range(3, n):
        assert 0 in links[p] and 1 in links[p]
    assert links[1:3, 0].tolist() == [0, 1]


def test_components_are_joined_by_members_alone():
    ids = np.array([[1, -1], [2, -1], [-1, -1], [2, 4], [-1, 3], [0, -1], [-1, 6]], np.int32)
    member = np.array([True, True, False, True, True, True, True])
    assert kernels.components(ids, member).tolist() == [0, 0, 2, 3, 3, 0, 6]
