"""Scans of code lines and of cells against plain numpy, in every body."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from tests.support import codes_oracle as oracle
from tests.support.other_processor import run_again_on

from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded, VicinalError
from vicinal.index.cell_lists import CellLists, Partition, partition
from vicinal.index.code_scan import Among, CodeScan, Wanted
from vicinal.index.coded import CodedIndex
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import Metric, Rows

N = 1300
KINDS = [
    ("signs", 150, Metric.COSINE, False),
    ("signs", 500, Metric.L2, True),
    ("nibbles", 77, Metric.DOT, False),
    ("nibbles", 150, Metric.COSINE, False),
    ("bytes", 50, Metric.L2, False),
]
SOME = np.random.default_rng(3).random(N) < 0.3


@functools.cache
def made(kind, dim, metric, whole, *, linked=False):
    rows = oracle.make_rows(N, dim, metric, dim, whole=whole, capacity=N + 700)
    links = np.full((N, 32), 0xFFFFFFFF, np.uint32) if linked else None
    index = CodedIndex.build(rows, N, metric, links, codec=kind, measure=False)
    parts = partition(rows, N, metric, seed=1)
    return CodeScan(index, CellLists(rows, metric, index.choice, parts)), rows


def query_of(rows, at, *, whole=False):
    query = rows.vectors[N + at] * np.float32(1.01) + np.float32(0.01)
    return np.rint(query) if whole else query


def estimated(scan, kind, query):
    """Estimates of all rows and of all centres."""
    prepared = oracle.prepare(scan.index, query)
    centres = scan.lists.published.kept[1][: scan.lists.cells]
    lines = scan.index._arrays.lines.bytes[:N]
    return oracle.estimates(kind, lines, prepared), oracle.estimates(kind, centres, prepared)


def settled(metric, rows, query, estimates, among, k, rescore):
    """The k nearest of the `rescore` best estimates among some slots."""
    best = among[np.lexsort((among, estimates[among]))][:rescore]
    true = oracle.distances(metric, rows, query, N)
    return best[np.lexsort((best, true[best]))][:k], true


def expect(found, wanted, true):
    assert np.allclose(found.distances, true[wanted], rtol=1e-4, atol=1e-5)
    assert np.allclose(found.distances, true[found.slots], rtol=1e-4, atol=1e-5)
    assert (np.diff(found.distances) >= 0).all()
    assert len(set(found.slots.tolist())) == len(found.slots)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
@pytest.mark.parametrize(("mask", "limit"), [(None, N), (SOME, N), (SOME, 777), (None, 64)])
def test_a_list_settles_the_best_estimates(kind, dim, metric, whole, mask, limit):
    scan, rows = made(kind, dim, metric, whole)
    among = np.flatnonzero((SOME if mask is not None else np.ones(N, np.bool_)) & (np.arange(N) < limit))
    allowed = None if mask is None else slots_to_bits(np.flatnonzero(mask), N)
    for at in range(4):
        query = query_of(rows, at, whole=whole)
        found = scan.scan_list(query, 10, rows=rows, limit=limit, allowed=allowed, rescore=24)
        wanted, true = settled(metric, rows, query, estimated(scan, kind, query)[0], among, 10, 24)
        expect(found, wanted, true)
        assert found[2:5] == (len(among), 0, 1)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
@pytest.mark.parametrize("size", [0, 1, 9, 30, 700])
def test_listed_slots_are_found_as_bits_are(kind, dim, metric, whole, size):
    scan, rows = made(kind, dim, metric, whole)
    order = np.random.default_rng(2).permutation(N).astype(np.uint32)
    first = 40
    bits = slots_to_bits(order[first : first + size], N)
    among = Among(size, listed=order.ctypes.data + first * 4, order=order)
    for at, hidden in ((0, -1), (1, int(order[first]))):
        query = query_of(rows, at, whole=whole)
        wanted = Wanted(10, rescore=24, hidden=hidden if size else -1)
        found = scan.seek(query, rows, N, among, wanted)
        true = scan.scan_list(query, 10, rows=rows, allowed=bits, rescore=24, hidden=wanted.hidden)
        assert found[0].tolist() == true.slots.tolist()
        assert found[1].tolist() == true.distances.tolist()
        assert found[2:] == true[2:]
    if size >= 10 and metric is Metric.L2:  # estimates that are not numbers: the slots are compared as they are stored
        far = query_of(rows, 0) * np.float32(1e30)
        assert len(scan.seek(far, rows, N, among, Wanted(10))[0]) == 10


def cells_to_scan(scan, centres, quota, matches):
    """The cells that a quota asks for: so many of the nearest, up to a sixteenth more."""
    count = min(max(quota * len(centres) // matches, 1), len(centres))
    return count, count + (count >> 4)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
@pytest.mark.parametrize("mask", [None, SOME])
def test_cells_settle_the_best_estimates_of_the_nearest_cells(kind, dim, metric, whole, mask):
    scan, rows = made(kind, dim, metric, whole)
    parts = scan.lists.members()
    allowed = None if mask is None else slots_to_bits(np.flatnonzero(mask), N)
    match = np.ones(N, np.bool_) if mask is None else mask
    for at, quota in enumerate((60, 150, 400)):
        query = query_of(rows, at, whole=whole)
        found = scan.scan_cells(query, 10, rows=rows, quota=quota, allowed=allowed, rescore=24)
        estimates, centres = estimated(scan, kind, query)
        low, high = cells_to_scan(scan, centres, quota, match.sum())
        if found.rounds == 1:
            assert low <= found.cells <= high
        near = np.argsort(centres, kind="stable")[: found.cells]
        among = np.concatenate([parts.order[parts.starts[c] : parts.starts[c + 1]] for c in near])
        among = among[match[among]]
        assert found.rows == len(among)
        wanted, true = settled(metric, rows, query, estimates, among, 10, 24)
        expect(found, wanted, true)
        if found.cells < scan.lists.cells:
            kth = np.sort(estimates[among])[9]
            unit = 1.0 if metric is Metric.DOT else np.sqrt(max(kth, 1e-12))
            nearest, beyond = (np.array([centres[near[-1]], np.sort(centres)[found.cells]]) - kth) / unit
            assert nearest - 1e-4 <= found.margin <= beyond + 1e-4


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), [KINDS[0], KINDS[1]])
def test_beside_a_graph_rows_of_bytes_rank_before_floats_settle(kind, dim, metric, whole):
    scan, rows = made(kind, dim, metric, whole, linked=True)
    allowed = slots_to_bits(np.flatnonzero(SOME), N)
    for at in range(5):
        query = query_of(rows, at, whole=whole)
        true = oracle.distances(metric, rows, query, N)
        nearest = np.flatnonzero(SOME)[np.argsort(true[SOME], kind="stable")[:10]]
        for found in (
            scan.scan_list(query, 10, rows=rows, allowed=allowed, rescore=100),
            scan.scan_cells(query, 10, rows=rows, allowed=allowed, quota=N, rescore=100),
        ):
            expect(found, nearest, true)


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), KINDS)
def test_there_are_always_min_k_matches_results(kind, dim, metric, whole):
    scan, rows = made(kind, dim, metric, whole)
    query = query_of(rows, 0, whole=whole)
    true = oracle.distances(metric, rows, query, N)
    far = np.argsort(true)[-300:]
    for matching in (far[:1], far[:7], far[:60], far):
        allowed = slots_to_bits(matching, N)
        for k in (1, 10, 100):
            wanted = matching[np.argsort(true[matching], kind="stable")[:k]]
            listed = scan.scan_list(query, k, rows=rows, allowed=allowed, rescore=8)
            celled = scan.scan_cells(query, k, rows=rows, allowed=allowed, quota=30, rescore=8)
            assert len(listed.slots) == len(celled.slots) == len(wanted)
            assert np.isin(listed.slots, matching).all()
            assert np.isin(celled.slots, matching).all()
            if len(matching) <= max(k, 8):  # nothing was left to estimates
                expect(listed, wanted, true)
                expect(celled, wanted, true)
    nothing = scan.scan_list(query, 10, rows=rows, allowed=slots_to_bits(np.empty(0, np.int64), N))
    assert len(nothing.slots) == 0
    assert len(scan.scan_list(query, 10, rows=rows, limit=0).slots) == 0


def test_a_margin_widens_the_scan_where_matches_lie_far_away():
    scan, rows = made(*KINDS[3])
    query = query_of(rows, 2)
    true = oracle.distances(Metric.COSINE, rows, query, N)
    far = np.argsort(true)[500:]
    allowed = slots_to_bits(far, N)
    narrow = scan.scan_cells(query, 10, rows=rows, allowed=allowed, quota=60, rescore=40)
    near = scan.scan_cells(query, 10, rows=rows, quota=60, rescore=40)
    assert narrow.margin < near.margin
    wide = scan.scan_cells(query, 10, rows=rows, allowed=allowed, quota=60, rescore=40, margin=near.margin)
    assert wide.rounds > narrow.rounds
    assert wide.rows > narrow.rows
    assert wide.margin >= near.margin
    bounded = scan.scan_cells(query, 10, rows=rows, allowed=allowed, quota=60, rescore=40, margin=9e9, most=600)
    assert bounded.gave_up
    assert len(far) <= bounded.rows <= narrow.rows + len(far)
    listed = scan.scan_list(query, 10, rows=rows, allowed=allowed, rescore=40)
    assert bounded.slots.tolist() == listed.slots.tolist()
    everything = scan.scan_cells(query, 10, rows=rows, allowed=allowed, quota=60, rescore=40, margin=9e9)
    assert everything.rows == len(far)
    assert everything.margin == np.inf


def test_few_cells_are_looked_at_where_matches_lie_beside_the_query():
    """By their number alone as many cells would hold the quota. What is found is for `test_filter_regret`."""
    scan, rows = made(*KINDS[3])
    members = np.zeros(2)
    for at in range(8):
        query = query_of(rows, at)
        order = np.argsort(oracle.distances(Metric.COSINE, rows, query, N))
        for i, some in enumerate((order[:120], order[7::10])):
            found = scan.scan_cells(query, 10, rows=rows, allowed=slots_to_bits(np.sort(some), N), quota=40, rescore=40)
            members[i] += found.members
            assert i or found.rows > 40  # as they lie closer more of them are wanted
    assert members[0] < 0.75 * members[1]


@pytest.mark.parametrize(("kind", "dim", "metric", "whole"), [KINDS[0], KINDS[2]])
def test_a_hidden_slot_is_left_out(kind, dim, metric, whole):
    scan, rows = made(kind, dim, metric, whole)
    query = rows.vectors[77]
    shown = scan.scan_list(query, 10, rows=rows, rescore=40)
    for found in (
        scan.scan_list(query, 10, rows=rows, rescore=40, hidden=77),
        scan.scan_cells(query, 10, rows=rows, quota=N, rescore=40, hidden=77),
    ):
        assert len(found.slots) == 10
        assert 77 not in found.slots
        assert set(shown.slots.tolist()) - {77} <= set(found.slots.tolist())


def test_rows_too_large_for_estimates_are_compared_on_floats():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 60)).astype(np.float32)
    rows = Rows(vectors, np.empty(0, np.float32))
    scan = CodeScan(CodedIndex.build(rows, 300, Metric.L2, None, codec="nibbles"))
    query = np.full(60, 3e18, np.float32)
    found = scan.scan_list(query, 10, rows=rows, rescore=20)
    assert len(found.slots) == 10


def test_bad_arguments_are_refused_with_their_name():
    scan, rows = made(*KINDS[3])
    query = query_of(rows, 0)
    cases: list[tuple[str, type[VicinalError], dict[str, Any]]] = [
        ("k", LimitExceeded, {"k": 0}),
        ("rescore", LimitExceeded, {"rescore": 1 << 16}),
        ("limit", InvalidArgument, {"limit": N + 1}),
        ("quota", InvalidArgument, {"quota": 0}),
        ("allowed", InvalidArgument, {"allowed": np.zeros(3, np.uint64)}),
    ]
    for field, error, wrong in cases:
        usual: dict[str, Any] = {"k": 10, "rows": rows, "quota": 5}
        with pytest.raises(error) as caught:
            scan.scan_cells(query, **(usual | wrong))
        assert caught.value.field == field
    with pytest.raises(InvalidVector):
        scan.scan_list(query[:5], 10, rows=rows)
    with pytest.raises(InvalidArgument, match="no cells"):
        CodeScan(scan.index).scan_cells(query, 10, rows=rows, quota=5)


def grown(kind, dim, metric, *, step, n=N, target=N + 700):
    rows = oracle.make_rows(N, dim, metric, dim, capacity=N + 700)
    index = CodedIndex.build(rows, n, metric, None, codec=kind)
    lists = CellLists(rows, metric, index.choice, partition(rows, n, metric, seed=1))
    first = lists.published
    for start in range(n, target, step):
        stop = min(start + step, target)
        index.append(rows, start, stop)
        lists.append(rows, start, stop)
    return index, lists, rows, first


@pytest.mark.parametrize(("step", "n", "target"), [(1, N, N + 60), (90, 200, 2000)])
def test_new_rows_join_the_nearest_cell_and_large_cells_are_cut(step, n, target):
    index, lists, rows, _ = grown("nibbles", 96, Metric.L2, step=step, n=n, target=target)
    parts = lists.members()
    assert np.array_equal(np.sort(parts.order), np.arange(index.n))
    assert np.diff(parts.starts).max() <= 4 * 64
    scan = CodeScan(index, lists)
    asked = range(n, index.n, 7)
    found = [scan.scan_cells(rows.vectors[slot], 1, rows=rows, quota=700, rescore=20).slots[0] for slot in asked]
    assert np.mean(np.array(found) == np.array(asked)) > 0.9


def test_cells_are_cut_until_none_is_large():
    index, lists, rows, first = grown("nibbles", 40, Metric.L2, step=90, n=200, target=2000)
    assert first.cells == 1
    assert lists.cells >= 2000 // 256
    sizes = np.diff(lists.members().starts)
    assert sizes.sum() == 2000
    assert sizes.max() <= 256
    query = rows.vectors[5] + np.float32(0.01)
    everything = CodeScan(index, lists).scan_cells(query, 10, rows=rows, quota=5000, rescore=100)
    assert everything.rows == 2000
    true = oracle.distances(Metric.L2, rows, query, 2000)
    expect(everything, np.argsort(true)[:10], true)


def test_lists_published_before_still_hold_what_they_held():
    index, lists, rows, first = grown("nibbles", 40, Metric.L2, step=90, n=200, target=1500)
    old = CellLists.__new__(CellLists)
    old.__dict__.update(lists.__dict__)
    old.published = first
    found = CodeScan(index, old).scan_cells(rows.vectors[3], 10, rows=rows, quota=5000, limit=200, rescore=200)
    assert found.rows == 200


def test_copies_of_one_row_stay_in_one_cell():
    vectors = np.ones((900, 40), np.float32)
    vectors[:100] = np.random.default_rng(1).standard_normal((100, 40))
    rows = Rows(vectors, np.empty(0, np.float32))
    index = CodedIndex.build(rows, 100, Metric.L2, None, codec="nibbles")
    lists = CellLists(rows, Metric.L2, index.choice, Partition(np.array([0, 100]), np.arange(100, dtype=np.int32)))
    for start in range(100, 900, 50):
        index.append(rows, start, start + 50)
        lists.append(rows, start, start + 50)
    assert np.array_equal(np.sort(lists.members().order), np.arange(900))
    assert len(CodeScan(index, lists).scan_cells(vectors[500], 700, rows=rows, quota=900).slots) == 700


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_cells_on_any_number_of_threads(threads):
    _, rows = made(*KINDS[3])
    one, other = partition(rows, N, Metric.COSINE, seed=1), partition(rows, N, Metric.COSINE, seed=1, threads=threads)
    assert np.array_equal(one.order, other.order)
    assert np.array_equal(one.starts, other.starts)


@pytest.mark.parametrize("name", ["haswell", pytest.param("x86-64", marks=pytest.mark.full)])
def test_other_bodies_find_the_same(name, tmp_path):
    """A fresh process that compiles for another processor runs these tests again; numpy's answers are the same."""
    run_again_on(name, tmp_path, __file__, picked="(list_settles or cells_settle) and (150 or 77) and not 777")
