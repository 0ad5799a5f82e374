"""Filters that defeat planners: every plan returns min(k, matches) points that match, and nearly all of the nearest."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.filter_plans import (
    DIM,
    NUMBER,
    QUERIES,
    VECTORS,
    N,
    distances_of,
    far_clusters,
    hits_of,
    near_mask,
    random_mask,
    target_of,
    view_of,
    without_near,
)

from vicinal import planner
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.kernels.bitset import slots_to_bits
from vicinal.planner import Target, plan_search
from vicinal.searching import prepare
from vicinal.types import Metric, Rows
from vicinal.view import View

K = 10


def recalls(collection: Collection, masks: Any, k: int = K, **options: Any) -> NDArray[np.float64]:
    """Of every query under its mask."""
    found = []
    for query, mask in zip(QUERIES, masks, strict=True):
        target = target_of(collection, mask)
        plan = plan_search(target, k, options.get("ef", planner.default_ef(k)), False, options.get("goal"))
        found.append(hits_of(prepare(target, k, plan).one(query), mask, query, k))
    return np.array(found)


@pytest.mark.parametrize("share", [0.00005, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("related", ["not", "near", "far"])
def test_recall_holds_whatever_the_share_and_wherever_the_matches(planned: Any, share: float, related: str) -> None:
    masks = (
        [random_mask(share)] * len(QUERIES)
        if related == "not"
        else [near_mask(query, share, far=related == "far") for query in QUERIES]
    )
    found = recalls(planned, masks)
    assert found.mean() >= 0.97
    assert (found < 0.8).mean() <= 0.005  # none of sixty
    assert found.min() > 0


def test_a_lower_goal_asks_for_less(planned: Any) -> None:
    filtered = target_of(planned, random_mask(0.3)).graph.filtered  # type: ignore[union-attr]
    assert filtered is not None
    levels = filtered.efforts.levels
    assert [level.recall for level in levels] == [0.9, 0.95, 0.98, 0.99]
    for share in (0.3, 0.1, 0.02):
        efforts = [level.at(share) for level in levels]
        prices = [filtered.prices.of(effort.cells_work(filtered.lists.cells)) for effort in efforts]
        assert [effort.rescore for effort in efforts] == sorted(effort.rescore for effort in efforts)
        assert prices[0] < prices[2]
        for goal in (0.9, 0.95):
            assert recalls(planned, [random_mask(share)] * len(QUERIES), goal=goal).mean() >= goal - 0.02


def test_efforts_lie_between_those_of_two_levels(planned: Any) -> None:
    graph = target_of(planned, random_mask(0.3)).graph
    assert graph is not None
    assert graph.filtered is not None
    efforts = graph.filtered.efforts
    for low, high in pairwise(efforts.levels):
        between = 1 - ((1 - low.recall) * (1 - high.recall)) ** 0.5
        met, times = efforts.raised(between, 0)
        assert (met.recall, times) == (between, 1.0)
        for one, middle, more in zip(low.by_share, met.by_share, high.by_share, strict=True):
            assert abs(middle.quota - (one.quota + more.quota) / 2) <= 1
            assert one.sweep.stop <= middle.sweep.stop <= more.sweep.stop
            assert middle.hops == pytest.approx((one.hops + more.hops) / 2)
        assert efforts.raised(high.recall, 0)[0] == high
    assert efforts.raised(0.5, 0)[0] == efforts.levels[0]
    assert efforts.raised(0.9999, 0)[0] == efforts.levels[-1]


def test_adversaries(planned: Any) -> None:
    cases = {
        "all but the near field": [without_near(query) for query in QUERIES],
        "far clusters only": [far_clusters(query) for query in QUERIES],
        "a single match": [random_mask(0)] * len(QUERIES),
        "a common label": [NUMBER % 5 == 1] * len(QUERIES),
        "two common labels": [(NUMBER % 5 == 1) & (NUMBER // 5 % 5 == 2)] * len(QUERIES),
        "copies": [np.isin(np.arange(N), np.arange(90, 150))] * len(QUERIES),
        "all": [np.ones(N, np.bool_)] * len(QUERIES),
    }
    for name, masks in cases.items():
        found = recalls(planned, masks)
        assert found.mean() >= 0.95, name
        assert found.min() >= 0.8, name


@pytest.mark.parametrize("kind", ["list", "cells", "sweep"])
def test_every_way_keeps_its_promise(planned: Any, kind: str) -> None:
    for share in (0.02, 0.2, 0.7):
        for at, query in enumerate(QUERIES[:15]):
            mask = near_mask(query, share, far=bool(at % 2)) if at % 3 else random_mask(share, at)
            target = target_of(planned, mask)
            plan = plan_search(target, K, 128, False)
            assert plan.way is not None
            plan.way = plan.way._replace(kind=kind)
            assert hits_of(prepare(target, K, plan).one(query), mask, query, K) >= 0.5


@pytest.mark.parametrize("kind", ["list", "cells", "sweep"])
def test_matches_that_are_all_in_the_tail_are_found(planned: Any, kind: str) -> None:
    indexed = N - 3000
    mask = np.arange(N) >= indexed
    target = target_of(planned, mask)._replace(indexed=indexed)
    plan = plan_search(target_of(planned, random_mask(0.4)), K, 128, False)
    assert plan.way is not None
    plan.matches, plan.way = 3000, plan.way._replace(kind=kind)
    answer = prepare(target, K, plan)
    assert hits_of(answer.one(QUERIES[0]), mask, QUERIES[0], K) == 1.0
    assert answer.told is not None
    found, told = answer.told(QUERIES[0])
    np.testing.assert_array_equal(found[0], answer.one(QUERIES[0])[0])
    assert told["rows_scored"] == 0


@pytest.mark.parametrize("kind", ["cells", "sweep"])
def test_a_spent_budget_leads_to_the_list_and_its_answer(planned: Any, kind: str) -> None:
    for share in (0.05, 0.4):
        mask = random_mask(share)
        target = target_of(planned, mask)
        plan = plan_search(target, K, 128, False)
        assert plan.way is not None
        listed = plan.way._replace(kind="list")
        effort = plan.way.effort._replace(sweep=plan.way.effort.sweep._replace(pool=8))
        poor = listed._replace(kind=kind, members=1, afterwards=1, effort=effort)
        plan.way = listed
        expected = prepare(target, K, plan)
        plan.way = poor
        answer = prepare(target, K, plan)
        for query in QUERIES[:10]:
            assert answer.told is not None
            (slots, distances), told = answer.told(query)
            assert told["answered_by"] == "list"
            assert told["fallback"]
            np.testing.assert_array_equal(slots, expected.one(query)[0])
            np.testing.assert_array_equal(distances, expected.one(query)[1])


@pytest.mark.parametrize("kind", ["list", "cells", "sweep"])
def test_what_is_in_doubt_is_done_again_and_harder(planned: Any, kind: str) -> None:
    """Efforts that miss, with thresholds of doubt that spare no answer, or none: doubt finds what was missed."""
    mask = random_mask(0.5)
    target = target_of(planned, mask)
    plan = plan_search(target, K, 128, False)
    assert plan.way is not None
    effort = plan.way.effort
    poor = effort._replace(rescore=K, sweep=effort.sweep._replace(pool=512, stop=4, rescore=0, settle=K))
    found, work = [], []
    for doubt in (-1e9, 1e9):
        doubting = poor._replace(gap=doubt, slack=doubt)
        plan.way = plan.way._replace(kind=kind, effort=doubting, farther=doubting.farther(512))
        told = prepare(target, K, plan).told
        assert told is not None
        answers = [told(query) for query in QUERIES[:30]]
        found.append(np.mean([hits_of(a, mask, q, K) for (a, _), q in zip(answers, QUERIES, strict=False)]))
        work.append(np.mean([one["hops"] + one["rescored"] for _, one in answers]))
        doubted = doubt > 0 and kind == "cells"  # which the list follows
        assert {one["answered_by"] for _, one in answers} == {"list" if doubted else kind}
    assert found[1] > found[0] + (0.02 if kind == "sweep" else 0.002)  # estimates of these rows err little
    assert work[1] > 2 * work[0]


def test_a_walk_that_comes_to_its_end_is_not_believed(planned: Any) -> None:
    """It found enough, but there was no room for as many matches as it wanted."""
    target = target_of(planned, random_mask(0.5))
    plan = plan_search(target, K, 128, False)
    assert plan.way is not None
    effort = plan.way.effort
    plan.way = plan.way._replace(kind="sweep", effort=effort._replace(sweep=effort.sweep._replace(pool=32, stop=24)))
    told = prepare(target, K, plan).told
    assert told is not None
    explained = [told(query)[1] for query in QUERIES[:20]]
    assert all(one["hops"] > 0 for one in explained)
    assert {one["answered_by"] for one in explained} <= {"cells", "list"}


def test_a_sweep_ends_within_its_part_of_the_list(planned: Any) -> None:
    graph = target_of(planned, random_mask(0.3)).graph
    assert graph is not None
    filtered = graph.filtered
    assert filtered is not None
    step = filtered.prices.hop + 16 * filtered.prices.seen
    for matches in (300, 1_000, 3_000, 10_000):
        way = planner.choose_way(filtered, K, 128, 0.99, N, matches)
        listed = filtered.prices.of(way.effort.list_work(N, matches))
        assert way.effort.sweep.pool * step <= max(0.6 * listed, 8 * step)


def test_a_sweep_without_room_is_not_planned(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that costs most of a list would end in vain, and the list follow."""
    filtered: Any = target_of(planned, random_mask(0.5)).graph.filtered  # type: ignore[union-attr]
    dear = filtered.prices._replace(centre=1e9)
    monkeypatch.setattr(filtered, "prices", dear)  # no cells
    listed = dear.of(filtered.efforts.level_for(0.98).at(0.5).list_work(N, N // 2))
    monkeypatch.setattr(filtered, "chosen", {})
    for part, kind in ((0.3, "sweep"), (0.75, "list")):
        hops = part * listed / (dear.hop + 16 * dear.seen)
        levels = tuple(
            level._replace(by_share=tuple(
                one._replace(hops=hops, seen=16 * hops, sweep=one.sweep._replace(pool=int(1.2 * hops) & -8, stop=8))
                for one in level.by_share
            ))
            for level in filtered.efforts.levels
        )  # fmt: skip
        monkeypatch.setattr(filtered, "efforts", filtered.efforts._replace(levels=levels))
        assert planner.choose_way(filtered, K, 1, 0.98, N, N // 2).kind == kind


def test_a_list_that_settles_every_match_is_exact(planned: Any) -> None:
    mask = random_mask(0.02)
    target = target_of(planned, mask)
    plan = plan_search(target, K, 128, False)
    assert plan.way is not None
    plan.way = plan.way._replace(kind="list", effort=plan.way.effort._replace(rescore=int(mask.sum())))
    for query in QUERIES[:10]:
        slots, _ = prepare(target, K, plan).one(query)
        np.testing.assert_array_equal(slots, np.flatnonzero(mask)[np.argsort(distances_of(query)[mask])[:K]])


def test_more_effort_never_finds_less(planned: Any) -> None:
    for share in (0.02, 0.15, 0.5, 0.9):
        masks = [random_mask(share)] * len(QUERIES)
        found = [recalls(planned, masks, ef=ef).mean() for ef in (16, 64, 128, 512, 2048)]
        assert (np.diff(found) >= 0).all(), (share, found)


@pytest.mark.parametrize("k", [1, 100, 10_000])
def test_any_number_of_results(planned: Any, k: int) -> None:
    for share in (0.01, 0.3, 0.8):
        mask = random_mask(share)
        found = [hits_of(_answer(planned, mask, k, query), mask, query, k) for query in QUERIES[:5]]
        assert np.mean(found) >= 0.95


def _answer(collection: Collection, mask: NDArray[np.bool_], k: int, query: NDArray[np.float32]) -> Any:
    target = target_of(collection, mask)
    return prepare(target, k, plan_search(target, k, planner.default_ef(k), False)).one(query)


def test_equivalent_filters_plan_and_answer_alike(planned: Any) -> None:
    same = [
        "a = 1 and n < 9000",
        {"must": [{"key": "n", "range": {"lt": 9000}}, {"key": "a", "match": {"value": 1}}]},
        {
            "must_not": {
                "must_not": [{"must": [{"key": "a", "match": {"any": [1]}}, {"key": "n", "range": {"lt": 9000}}]}]
            }
        },
    ]
    told = [planned.query(QUERIES[0], 10, filter=one, explain=True) for one in same]
    kept = [planned.query(QUERIES[0], 10, filter=one) for one in same]
    assert len({tuple(hits.ids) for hits in told + kept}) == 1
    assert len({hits.explain["plan"] for hits in told}) == 1
    assert all(hits.explain["cardinality"] == np.count_nonzero((NUMBER < 9000) & (NUMBER % 5 == 1)) for hits in told)


def test_what_a_plan_tells(planned: Any) -> None:
    for low in (100, 3000, 9000):
        told = planned.query(QUERIES[0], 10, filter=f"n < {low}", explain=True).explain
        assert told["plan"] in ("list", "cells", "sweep")
        assert told["cardinality"] == low
        assert told["rows_scored"] > 0
        assert {"filter_ms", "plan_ms", "search_ms", "fallback", "selectivity_near", "hops"} <= told.keys()
    exact = planned.query(QUERIES[0], 10, filter="n < 3000", exact=True, explain=True)
    mask = NUMBER < 3000
    assert exact.ids == np.flatnonzero(mask)[np.argsort(distances_of(QUERIES[0])[mask])[:10]].tolist()
    assert planned.query(QUERIES[0], 10, filter="n < 0", explain=True).explain["plan"] == "empty"


def test_a_filter_for_each_query_of_a_batch(planned: Any) -> None:
    filters = ["n < 50", "n < 9000", None, "n < 9000", "n < 3", "c = 7"] * 10
    ids, scores, counts = planned.query_batch(QUERIES, 10, filter=filters)
    for row, one in enumerate(filters):
        alone = planned.query(QUERIES[row], 10, filter=one, with_payload=False)
        assert ids[row, : counts[row]].tolist() == alone.ids
        np.testing.assert_array_equal(scores[row, : counts[row]], alone.scores)


def test_deaths_a_tail_and_rows_that_come_later() -> None:
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=DIM, metric="l2")
        rows = VECTORS[:14_000]
        collection.upsert(np.arange(12_000), rows[:12_000], [{"n": i % 4} for i in range(12_000)])
        assert collection.flush(300)
        collection.upsert(np.arange(12_000, 13_000), rows[12_000:13_000], [{"n": i % 4} for i in range(1_000)])
        assert collection.flush(300)
        collection._generation.indexer._stop = True  # the tail stays
        collection.upsert(np.arange(13_000, 14_000), rows[13_000:], [{"n": i % 4} for i in range(1_000)])
        collection.delete(list(range(0, 14_000, 3)))
        assert collection.info().tail == 1_000
        alive = np.arange(14_000) % 3 > 0
        found = []
        for query in QUERIES[:20]:
            hits = collection.query(query, 10, filter="n = 1 or n = 2", with_payload=True)
            assert all(hit.payload is not None and hit.payload["n"] in (1, 2) for hit in hits)
            number = np.concatenate([np.arange(12_000), np.arange(1_000), np.arange(1_000)]) % 4
            among = np.flatnonzero(alive & np.isin(number, (1, 2)))
            true = among[np.argsort(((rows[among] - query) ** 2).sum(1))[:10]]
            found.append(np.isin(hits.ids, true).mean())
        assert np.mean(found) >= 0.95
        few = {1, 5000, 12_500, 13_700}
        collection.delete([i for i in range(14_000) if i not in few])
        hits = collection.query(QUERIES[0], 10, filter={"must_not": {"key": "n", "match": {"value": 9}}})
        assert set(hits.ids) == few


def test_rows_are_listed_in_the_order_the_kernels_expect(planned: Any) -> None:
    """A reader's limit hides later slots from every way."""
    field: Any = view_of(planned).fields[""]
    rows = Rows(field.rows.vectors, field.rows.inv_norms)
    mask = random_mask(0.4)
    for limit in (N // 2, 999):
        target = Target(Metric.L2, rows, field.graph, limit, limit, slots_to_bits(np.flatnonzero(mask), N), True)
        for kind in ("list", "cells", "sweep"):
            plan = plan_search(
                target._replace(allowed=slots_to_bits(np.flatnonzero(mask[:limit]), limit)), K, 128, False
            )
            assert plan.way is not None
            plan.way = plan.way._replace(kind=kind)
            for query in QUERIES[:5]:
                slots, _ = prepare(target, min(K, int(mask[:limit].sum())), plan).one(query)
                assert (slots < limit).all()
                assert len(slots) == min(K, int(mask[:limit].sum()))


def test_equivalent_filters_of_a_batch_are_evaluated_once(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    bits = planned._generation.planned._bits

    def counted(tree: Any, view: View) -> Any:
        asked.append(tree)
        return bits(tree, view)

    monkeypatch.setattr(planned._generation.planned, "_bits", counted)
    monkeypatch.setattr(planned._generation.planned, "kept_bits", 0)
    either = {"should": [{"key": "n", "range": {"lt": 0}}, {"key": "a", "range": {"gte": 0}}]}  # so not stretches alone
    tree = {"must": [{"key": "a", "match": {"value": 2}}, {"key": "n", "range": {"lt": 501}}, either]}
    same = ["n < 501 and a = 2 and (a >= 0 or n < 0)", tree]
    ids, _, counts = planned.query_batch(QUERIES, 10, filter=[*same, "n < 40 and a < 5 and (a >= 0 or n < 0)"] * 20)
    assert len(asked) == 2
    assert (counts == 10).all()
    alone = planned.query(QUERIES[3], 10, filter=same[0], with_payload=False)
    assert ids[3].tolist() == alone.ids
