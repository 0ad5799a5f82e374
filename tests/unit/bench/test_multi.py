"""The suite of token matrices: exact answers, judges' measures, and what is read of a result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import charts, goals, results, tables
from bench.multi import ENGINES, make, sets
from bench.multi import goals as multi_goals
from bench.multi.quality import judged_recall, ndcg
from tests.support.maxsim_oracle import maxsim, unit_rows


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sets.MultiSet:
    """Forty documents, prepared as a set, and cut to thirty."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 9, 40)
    tokens = np.rint(unit_rows(rng, int(counts.sum()), 16) * 127).astype(np.int8)
    queries = [unit_rows(rng, 5, 16) for _ in range(6)]
    judged = [{3: 1, 39: 2}, *({} for _ in range(5))]
    monkeypatch.setattr(sets, "CACHE", tmp_path)
    monkeypatch.setattr(sets, "_read", lambda _: (tokens, np.cumsum(counts).astype(np.int64), queries, judged))
    sets.prepare("mv-cacm@30")
    return sets.load("mv-cacm@30")


def test_sets_hold_exact_answers(small: sets.MultiSet) -> None:
    assert len(small.ends) == 30
    assert small.judged[0] == {3: 1}  # the other document is not in the cut
    for query, best in zip(small.queries, small.truth, strict=True):
        scores = [maxsim(query, matrix) for matrix in small.matrices()]
        assert best.tolist() == np.argsort(-np.array(scores), kind="stable").tolist()


@pytest.mark.parametrize("name", ["numpy-exact", "vicinal-exact", "muvera-hnswlib"])
def test_engines_find_what_is_exact(name: str, small: sets.MultiSet, tmp_path: Path) -> None:
    if name == "muvera-hnswlib":
        pytest.importorskip("muvfde")
        pytest.importorskip("hnswlib")
    for _ in range(2):  # built, then opened where it is kept
        engine = make(name)
        engine.build(small, tmp_path / name)
        engine.set(30)
        found = [int(d) for d in engine.query(small.queries[0], 10)]
        assert found == small.truth[0][:10].tolist()
        assert engine.bytes_used() > small.tokens.nbytes
        engine.close()


def test_measures_of_judges() -> None:
    judged = [{1: 2, 5: 1}, {}, {7: 1}]
    found = [[5, 9, 1], [1], [2, 3]]
    best = 3 + 1 / math.log2(3)
    assert ndcg(found, judged, 10) == pytest.approx(((1 + 3 / 2) / best + 0) / 2)
    assert judged_recall(found, judged, 10) == 0.5
    assert judged_recall(found, judged, 1) == 0.25
    assert ndcg(found, [{}, {}, {}], 10) is None


def _curve(qps: float, recalls: tuple[float, ...] = (0.8, 0.97)) -> dict[str, Any]:
    points = [
        {"setting": s, "recall": r, "qps": qps / s, "ndcg_10": 0.4} for s, r in zip((25, 100), recalls, strict=True)
    ]
    return {"points": points, "qps_at": {"0.9": qps / 50, "0.95": qps / 80, "0.99": None}}


def _answer() -> dict[str, Any]:
    engines: dict[str, Any] = {}
    for name, qps in (("vicinal", 1e5), ("vicinal-fde-32", 2e4), ("vicinal-fde-1", 3e4), ("fast-plaid", 1e3)):
        engines[name] = {"bytes_each_token": 130.0, "build_seconds": 1.0, "bytes_per_token": 131.0}
        recalls = (0.7, 0.94) if name == "vicinal-fde-1" else (0.8, 0.97)
        engines[name] |= {"top_10": _curve(qps, recalls), "top_100": _curve(qps / 2)}
    engines["muvera-hnswlib"] = {"failed": "not here"}
    ratios = {"top_10": {"vicinal": {"fast-plaid": {"0.95": {"ratio": 6.0, "quartiles": [5, 7]}}}}}
    machine = {"family_model": "x"}
    return {"suite": "multivector", "dataset": "t", "engines": engines, "ratios": ratios, "machine": machine}


def test_a_result_is_read_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _answer()
    assert multi_goals.found_with(25)(answer)[0] == 0.8
    assert multi_goals.milliseconds(0.95)(answer)[0] == pytest.approx(1.0)
    assert multi_goals.against("fast-plaid")(answer)[0] == 6.0
    assert multi_goals.lost(1)(answer)[0] == pytest.approx(0.03)
    assert multi_goals.bytes_each("vicinal")(answer)[0] == 131.0
    with pytest.raises(KeyError):
        multi_goals.against("muvera-hnswlib")(answer)
    monkeypatch.setattr(goals, "result_of", lambda name: answer if name.startswith("multi") else None)
    told = {row[0]: row[2:4] for row in goals.goals().rows}
    assert told["token matrices: QPS against fast-plaid, LoTTE"][1] == "yes"
    assert told["token matrices: QPS against MUVERA as published, LoTTE"] == ("-", "-")
    table = tables.multivector(answer)
    assert [row[0] for row in table.rows] == ["vicinal", "vicinal-fde-1", "vicinal-fde-32", "fast-plaid"]
    assert table.notes == ["muvera-hnswlib: left out, not here"]
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    charts.draw(answer)
    assert (tmp_path / "multivector-t.png").stat().st_size > 5_000


def test_every_engine_has_a_class() -> None:
    for name in ENGINES:
        assert make(name).package
