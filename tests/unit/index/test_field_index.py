"""Which walk a field gets, and that its graph survives bytes and growth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vicinal.errors import CorruptData
from vicinal.index import coded_effort
from vicinal.index.check import check_graph
from vicinal.index.exact import exact_search
from vicinal.index.field_index import FieldIndex, FloatSearcher
from vicinal.types import HnswParams, Metric, Rows

NONE = np.zeros(0, np.float32)


def _grown(vectors, stop=None, **options) -> tuple[Any, Rows]:
    rows = Rows(np.ascontiguousarray(vectors, np.float32), NONE)
    index = FieldIndex(Metric.L2, vectors.shape[1], HnswParams(), **options)
    while index.n < (stop or len(vectors)):
        index.extend(rows, stop or len(vectors), lambda: False)
    return index, rows


def _recall(index, rows, queries, ef):
    found = 0
    searcher = index.searcher()
    for q in queries:
        best = exact_search(Metric.L2, rows, q, 10, start=0, stop=index.n)[1][-1]
        _, distances = searcher.search(q, 10, ef, rows=rows, limit=index.n, allowed=None)
        found += (distances <= best * (1 + 1e-5)).sum()
    return found / (10 * len(queries))


@pytest.fixture(scope="module")
def plain():
    return np.random.default_rng(1).standard_normal((4000, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def islands():
    """Tight groups far from each other."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((200, 64)) * 100
    return (centres[rng.integers(0, 200, 16_000)] + rng.standard_normal((16_000, 64)) * 0.01).astype(np.float32)


def test_small_fields_stay_on_floats_and_large_ones_go_to_codes(plain):
    index, rows = _grown(plain)
    assert index.searcher().layout == "float"
    index, rows = _grown(plain, coded_from=1000)
    assert index.searcher().layout == "coded"
    told = index.searcher().codec
    assert told["chosen"] == "int8"
    assert "8 bits" in told["why"]
    assert 0 <= told["recall_lost"] <= 0.005
    assert _recall(index, rows, plain[:50] + np.float32(0.05), 128) > 0.95


def test_other_degrees_stay_on_floats(plain):
    index: Any = FieldIndex(Metric.L2, 32, HnswParams(M=8), coded_from=1000)
    index.extend(Rows(plain, NONE), 1500, lambda: False)
    assert index.searcher().layout == "float"


def test_rows_smaller_than_their_codes_stay_on_floats_unless_codes_are_asked_for(plain):
    thin = np.ascontiguousarray(plain[:, :3])
    index, rows = _grown(thin, coded_from=1000)
    searcher = index.searcher()
    assert searcher.layout == "float"
    assert "fewer than 4 dimensions" in searcher.codec["why"]
    assert _recall(index, rows, thin[:50] + np.float32(0.01), 64) > 0.99
    assert _grown(thin, coded_from=1000, codec="bytes")[0].searcher().layout == "coded"
    assert _grown(thin, coded_from=1000, layout="cells")[0].searcher().layout == "cells"


@pytest.fixture
def distrust(monkeypatch):
    """No loss is small enough: as when codes cannot tell rows apart."""
    monkeypatch.setattr(coded_effort, "LOST_MOST", -1.0)


@pytest.mark.usefixtures("distrust")
def test_rows_that_codes_cannot_tell_apart_are_walked_on_floats(islands):
    index, rows = _grown(islands, coded_from=1000)
    searcher = index.searcher()
    assert isinstance(searcher, FloatSearcher)
    assert "lose" in searcher.codec["why"]
    assert not check_graph(searcher.picture).problems
    assert _recall(index, rows, islands[:60], 128) > 0.95


@pytest.mark.usefixtures("distrust")
def test_such_a_graph_grows_on(islands):
    index, rows = _grown(islands, 15_000, coded_from=1000)
    while index.n < 16_000:
        index.extend(rows, 16_000, lambda: False)
    assert not check_graph(index.searcher().picture).problems
    assert _recall(index, rows, islands[15_500:15_560], 128) > 0.95


@pytest.mark.parametrize("coded_from", [None, 1000])
def test_bytes_bring_the_graph_back(plain, coded_from):
    index, rows = _grown(plain, coded_from=coded_from)
    again: Any = FieldIndex(Metric.L2, 32, HnswParams(), coded_from=coded_from)
    again.decode(index.encode(), rows, len(plain))
    assert (again.n, again.searcher().layout) == (index.n, index.searcher().layout)
    for q in plain[:20]:
        one, two = (
            s.search(q, 10, 64, rows=rows, limit=4000, allowed=None) for s in (index.searcher(), again.searcher())
        )
        np.testing.assert_array_equal(one[0], two[0])


def test_damaged_bytes_are_refused(plain):
    index, rows = _grown(plain, coded_from=1000)
    whole = index.encode()
    for broken in (whole[:10], whole[:-4], whole + b"\0" * 128, b"", b"VICCODES", b"VICGRAPH"):
        with pytest.raises(CorruptData):
            FieldIndex(Metric.L2, 32, HnswParams()).decode(broken, rows, len(plain))
    with pytest.raises(CorruptData):
        FieldIndex(Metric.L2, 32, HnswParams()).decode(whole, rows, 3999)


def test_later_rows_are_inserted(plain):
    index, rows = _grown(plain, 3900, coded_from=1000)
    index.extend(rows, 4000, lambda: False)
    assert index.n == 4000
    assert _recall(index, rows, plain[3900:3950], 64) > 0.9


@pytest.mark.parametrize("seed", [6, 8, 10])
def test_every_slot_of_a_small_graph_is_reached_after_every_step(seed):
    """Equal rows under dot, where long ones take all links: an insertion alone leaves some out."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (365, 6)).astype(np.float32) + np.float32(0.5)
    rows, index = Rows(vectors, NONE), FieldIndex(Metric.DOT, 6, HnswParams(M=4, ef_construction=16))
    for stop in sorted({*rng.integers(1, 365, 3).tolist(), 365}):
        index.extend(rows, stop, lambda: False)
        assert check_graph(index._small.picture()).problems == []


@pytest.mark.parametrize(("coded_from", "first"), [(1000, 3000), (None, 1500)])
def test_arrays_stay_where_they_are_until_there_is_no_room(plain, coded_from, first):
    """What memory the next rows take is foretold by it: no copy comes sooner."""
    index, rows = _grown(plain, first, coded_from=coded_from)

    def held():
        if coded_from is None:
            return [index._small._arrays.links]
        growing = index._growing
        return [index._large._arrays.links, growing and growing._links, growing and growing._coding.codes.half]

    stop, copied, room = first, 0, index.searcher().room
    while stop < len(plain):
        before, stop = held(), stop + 20
        index.extend(rows, stop, lambda: False)
        moved = any(one is not other for one, other in zip(before, held(), strict=True))
        assert not moved or stop > room, (stop, room)
        copied += moved
        room = index.searcher().room
    assert 1 <= copied <= 8


def _drifting(change, rng):
    """3,000 rows in clusters, and 340 that came later from elsewhere."""
    centres = rng.standard_normal((20, 128)) / np.sqrt(1 + np.arange(128) / 8)
    x = centres[rng.integers(0, 20, 3340)] + 0.3 * rng.standard_normal((3340, 128)) / np.sqrt(1 + np.arange(128) / 8)
    x[3000:] = change(x[3000:], rng)
    return x.astype(np.float32)


CHANGES = {
    "mean": lambda x, _: x + 4,
    "scale": lambda x, _: 4 * x,
    "clusters": lambda x, rng: 0.3 * x + 3 * rng.standard_normal((4, 128))[rng.integers(0, 4, len(x))],
}


@pytest.mark.parametrize("change", CHANGES)
def test_codes_are_fitted_again_when_later_rows_come_from_elsewhere(change):
    vectors = _drifting(CHANGES[change], np.random.default_rng(5))
    index, rows = _grown(vectors, 3000, coded_from=1000)
    before = index.searcher()
    while index.n < 3340:
        index.extend(rows, 3340, lambda: False)
    assert index.searcher().layout == "coded"
    assert index.searcher().codec["refits"] == 1
    assert before.codec["refits"] == 0, "a View keeps what it had"
    fresh, _ = _grown(vectors, coded_from=1000)
    asked = vectors[3290:] + np.float32(0.02)
    assert _recall(index, rows, asked, 64) >= _recall(fresh, rows, asked, 64) - 0.02


def test_rows_like_those_before_leave_the_codes_alone(plain):
    index, rows = _grown(plain, 3600, coded_from=1000)
    while index.n < 4000:
        index.extend(rows, 4000, lambda: False)
    assert index.searcher().codec["refits"] == 0


def test_cells_are_made_when_asked_for_or_when_a_graph_would_not_fit(plain):
    index, rows = _grown(plain, layout="cells")
    assert index.searcher().layout == "cells"
    assert index.searcher().placed == ("cells", "asked for")
    assert _recall(index, rows, plain[:50] + np.float32(0.05), 256) > 0.95
    index, _ = _grown(plain, coded_from=1000, budget=200_000)
    assert index.searcher().placed.chosen == "cells"
    assert "budget is 0 MiB" in index.searcher().placed.why
    index, _ = _grown(plain, coded_from=1000, budget=2_000_000)
    assert (index.searcher().layout, index.searcher().placed.chosen) == ("coded", "graph")
    index, _ = _grown(plain, coded_from=1000, layout="graph", budget=0)
    assert index.searcher().placed == ("graph", "asked for")


def test_a_few_rows_are_no_cells_yet(plain):
    index, _ = _grown(plain, 1500, layout="cells")
    assert (index.searcher().layout, index.searcher().placed.chosen) == ("float", "graph")


def test_cells_grow_are_made_anew_and_survive_bytes(plain):
    index, rows = _grown(plain, 2000, layout="cells")
    made = index._cells
    while index.n < 3500:
        index.extend(rows, 3500, lambda: False)
    assert index._cells is made
    again: Any = FieldIndex(Metric.L2, 32, HnswParams(), layout="cells")
    again.decode(index.encode(), rows, len(plain))
    assert (again.n, again.searcher().layout) == (3500, "cells")
    query = plain[7] + np.float32(0.01)
    for one, other in zip(
        *(i.searcher().search(query, 5, 4096, rows=rows, limit=3500, allowed=None) for i in (index, again)), strict=True
    ):
        assert np.array_equal(one, other)
    while index.n < 4000:
        index.extend(rows, 4000, lambda: False)
    assert index._cells is not made, "twice as many rows"
    with pytest.raises(CorruptData):
        again.decode(index.encode()[:-1], rows, len(plain))


def test_a_cancelled_build_of_cells_leaves_the_field_as_it_was(plain):
    index, rows = _grown(plain, 1000, layout="cells")
    index.extend(rows, 4000, lambda: True)
    assert (index.n, index.searcher().layout) == (1000, "float")
