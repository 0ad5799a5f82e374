"""What the worker makes of an engine, with an exact one in the engine's place."""

import numpy as np
import pytest
from bench import datasets, worker
from bench.rivals.base import Rival, Unsupported
from numpy.typing import NDArray

K = 5


class Exact(Rival):
    """Two parameters: the share of the answers that are right, and work that changes nothing."""

    package = "numpy"
    settings = tuple((right, work) for right in (2, 4, 5, 6) for work in (1, 2))
    asked: list[tuple[int, int]]
    truth: NDArray[np.int64]

    def __init__(self):
        self.asked = []

    def query(self, vector, k):
        self.asked.append(self.setting)
        right = min(self.setting[0], k)
        return np.concatenate([self.truth[int(vector[0])][:right], np.full(k - right, -1)])


@pytest.fixture
def worked(monkeypatch):
    rng = np.random.default_rng(1)
    truth = np.array([rng.permutation(50)[:K] for _ in range(30)])
    queries = np.arange(30, dtype=np.float32)[:, None]
    made = Exact()
    made.truth = truth
    monkeypatch.setattr(worker, "make", lambda _: made)
    monkeypatch.setattr(datasets, "load", lambda name: datasets.Dataset(name, "l2", queries, queries, truth))
    monkeypatch.setattr(worker, "SCOUTED", 10)
    return worker.Worker("exact", "some", 30, K), made


def test_scouting_keeps_the_front_and_skips_what_is_more_work_than_enough(worked, monkeypatch):
    engine, made = worked
    timed = engine._timed
    monkeypatch.setattr(engine, "_timed", lambda s, *words: (s[0] * s[1] / 1e4, timed(s, *words)[1]))
    points = engine.scout(1)
    assert [point["recall"] for point in points] == sorted({point["recall"] for point in points})
    assert points[-1]["recall"] == 1
    assert {point["setting"][0] for point in points} <= {4, 5}, "0.4 lies below the last one under .85"
    assert not {(5, 2), (6, 1), (6, 2)} & set(made.asked), "(5, 1) was good enough already"


def test_one_parameter_alone_is_not_judged_by_time(worked, monkeypatch):
    engine, made = worked
    made.settings = (2, 4, 5)
    monkeypatch.setattr(made, "query", lambda vector, k: np.concatenate([made.truth[int(vector[0])][: made.setting]]))
    slow = {2: 3.0, 4: 2.0, 5: 1.0}  # as on a cold start
    timed = engine._timed
    monkeypatch.setattr(engine, "_timed", lambda s, *words: (slow[s] / 1e4, timed(s, *words)[1]))
    assert [point["setting"] for point in engine.scout(1)] == [4, 5]


def test_a_round_times_what_it_is_told(worked):
    engine, made = worked
    seconds = engine.round(1, [(5, 1), (2, 1)])["seconds"]
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert made.asked.count((2, 1)) == 60, "30 to warm up, 30 timed"
    assert made.asked.count((5, 1)) == 120, "the first one once more, before all"


def test_a_slow_setting_answers_fewer_queries(worked, monkeypatch):
    engine, made = worked
    monkeypatch.setattr(worker, "FEWEST", 3)
    assert [engine._affordable(s) for s in (0.0, worker.SLICE / 7.5, worker.SLICE)] == [30, 7, 3]
    engine.round(1, [(2, 1), (5, 1)], [9, 7])
    assert made.asked.count((5, 1)) == 14, "7 to warm up, 7 timed"


def test_doubled_ids_count_once(worked, monkeypatch):
    engine, made = worked
    monkeypatch.setattr(made, "query", lambda vector, k: np.repeat(made.truth[int(vector[0])][:1], k))
    made.settings = ((1, 1),)
    assert engine.scout(1) == [{"setting": (1, 1), "recall": pytest.approx(1 / K), "queries": 30}]


def test_a_query_batch_that_is_not_there_is_an_answer(worked):
    engine, _ = worked
    with pytest.raises(Unsupported, match="no batch call"):
        engine.round(2, [(5, 1)])
