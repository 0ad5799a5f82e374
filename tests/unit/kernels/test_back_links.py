"""Links back to new rows against plain Python: a full row stays full, its chosen links before those passed over."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import half_distances, make_codes, random_codes

from vicinal.kernels import back_links

NUM, DEN = 1000, 1102


def half(codes, p, others):
    return half_distances(codes, np.array([p]), np.array(others))[0].tolist()


def ranked(codes, p, links, c):
    """Where c comes among the links of a full row: the chosen ones, then those passed over, by distance each."""
    away, apart = half(codes, p, links), half(codes, c, links)
    dist = half(codes, p, [c])[0]
    b = next((i for i in range(1, len(links)) if away[i] < away[i - 1]), len(links))
    chosen, passed = list(range(b)), list(range(b, len(links)))
    before = [i for i in chosen if away[i] <= dist]
    if any(away[i] < dist and apart[i] < dist * NUM // DEN for i in before):
        passed = [*(i for i in passed if away[i] <= dist), -1, *(i for i in passed if away[i] > dist)]
        order = chosen + passed
    else:
        after = [i for i in chosen if away[i] > dist]
        needless = [i for i in after if apart[i] < away[i] * NUM // DEN]
        kept = [i for i in after if i not in needless]
        order = [*before, -1, *kept, *sorted(needless + passed, key=lambda i: (away[i], i))]
    return [c if i < 0 else links[i] for i in order[: len(links)]]


def full_rows(codes, count, width, rng):
    """Rows of links as a build leaves them: chosen ones by distance, then others by distance."""
    n = len(codes.half) - 64
    links = np.full((n, width), -1, np.int32)
    for p in range(count):
        some = rng.choice(np.setdiff1d(np.arange(n), [p]), width, replace=False)
        away = np.array(half(codes, p, some.tolist()))
        cut = int(rng.integers(1, width + 1))
        links[p] = np.concatenate([some[:cut][np.argsort(away[:cut])], some[cut:][np.argsort(away[cut:])]])
    return links


@pytest.mark.parametrize("spread", [3, 60])
def test_a_newcomer_is_ranked_among_the_links_of_a_full_row(spread):
    rng = np.random.default_rng(spread)
    codes = make_codes(rng.integers(-spread, spread, (500, 6)).astype(np.int8))
    width = 12
    links = full_rows(codes, 300, width, rng)
    # rows that the ranking leaves as they were, and rows that it does not
    kept, room = 0, back_links.rank_room(width)
    for p in range(300):
        own = links[p].tolist()
        at = [(codes.rows[t] == codes.rows[p]).all() and t > p for t in own]
        c = int(rng.choice(np.setdiff1d(np.arange(500), [p, *own])))
        if any(at):  # copies have their own test
            continue
        wanted = ranked(codes, p, own, c)
        taken = back_links.take_in(codes, links, p, c, half(codes, p, [c])[0], NUM, DEN, room)
        assert links[p].tolist() == wanted
        assert taken == (c in wanted)
        kept += int(taken)
    assert 30 < kept < 290


def test_copies_that_hang_below_a_row_stay():
    values = np.random.default_rng(4).integers(-60, 60, (80, 10)).astype(np.int8)
    values[70], values[71] = values[5], values[5]
    codes = make_codes(values)
    own = [9, 70, 11, 12, 71, 13, 14, 15]
    links = np.full((80, 8), -1, np.int32)
    links[5] = own
    room = back_links.rank_room(8)
    others = [t for t in own if t < 70]
    away = half(codes, 5, others)
    links[5] = [70, *np.array(others)[np.argsort(away)], 71]
    nearest = int(np.argmin([*half(codes, 5, list(range(20, 70)))])) + 20
    wanted = ranked(codes, 5, np.array(others)[np.argsort(away)].tolist(), nearest)
    assert back_links.take_in(codes, links, 5, nearest, half(codes, 5, [nearest])[0], NUM, DEN, room)
    assert links[5].tolist() == [*wanted, 70, 71]
    values[72:80] = values[6]
    codes = make_codes(values)
    links[6] = np.arange(72, 80)
    assert not back_links.take_in(codes, links, 6, 3, half(codes, 6, [3])[0], NUM, DEN, room)
    assert links[6].tolist() == list(range(72, 80))


def test_targets_take_what_fits_and_rank_the_rest():
    codes = random_codes(80, 10, 4)
    links, degree = np.full((80, 8), -1, np.int32), np.zeros(80, np.int32)
    full = np.arange(10, 18)[np.argsort(half(codes, 6, list(range(10, 18))))]
    for p, own in ((2, [3, 4]), (6, full.tolist()), (7, [20, 21, 22, 23, 24, 25, 26])):
        links[p, : len(own)] = own
        degree[p] = len(own)
    targets = np.array([2, 6, 7], np.int32)
    sources = np.array([30, 3, 40, 12, 41, 50, 51], np.int32)
    starts = np.array([0, 2, 5, 7])
    owner = np.repeat(targets, np.diff(starts))
    dists = half_distances(codes, owner, sources).diagonal().astype(np.int32)
    last = ranked(codes, 6, ranked(codes, 6, full.tolist(), 40), 41)
    seventh = ranked(codes, 7, [20, 21, 22, 23, 24, 25, 26, 50], 51)
    for start, stop in ((0, 2), (2, 3)):
        back_links.patch_targets(codes, links, degree, targets, starts, sources, dists, NUM, DEN, start, stop)
    assert links[2].tolist() == [3, 4, 30, -1, -1, -1, -1, -1]  # row 3 was there
    assert links[6].tolist() == last
    assert links[7].tolist() == seventh
    assert degree[targets].tolist() == [3, 8, 8]
