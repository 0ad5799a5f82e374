"""Filters over a collection in cells: planned, full, near the exact answer, fitted or not."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.support import filter_plans as plans
from tests.unit.engine.test_filter_plans import recalls

from vicinal import limits, planner
from vicinal.bits import bits_from_mask
from vicinal.database import Database
from vicinal.index.field_index import FieldIndex
from vicinal.planner import Target, plan_search
from vicinal.searching import prepare
from vicinal.types import HnswParams, Metric, Rows

N, QUERIES = plans.N, plans.QUERIES


@pytest.fixture(scope="module")
def made() -> Any:
    """The rows of the graph's tests, in cells whose filters are fitted."""
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=plans.DIM, metric="l2", layout="cells")
        payloads = [{"n": int(number)} for number in plans.NUMBER]
        collection.upsert(np.arange(N), plans.VECTORS, payloads)
        assert collection.flush(300)
        assert collection._generation.indexer.wait_retired(300)
        yield collection


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("related", ["not", "near", "far"])
def test_recall_holds_whatever_the_share_and_wherever_the_matches(made: Any, share: float, related: str) -> None:
    masks = [
        plans.random_mask(share) if related == "not" else plans.near_mask(query, share, far=related == "far")
        for query in QUERIES
    ]
    found = recalls(made, masks)
    assert found.mean() >= 0.97
    assert (found < 0.8).mean() <= 0.02  # one of sixty
    assert found.min() > 0


@pytest.mark.parametrize("kind", ["list", "cells"])
def test_every_way_keeps_its_promise(made: Any, kind: str) -> None:
    for share in (0.02, 0.2, 0.7):
        for at, query in enumerate(QUERIES[:12]):
            related = at % 3 > 0
            mask = plans.near_mask(query, share, far=at % 2 > 0) if related else plans.random_mask(share, at)
            target = plans.target_of(made, mask)
            plan = plan_search(target, 10, 128, False)
            assert plan.way is not None
            plan.way = plan.way._replace(kind=kind)
            assert plans.hits_of(prepare(target, 10, plan).one(query), mask, query, 10) >= 0.5


def test_nothing_is_walked_and_the_plan_is_told(made: Any) -> None:
    seen = set()
    for low in (50, 2_000, 9_000, 18_000):
        for ef in (16, 128, 4096):
            told = made.query(QUERIES[0], 10, filter=f"n < {low}", ef=ef, explain=True).explain
            assert told["cardinality"] == low
            assert told["rows_scored"] + told["rescored"] >= 50  # so few, or so many asked for, are settled at once
            assert told["hops"] == 0
            seen.add(told["plan"])
    assert seen == {"list", "cells"}


def indexed(n: int) -> tuple[FieldIndex, Rows]:
    """Cells of the first n rows, for which nothing is fitted under filters yet."""
    rows = Rows(plans.VECTORS[:n], np.empty(0, np.float32))
    made = FieldIndex(Metric.L2, plans.DIM, HnswParams(), layout="cells", filters=True)
    made.extend(rows, n, lambda: False)
    assert made.n == n
    return made, rows


def test_filters_are_answered_before_they_are_fitted_and_after() -> None:
    n = 6_000
    made, rows = indexed(n)
    mask = np.arange(n) % 10 < 4
    for fitted in (False, True):
        graph = made.searcher()
        assert graph is not None
        assert graph.filtered is not None
        assert (len(graph.filtered.efforts.levels) > 1) == fitted
        found = []
        for query in QUERIES[:20]:
            target = Target(Metric.L2, rows, graph, n, n, bits_from_mask(mask), True)
            plan = plan_search(target, 10, 128, False)
            assert plan.kind in ("list", "cells")
            slots, _ = prepare(target, 10, plan).one(query)
            true = np.flatnonzero(mask)[np.argsort(plans.distances_of(query)[:n][mask])[:10]]
            assert mask[slots].all()
            found.append(np.isin(slots, true).mean())
        assert np.mean(found) >= 0.95
        assert not made.retire(rows, None, lambda: False), "cells just made are shown to readers first"
        assert made.retire(rows, None, lambda: False) == (not fitted)
    saved = made.encode()
    again = FieldIndex(Metric.L2, plans.DIM, HnswParams(), layout="cells", filters=True)
    again.decode(saved, rows, n)
    one, other = made.searcher(), again.searcher()
    assert one is not None
    assert other is not None
    assert one.filtered is not None
    assert other.filtered is not None
    assert one.filtered.efforts == other.filtered.efforts
    assert again.encode() == saved


def test_a_recall_asked_for_is_reached(made: Any) -> None:
    field: Any = plans.view_of(made).fields[""]
    rng = np.random.default_rng(8)
    asked = (plans.HEART[rng.integers(0, plans.CENTRES, 300)] + rng.standard_normal((300, plans.DIM))).astype(
        np.float32
    )
    whole = np.ones(N, np.bool_)
    wants = (0.8, 0.9, 0.95, 0.99, 0.995)
    efs = [planner.ef_for(field.graph, 10, wanted) for wanted in wants]
    assert efs == sorted(efs)
    assert efs[0] < efs[-1] < limits.EF_MAX
    for wanted, ef in zip(wants, efs, strict=True):
        assert field.graph.recall_at(ef) >= wanted
        search = partial(field.graph.search, k=10, ef=ef, rows=field.rows, limit=N, allowed=None)
        assert np.mean([plans.hits_of(search(query), whole, query, 10) for query in asked]) >= wanted - 0.015
