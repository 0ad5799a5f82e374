"""What filtered queries cost, by counted work: near the best of the ways, and never much more than looking at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.filter_plans import (
    CLUSTER,
    NUMBER,
    QUERIES,
    far_clusters,
    hits_of,
    near_mask,
    random_mask,
    target_of,
    without_near,
)

from vicinal.collection import Collection
from vicinal.filtering import Outcome, carry
from vicinal.planner import Target, default_ef, plan_search

K = 10
WAYS = ("list", "cells", "sweep")
ASKED = QUERIES[:20]
Mask = NDArray[np.bool_]


class Cost(NamedTuple):
    """Of one kind of filter: mean price and recall of the plan and of each way alone; the worst against the list."""

    plan: float
    recall: float
    ways: dict[str, tuple[float, float]]
    worst: float


def _cells() -> dict[str, Callable[[int], Mask]]:
    cells: dict[str, Callable[[int], Mask]] = {}
    for share in (1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 0.9):
        cells[f"random {share}"] = partial(random_mask, share)
    for share in (0.01, 0.1, 0.3):
        cells[f"near {share}"] = partial(_beside, share, False)
        cells[f"far {share}"] = partial(_beside, share, True)
    cells["and"] = lambda i: np.asarray((i % 5 == NUMBER % 5) & (NUMBER // 5 % 5 == 2))
    cells["or"] = lambda i: np.asarray((i % 5 == NUMBER % 5) | (NUMBER < 3000))
    cells["not"] = lambda i: np.asarray(~(i % 5 == NUMBER % 5))
    cells["not a cluster"] = lambda i: np.asarray(~(i == CLUSTER))
    cells["all but the near field"] = lambda i: without_near(ASKED[i])
    cells["far clusters"] = lambda i: far_clusters(ASKED[i])
    cells["half of the clusters, far"] = lambda i: far_clusters(ASKED[i], 30)
    return cells


def _beside(share: float, far: bool, i: int) -> Mask:
    return near_mask(ASKED[i], share, far=far)


def _outcomes(target: Target) -> tuple[str, dict[str, Callable[[NDArray[np.float32]], Outcome]]]:
    """The way planned, and how each way answers with the same efforts."""
    plan = plan_search(target, K, default_ef(K), False)
    assert plan.way is not None
    ways = {
        kind: carry(target, plan.matches, min(K, plan.matches), plan.way._replace(kind=kind), target.n) for kind in WAYS
    }
    return plan.kind, ways


@pytest.fixture(scope="module")
def costs(planned: Collection) -> dict[str, Cost]:
    """Of every cell of the grid."""
    found = {}
    for name, mask_of in _cells().items():
        prices: dict[str, list[float]] = {kind: [] for kind in (*WAYS, "plan")}
        recalls: dict[str, list[float]] = {kind: [] for kind in (*WAYS, "plan")}
        for i, query in enumerate(ASKED):
            mask = mask_of(i)
            target = target_of(planned, mask)
            assert target.graph is not None and target.graph.filtered is not None
            kind, ways = _outcomes(target)
            for way, answer in ways.items():
                outcome = answer(query)
                prices[way].append(target.graph.filtered.prices.of(outcome.work))
                recalls[way].append(hits_of(outcome[:2], mask, query, K))
            prices["plan"].append(prices[kind][-1])
            recalls["plan"].append(recalls[kind][-1])
        ways_alone = {way: (float(np.mean(prices[way])), float(np.mean(recalls[way]))) for way in WAYS}
        worst = float((np.array(prices["plan"]) / prices["list"]).max())
        found[name] = Cost(float(np.mean(prices["plan"])), float(np.mean(recalls["plan"])), ways_alone, worst)
    return found


def test_the_plan_is_near_the_best_of_the_ways(costs: dict[str, Cost]) -> None:
    regrets = {
        name: cost.plan / min(price for price, recall in cost.ways.values() if recall >= 0.95)
        for name, cost in costs.items()
    }
    values = np.array(list(regrets.values()))
    assert np.median(values) <= 1.1, regrets
    assert np.quantile(values, 0.9) <= 1.5, regrets
    assert values.max() <= 2.0, regrets


def test_no_plan_costs_much_more_than_twice_the_list(costs: dict[str, Cost]) -> None:
    """A list looks at every match and settles the best: the exact scan over codes."""
    assert {name: cost.worst for name, cost in costs.items() if cost.worst > 2.1} == {}


def test_every_cell_is_answered(costs: dict[str, Cost]) -> None:
    assert {name: cost.recall for name, cost in costs.items() if cost.recall < 0.97} == {}


def test_every_way_is_the_best_somewhere(costs: dict[str, Cost]) -> None:
    """Otherwise a planner that always takes one would pass."""
    assert {min((price, way) for way, (price, _) in cost.ways.items())[1] for cost in costs.values()} == set(WAYS)
