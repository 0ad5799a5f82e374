"""Recall under a filter with a `recall_target`: exact checks tell what is found, and too little raises the effort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.filter_plans import NUMBER, QUERIES, distances_of, random_mask, target_of, view_of

from vicinal import recall_checks
from vicinal.index.filter_effort import FilterEfforts, Level
from vicinal.planner import STEPS_MOST
from vicinal.recall_checks import Kind, RecallChecks

MASK = random_mask(0.3)
KIND = Kind.of("", 10, 0.9, int(MASK.sum()))


def test_a_recall_target_under_a_filter_tells_what_exact_checks_found(planned: Any) -> None:
    words: dict[str, Any] = {"filter": "n < 7777", "recall_target": 0.93}
    assert "recall_estimate" not in planned.query(QUERIES[0], 10, filter="n < 7777", explain=True).explain
    checks = planned._generation.planned.checks
    planned.query(QUERIES[0], 10, **words)
    checks.wait()
    told = planned.query(QUERIES[1], 10, **words, explain=True).explain
    assert told["recall_checked"] >= 1
    assert 0.9 <= told["recall_estimate"] <= 1


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query is checked, without rest."""
    monkeypatch.setattr(recall_checks, "_EVERY", 1)
    monkeypatch.setattr(recall_checks, "_REST", 0.0)


def answer(hits: int) -> NDArray[np.float32]:
    """Distances of the first query's ten, of which so many are right."""
    true = np.sort(distances_of(QUERIES[0])[MASK]).astype(np.float32)
    return np.concatenate((true[:hits], true[50 : 60 - hits]))


def heard(checks: RecallChecks, check: Any, hits: int, times: int) -> None:
    """Let a check hear of answers, each of which is checked."""
    for _ in range(times):
        check(QUERIES[0], answer(hits))
        checks.wait()


def test_an_answer_that_misses_is_estimated_as_such(planned: Any) -> None:
    checks = RecallChecks()
    target = target_of(planned, MASK)
    check, told = checks.of(KIND, target, dict[Any, Any]().clear)
    assert told() == {"recall_estimate": None, "recall_checked": 0, "effort_raised": 0}
    heard(checks, check, 7, 1)
    assert told() == {"recall_estimate": 0.7, "recall_checked": 1, "effort_raised": 0}
    heard(checks, check, 10, 1)  # at rest, and not the first of its kind
    assert told()["recall_checked"] == 1
    checks.close()
    other, told_other = checks.of(KIND._replace(k=3), target, dict[Any, Any]().clear)
    other(QUERIES[0], answer(10))
    assert told_other()["recall_checked"] == 0


@pytest.mark.usefixtures("eager")
def test_too_little_raises_the_effort_and_enough_does_not(planned: Any) -> None:
    checks, forgotten = RecallChecks(), []
    target = target_of(planned, MASK)
    check, told = checks.of(KIND, target, lambda: forgotten.append(1))
    heard(checks, check, 7, 7)
    assert (checks.steps(KIND), forgotten) == (0, [])  # few may be chance
    heard(checks, check, 7, 1)
    assert (checks.steps(KIND), forgotten) == (1, [1])
    assert told()["recall_checked"] == 0  # what was found with less says nothing of more
    heard(checks, check, 0, 20)
    assert checks.steps(KIND) == 1  # answered by a plan from before
    check, told = checks.of(KIND, target, lambda: forgotten.append(1))
    assert told()["effort_raised"] == 1
    heard(checks, check, 9, 100)
    assert (checks.steps(KIND), told()["recall_estimate"]) == (1, 0.9)
    for _ in range(32):
        heard(checks, check, 10, 1)
        heard(checks, check, 8, 1)
    assert checks.steps(KIND) == 1
    heard(checks, check, 8, 40)
    assert checks.steps(KIND) == 2  # .89 of many is too little, though by less than a standard error
    checks.close()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("quality", [1, 0])
def test_a_target_that_was_fitted_too_low_is_reached(
    planned: Any, monkeypatch: pytest.MonkeyPatch, quality: int
) -> None:
    """The efforts find less than they claim; with quality 0 no effort is enough, and answers are exact in the end."""
    filtered: Any = view_of(planned).fields[""].graph.filtered  # type: ignore[union-attr]
    poor = [
        Level(
            level.recall,
            tuple(one._replace(quota=quota, margin=-1e9, gap=0.0, rows=0.0, members=0.0) for one in level.by_share),
        )
        for quota, level in zip((10, 10, 100, 20_000), filtered.efforts.levels, strict=True)
    ]
    monkeypatch.setattr(filtered, "efforts", FilterEfforts(tuple(poor)))
    if not quality:
        monkeypatch.setattr(FilterEfforts, "raised", lambda self, *_: (self.levels[0], 1.0))
    filtered.chosen.clear()
    planned._generation.planned.checks = checks = RecallChecks()
    words: dict[str, Any] = {"filter": "n < 3333", "recall_target": 0.95}
    true = [set(np.flatnonzero(NUMBER < 3333)[np.argsort(distances_of(q)[NUMBER < 3333])[:10]]) for q in QUERIES]

    def found() -> float:
        recalls = []
        for query, nearest in zip(QUERIES, true, strict=True):
            recalls.append(len(nearest & set(planned.query(query, 10, **words).ids)) / 10)
            checks.wait()
        return float(np.mean(recalls))

    try:
        assert found() < 0.94
        for _ in range(12):
            found()
        assert found() >= 0.95
        steps = checks.steps(Kind.of("", 10, 0.95, 3333))
        assert steps == STEPS_MOST if not quality else 0 < steps < STEPS_MOST
        if not quality:
            assert planned.query(QUERIES[0], 10, **words, explain=True).explain["plan"] in ("exact", "list")
    finally:
        checks.close()
        planned._generation.planned.checks = RecallChecks()
        view_of(planned).forget()
        filtered.chosen.clear()
