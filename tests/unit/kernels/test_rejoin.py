"""Ways that are left around a dropped link, and those that are made, against floods of small graphs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import nearest, random_codes

from vicinal.kernels.detours import has_detour, leads
from vicinal.kernels.rejoin import cut_off, rejoin


def reach_from(links, p):
    seen, todo = {p}, [p]
    while todo:
        for t in links[todo.pop()]:
            if t >= 0 and int(t) not in seen:
                seen.add(int(t))
                todo.append(int(t))
    return seen


def ring(n, width, steps):
    links = np.full((n, width), -1, np.int32)
    links[:, : len(steps)] = (np.arange(n)[:, None] + steps) % n
    return links


def test_detours_are_ways_of_two_links():
    rng = np.random.default_rng(1)
    links = np.full((60, 6), -1, np.int32)
    for p in range(60):
        degree = rng.integers(0, 7)
        links[p, :degree] = rng.choice(np.delete(np.arange(60), p), degree, replace=False)
    for q in range(60):
        onwards = {int(t): set(links[t][links[t] >= 0].tolist()) for t in links[q] if t >= 0}
        for z in range(60):
            assert leads(links, q, z) == (z in onwards)
            if z != q:
                assert has_detour(links, q, z) == any(z in ways for t, ways in onwards.items() if t != z)


@pytest.mark.parametrize("steps", [[1, 2], [1], [1, 30]])
def test_what_is_said_to_be_cut_off_is_and_is_joined_again(steps):
    """Each dropped link in turn; where nothing is said, a way is left, and where a way is made, it leads there."""
    codes, said = random_codes(64, 24, 2), 0
    for q in range(64):
        links = ring(64, 4, steps)
        before, degree = links[[q]].copy(), np.full(64, len(steps), np.int32)
        links[q, len(steps) - 1], degree[q] = -1, len(steps) - 1
        incoming = np.bincount(links[links >= 0], minlength=64).astype(np.int32)
        cut, touched = np.zeros((1, 4), np.uint8), np.zeros(4, np.int32)
        rows = np.array([q], np.int32)
        cut_off(codes, links, rows, before, cut, 0, 1)
        z = int(before[0, len(steps) - 1])
        assert cut.sum() == cut[0, len(steps) - 1]
        if not cut.any():
            assert z in reach_from(links, q)
        said += int(cut.sum())
        count = rejoin(codes, links, degree, incoming, rows, before, cut, touched)
        if degree[q]:
            assert count <= 1 and z in reach_from(links, q)
        assert (incoming == np.bincount(links[links >= 0], minlength=64)).all()
        assert ((links >= 0).sum(1) == degree).all()
    assert said >= (64 if steps == [1] else 0)


def test_an_island_is_joined_by_a_row_that_can_spare_a_place():
    """Rows 0 .. 99 link among themselves, full; 100 .. 119 too, and the link that led there is gone."""
    codes = random_codes(120, 24, 3)
    links = np.full((120, 8), -1, np.int32)
    links[:100] = nearest(random_codes(100, 24, 3), 100, 8)[0]
    links[100:, :4] = 100 + (np.arange(20)[:, None] + [1, 2, 3, 4]) % 20
    degree = (links >= 0).sum(1).astype(np.int32)
    incoming = np.bincount(links[links >= 0], minlength=120).astype(np.int32)
    whole = {p: reach_from(links[:100], p) for p in range(100)}
    before = links[[5]].copy()
    before[0, 7] = 111
    cut, touched = np.zeros((1, 8), np.uint8), np.full(8, -1, np.int32)
    rows = np.array([5], np.int32)
    cut_off(codes, links, rows, before, cut, 0, 1)
    assert cut.tolist() == [[0] * 7 + [1]]
    assert rejoin(codes, links, degree, incoming, rows, before, cut, touched) == 1
    assert touched[0] in links[5] and 111 in links[touched[0]]
    for p, there in whole.items():
        assert there <= reach_from(links, p)  # nobody paid for it
    assert (incoming == np.bincount(links[links >= 0], minlength=120)).all()
