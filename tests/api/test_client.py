"""`vicinal.connect("http://...")` and `vicinal.connect(folder)` give the same answers to the same calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support.server_process import ServerProcess

import vicinal
from vicinal.errors import AlreadyExists, InvalidFilter, InvalidVector, LimitExceeded, NotFound, Unauthorized

KEY = "k" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("served") / "data", api_key=KEY) as running:
        yield running


@pytest.fixture
def both(server: ServerProcess) -> Iterator[tuple[Any, Any]]:
    remote = vicinal.connect(f"http://127.0.0.1:{server.port}", api_key=KEY)
    local = vicinal.connect(":memory:")
    yield local, remote
    for name in remote.list_collections():
        remote.drop_collection(name)
    remote.close()
    local.close()


def shown(answer: Any) -> Any:
    """An answer with its arrays as lists, comparable."""
    if isinstance(answer, np.ndarray):
        return [None if np.isnan(n) else round(float(n), 4) for n in answer.ravel()]
    if isinstance(answer, float):
        return round(answer, 4)
    if isinstance(answer, dict):
        return {key: shown(value) for key, value in answer.items()}
    if isinstance(answer, vicinal.Hit | vicinal.Point):
        return [shown(getattr(answer, name)) for name in answer.__dataclass_fields__]
    if isinstance(answer, list | tuple | vicinal.Hits):
        return [shown(part) for part in answer]
    return answer


def test_the_same_calls_give_the_same_answers(both: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(3)
    titles = rng.normal(size=(60, 8)).astype("f4")
    tokens = [rng.normal(size=(1 + i % 4, 4)).astype("f4") for i in range(60)]
    ids = [i if i % 3 else f"p{i}" for i in range(60)]
    payloads = [{"n": i, "kind": "even" if i % 2 == 0 else "odd"} for i in range(60)]
    fields = {"title": vicinal.Dense(8, metric=vicinal.Metric.L2), "tokens": vicinal.Multi(4, repetitions=2)}
    answers = []
    for database in both:
        points = database.create_collection("papers", vectors=fields)
        points.upsert(ids, {"title": titles, "tokens": tokens}, payloads)
        made = [
            database.list_collections(),
            points.count(),
            points.count("n >= 30 and kind = 'odd'"),
            points.delete(ids=[1, 2, "none"]),
            points.delete(filter="n >= 50"),
            points.query(titles[5], 7, using="title", with_vectors=True),
            points.query(titles[5], 7, using="title", filter={"must": [{"key": "n", "range": {"lt": 9}}]}),
            points.query_multi(tokens[7], 5, exact=True),
            points.query_multi(tokens[7], 5, filter="kind = 'odd'", candidates=50),
            points.query_multi(tokens[7], 5, with_token_scores=True).token_scores,
            points.get([5, "p6", "none"], with_vectors=True),
            points.scroll("n < 20", 4),
            points.scroll(limit=3, offset="p3", with_payload=False),
            points.info().points,
        ]
        batch_ids, scores, counts = points.query_batch(titles[:3], 4, using="title", filter=["n < 2", None, "n > 9"])
        made += [[list(row[:n]) for row, n in zip(batch_ids, counts, strict=True)], shown(scores), counts.tolist()]
        answers.append(shown(made))
    assert answers[0] == answers[1]


def test_the_same_mistakes_raise_the_same_errors(both: tuple[Any, Any]) -> None:
    for database in both:
        points = database.create_collection("papers", dim=2)
        with pytest.raises(AlreadyExists):
            database.create_collection("papers", dim=2)
        with pytest.raises(NotFound):
            database.collection("none").count()
        with pytest.raises(InvalidVector):
            points.upsert([1], [[0.0, 0.0]])
        with pytest.raises(InvalidVector):
            points.query([1.0, np.nan])
        with pytest.raises(InvalidFilter):
            points.query([1.0, 2.0], filter="year >=")
        with pytest.raises(LimitExceeded):
            points.query([1.0, 2.0], 10**9)
        assert points.count() == 0


def test_a_wrong_key_is_refused(server: ServerProcess) -> None:
    with vicinal.connect(f"http://127.0.0.1:{server.port}", api_key="w" * 32) as remote, pytest.raises(Unauthorized):
        remote.list_collections()
