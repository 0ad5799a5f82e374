"""Many copies of one vector: all are found when k allows, and nobody else is hidden behind them."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.database import Database
from vicinal.schema import Dense
from vicinal.types import Metric

COPIES, OTHERS = 1000, 11_000


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
@pytest.mark.parametrize("later", [False, True], ids=["built", "inserted"])
def test_a_thousand_copies_are_found_and_hide_nobody(metric: Metric, later: bool) -> None:
    rng = np.random.default_rng(5)
    others = rng.standard_normal((OTHERS, 16)).astype(np.float32)
    copied = others[:100].mean(0) + 0.3 * rng.standard_normal(16).astype(np.float32)
    copies = np.tile(copied, (COPIES, 1))
    queries = others[::50] + 0.05 * rng.standard_normal((220, 16)).astype(np.float32)
    near = copied + 0.2 * rng.standard_normal((30, 16)).astype(np.float32)
    found, beside = [], []
    for rows in (others, np.concatenate([others, copies]) if later else np.concatenate([copies, others])):
        first = COPIES if len(rows) > OTHERS and not later else 0
        with Database(":memory:") as database:
            collection = database.create_collection("c", vectors={"v": Dense(16, metric)})
            ids = (np.arange(len(rows)) - first) % (OTHERS + COPIES)  # copies are those from OTHERS on
            collection.upsert(ids[:OTHERS].tolist(), {"v": rows[:OTHERS]})
            assert collection.flush(300)
            for at in range(OTHERS, len(rows), 100):
                collection.upsert(ids[at : at + 100].tolist(), {"v": rows[at : at + 100]})
                assert collection.flush(300)
            assert collection.info().fields["v"]["layout"]["chosen"] == "graph"
            assert collection.verify().ok
            if len(rows) > OTHERS:
                hits = collection.query(copied, COPIES)
                assert {hit.id for hit in hits} == set(range(OTHERS, OTHERS + COPIES))
                assert max(abs(hit.score - hits[0].score) for hit in hits) < 1e-5
            best = collection.query_batch(near, 3, exact=True)[1]
            beside.append(np.isclose(collection.query_batch(near, 3)[1], best, atol=1e-4).mean())
            exact, answered = (collection.query_batch(queries, 10, exact=flag)[0] for flag in (True, False))
            found.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, answered, strict=True)]))
    assert beside[1] >= 0.97
    assert found[1] >= found[0] - 0.005
