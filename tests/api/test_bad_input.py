"""Every kind of bad input over HTTP: the right status and code, the culprit named, and nothing written."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from tests.support.served import Served, serve

import vicinal
from vicinal.limits import EF_MAX, K_MAX
from vicinal.storage import sqlite
from vicinal.storage.files import Files
from vicinal_server.app import create_app
from vicinal_server.settings import load_settings

DENSE, TOKENS = "/v1/collections/dense", "/v1/collections/tokens"
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def filled(served: Served) -> Iterator[Served]:
    """Two points of a cosine collection and two of a multi-vector collection; unchanged after every test."""
    assert served.put(DENSE, {"dim": 3}).status_code == 201
    assert served.put(TOKENS, {"vectors": {"tokens": {"kind": "multi", "dim": 3, "repetitions": 2}}}).status_code == 201
    payloads = [{"year": 2020}, {"year": 2024}]
    dense = {"ids": [1, "b"], "vectors": [[1, 0, 0], [0, 1, 0]], "payloads": payloads}
    assert served.post(DENSE + "/insert", dense).status_code == 200
    tokens = {"ids": [1, 2], "vectors": {"tokens": [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1]]]}}
    assert served.post(TOKENS + "/insert", tokens).status_code == 200
    before = state(served)
    yield served
    assert state(served) == before


def state(served: Served) -> list[Any]:
    rows = [served.post(c + "/scroll", {"with_vectors": True}).json() for c in (DENSE, TOKENS)]
    return [*rows, *(served.get(c).json()["seq"] for c in (DENSE, TOKENS)), served.get("/v1/collections").json()]


def deep(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"must": []}
    for _ in range(levels):
        tree = {"must": [tree]}
    return tree


def block(rows: Any) -> dict[str, Any]:
    array = np.asarray(rows, "<f4")
    return {"dtype": "<f4", "shape": list(array.shape), "data": array.tobytes()}


def one(vector: Any) -> dict[str, Any]:
    return {"ids": [9], "vectors": [vector]}


INSERTS = [
    ("overflows float32", one([1e39, 0, 0]), "invalid_vector"),
    ("zero under cosine", one([0, 0, 0]), "invalid_vector"),
    ("too short", one([1, 2]), "invalid_vector"),
    ("too long", one([1, 2, 3, 4]), "invalid_vector"),
    ("an empty vector", one([]), "invalid_vector"),
    ("text in a vector", one([1, 2, "3"]), "invalid_vector"),
    ("text that looks like numbers", one(["1", "2", "3"]), "invalid_vector"),
    ("null in a vector", one([1, 2, None]), "invalid_vector"),
    ("booleans", one([True, False, True]), "invalid_vector"),
    ("a huge whole number", one([10**400, 0, 0]), "malformed_body"),
    ("ragged", {"ids": [8, 9], "vectors": [[1, 2, 3], [1, 2]]}, "invalid_vector"),
    ("nested too deep", one([[[[[1, 2, 3]]]]]), "invalid_vector"),
    ("a map for a vector", one({"a": 1}), "invalid_vector"),
    ("no list at all", {"ids": [9], "vectors": 3}, "invalid_vector"),
    ("an empty batch", {"ids": [], "vectors": []}, "invalid_argument"),
    ("more ids than vectors", {"ids": [8, 9], "vectors": [[1, 2, 3]]}, "invalid_vector"),
    ("an id twice", {"ids": [9, 9], "vectors": [[1, 2, 3], [4, 5, 6]]}, "invalid_id"),
    ("a negative id", {"ids": [-1], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("an id of 2**64", {"ids": [2**64], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("a fractional id", {"ids": [1.5], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("a boolean id", {"ids": [True], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("an empty id", {"ids": [""], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("a long id", {"ids": ["x" * 513], "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("a map of ids", {"ids": {"a": 1}, "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("ids as text", {"ids": "a", "vectors": [[1, 2, 3]]}, "invalid_id"),
    ("an unknown field", {"ids": [9], "vectors": {"title": [[1, 2, 3]]}}, "invalid_vector"),
    ("a payload that is no object", {**one([1, 2, 3]), "payloads": [3]}, "invalid_payload"),
    ("too few payloads", {**one([1, 2, 3]), "payloads": []}, "invalid_payload"),
    ("payloads as a map", {**one([1, 2, 3]), "payloads": {"a": 1}}, "invalid_payload"),
    ("a misspelt key", {**one([1, 2, 3]), "payload": [{}]}, "invalid_argument"),
    ("no vectors", {"ids": [9]}, "invalid_vector"),
]


@pytest.mark.parametrize(("tree", "code"), [row[1:] for row in INSERTS], ids=[row[0] for row in INSERTS])
def test_insert(filled: Served, tree: dict[str, Any], code: str) -> None:
    check(filled.post(DENSE + "/insert", content=dumps(tree), headers={"content-type": "application/json"}), code)


def dumps(tree: dict[str, Any]) -> bytes:
    import json

    return json.dumps(tree).encode()


def check(response: Any, code: str, status: int | None = None) -> None:
    expected = status or {"malformed_body": 422, "not_found": 404, "already_exists": 409}.get(code, 400)
    assert response.status_code == expected, response.text
    error = response.json()["error"]
    assert error["code"] == code, error
    assert error["message"]
    assert error["field"]
    assert error["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("route", ["insert", "query", "query_multi"])
def test_numbers_that_are_not_finite(filled: Served, bad: float, route: str) -> None:
    rows = [[1, 2, bad]]
    bodies: dict[str, Any] = {
        "insert": lambda form: {"ids": [9], "vectors": form(rows)},
        "query": lambda form: {"vector": form(rows[0])},
        "query_multi": lambda form: {"tokens": form(rows)},
    }
    path = (TOKENS if route == "query_multi" else DENSE) + f"/{route}"
    as_text = filled.post(path, content=dumps(bodies[route](list)), headers={"content-type": "application/json"})
    check(as_text, "malformed_body")
    packed = {"content-type": "application/msgpack"}
    for form in (list, block):
        check(filled.post(path, content=msgpack.packb(bodies[route](form)), headers=packed), "invalid_vector")


def test_a_base64_block_is_checked_too(filled: Served) -> None:
    text = base64.b64encode(np.array([1, 2, NAN], "<f4").tobytes()).decode()
    tree = {"vector": {"dtype": "<f4", "shape": [3], "base64": text}}
    check(filled.post(DENSE + "/query", tree), "invalid_vector")


QUERIES = [
    ("k = 0", {"vector": [1, 2, 3], "k": 0}, "invalid_argument"),
    ("k < 0", {"vector": [1, 2, 3], "k": -1}, "invalid_argument"),
    ("k too large", {"vector": [1, 2, 3], "k": K_MAX + 1}, "limit_exceeded"),
    ("k huge", {"vector": [1, 2, 3], "k": 2**63}, "limit_exceeded"),
    ("k as text", {"vector": [1, 2, 3], "k": "10"}, "invalid_argument"),
    ("ef = 0", {"vector": [1, 2, 3], "ef": 0}, "invalid_argument"),
    ("ef too large", {"vector": [1, 2, 3], "ef": EF_MAX + 1}, "limit_exceeded"),
    ("too short", {"vector": [1, 2]}, "invalid_vector"),
    ("a matrix", {"vector": [[1, 2, 3]]}, "invalid_vector"),
    ("zero under cosine", {"vector": [0, 0, 0]}, "invalid_vector"),
    ("overflows float32", {"vector": [1e39, 0, 0]}, "invalid_vector"),
    ("no vector", {"k": 3}, "invalid_argument"),
    ("an empty batch", {"vectors": []}, "invalid_vector"),
    ("a zero row in a batch", {"vectors": [[1, 0, 0], [0, 0, 0]]}, "invalid_vector"),
    ("too few filters", {"vectors": [[1, 0, 0]], "filter": ["year > 1", None]}, "invalid_argument"),
    ("an unknown vector field", {"vector": [1, 2, 3], "using": "title"}, "not_found"),
    ("an unknown operator", {"vector": [1, 2, 3], "filter": {"must": [{"key": "a", "like": 1}]}}, "invalid_filter"),
    ("a misspelt clause", {"vector": [1, 2, 3], "filter": {"musst": []}}, "invalid_filter"),
    ("half an expression", {"vector": [1, 2, 3], "filter": "year >="}, "invalid_filter"),
    ("an empty expression", {"vector": [1, 2, 3], "filter": ""}, "invalid_filter"),
    ("no filter at all", {"vector": [1, 2, 3], "filter": 3}, "invalid_filter"),
    ("a list of filters", {"vector": [1, 2, 3], "filter": []}, "invalid_filter"),
    ("a filter 1,000 deep", {"vector": [1, 2, 3], "filter": deep(450)}, "invalid_filter"),
    ("an expression 1,000 deep", {"vector": [1, 2, 3], "filter": "(" * 1000 + "a = 1" + ")" * 1000}, "invalid_filter"),
    ("a filter too wide", {"vector": [1, 2, 3], "filter": " or ".join(["a = 1"] * 1000)}, "invalid_filter"),
]


@pytest.mark.parametrize(("tree", "code"), [row[1:] for row in QUERIES], ids=[row[0] for row in QUERIES])
def test_query(filled: Served, tree: dict[str, Any], code: str) -> None:
    check(filled.post(DENSE + "/query", tree), code)


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        ({"tokens": []}, "invalid_vector"),
        ({"tokens": [[]]}, "invalid_vector"),
        ({"tokens": [1, 2, 3]}, "invalid_vector"),
        ({"tokens": [[1, 2]]}, "invalid_vector"),
        ({"tokens": [[1, 2, 3]], "k": 0}, "invalid_argument"),
        ({"tokens": [[1, 2, 3]], "candidates": 0}, "invalid_argument"),
        ({"tokens": [[1, 2, 3]], "candidates": 10**9}, "limit_exceeded"),
        ({"tokens": [[1, 2, 3]], "rerank": "best"}, "invalid_argument"),
        ({"tokens": [[1, 2, 3]], "using": "title"}, "not_found"),
        ({"tokens": [[1, 2, 3]], "filter": "year >="}, "invalid_filter"),
        ({}, "invalid_vector"),
    ],
)
def test_query_multi(filled: Served, tree: dict[str, Any], code: str) -> None:
    check(filled.post(TOKENS + "/query_multi", tree), code)


def test_a_multi_vector_field_is_not_for_query_and_the_other_way(filled: Served) -> None:
    check(filled.post(TOKENS + "/query", {"vector": [1, 2, 3]}), "invalid_argument")
    check(filled.post(DENSE + "/query_multi", {"tokens": [[1, 2, 3]]}), "invalid_argument")


@pytest.mark.parametrize(
    "vectors",
    [[[[1, 2, 3]], []], [[[1, 2, 3]], [[]]], [[[1, 2, 3]], [[1, 2]]], [[1, 2, 3], [4, 5, 6]], [[[1, 2, 3]]]],
)
def test_token_matrices(filled: Served, vectors: Any) -> None:
    check(filled.post(TOKENS + "/insert", {"ids": [8, 9], "vectors": {"tokens": vectors}}), "invalid_vector")


@pytest.mark.parametrize("ends", [[0, 3], [2, 1], [3], [1, 2], [1, 1, 3], []])
def test_ends(filled: Served, ends: list[int]) -> None:
    vectors = {"tokens": {**block(np.ones((3, 3))), "ends": ends}}
    body = msgpack.packb({"ids": [8, 9], "vectors": vectors})
    check(
        filled.post(TOKENS + "/insert", content=body, headers={"content-type": "application/msgpack"}),
        "invalid_vector",
    )


@pytest.mark.parametrize(
    "verb", ["insert", "query", "query_multi", "get", "scroll", "count", "facet", "delete", "flush"]
)
def test_unknown_collections(filled: Served, verb: str) -> None:
    trees: dict[str, Any] = {
        "insert": one([1, 2, 3]),
        "query": {"vector": [1, 2, 3]},
        "query_multi": {"tokens": [[1, 2, 3]]},
        "get": {"ids": [1]},
        "delete": {"ids": [1]},
        "facet": {"key": "a"},
    }
    check(filled.post(f"/v1/collections/none/{verb}", trees.get(verb, {})), "not_found")
    check(filled.get("/v1/collections/none"), "not_found")
    check(filled.delete("/v1/collections/none"), "not_found")


@pytest.mark.parametrize(
    ("name", "tree", "code"),
    [
        ("dense", {"dim": 3}, "already_exists"),
        ("new", {}, "invalid_argument"),
        ("new", {"dim": 0}, "invalid_argument"),
        ("new", {"dim": 10**6}, "invalid_argument"),
        ("new", {"dim": "3"}, "invalid_argument"),
        ("new", {"dim": 3, "metric": "manhattan"}, "unknown_metric"),
        ("new", {"dim": 3, "vectors": {"a": {"dim": 3}}}, "invalid_argument"),
        ("new", {"dim": 3, "M": 1}, "invalid_argument"),
        ("new", {"dim": 3, "colour": "red"}, "invalid_argument"),
        ("new", {"vectors": {}}, "limit_exceeded"),
        ("new", {"vectors": {"a": {"kind": "cubic", "dim": 3}}}, "invalid_argument"),
        ("new", {"vectors": {"a": {"kind": "multi"}}}, "invalid_argument"),
        ("new", {"vectors": {"../a": {"dim": 3}}}, "invalid_argument"),
        ("new", {"vectors": {"a": {"dim": 3, "colour": 1}}}, "invalid_argument"),
        ("..%2Fnew", {"dim": 3}, "not_found"),
        ("a b", {"dim": 3}, "invalid_argument"),
        ("n" * 65, {"dim": 3}, "invalid_argument"),
    ],
)
def test_create(filled: Served, name: str, tree: dict[str, Any], code: str) -> None:
    check(filled.put(f"/v1/collections/{name}", tree), code)


@pytest.mark.parametrize(
    ("verb", "tree", "code"),
    [
        ("scroll", {"limit": 0}, "invalid_argument"),
        ("scroll", {"limit": 10**6}, "limit_exceeded"),
        ("scroll", {"offset": -1}, "invalid_id"),
        ("scroll", {"filter": "year >="}, "invalid_filter"),
        ("count", {"filter": {"must": 3}}, "invalid_filter"),
        ("get", {"ids": [None]}, "invalid_id"),
        ("get", {"ids": 7}, "invalid_id"),
        ("delete", {"ids": [-1]}, "invalid_id"),
        ("delete", {"filter": "year >="}, "invalid_filter"),
        ("delete", {"filter": deep(450)}, "invalid_filter"),
        ("delete", {}, "invalid_argument"),
    ],
)
def test_other_routes(filled: Served, verb: str, tree: dict[str, Any], code: str) -> None:
    check(filled.post(f"{DENSE}/{verb}", tree), code)


def test_a_body_over_the_limit(filled: Served) -> None:
    tree = {"ids": list(range(20_000)), "vectors": [[1, 2, 3]] * 20_000}
    check(filled.post(DENSE + "/insert", tree), "limit_exceeded", 413)
    packed = {"content-type": "application/msgpack"}
    big = msgpack.packb({"ids": [9], "vectors": block(np.ones((20_000, 3)))})
    check(filled.post(DENSE + "/insert", content=big, headers=packed), "limit_exceeded", 413)


@pytest.mark.parametrize("levels", [251, 252, 254])
def test_the_deepest_payload_comes_back(served: Served, levels: int) -> None:
    payload: dict[str, Any] = {}
    for _ in range(levels - 1):
        payload = {"a": payload}
    served.put(DENSE, {"dim": 3})
    assert served.post(DENSE + "/insert", {**one([1, 2, 3]), "payloads": [payload]}).status_code == 200
    assert served.post(DENSE + "/get", {"ids": [9]}).json()["points"] == [{"id": 9, "payload": payload}]
    assert served.post(DENSE + "/query", {"vector": [1, 2, 3]}).json()["hits"][0]["payload"] == payload


def test_a_payload_too_deep_is_refused(filled: Served) -> None:
    check(filled.post(DENSE + "/insert", {**one([1, 2, 3]), "payloads": [deep(200)]}), "invalid_payload")


def test_a_collection_of_a_newer_format(tmp_path: Path) -> None:
    with vicinal.connect(tmp_path / "data") as database:
        database.create_collection("dense", dim=3)
    catalog = next((tmp_path / "data" / "collections").iterdir()) / "catalog.db"
    connection = sqlite.connect(Files(), catalog)
    connection.pragma("user_version", 99)
    connection.close()
    with serve(create_app(load_settings(dir=tmp_path / "data"))) as served:
        assert served.get("/v1/collections").json() == {"collections": ["dense"]}
        refused = served.post(DENSE + "/query", {"vector": [1, 2, 3]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "format_too_new")
        assert str(tmp_path) not in refused.text


def test_k_beyond_n_is_no_error(filled: Served) -> None:
    answer = filled.post(DENSE + "/query", {"vector": [1, 0, 0], "k": 100}).json()
    assert [h["id"] for h in answer["hits"]] == [1, "b"]
    assert answer["complete"] is True


def test_ids_the_collection_lacks_are_no_error(filled: Served) -> None:
    assert filled.post(DENSE + "/get", {"ids": [77, "b", 1]}).json()["points"][0]["id"] == "b"
    assert filled.post(DENSE + "/get", {"ids": []}).json() == {"points": []}


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ({"must": [{"key": "a", "match": {"value": 1}}, {"key": "a", "range": {"ge": 1}}]}, "must[1].range"),
        ({"must": [{"key": "a", "matches": {"value": 1}}]}, "must[0]"),
        ({"should": [{"key": "a", "range": {"gte": "many"}}]}, "should[0].range"),
        ({"must_not": [{"key": "a", "match": {"value": [1]}}]}, "must_not[0].match.value"),
        ({"must": [{"key": "a", "match": {"any": [0] * 10_001}}]}, "must[0].match.any"),
        ({"must": [{"has_id": [1.5]}]}, "must[0].has_id"),
        ({"must": [{"key": "a", "geo_radius": {"center": {"lon": 999, "lat": 0}, "radius": 1}}]}, "must[0].geo_radius"),
        ("a >>= 3", "filter"),
        ("geo_radius(a, (0, 91), 1)", "filter"),
    ],
)
@pytest.mark.parametrize("verb", ["count", "facet", "scroll"])
def test_a_bad_filter_names_its_clause(filled: Served, verb: str, filter: Any, field: str) -> None:
    tree = {"filter": filter} | ({"key": "a"} if verb == "facet" else {})
    response = filled.post(f"/v1/collections/dense/{verb}", tree)
    check(response, "invalid_filter")
    assert response.json()["error"]["field"] == field


def test_a_filter_too_deep_is_refused(filled: Served) -> None:
    tree: dict[str, Any] = {"key": "a", "match": {"value": 1}}
    for _ in range(40):
        tree = {"must": [tree]}
    response = filled.post("/v1/collections/dense/count", {"filter": tree})
    check(response, "invalid_filter")
    assert "16 deep" in response.json()["error"]["message"]
