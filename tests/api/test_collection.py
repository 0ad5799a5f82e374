"""The engine behind the routes: what goes in as JSON or msgpack comes out of searches as promised."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import msgpack
import numpy as np
import pytest
from tests.support.served import Served

import vicinal
from vicinal_server.native.codec import as_block

ONE = "/v1/collections/papers"
PACKED = {"content-type": "application/msgpack", "accept": "application/msgpack"}


def block(array: Any, **more: Any) -> dict[str, Any]:
    made = np.ascontiguousarray(array)
    return {"dtype": made.dtype.str, "shape": list(made.shape), "data": made.tobytes(), **more}


def packed(served: Served, verb: str, tree: dict[str, Any]) -> dict[str, Any]:
    response = served.post(f"{ONE}/{verb}", content=msgpack.packb(tree), headers=PACKED)
    assert response.status_code == 200, response.content
    made: dict[str, Any] = msgpack.unpackb(response.content)
    return made


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_answers_equal_numpy(served: Served, metric: str) -> None:
    rng = np.random.default_rng(1)
    rows, query = rng.normal(size=(200, 16)).astype("<f4"), rng.normal(size=16).astype("<f4")
    served.put(ONE, {"dim": 16, "metric": metric})
    payloads = [{"n": i} for i in range(200)]
    packed(served, "insert", {"ids": block(np.arange(200, dtype="<u8")), "vectors": block(rows), "payloads": payloads})
    dots = rows @ query
    expected = {
        "cosine": dots / np.linalg.norm(rows, axis=1) / np.linalg.norm(query),
        "dot": dots,
        "l2": np.linalg.norm(rows - query, axis=1),
    }[metric]
    matching = np.arange(100, 200)
    order = matching[np.argsort(expected[matching] * (1 if metric == "l2" else -1))][:5]
    text = base64.b64encode(query.tobytes()).decode()
    forms: list[Any] = [query.tolist(), {"dtype": "<f4", "shape": [16], "base64": text}]
    for vector in forms:
        answer = served.post(ONE + "/query", {"vector": vector, "k": 5, "filter": "n >= 100", "explain": True}).json()
        assert [h["id"] for h in answer["hits"]] == order.tolist()
        assert np.allclose([h["score"] for h in answer["hits"]], expected[order], atol=1e-4)
        assert answer["hits"][0]["payload"] == {"n": order[0]}
        assert answer["explain"]
    batch = packed(served, "query", {"vectors": block(np.stack([query] * 2)), "k": 5, "filter": ["n >= 100", None]})
    assert as_block(batch["ids"], "ids", ("<u8",))[0].tolist() == order.tolist()
    assert batch["counts"] == [5, 5]


def test_ids_of_every_kind_come_back(served: Served) -> None:
    served.put(ONE, {"dim": 1, "metric": "l2"})
    name = uuid.UUID(int=5)
    ids = [0, 2**64 - 1, 7, "7", "é" * 256, str(name)]
    sent = [*ids[:-1], name.hex.upper()]
    assert served.post(ONE + "/insert", {"ids": sent, "vectors": [[i] for i in range(6)]}).json()["accepted"] == 6
    points = served.post(ONE + "/get", {"ids": ids, "with_vectors": True}).json()["points"]
    assert [p["id"] for p in points] == ids
    assert [p["vector"] for p in points] == [[i] for i in range(6)]
    batch = packed(served, "query", {"vectors": block(np.zeros((1, 1), "<f4")), "k": 3})
    assert batch["ids"] == [[0, 2**64 - 1, 7]]
    seen: list[Any] = []
    offset = None
    while True:
        page = served.post(ONE + "/scroll", {"limit": 2, "offset": offset}).json()
        seen += [p["id"] for p in page["points"]]
        offset = page["next_offset"]
        if offset is None:
            break
    assert len(seen) == 6
    assert set(seen) == set(ids)


def test_replace_delete_and_count(served: Served) -> None:
    served.put(ONE, {"dim": 2, "metric": "l2"})
    tree = {"ids": [1, 2, 3], "vectors": [[0, 0], [1, 1], [2, 2]], "payloads": [{"a": 1}, {"a": 2}, None]}
    first = served.post(ONE + "/insert", tree).json()
    again = served.post(ONE + "/insert", {"ids": [1], "vectors": [[9, 9]], "payloads": [{"a": 5}]}).json()
    assert again["seq"] > first["seq"]
    assert served.post(ONE + "/count", {"filter": {"must": [{"key": "a", "match": {"value": 5}}]}}).json() == {
        "count": 1
    }
    assert served.post(ONE + "/delete", {"ids": [2, 77]}).json() == {"deleted": 1}
    assert served.post(ONE + "/delete", {"filter": "a = 5"}).json() == {"deleted": 1}
    hits = served.post(ONE + "/query", {"vector": [9, 9]}).json()["hits"]
    assert [h["id"] for h in hits] == [3]
    info = served.post(ONE + "/flush").json()
    assert (info["points"], info["tail"]) == (1, 0)


def test_named_and_multi_vector_fields(served: Served) -> None:
    fields = {
        "title": {"dim": 4, "metric": "l2", "M": 8},
        "tokens": {"kind": "multi", "dim": 8, "store": "float32", "repetitions": 2},
    }
    created = served.put(ONE, {"vectors": fields})
    assert created.status_code == 201, created.text
    rng = np.random.default_rng(2)
    tokens = rng.normal(size=(7, 8)).astype("<f4")
    titles = rng.normal(size=(3, 4)).astype("<f4")
    vectors = {"title": block(titles), "tokens": block(tokens, ends=[2, 3, 7])}
    packed(served, "insert", {"ids": ["a", "b", "c"], "vectors": vectors})
    parts = np.split(tokens, [2, 3])
    query = rng.normal(size=(5, 8)).astype("<f4")
    scores = [float((query @ part.T).max(axis=1).sum()) for part in parts]
    for options in ({}, {"exact": True}, {"using": "tokens", "rerank": "float32", "candidates": 3}):
        answer = packed(served, "query_multi", {"tokens": block(query), "k": 2, **options})
        best = np.argsort(scores)[::-1][:2]
        assert [h["id"] for h in answer["hits"]] == ["abc"[i] for i in best]
        assert np.allclose([h["score"] for h in answer["hits"]], [scores[i] for i in best], rtol=0.05)
    point = packed(served, "get", {"ids": ["c"], "with_vectors": True})["points"][0]
    assert np.array_equal(as_block(point["vector"]["tokens"], "t"), parts[2])
    assert np.array_equal(as_block(point["vector"]["title"], "t"), titles[2])
    shown = served.post(ONE + "/get", {"ids": ["c"], "with_vectors": True}).json()["points"][0]
    assert np.allclose(shown["vector"]["tokens"], parts[2])
    lists = {"title": titles.tolist(), "tokens": [part.tolist() for part in parts]}
    assert served.post(ONE + "/insert", {"ids": ["d", "e", "f"], "vectors": lists}).status_code == 200
    assert len(served.post(ONE + "/query", {"vector": [0, 0, 0, 0], "using": "title"}).json()["hits"]) == 6


def test_payloads_change_over_http(served: Served) -> None:
    served.put(ONE, {"dim": 2})
    served.post(ONE + "/insert", {"ids": [1, 2], "vectors": [[1, 1], [2, 1]], "payloads": [{"a": 1, "b": 1}, None]})
    assert served.post(ONE + "/set_payload", {"payload": {"a": 2}, "ids": [1, 2, 3]}).json() == {"changed": 2}
    assert served.post(ONE + "/delete_payload", {"keys": ["b"], "filter": "a = 2"}).json() == {"changed": 2}
    points = served.post(ONE + "/get", {"ids": [1, 2]}).json()["points"]
    assert [p["payload"] for p in points] == [{"a": 2}, {"a": 2}]
    for action, wrong in [
        ("set_payload", {"payload": {"a": 1}}),
        ("set_payload", {"ids": [1]}),
        ("set_payload", {"payload": [1], "ids": [1]}),
        ("delete_payload", {"keys": "b", "ids": [1]}),
        ("delete_payload", {"keys": ["b"], "ids": [1], "filter": "a = 1"}),
    ]:
        assert served.post(f"{ONE}/{action}", wrong).status_code == 400


def squares(a: Any, b: Any) -> Any:
    total = 0.0
    for i in range(len(a)):
        total += (a[i] - b[i]) ** 2 / a[i]
    return total


def test_metrics_that_are_functions(served: Served) -> None:
    vicinal.register_metric("chi", squares)
    rows = np.array([[1, 2], [2, 3], [4, 1], [1, 1]], np.float32)
    for metric, query, expected in (
        ("l1", [1, 1], [0.0, 1.0, 3.0, 3.0]),
        ("haversine", [1, 1], [0.0, 111.178, 248.57, 333.585]),
        ("chi", [1, 0], [3.4028235e38] * 4),  # by 0: as far as can be, and a number in JSON
    ):
        assert served.put(f"{ONE}-{metric}", {"dim": 2, "metric": metric}).status_code == 201
        served.post(f"{ONE}-{metric}/insert", {"ids": [1, 2, 3, 4], "vectors": rows.tolist()})
        hits = served.post(f"{ONE}-{metric}/query", {"vector": query, "k": 4}).json()["hits"]
        scores = [hit["score"] for hit in hits]
        assert scores == pytest.approx(expected, rel=1e-3, abs=1e-3)
    hits = served.post(f"{ONE}-chi/query", {"vector": [1, 2], "k": 4}).json()["hits"]
    assert [hit["id"] for hit in hits] == [1, 4, 2, 3]
    assert [hit["score"] for hit in hits] == [0.0, 0.5, 1.5, 9.5]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"dim": 2, "metric": "nobody"}, "unknown_metric"),
        ({"dim": 2, "metric": "no body"}, "unknown_metric"),
        ({"dim": 3, "metric": "haversine"}, "invalid_argument"),
    ],
)
def test_metrics_the_process_does_not_know(served: Served, body: dict[str, Any], code: str) -> None:
    answer = served.put(ONE, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
