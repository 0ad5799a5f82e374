"""docs/http.md, route by route: what is sent arrives at the engine, what it answers comes back."""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from tests.support.fake_database import FakeDatabase
from tests.support.served import Served, serve

from vicinal_server.app import create_app
from vicinal_server.native.codec import as_block
from vicinal_server.settings import load_settings

ONE = "/v1/collections/papers"
ROWS = np.array([[1, 2], [3, 4]], "<f4")
BLOCK = {"dtype": "<f4", "shape": [2, 2], "base64": base64.b64encode(ROWS.tobytes()).decode()}
PACKED = {"dtype": "<f4", "shape": [2, 2], "data": ROWS.tobytes()}


def send_packed(served: Served, path: str, tree: dict[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    response = served.post(path, content=msgpack.packb(tree), headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/msgpack"
    made: dict[str, Any] = msgpack.unpackb(response.content)
    return made


def last_call(database: FakeDatabase) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return database.made["papers"].calls[-1]


def test_collections(scripted: Served) -> None:
    created = scripted.put(ONE, {"dim": 2, "metric": "l2"})
    assert created.status_code == 201
    assert created.json()["name"] == "papers"
    assert scripted.get("/v1/collections").json() == {"collections": ["papers"]}
    assert scripted.get(ONE).json()["points"] == 2
    assert scripted.delete(ONE).json() == {"dropped": "papers"}
    assert scripted.get("/v1/collections").json() == {"collections": []}


@pytest.mark.parametrize("vectors", [ROWS.tolist(), BLOCK])
def test_insert_json(scripted: Served, database: FakeDatabase, vectors: Any) -> None:
    payloads = [{"year": 2020}, None]
    tree = {"ids": [1, "b"], "vectors": vectors, "payloads": payloads}
    assert scripted.post(ONE + "/insert", tree).json() == {"accepted": 2, "seq": 5}
    _, (ids, rows, sent), _ = last_call(database)
    assert ids == [1, "b"]
    assert np.array_equal(rows, ROWS)
    assert sent == payloads


def test_insert_msgpack(scripted: Served, database: FakeDatabase) -> None:
    ids = np.array([2**64 - 1, 0], "<u8")
    tree = {"ids": {"dtype": "<u8", "shape": [2], "data": ids.tobytes()}, "vectors": PACKED}
    assert send_packed(scripted, ONE + "/insert", tree)["accepted"] == 2
    _, (sent, rows, payloads), _ = last_call(database)
    assert sent.tolist() == ids.tolist()
    assert np.array_equal(rows, ROWS)
    assert payloads is None


def test_insert_of_named_fields(scripted: Served, database: FakeDatabase) -> None:
    vectors = {"title": PACKED, "tokens": {**PACKED, "ends": [1, 2]}}
    send_packed(scripted, ONE + "/insert", {"ids": [1, 2], "vectors": vectors})
    _, (_, sent, _), _ = last_call(database)
    assert np.array_equal(sent["title"], ROWS)
    assert sent["tokens"][1].tolist() == [1, 2]


def test_delete(scripted: Served, database: FakeDatabase) -> None:
    assert scripted.post(ONE + "/delete", {"filter": "year < 2000"}).json() == {"deleted": 1}
    assert last_call(database)[2] == {"ids": None, "filter": "year < 2000"}
    for wrong in ({}, {"ids": [1], "filter": "a = 1"}, {"filter": None}):
        assert scripted.post(ONE + "/delete", wrong).status_code == 400


def test_query(scripted: Served, database: FakeDatabase) -> None:
    options = {"k": 3, "filter": {"must": []}, "using": "title", "ef": 50, "exact": True, "explain": True}
    answer = scripted.post(ONE + "/query", {"vector": [1, 2], **options, "with_vectors": True}).json()
    assert answer["hits"] == [
        {"id": 7, "score": 0.5, "payload": {"year": 2020}, "vector": [1.0, 2.0]},
        {"id": "a", "score": 0.25},
    ]
    assert answer["complete"] is True
    assert answer["seconds"] >= 0
    method, args, sent = last_call(database)
    assert (method, args) == ("query", ([1, 2], 3))
    told = {"with_payload": True, "with_vectors": True, "recall_target": None}
    assert sent == {k: v for k, v in options.items() if k != "k"} | told


def test_query_arrays_are_writable_memory(scripted: Served, database: FakeDatabase) -> None:
    answer = send_packed(scripted, ONE + "/query", {"vector": {**PACKED, "shape": [4]}})
    assert as_block(answer["hits"][0]["vector"], "v").tolist() == [1, 2]
    assert last_call(database)[1][0].flags.writeable


def test_batch_query(scripted: Served, database: FakeDatabase) -> None:
    tree = {"vectors": ROWS.tolist(), "k": 2, "filter": ["year > 1", None]}
    answer = scripted.post(ONE + "/query", tree).json()
    assert (answer["ids"], answer["scores"], answer["counts"]) == ([[3, 4], [5]], [[0.5, 0.25], [1.0]], [2, 1])
    assert last_call(database)[2]["filter"] == ["year > 1", None]
    packed = send_packed(scripted, ONE + "/query", {"vectors": PACKED})
    assert as_block(packed["ids"], "ids", ("<u8",)).tolist() == [[3, 4], [5, 2**64 - 1]]
    assert as_block(packed["scores"], "scores").shape == (2, 2)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"vector": [1], "vectors": [[1]]},
        {"vectors": [[1]], "explain": True},
        {"vectors": [[1]], "with_vectors": True},
        {"vectors": [[1]], "using": 1},
    ],
)
def test_query_needs_one_kind(scripted: Served, database: FakeDatabase, tree: dict[str, Any]) -> None:
    assert scripted.post(ONE + "/query", tree).status_code == 400
    assert "papers" not in database.made or not database.made["papers"].calls


def test_query_multi(scripted: Served, database: FakeDatabase) -> None:
    tree = {"tokens": ROWS.tolist(), "k": 4, "candidates": 50, "rerank": "float32", "filter": "a = 1"}
    assert len(scripted.post(ONE + "/query_multi", tree).json()["hits"]) == 2
    _, args, sent = last_call(database)
    assert args == (ROWS.tolist(), 4)
    assert (sent["candidates"], sent["rerank"], sent["filter"]) == (50, "float32", "a = 1")
    assert "using" not in sent


def test_get_and_scroll_and_count(scripted: Served, database: FakeDatabase) -> None:
    assert scripted.post(ONE + "/get", {"ids": [7, "b"]}).json()["points"][1] == {"id": "b", "payload": None}
    packed = send_packed(scripted, ONE + "/get", {"ids": [7]})
    assert as_block(packed["points"][0]["vector"]["title"], "v").tolist() == [1, 2]
    page = scripted.post(ONE + "/scroll", {"limit": 1, "offset": 3}).json()
    assert page == {"points": [{"id": 7, "payload": {"year": 2020}}], "next_offset": 8}
    assert scripted.post(ONE + "/count", {"filter": "year > 1"}).json() == {"count": 2}
    flushed = scripted.post(ONE + "/flush").json()
    assert (flushed["tail"], flushed["flushed"]) == (2, True)
    scripted.post(ONE + "/flush", {"timeout": 0.5})
    assert last_call(database)[1] == (0.5,)
    for timeout in (-1, 1e9, "soon", True):
        assert scripted.post(ONE + "/flush", {"timeout": timeout}).status_code == 400


def test_facet(scripted: Served, database: FakeDatabase) -> None:
    answer = scripted.post(ONE + "/facet", {"key": "topic", "filter": "year > 1", "limit": 2}).json()
    assert answer == {"facets": [{"value": "cs.LG", "count": 2}, {"value": True, "count": 1}]}
    assert last_call(database)[1] == ("topic", "year > 1", 2)
    assert scripted.post(ONE + "/facet", {}).json()["error"]["field"] == "key"


def test_a_bodyless_post_is_an_empty_map(scripted: Served) -> None:
    assert scripted.post(ONE + "/count", content=b"").json() == {"count": 2}


def test_health(scripted: Served) -> None:
    for path in ("/healthz", "/livez"):
        assert scripted.get(path).status_code == 200
    assert scripted.ready().status_code == 200


def test_readiness_waits_for_kernels_and_tells_of_failed_writes(database: FakeDatabase) -> None:
    papers = database.collection("papers")
    papers.gate.clear()
    with serve(create_app(load_settings(dir="unused"), database)) as served:
        waiting = served.get("/readyz")
        assert (waiting.status_code, "kernels" in waiting.text) == (503, True)
        papers.gate.set()
        assert served.ready().text == "ready\n"
        assert [call[0] for call in papers.calls if call[0] == "query"] == ["query"]
        papers.read_only = True
        failed = served.get("/readyz")
        assert (failed.status_code, "papers" in failed.text) == (503, True)
    with serve(create_app(load_settings(dir="unused", read_only=True), database)) as served:
        assert served.ready().status_code == 200


def test_a_warm_up_that_fails_is_logged(database: FakeDatabase, log: Any) -> None:
    database.collection("papers").failure = RuntimeError("no such kernel")
    with serve(create_app(load_settings(dir="unused"), database)) as served:
        assert served.ready().status_code == 200
    assert "warm-up failed" in [entry["event"] for entry in log]


def test_request_ids(scripted: Served) -> None:
    assert scripted.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    refused = scripted.get("/nowhere", headers={"X-Request-Id": "bad id\x7f"})
    made = refused.headers["x-request-id"]
    assert len(made) == 32
    assert refused.json()["error"]["request_id"] == made


def test_unknown_routes_and_methods(scripted: Served) -> None:
    assert scripted.get("/nowhere").json()["error"]["code"] == "not_found"
    refused = scripted.get(ONE + "/query")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["error"]["code"] == "method_not_allowed"
    assert scripted.post(ONE + "/query/").status_code == 404


def test_metrics(scripted: Served) -> None:
    scripted.put(ONE, {"dim": 2})
    scripted.post(ONE + "/count")
    scripted.get("/wp-admin/" + "x" * 50)
    text = scripted.get("/metrics").text
    assert 'collection_points{id="papers"} 2.0' in text
    assert 'rest_responses_total{endpoint="/v1/collections/{c}/count",method="POST",status="200"} 1.0' in text
    assert "collections_total 1.0" in text
    assert "wp-admin" not in text
    assert "vicinal_requests_in_flight 1.0" in text


def test_openapi_describes_every_route(scripted: Served) -> None:
    document = scripted.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if not path.startswith("/v1/"):
                continue
            for part in (operation.get("requestBody"), *operation["responses"].values()):
                for content in (part or {}).get("content", {}).values():
                    assert content["schema"]["$ref"].rpartition("/")[2] in schemas, path
            assert "422" not in operation["responses"]
    assert document["paths"]["/v1/collections/{c}/query"]["post"]["requestBody"]["required"]


def test_the_page_needs_nothing_from_elsewhere(scripted: Served) -> None:
    page = scripted.get("/docs")
    assert "/v1/collections/{c}/query_multi" in page.text
    assert "://" not in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_lifespan_leaves_nothing_behind(database: FakeDatabase) -> None:
    before = sys.getswitchinterval()
    app = create_app(load_settings(dir="unused"), database)
    with serve(app) as served:
        assert sys.getswitchinterval() < before / 10
        assert served.ready().status_code == 200
    assert sys.getswitchinterval() == before
    assert not database.closed  # it was given: its owner closes it
    assert "shutting down" in asyncio.run(app.state.service.unready())
