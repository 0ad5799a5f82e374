"""The table behind ef."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.support import codes_oracle as oracle

from vicinal.errors import InvalidArgument
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_effort import Effort, EffortTable, Measured, Reference
from vicinal.limits import EF_MAX
from vicinal.types import Metric

N = 2500


def fake(effort):
    """Recall and rows expanded as they might be."""
    return 1 - 0.5 / (effort.stop + effort.rescore / 4), float(effort.stop + 6)


@pytest.mark.parametrize("exact_walk", [True, False])
def test_the_table_ascends_and_keeps_only_what_nothing_cheaper_equals(exact_walk):
    table = EffortTable.fit(fake, exact_walk=exact_walk)
    assert len(table.measured) > 5
    for one, two in pairwise(table.measured):
        assert one.recall < two.recall
        assert one.cost <= two.cost
        assert one.effort.pool <= two.effort.pool
    assert list(table.efs) == sorted(table.efs)


def test_other_rows_tell_what_chosen_efforts_find():
    """Some efforts are lucky on the rows that choose them."""

    def lucky(effort):
        recall, rows = fake(effort)
        return min(recall + (0.04 if effort.stop % 4 == 0 else 0), 1.0), rows

    floats = reference((16, 0.9), (64, 0.98))
    table = EffortTable.fit(lucky, exact_walk=True, reference=floats, again=fake)
    assert len(table.measured) > 3
    assert all(one.recall == fake(one.effort)[0] for one in table.measured)
    assert all(recall == fake(table.effort(10, ef))[0] for ef, recall in table.checked)
    assert all(fake(table.effort(10, ef))[0] >= recall - 0.005 for ef, recall in floats)
    luckily = EffortTable.fit(lucky, exact_walk=True, reference=floats)
    assert any(fake(luckily.effort(10, ef))[0] < recall - 0.005 for ef, recall in floats)


@pytest.mark.parametrize("table", [EffortTable.fit(fake, exact_walk=True), EffortTable(True), EffortTable(False)])
def test_more_ef_never_asks_for_less(table):
    efforts = [table.effort(10, ef) for ef in range(1, EF_MAX + 1)]
    assert all(one.pool <= two.pool for one, two in pairwise(efforts))
    assert all(e.pool % 8 == 0 and e.stop >= 1 for e in efforts)
    assert all(max(e) < 1 << 15 for e in efforts), "each part has 16 bits"


@pytest.mark.parametrize("exact_walk", [True, False])
def test_more_ef_walks_farther_where_the_least_effort_found_all(exact_walk):
    table = EffortTable.fit(lambda _: (1.0, 5.0), exact_walk=exact_walk, reference=reference((16, 1.0)))
    assert len(table.measured) == 1
    for one, two in pairwise(table.effort(10, ef) for ef in (16, 32, 64, 128, 256, 512, 1024)):
        assert one.pool < two.pool
        assert one.stop < two.stop
        assert one.settle <= two.settle
    assert table.effort(10, 1024).stop > 700


@pytest.mark.parametrize("k", [1, 10, 11, 100, 1000, 10_000])
def test_pool_and_settled_hold_k(k):
    for table in (EffortTable(True), EffortTable(False), EffortTable.fit(fake, exact_walk=True)):
        effort = table.effort(k, 10)
        assert effort.settle >= min(k, 12)
        assert effort.pool + effort.stop >= k
        if k > 10:
            assert min(effort.pool, effort.stop, effort.settle) >= k


def reference(*pairs):
    return tuple(Reference(ef, recall) for ef, recall in pairs)


def test_an_ef_finds_as_much_as_floats_do():
    floats = reference((16, 0.8), (32, 0.9), (64, 0.95), (128, 0.98))
    table = EffortTable.fit(fake, exact_walk=True, reference=floats)
    for ef, recall in floats:
        effort = table.effort(10, ef)
        assert fake(effort)[0] >= recall - 0.005
    assert table.lost <= 0.005
    assert table.refused is None


def test_codes_that_lose_recall_or_walk_far_are_refused():
    floats = reference((16, 0.9), (32, 1.0))
    coarse = EffortTable.fit(lambda e: (0.6 * fake(e)[0], 9.0), exact_walk=True, reference=floats)
    assert coarse.lost > 0.3
    assert "lose" in (coarse.refused or "")
    slow = EffortTable.fit(lambda e: (1 - 40 / (40 + e.stop), 9.0), exact_walk=True, reference=reference((32, 0.95)))
    assert slow.lost <= 0.005
    assert "expand" in (slow.refused or "")


def test_where_estimates_are_too_coarse_more_is_settled_on_floats():
    def measure(effort):
        return min(0.5 + effort.settle / 400, 1 - 1 / effort.stop), 9.0

    table = EffortTable.fit(measure, exact_walk=True)
    assert table.measured[-1].recall > 0.99
    assert table.measured[-1].effort.settle >= 200
    plain = EffortTable.fit(fake, exact_walk=True)
    assert max(m.effort.settle for m in plain.measured) == 12


def test_the_least_ef_that_reached_a_recall_is_given():
    a, b, c = Effort(32, 5, 8, 12), Effort(32, 8, 8, 12), Effort(48, 12, 8, 12)
    table = EffortTable(True, (Measured(a, 0.8, 9.0), Measured(b, 0.9, 10.0), Measured(c, 0.97, 12.0)))
    assert table.efs == (16, 32, 48)
    assert table.ef_for(0.85) == 32
    assert table.ef_for(0.97) == 48
    assert table.ef_for(0.99) is None
    assert [table.effort(10, ef) for ef in (1, 16, 32, 48)] == [a, a, b, c]
    assert table.effort(10, 40) == Effort(40, 10, 8, 12)


@pytest.fixture(scope="module")
def measured():
    rows = oracle.make_rows(N + 200, 64, Metric.L2, 3)
    links = oracle.make_links(rows, N, Metric.L2, 3)
    return CodedIndex.build(rows, N, Metric.L2, links, codec="signs"), rows, links


def test_measured_recall_is_what_new_queries_get(measured):
    index, rows, _ = measured
    for target in (0.8, 0.9, 0.95):
        ef = index.ef_for(target)
        found = 0
        for at in range(150):
            query = rows.vectors[N + at]
            slots, _ = index.search(query, 10, ef, rows=rows)
            true = np.argsort(oracle.distances(Metric.L2, rows, query, N), kind="stable")[:10]
            found += len(set(slots.tolist()) & set(true.tolist()))
        assert found / 1500 > target - 0.06


def test_the_same_rows_give_the_same_table(measured):
    index, rows, links = measured
    again = CodedIndex.build(rows, N, Metric.L2, links, codec="signs", threads=2)
    assert again.efforts.measured == index.efforts.measured
    assert index.efforts.measured != ()


def test_a_target_nobody_reaches_gives_the_largest_ef(measured):
    index, _, _ = measured
    assert index.ef_for(1.0) in {EF_MAX, *index.efforts.efs}
    with pytest.raises(InvalidArgument, match="recall_target"):
        index.ef_for(1.5)


@pytest.mark.parametrize("k", [100, 300])
def test_many_results_are_found_as_well_as_ten(measured, k):
    index, rows, _ = measured
    found = 0
    for at in range(20):
        query = rows.vectors[N + at]
        slots, _ = index.search(query, k, 64, rows=rows)
        true = np.argsort(oracle.distances(Metric.L2, rows, query, N), kind="stable")[:k]
        found += len(set(slots.tolist()) & set(true.tolist()))
    assert found / (20 * k) > 0.93


@pytest.mark.parametrize("exact_walk", [True, False])
def test_more_ef_asks_for_more_when_many_results_are_wanted(exact_walk):
    table = EffortTable.fit(fake, exact_walk=exact_walk)
    efforts = [table.effort(300, ef) for ef in (10, 300, 600, 1200, EF_MAX)]
    assert efforts[0] == efforts[1]
    for one, two in pairwise(efforts[1:]):
        assert one.stop < two.stop
        assert one.pool < two.pool
