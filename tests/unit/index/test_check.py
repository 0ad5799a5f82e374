from __future__ import annotations

import numpy as np
import pytest
from tests.support.vectors_oracle import METRICS, clustered, rows_of

from vicinal.index.check import check_graph, self_recall, unreachable
from vicinal.index.hnsw import HnswIndex
from vicinal.index.structure import in_degrees
from vicinal.kernels.simd import SENTINEL
from vicinal.types import HnswParams, Metric

N = 600


@pytest.fixture
def built():
    rows = rows_of(Metric.L2, clustered(N, 8, 1))
    index = HnswIndex(Metric.L2, 8, HnswParams(M=6, ef_construction=40))
    index.extend(rows, N)
    return index, rows


def _cut_off(index: HnswIndex, slot: int) -> None:
    """Take away every link to a slot."""
    links = index.picture().arrays.links
    for row in links[:N]:
        kept = row[(row != slot) & (row != SENTINEL)]
        row[:] = SENTINEL
        row[: len(kept)] = kept


def test_a_sound_graph(built):
    index, _ = built
    report = check_graph(index.picture())
    assert report.problems == []
    assert report.unreachable == 0
    assert report.links_mean == pytest.approx(in_degrees(index.picture()).mean())
    assert (in_degrees(index.picture()) > 0).sum() >= N - 1


def test_a_slot_nothing_links_to_is_reported_and_mended(built):
    index, rows = built
    entry = index.picture().entry
    lost = [s for s in (17, 300, 599) if s != entry]
    for slot in lost:
        _cut_off(index, slot)
    assert unreachable(index.picture()).tolist() == lost
    report = check_graph(index.picture())
    assert report.unreachable == len(lost)
    assert "cannot be reached" in report.problems[0]
    assert index.mend(rows) == len(lost)
    assert not check_graph(index.picture()).problems


def test_a_repeated_link_is_reported(built):
    index, _ = built
    row = index.picture().arrays.links[5]
    row[1] = row[0]
    assert "twice" in check_graph(index.picture()).problems[0]


@pytest.mark.parametrize(("column", "value"), [(0, 5), (0, N), (0, SENTINEL)])
def test_a_broken_row_is_reported(built, column, value):
    index, _ = built
    index.picture().arrays.links[5, column] = value
    assert "slot 5 " in check_graph(index.picture()).problems[0]


def test_links_to_every_slot_are_counted_while_building(built):
    index, _ = built
    assert (index._in_degrees[:N] == in_degrees(index.picture())).all()


@pytest.mark.parametrize("metric", METRICS)
def test_self_recall_falls_when_links_are_lost(metric):
    rows = rows_of(metric, clustered(N, 8, 2))
    index = HnswIndex(metric, 8, HnswParams(M=6, ef_construction=40))
    index.extend(rows, N)
    slots = np.arange(N, dtype=np.uint32)
    assert self_recall(index.picture(), metric, rows, slots) >= 0.999
    index.picture().arrays.links[:N][np.arange(N) % 10 > 0] = SENTINEL
    assert self_recall(index.picture(), metric, rows, slots) < 0.9
