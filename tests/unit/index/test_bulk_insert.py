"""A graph that grows batch by batch stays as good as one built at once."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import make_codes, reached, recall
from tests.support.vectors_oracle import METRICS
from tests.unit.index.test_builder import NONE, build, clouds

from vicinal.errors import InvalidArgument
from vicinal.index.bulk_insert import GrowingLinks, prefers_rebuild
from vicinal.index.bulk_known import KnownRows
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import patch
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows


def grow(vectors, n, sizes, metric=Metric.L2, threads=1):
    """Build over n rows, then insert batches of the given sizes, applying patches as a reader would see them."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    rows = Rows(vectors, NONE)
    first = build(vectors[:n], metric)
    growing = GrowingLinks(rows, n, metric, first.links, entry=first.entry, threads=threads)
    links = np.full((len(vectors), 32), SENTINEL, np.uint32)
    links[:n] = first.links
    for size in sizes:
        before = growing.n
        patch = growing.insert_links(rows, before + size)
        assert growing.n == before + size
        assert patch.slots[:size].tolist() == list(range(before, before + size))
        assert len(np.unique(patch.slots)) == len(patch.slots)
        links[patch.slots] = patch.links
    assert (links[: growing.n] == growing.links).all()  # patches tell every change
    return links[: growing.n], first.entry


def check(links, entry):
    n = len(links)
    used = links != SENTINEL
    assert (links[used] < n).all() and (links != np.arange(n, dtype=np.uint32)[:, None]).all()
    assert all(len(set(row[row != SENTINEL].tolist())) == (row != SENTINEL).sum() for row in links)
    assert reached(links, entry).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sizes", [[1] * 40, [40] * 30, [1200]])
def test_new_rows_are_found_and_old_ones_still_are(metric, sizes):
    vectors = clouds(3000 + sum(sizes), 20, 200, 1)
    if metric is Metric.COSINE:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    links, entry = grow(vectors, 3000, sizes, metric)
    check(links, entry)
    by = Metric.DOT if metric is Metric.DOT else Metric.L2
    assert recall(links, entry, vectors, vectors[-40:], 5, 64, by) > 0.97
    assert recall(links, entry, vectors, clouds(60, 20, 200, 1, 0.31), 5, 64, by) > 0.97


def test_threads_do_not_change_the_links():
    vectors = clouds(5000, 20, 200, 2)
    one, _ = grow(vectors, 3000, [700, 1, 1299], threads=1)
    three, _ = grow(vectors, 3000, [700, 1, 1299], threads=3)
    assert (one == three).all()


def test_a_new_island_is_linked_within_and_reached():
    """Five hundred rows far from everything, in one batch: they find each other though none is in the graph yet."""
    vectors = clouds(3500, 16, 100, 3)
    vectors[3000:] = 30 + np.random.default_rng(4).standard_normal((500, 16))
    links, entry = grow(vectors, 3000, [500])
    check(links, entry)
    assert recall(links, entry, vectors, vectors[3000:3050], 5, 64) > 0.97


def bridged(vectors, island):
    """A graph over the first 1,200 rows in which one link alone leads to those from `island` on."""
    first = build(vectors[:1200])
    links = first.links.copy()
    links[:island][links[:island] >= island] = SENTINEL
    away = ((vectors[:island] - vectors[island:1200].mean(0)) ** 2).sum(1)
    bridge = int(away.argmin())
    links[bridge, :31] = ((vectors[:island] - vectors[bridge]) ** 2).sum(1).argsort()[1:32]
    links[bridge, 31] = island + 7
    ends_last = np.argsort(links == SENTINEL, axis=1, kind="stable")
    return np.take_along_axis(links, ends_last, 1), first.entry, bridge


@pytest.mark.parametrize("size", [1, 50, 300])
def test_the_only_way_to_an_island_is_kept_when_its_link_is_dropped(size):
    """Nearer rows take all places of the row that alone links to the island."""
    vectors = clouds(1500, 16, 3, 13)
    vectors[1100:1200] += 40
    links, entry, bridge = bridged(vectors, 1100)
    assert entry < 1100
    vectors[1200:] = vectors[bridge] + 0.5 * np.random.default_rng(14).standard_normal((300, 16))
    rows = Rows(vectors, NONE)
    growing = GrowingLinks(rows, 1200, Metric.L2, links, entry=entry)
    assert reached(growing.links, entry).all()

    def search(slot, out):
        away = ((vectors[: growing.n] - vectors[slot]) ** 2).sum(1)
        out[:] = np.argsort(away)[: len(out)]
        return len(out)

    while growing.n < 1500:
        growing.insert_links(rows, growing.n + size, search=search)
        assert reached(growing.links, entry).all(), growing.n
    assert not (growing.links[bridge] == 1107).any()


def test_links_that_reach_not_everyone_are_mended_at_the_first_insertion():
    vectors = clouds(3100, 16, 50, 15)
    built = build(vectors[:3000])
    links = built.links.copy()
    links[links == 77] = SENTINEL
    links = np.take_along_axis(links, np.argsort(links == SENTINEL, axis=1, kind="stable"), 1)
    growing = GrowingLinks(Rows(vectors, NONE), 3000, Metric.L2, links, entry=built.entry)
    patched = growing.insert_links(Rows(vectors, NONE), 3001)
    assert reached(growing.links, built.entry).all()
    assert 77 in patched.links


def test_copies_old_and_new_are_all_reached():
    vectors = clouds(4000, 16, 100, 5)
    vectors[1500:2000] = vectors[7]
    vectors[3000:3600] = vectors[7]  # copies of a row with copies
    vectors[3600:3800] = vectors[9]  # of a row without
    vectors[3800:] = vectors[3800]  # of each other
    links, entry = grow(vectors, 3000, [1, 1, 98, 900])
    check(links, entry)
    assert recall(links, entry, vectors, clouds(50, 16, 100, 5, 0.31), 10, 64) > 0.95


def test_growing_far_beyond_the_first_rows_fits_the_codes_again():
    """The first hundred rows lie in one small cloud: their scale would clip all others."""
    vectors = clouds(2100, 16, 100, 6)
    vectors[:100] *= 0.01
    links, entry = grow(vectors, 100, [50] * 4 + [600] * 3)
    check(links, entry)
    assert recall(links, entry, vectors, vectors[100:200], 5, 64) > 0.97


def test_cancelling_keeps_what_was_inserted():
    vectors = clouds(6000, 16, 100, 7)
    rows = Rows(vectors, NONE)
    built = build(vectors[:2000])
    growing = GrowingLinks(rows, 2000, Metric.L2, built.links, entry=built.entry)
    asked = 0

    def cancel():
        nonlocal asked
        asked += 1
        return growing.n > 3000

    patch = growing.insert_links(rows, 6000, cancel=cancel)
    assert 2000 < growing.n < 6000 and patch.slots[: growing.n - 2000].tolist() == list(range(2000, growing.n))
    growing.insert_links(rows, 6000)
    check(growing.links, built.entry)


def test_known_rows_tell_copies_from_new_rows():
    values = np.random.default_rng(8).integers(-2, 3, (3000, 3)).astype(np.int8)
    values = np.concatenate([values, np.random.default_rng(9).integers(-99, 99, (20_000, 3)).astype(np.int8)])
    codes = make_codes(values)
    known = KnownRows()
    known.add_many(codes, np.arange(50))
    first: dict[tuple[int, ...], int] = {}
    for i, v in enumerate(values[:50].tolist()):
        first.setdefault(tuple(v), i)
    for start, stop in ((50, 51), (51, 400), (400, 3000), (3000, 20_000), (20_000, 23_000)):
        rows, copies, owners = known.split(codes, start, stop)
        assert sorted([*rows.tolist(), *copies.tolist()]) == list(range(start, stop))
        fresh = [i for i in range(start, stop) if first.setdefault(tuple(values[i].tolist()), i) == i]
        assert rows.tolist() == fresh
        assert [first[tuple(values[i].tolist())] for i in copies] == owners.tolist()


def test_bad_arguments_are_refused():
    vectors = clouds(200, 8, 10, 10)
    rows, links = Rows(vectors, NONE), build(vectors).links
    for n, given in ((0, links[:0]), (100, links), (200, links[:, :16]), (201, np.vstack([links, links[:1]]))):
        with pytest.raises(InvalidArgument):
            GrowingLinks(rows, n, Metric.L2, given)
    with pytest.raises(InvalidArgument):
        GrowingLinks(rows, 200, Metric.L2, links, entry=200)
    wild = links.copy()
    wild[3, 0] = 200
    with pytest.raises(InvalidArgument):
        GrowingLinks(rows, 200, Metric.L2, wild)
    growing = GrowingLinks(rows, 200, Metric.L2, links)
    for stop in (199, 201):
        with pytest.raises(InvalidArgument):
            growing.insert_links(rows, stop)


def test_when_building_anew_is_cheaper():
    assert prefers_rebuild(0, 10) and prefers_rebuild(999, 1000) and prefers_rebuild(10_000, 20_000)
    assert not prefers_rebuild(100_000, 100_100) and not prefers_rebuild(1000, 1001)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT])
def test_one_row_is_linked_as_a_batch_of_one(metric, monkeypatch):
    def by_batch(self, rows, found):
        first = int(rows[0])
        with Pieces(1) as pieces:
            targets = self._join(rows, self._meet(rows, found, pieces), pieces)
            givers = np.empty(1, np.int32)
            state = self._links, self._degree, self._incoming
            gave = patch.anchor(*state, rows, found.ids, targets, first, first + 1, givers)
        return np.concatenate([targets, givers[:gave]])

    vectors = clouds(3300, 20, 200, 11)
    vectors[3200:] += 9  # the first of them finds nothing near
    at_once, _ = grow(vectors, 3000, [1] * 300, metric)
    monkeypatch.setattr(GrowingLinks, "_insert_row", by_batch)
    stepwise, _ = grow(vectors, 3000, [1] * 300, metric)
    assert (at_once == stepwise).all()


@pytest.mark.parametrize("batch", [1, 100])
def test_another_search_may_find_the_candidates(batch):
    vectors = clouds(3300, 20, 200, 12)
    vectors[3100:3110] = vectors[5]  # copies need no search
    rows, built = Rows(vectors, NONE), build(vectors[:3000])
    growing = GrowingLinks(rows, 3000, Metric.L2, built.links, entry=built.entry)
    asked = []

    def search(slot, out):
        asked.append(slot)
        away = ((vectors[: growing.n] - vectors[slot]) ** 2).sum(1)
        out[: len(out) - 7] = np.argsort(away)[: len(out) - 7]
        return len(out) - 7

    def first(slot, out):
        out[:] = np.arange(len(out))
        return len(out)

    while growing.n < 3300:
        growing.insert_links(rows, min(growing.n + batch, 3300), search=search)
    assert asked == [*range(3000, 3100), *range(3110, 3300)]
    check(growing.links, growing.entry)
    assert recall(growing.links, growing.entry, vectors, vectors[3000:3300:3], 5, 48) > 0.97
    long = GrowingLinks(rows, 1000, Metric.L2, build(vectors[:1000]).links)
    long.insert_links(rows, 3300, search=first)
    assert long.n == 1000 + 1024  # later rows could not find those of the first batch
