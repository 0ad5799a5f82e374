"""The cells layout as a field sees it: built, grown, searched, saved."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
from tests.support import codes_oracle as oracle

from vicinal.errors import CorruptData, InvalidArgument, LimitExceeded
from vicinal.index.cell_effort import CellEffort, CellEfforts, CellMeasured
from vicinal.index.cells import CellsIndex
from vicinal.index.field_index import FieldIndex
from vicinal.kernels.bitset import slots_to_bits
from vicinal.types import HnswParams, Metric

N, MORE = 2_600, 900
METRICS = [(Metric.COSINE, 130), (Metric.L2, 48), (Metric.DOT, 90)]


def made(metric, dim, *, n=N, **options):
    rows = oracle.make_rows(N, dim, metric, dim, capacity=N + MORE)
    cells = CellsIndex.build(rows, n, metric, **options)
    assert cells is not None
    return cells, rows


shared = functools.cache(made)


def queries(rows, count=25):
    return [rows.vectors[N + 860 + i % 40] + np.float32(0.02) for i in range(count)]


def recall_of(cells, rows, ef, *, n, mask=None, metric, **options):
    hits = 0
    for query in queries(rows):
        true = oracle.distances(metric, rows, query, n)
        if mask is not None:
            true[~mask] = np.inf
        slots, distances = cells.search(query, 10, ef, rows=rows, **options)
        assert len(slots) == 10
        assert np.allclose(true[slots], distances, rtol=1e-4, atol=1e-5)
        assert (np.diff(distances) >= 0).all()
        hits += int((true[slots] <= np.sort(true)[9] + 1e-6).sum())
    return hits / 10 / len(queries(rows))


@pytest.mark.parametrize(("metric", "dim"), METRICS)
def test_more_effort_finds_more_until_all_is_found(metric, dim):
    cells, rows = shared(metric, dim)
    recalls = [recall_of(cells, rows, ef, n=N, metric=metric) for ef in (4, 32, 4096)]
    assert recalls == sorted(recalls)
    assert recalls[-1] >= 0.99
    assert recall_of(cells, rows, cells.ef_for(0.95), n=N, metric=metric) >= 0.9


@pytest.mark.parametrize(("metric", "dim"), METRICS)
def test_a_filter_and_a_limit_hold(metric, dim):
    cells, rows = shared(metric, dim)
    mask = np.random.default_rng(1).random(N) < 0.5
    allowed = slots_to_bits(np.flatnonzero(mask), N)
    assert recall_of(cells, rows, 128, n=N, mask=mask, metric=metric, allowed=allowed) >= 0.9
    below = mask & (np.arange(N) < 1000)
    found = cells.search(rows.vectors[3], 2000, 64, rows=rows, limit=1000, allowed=allowed)
    assert set(found[0].tolist()) == set(np.flatnonzero(below).tolist())
    with pytest.raises(InvalidArgument):
        cells.search(rows.vectors[3], 10, 64, rows=rows, allowed=allowed[:3])


def test_a_batch_gives_what_single_queries_give():
    cells, rows = shared(*METRICS[0])
    asked = np.stack(queries(rows, 9))
    wanted = [cells.search(query, 5, 50, rows=rows) for query in asked]
    for threads in (1, 2, 4):
        found = cells.search_batch(asked, 5, 50, rows=rows, threads=threads)
        assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(wanted, found, strict=True))
    assert cells.search_batch(asked[:0], 5, 50, rows=rows, threads=2) == []


def test_new_rows_are_found_and_readers_with_an_older_limit_do_not_see_them():
    cells, rows = made(*METRICS[1], n=1000, measure=False)
    for start in range(1000, N, 200):
        cells.append(rows, start, min(start + 200, N))
    assert cells.n == N
    assert recall_of(cells, rows, 400, n=N, metric=Metric.L2) >= 0.97
    for slot in range(1000, N, 97):
        assert cells.search(rows.vectors[slot], 1, 64, rows=rows)[0][0] == slot
        assert (cells.search(rows.vectors[slot], 10, 64, rows=rows, limit=1000)[0] < 1000).all()


def test_readers_search_while_the_writer_appends():
    cells, rows = made(*METRICS[1], n=600, measure=False)
    wrong: list[object] = []
    done = threading.Event()

    def read():
        at = 0
        while not done.is_set():
            at += 1
            n = cells.n
            slot = at * 37 % n
            found = cells.search(rows.vectors[slot], 3, 4096, rows=rows, limit=n)[0]
            if found[0] != slot or (found >= n).any() or len(set(found.tolist())) != 3:
                wrong.append((slot, n, found))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(600, N + MORE, 50):
        cells.append(rows, start, min(start + 50, N + MORE))
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_the_same_rows_and_seed_give_the_same_bytes_on_any_number_of_threads():
    one, _ = made(*METRICS[2])
    two, _ = made(*METRICS[2], threads=2)
    assert one.encode() == two.encode()


def test_building_stops_when_told():
    rows = oracle.make_rows(N, 48, Metric.L2, 1)
    assert CellsIndex.build(rows, N, Metric.L2, cancel=lambda: True) is None


@pytest.mark.parametrize(("metric", "dim"), METRICS)
def test_a_snapshot_brings_back_the_same_answers(metric, dim):
    cells, rows = made(metric, dim, n=N - 100)
    again = CellsIndex.decode(cells.encode(), rows, metric, N)
    assert (again.n, again.efforts) == (cells.n, cells.efforts)
    assert np.array_equal(again.lists.members().order, cells.lists.members().order)
    for query in queries(rows, 5):
        for a, b in zip(cells.search(query, 10, 60, rows=rows), again.search(query, 10, 60, rows=rows), strict=True):
            assert np.array_equal(a, b)
    again.append(rows, N - 100, N)
    assert again.search(rows.vectors[N - 1], 1, 64, rows=rows)[0][0] == N - 1


def test_a_damaged_snapshot_is_refused():
    cells, rows = made(Metric.L2, 48, n=2100)
    whole = cells.encode()
    for cut in (0, 7, 47, 48, len(whole) // 2, len(whole) - 1):
        with pytest.raises(CorruptData):
            CellsIndex.decode(whole[:cut], rows, Metric.L2, N)
    for at in (0, 12, 17, 25, 33, 41, 49, 2000, len(whole) - 3):
        broken = bytearray(whole)
        broken[at] ^= 0x55
        with pytest.raises(CorruptData):
            CellsIndex.decode(bytes(broken), rows, Metric.L2, N)
    with pytest.raises(CorruptData, match="2099 slots"):
        CellsIndex.decode(whole, rows, Metric.L2, 2099)


def test_dropped_rows_are_in_no_cell_and_the_others_are_found_as_before():
    cells, rows = made(*METRICS[1])
    dead = np.random.default_rng(3).random(N + MORE) < 0.6
    alive = slots_to_bits(np.flatnonzero(~dead[:N]), N)
    before = recall_of(cells, rows, 128, n=N, mask=~dead[:N], metric=Metric.L2, allowed=alive)
    old = cells.lists.published
    cells.drop(dead)
    assert np.array_equal(np.sort(cells.lists.members().order), np.flatnonzero(~dead[:N]))
    assert np.array_equal(np.flatnonzero(cells.listed), np.flatnonzero(~dead[:N]))
    assert cells.lists.published.kept[3] is not old.kept[3], "readers keep the lists they had"
    after = recall_of(cells, rows, 128, n=N, mask=~dead[:N], metric=Metric.L2, allowed=alive)
    assert after >= before - 0.01
    everything = cells.search(rows.vectors[3], 20, 4096, rows=rows)[0]
    assert len(everything) == 20, "a reader to whom dropped rows are alive gets a whole answer"
    gone = np.flatnonzero(dead[:N])[:300]
    bits = slots_to_bits(gone, N)
    assert len(cells.scan.scan_cells(rows.vectors[3], 20, rows=rows, allowed=bits, quota=50).slots) == 20
    cells.append(rows, N, N + MORE)
    assert cells.search(rows.vectors[N + 5], 1, 64, rows=rows)[0][0] == N + 5
    again = CellsIndex.decode(cells.encode(), rows, Metric.L2, N + MORE)
    assert again.encode() == cells.encode()
    assert np.array_equal(again.listed, cells.listed)
    assert cells.listed[N:].all()


def test_cells_are_made_and_measured_of_living_rows():
    dead = np.zeros(N, np.bool_)
    dead[: N // 8] = True
    cells, rows = made(*METRICS[1], dead=dead)
    assert np.array_equal(np.sort(cells.lists.members().order), np.arange(N // 8, N))
    assert cells.efforts.measured[-1].recall >= 0.99
    alive = slots_to_bits(np.arange(N // 8, N), N)
    ef = cells.ef_for(0.95)
    assert recall_of(cells, rows, ef, n=N, mask=~dead, metric=Metric.L2, allowed=alive) >= 0.9
    with_all_dead, _ = made(*METRICS[1], dead=np.ones(N, np.bool_), measure=False)
    assert len(with_all_dead.lists.members().order) == N


def test_few_living_rows_are_not_measured_for_ever():
    rows = oracle.make_rows(N, 48, Metric.L2, 7)
    index = FieldIndex(Metric.L2, 48, HnswParams(), layout="cells", filters=True)
    dead = np.arange(N) >= 12
    index.extend(rows, N, lambda: False, dead)
    assert [index.retire(rows, dead, lambda: False) for _ in range(3)] == [False] * 3
    cells = index._cells
    assert cells is not None
    alive = slots_to_bits(np.arange(12), N)
    assert sorted(cells.search(rows.vectors[3], 12, 64, rows=rows, allowed=alive)[0].tolist()) == list(range(12))


def test_churn_costs_no_recall_and_leaves_no_dead_rows_in_cells():
    rounds, batch = 12, N // 5
    rows = oracle.make_rows(N + rounds * batch, 48, Metric.L2, 7)
    index = FieldIndex(Metric.L2, 48, HnswParams(), layout="cells", filters=True)
    index.extend(rows, N, lambda: False)
    dead = np.zeros(N + rounds * batch, np.bool_)
    rng = np.random.default_rng(2)
    n = N
    for _ in range(rounds):
        dead[rng.choice(np.flatnonzero(~dead[:n]), batch, replace=False)] = True
        n += batch
        while index.n < n:
            index.extend(rows, n, lambda: False, dead)
        while index.retire(rows, dead, lambda: False):
            pass
    cells, alive = index._cells, np.flatnonzero(~dead)
    assert cells is not None
    assert int(cells.listed.sum()) <= len(alive) * 1.13
    fresh = CellsIndex.build(rows, n, Metric.L2, dead=dead)
    assert fresh is not None
    found = []
    for one in (cells, fresh):
        hits = 0
        for query in rows.vectors[alive[::60]] + np.float32(0.02):
            true = ((rows.vectors[alive] - query) ** 2).sum(1)
            ours = one.search(query, 10, 16, rows=rows, allowed=slots_to_bits(alive, n))[0]
            assert len(ours) == 10
            hits += int(np.isin(ours, alive[np.argsort(true)[:10]]).sum())
        found.append(hits / 10 / len(alive[::60]))
    assert found[0] >= found[1] - 0.02


def test_memory_stays_near_a_line_and_a_place_a_row():
    cells, _ = shared(Metric.L2, 48)
    assert cells.lists.memory_bytes / cells.n + 64 >= 68
    assert cells.index.memory_bytes / cells.n < 64 + 20  # constants weigh much in so few rows
    assert cells.info["cells"] == cells.lists.cells
    assert cells.info["walk"] == "none"


def test_bad_arguments_are_refused():
    cells, rows = shared(*METRICS[1])
    query = rows.vectors[0]
    with pytest.raises(LimitExceeded):
        cells.search(query, 0, 10, rows=rows)
    with pytest.raises(InvalidArgument):
        cells.search(query, 10, 0, rows=rows)
    with pytest.raises(InvalidArgument):
        cells.ef_for(1.5)
    with pytest.raises(InvalidArgument):
        cells.search(query, 10, 10, rows=rows, limit=N + 1)


def test_the_table_keeps_what_nothing_cheaper_equals():
    def measure(effort: CellEffort) -> CellMeasured:
        cost = effort.quota + 40 * effort.rescore
        return CellMeasured(effort, min(effort.quota / 4000, 1) * min(effort.rescore / 64, 1), cost)

    table = CellEfforts.fit(measure, 9000)
    costs, recalls = [m.cost for m in table.measured], [m.recall for m in table.measured]
    assert costs == sorted(costs)
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1
    assert table.effort(10, table.measured[-1].ef) == table.measured[-1].effort
    assert table.effort(10, 1) == table.measured[0].effort
    assert table.effort(10, 4096).quota > table.measured[-1].effort.quota
    assert table.effort(100, 50).rescore >= 150
    assert table.ef_for(2) is None
    half = table.ef_for(0.5)
    assert half is not None
    assert CellEfforts().effort(10, 50).quota < CellEfforts().effort(10, 100).quota


def test_other_rows_tell_what_chosen_efforts_of_cells_find():
    def told(effort):
        return CellMeasured(effort, 1 - 40 / (effort.quota + effort.rescore), float(effort.quota + 40 * effort.rescore))

    def lucky(effort):
        return told(effort)._replace(recall=min(told(effort).recall + 0.02, 1.0))

    table = CellEfforts.fit(lucky, 20_000, told)
    assert len(table.measured) > 2
    assert all(one.recall == told(one.effort).recall for one in table.measured)
    assert (table.ef_for(0.95) or 0) > (CellEfforts.fit(lucky, 20_000).ef_for(0.95) or 0) > 0
