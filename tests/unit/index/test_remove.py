"""Slots taken out of a graph leave the others as easy to find as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.build_oracle import reached, walk
from tests.support.vectors_oracle import FLOAT_METRICS
from tests.unit.index.test_builder import NONE, build, clouds

from vicinal.casting import inverse_norms
from vicinal.errors import InvalidArgument
from vicinal.index.bulk_insert import GrowingLinks
from vicinal.index.check import check_graph, unreachable
from vicinal.index.exact import exact_search
from vicinal.index.field_index import FieldIndex
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.kernels.simd import SENTINEL
from vicinal.types import HnswParams, Metric, Rows


def never():
    return False


def growing_over(vectors, metric=Metric.L2, threads=1):
    vectors = np.ascontiguousarray(vectors, np.float32)
    first = build(vectors, metric)
    return GrowingLinks(Rows(vectors, NONE), len(vectors), metric, first.links, entry=first.entry, threads=threads)


def check_links(growing, dead):
    """No link leads to a removed slot, every other slot is reached, and rows are well formed."""
    links = growing.links
    living = np.flatnonzero(~dead)
    rows = links[living]
    used = rows != SENTINEL
    assert not dead[rows[used]].any()
    assert (rows != living[:, None]).all()
    ordered = np.sort(rows, axis=1)
    assert not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != SENTINEL)).any()
    assert (used == (np.arange(32) < used.sum(1)[:, None])).all()
    assert not dead[growing.entry]
    assert reached(links, growing.entry)[living].all()


def recall_of(links, entry, vectors, dead, queries, ef=64):
    hits = 0
    for query in queries:
        away = ((vectors - query) ** 2).sum(1)
        away[dead] = np.inf
        bound = np.sort(away)[4] * (1 + 1e-5)
        hits += sum(away[s] <= bound for s in walk(links, entry, vectors, query, 5, ef, Metric.L2))
    return hits / (5 * len(queries))


def test_neighbours_of_removed_slots_are_linked_to_each_other():
    vectors = clouds(4000, 20, 200, 1)
    growing, rng = growing_over(vectors), np.random.default_rng(2)
    dead = np.zeros(4000, bool)
    for _ in range(5):
        gone = rng.choice(np.flatnonzero(~dead), 400, replace=False)
        before = growing.links.copy()
        patch = growing.remove_links(gone)
        dead[gone] = True
        before[patch.slots] = patch.links  # a reader's copy
        assert (before == growing.links).all()
        check_links(growing, dead)
    queries = clouds(60, 20, 200, 1, 0.31)
    assert recall_of(growing.links, growing.entry, vectors, dead, queries) > 0.97
    degrees = (growing.links[~dead] != SENTINEL).sum(1)
    assert degrees.mean() > 12 and (degrees >= 4).all()  # rows keep as many links as they had, or get half a row's
    again = growing.remove_links(np.flatnonzero(dead))
    assert len(again.slots) == 0


def test_the_entry_may_be_removed_again_and_again():
    growing = growing_over(clouds(1500, 12, 50, 3))
    dead = np.zeros(1500, bool)
    for _ in range(30):
        dead[growing.entry] = True
        growing.remove_links(np.array([growing.entry]))
        check_links(growing, dead)


def test_a_whole_region_may_go():
    """Rows at its edge had nearly all links into it; what remains far away stays one graph."""
    vectors = clouds(4000, 8, 1, 4)
    growing = growing_over(vectors)
    dead = ((vectors - vectors.mean(0)) ** 2).sum(1) < np.quantile(((vectors - vectors.mean(0)) ** 2).sum(1), 0.6)
    growing.remove_links(np.flatnonzero(dead))
    check_links(growing, dead)
    assert recall_of(growing.links, growing.entry, vectors, dead, vectors[~dead][:50]) > 0.97


@pytest.mark.parametrize("how", ["owners", "random", "inner"])
def test_copies_below_removed_rows_are_kept(how):
    """Copies are reached through the row they copy alone: another of them takes its place."""
    vectors = clouds(3000, 16, 100, 5)
    vectors[1000:1600] = vectors[7]
    vectors[1600:1700] = vectors[9]
    growing = growing_over(vectors)
    dead, rng = np.zeros(3000, bool), np.random.default_rng(6)
    copies = np.concatenate([[7, 9], np.arange(1000, 1700)])
    for turn in range(6):
        living = copies[~dead[copies]]
        gone = {
            "owners": living[:3],
            "random": rng.choice(living, 80, replace=False),
            "inner": living[turn : turn + 40],
        }[how]
        dead[gone] = True
        growing.remove_links(gone)
        check_links(growing, dead)
    assert recall_of(growing.links, growing.entry, vectors, dead, clouds(50, 16, 100, 5, 0.31)) > 0.95


def test_rows_come_after_removal_copies_of_removed_ones_too():
    vectors = clouds(4000, 16, 100, 7)
    vectors[3000:3050] = vectors[5]  # a removed row without heirs
    vectors[1000:1020] = vectors[11]
    vectors[3050:3100] = vectors[11]  # a removed row with heirs
    rows = Rows(vectors, NONE)
    first = build(vectors[:3000])
    growing = GrowingLinks(rows, 3000, Metric.L2, first.links, entry=first.entry)
    dead = np.zeros(4000, bool)
    dead[[5, 11, 1000]] = dead[200:500] = True
    growing.remove_links(np.flatnonzero(dead))
    for stop in (3001, 3002, 3080, 4000):
        growing.insert_links(rows, stop)
        check_links(growing, dead[:stop])
    growing.remove_links(np.array([3000, 3001, 3050]))
    dead[[3000, 3001, 3050]] = True
    check_links(growing, dead)
    assert recall_of(growing.links, growing.entry, vectors, dead, vectors[3500:3550]) > 0.97


def test_threads_do_not_change_the_links_of_what_stays():
    vectors = clouds(5000, 20, 200, 8)
    gone = np.random.default_rng(9).choice(5000, 900, replace=False)
    one, three = growing_over(vectors, threads=1), growing_over(vectors, threads=3)
    one.remove_links(gone)
    three.remove_links(gone)
    assert (one.links == three.links).all()


def test_bad_slots_are_refused():
    growing = growing_over(clouds(200, 8, 10, 10))
    for slots in ([-1], [200], np.arange(200)):
        with pytest.raises(InvalidArgument):
            growing.remove_links(np.asarray(slots))


@pytest.mark.parametrize("metric", FLOAT_METRICS)
def test_slots_leave_a_graph_on_floats(metric):
    vectors = clouds(1500, 12, 40, 11)
    vectors[500:900] = vectors[3]  # a tree of copies
    vectors[900:910] = vectors[4]
    norms = inverse_norms((vectors**2).sum(1)) if metric is Metric.COSINE else NONE
    rows, rng = Rows(vectors, norms), np.random.default_rng(12)
    index = HnswIndex(metric, 12, HnswParams(M=8, ef_construction=40))
    index.extend(rows, 1200)
    dead = np.zeros(1500, bool)
    for turn in range(8):
        living = np.flatnonzero(~dead[: index.n])
        gone = np.append(rng.choice(living, 60, replace=False), index.picture().entry)
        if turn == 3:
            gone = np.append(gone, [3, 4, 500, 501, 502])
        old, links = index.picture(), index.picture().arrays.links.copy()
        index.remove(rows, gone)
        assert (old.arrays.links == links).all()  # readers of older pictures are left alone
        dead[gone] = True
        assert check_graph(index.picture()).problems == []
        index.extend(rows, min(index.n + 40, 1500))
        assert (index.removed == dead[: index.n]).all()
    again = HnswIndex.decode(index.encode(), metric, 12, index.params, 1500)
    assert (again.removed == index.removed).all()
    hits = 0
    for slot in rng.choice(np.flatnonzero(~dead), 40):
        best = exact_search(metric, rows, vectors[slot], 5, start=0, stop=1500, allowed=bits(~dead))[1][-1]
        found, far = search_graph(again.picture(), metric, rows, vectors[slot], 5, 64, limit=1500)
        assert not dead[found].any()
        hits += (far <= best + 1e-5 * abs(best) + 1e-6).sum()
    assert hits > 0.97 * 200


def bits(mask):
    from vicinal.bits import bits_from_mask

    return bits_from_mask(mask)


def test_a_graph_on_floats_may_be_emptied_and_filled_again():
    vectors = clouds(300, 8, 10, 13)
    rows = Rows(vectors, NONE)
    index = HnswIndex(Metric.L2, 8, HnswParams())
    index.extend(rows, 200)
    index.remove(rows, np.arange(200))
    assert check_graph(index.picture()).problems == []
    assert len(search_graph(index.picture(), Metric.L2, rows, vectors[0], 5, 64, limit=200)[0]) == 0
    assert HnswIndex.decode(index.encode(), Metric.L2, 8, index.params, 200).picture().entry == -1
    index.extend(rows, 300)
    assert len(unreachable(index.picture())) == 0
    assert search_graph(index.picture(), Metric.L2, rows, vectors[250], 1, 64, limit=300)[0].tolist() == [250]


class Churned:
    """A field that slots leave and enter."""

    def __init__(self, vectors, coded_from, first) -> None:
        self.rows = Rows(np.ascontiguousarray(vectors, np.float32), NONE)
        self.index: Any = FieldIndex(Metric.L2, vectors.shape[1], HnswParams(), coded_from=coded_from)
        self.dead = np.zeros(len(vectors), bool)
        self.grow(first)

    def grow(self, stop):
        while self.index.n < stop:
            self.index.extend(self.rows, stop, never, self.dead)

    def kill(self, slots):
        self.dead[slots] = True
        while self.index.retire(self.rows, self.dead[: self.index.n], never):
            pass

    @property
    def living(self):
        return np.flatnonzero(~self.dead[: self.index.n])

    def recall(self, queries, k=10, ef=64):
        n, found = self.index.n, 0
        allowed, searcher = bits(~self.dead[:n]), self.index.searcher()
        for query in queries:
            best = exact_search(Metric.L2, self.rows, query, k, start=0, stop=n, allowed=allowed)[1][-1]
            slots, far = searcher.search(query, k, ef, rows=self.rows, limit=n, allowed=allowed)
            assert not self.dead[slots].any()
            found += (far <= best * (1 + 1e-5) + 1e-12).sum()
        return found / (k * len(queries))


def churn(vectors, n, coded_from, rounds, pieces=4, seed=14, ef=64):
    """Delete and insert a fifth of n rows, in pieces, `rounds` times; give it and a fresh build of what lives."""
    field, rng = Churned(vectors, coded_from, n), np.random.default_rng(seed)
    part = n // 5 // pieces
    for _ in range(rounds):
        for _ in range(pieces):
            field.kill(rng.choice(field.living, part, replace=False))
            field.grow(field.index.n + part)
        check_reached(field)
        own = field.recall(field.rows.vectors[field.living[::97]], k=1, ef=ef)
        assert own >= 0.999
    return field, Churned(vectors[field.living], coded_from, len(field.living))


def check_reached(field):
    if field.index.searcher().layout == "float":
        assert check_graph(field.index.searcher().picture).problems == []
        return
    links = field.index.searcher().index._arrays.links[: field.index.n]
    assert reached(links, field.index._entry)[field.living].all()
    assert not field.dead[links[field.living][links[field.living] != SENTINEL]].any()
    assert not field.dead[field.index.searcher().index._arrays.cell_nodes].any()


@pytest.mark.parametrize(("coded_from", "n"), [(None, 2000), (1000, 4000)])
def test_churn_costs_no_recall(coded_from, n):
    vectors = clouds(3 * n + 100, 24, 100, 15)
    field, fresh = churn(vectors, n, coded_from, 10)
    assert field.index.searcher().layout == fresh.index.searcher().layout == ("coded" if coded_from else "float")
    queries = clouds(150, 24, 100, 15, 0.31)
    assert field.recall(queries) >= fresh.recall(queries) - 0.01
    assert field.recall(field.rows.vectors[field.living], k=1) >= 0.999  # all of them, not a sample


@pytest.mark.full
@pytest.mark.parametrize(("coded_from", "n", "pieces"), [(None, 8000, 1), (10_000, 50_000, 4)])
def test_churn_costs_no_recall_at_size(coded_from, n, pieces):
    vectors = clouds(3 * n + 100, 96, 500, 19)
    field, fresh = churn(vectors, n, coded_from, 10, pieces, ef=128)
    queries = clouds(500, 96, 500, 19, 0.31)
    assert field.recall(queries, ef=128) >= fresh.recall(queries, ef=128) - 0.01


def test_a_worn_graph_is_built_anew():
    """Insertion and removal lose links between regions of the data, a few with every change."""
    vectors = clouds(8000, 16, 50, 21)
    field = Churned(vectors, 1000, 4000)
    built = field.index._large
    for _ in range(5):
        field.kill(field.living[:400])
        field.grow(field.index.n + 400)
    assert field.index._large is built
    again: Any = FieldIndex(Metric.L2, 16, HnswParams(), coded_from=1000)
    again.decode(field.index.encode(), field.rows, len(vectors))
    field.index, built = again, again._large
    field.kill(field.living[:400])
    assert field.index._large is built
    field.grow(field.index.n + 1)
    assert field.index._large is not built
    check_reached(field)
    links = field.index._large._arrays.links[: field.index.n]
    assert (links[field.living] != SENTINEL).all()
    assert (links[field.dead[: field.index.n]] == SENTINEL).all()


def test_few_dead_slots_are_left_for_later():
    field = Churned(clouds(4000, 16, 50, 16), 1000, 4000)
    field.kill(np.arange(10))
    assert not field.index._removed.any()
    field.kill(np.arange(40))
    assert field.index._removed.sum() == 40


def test_bytes_bring_back_what_was_removed():
    field = Churned(clouds(4000, 16, 50, 17), 1000, 4000)
    field.kill(np.arange(0, 4000, 11))
    again: Any = FieldIndex(Metric.L2, 16, HnswParams(), coded_from=1000)
    again.decode(field.index.encode(), field.rows, 4000)
    assert (again._removed == field.dead).all()
    field.index = again
    check_reached(field)
    assert field.recall(field.rows.vectors[field.living[:50]]) > 0.95
    field.kill(np.arange(1, 4000, 11))
    check_reached(field)


@pytest.mark.parametrize("left", [0, 1, 300])
def test_when_hardly_any_slot_lives_the_rest_go_back_to_floats(left):
    field = Churned(clouds(4200, 16, 50, 18), 1000, 4000)
    field.kill(np.arange(left, 4000))
    searcher = field.index.searcher()
    assert searcher.layout == "float" and (field.index.n, check_graph(searcher.picture).problems) == (4000, [])
    assert left == 0 or field.recall(field.rows.vectors[:left][:30], k=min(left, 10)) > 0.99
    field.grow(4200)
    assert field.recall(field.rows.vectors[4000:4030], k=1) == 1


def test_a_pair_that_a_removed_row_led_to_is_reached_again():
    """They link to each other, so neither is without a link; and what replaces the removed row leaves them out."""
    vectors = np.random.default_rng(20).standard_normal((202, 8)).astype(np.float32)
    vectors[200:] = 50 + vectors[200:] * 0.01
    order = np.argsort(((vectors[:200, None] - vectors[None, :200]) ** 2).sum(2), axis=1)
    links = np.full((202, 32), SENTINEL, np.uint32)
    removed, before = 17, 40
    for row in range(200):
        after = (row + 1 + (row + 1 == removed)) % 200
        near = [s for s in order[row].tolist() if s not in (row, removed, after)]
        links[row, :31] = [after, *near[:30]]
    links[before, 31], links[removed, 31], links[200, 0], links[201, 0] = removed, 200, 201, 200
    growing = GrowingLinks(Rows(vectors, NONE), 202, Metric.L2, links)
    assert reached(links, 0).all()
    growing.remove_links(np.array([removed]))
    check_links(growing, np.arange(202) == removed)
