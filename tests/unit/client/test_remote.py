"""Both clients against a scripted server: what they send, and what they make of answers."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tests.support.scripted_collection import QUICK, answers, refused, with_collection
from tests.support.scripted_server import Answer, scripted_server

from vicinal.client import RemoteCollection, RemoteDatabase, connect_async
from vicinal.client.blocks import unpack_array
from vicinal.errors import AlreadyExists, Closed, InvalidArgument, InvalidVector, NotFound, Unauthorized, Unavailable
from vicinal.schema import Dense, Multi
from vicinal.types import Metric


def test_the_database(tmp_path: Any) -> None:
    with scripted_server(answers) as server, RemoteDatabase(server.url + "/", api_key="secret") as database:
        assert database.list_collections() == ["a", "c"]
        made = database.create_collection("c", dim=2, metric="l2", M=8)
        assert made.name == "c"
        fields = {"v": Dense(2, Metric.DOT), "t": Multi(4), "w": {"dim": 3}}
        database.create_collection(name="c", vectors=fields)
        database.drop_collection("c")
        assert repr(database) == f"RemoteDatabase('{server.url}')"
        assert repr(made) == f"RemoteCollection('c' at {server.url})"
    plain, named = server.seen[1].body, server.seen[2].body
    assert plain == {"dim": 2, "metric": "l2", "M": 8}
    assert named["vectors"]["v"].items() >= {"kind": "dense", "dim": 2, "metric": "dot"}.items()
    assert named["vectors"]["t"].items() >= {"kind": "multi", "dim": 4, "store": "int8"}.items()
    assert named["vectors"]["w"] == {"dim": 3}
    assert "metric" not in named
    assert [seen.method for seen in server.seen] == ["GET", "PUT", "PUT", "DELETE"]
    assert {seen.headers["api-key"] for seen in server.seen} == {"secret"}


def test_writes_and_lookups() -> None:
    def use(collection: RemoteCollection) -> None:
        assert collection.upsert([1, 2], np.ones((2, 2)), [{"a": 1}, None]) == 9
        assert collection.delete([1, 2]) == 2
        assert collection.delete(filter="a = 1") == 2
        assert collection.get([7])[0].payload == {"a": 1}
        (point,), following = collection.scroll("a = 1", 5, offset="x", with_vectors=True)
        assert (point.id, point.vector.tolist(), following) == ("x", [1, 2], "y")
        assert collection.count({"must": []}) == len(collection) == 3
        assert collection.info().points == 3
        assert collection.flush() is True

    _, server = with_collection(answers, use)
    insert, delete, by_filter, _, scroll = (seen.body for seen in server.seen[:5])
    assert unpack_array(insert["ids"]).tolist() == [1, 2]
    assert insert["payloads"] == [{"a": 1}, None]
    assert list(delete) == ["ids"]
    assert by_filter == {"filter": "a = 1"}
    assert scroll == {"limit": 5, "with_payload": True, "with_vectors": True, "filter": "a = 1", "offset": "x"}


def test_queries() -> None:
    def use(collection: RemoteCollection) -> None:
        hits = collection.query([1, 2], 3, filter="a = 1", ef=50, explain=True)
        assert (hits.ids, hits.scores.tolist(), hits.complete) == ([7, "b"], [0.5, 0.25], True)
        assert hits[0].payload == {"a": 1}
        assert hits[1].vector.tolist() == [0, 0]
        assert hits.explain == {"plan": "graph"}
        assert len(collection.query_multi(np.ones((3, 2)), candidates=40, rerank="float32")) == 2

    _, server = with_collection(answers, use)
    query, multi = (seen.body for seen in server.seen)
    assert unpack_array(query["vector"]).tolist() == [1, 2]
    assert (query["k"], query["filter"], query["ef"], query["exact"]) == (3, "a = 1", 50, False)
    assert multi["tokens"]["shape"] == [3, 2]
    assert (multi["candidates"], multi["rerank"]) == (40, "float32")


@pytest.mark.parametrize("texts", [False, True])
def test_batches(texts: bool) -> None:
    scores = {"dtype": "<f4", "shape": [2, 2], "data": np.array([[1, 0.5], [1, np.nan]], "<f4").tobytes()}
    block = {"dtype": "<u8", "shape": [2, 2], "data": np.array([[1, 2], [3, 2**64 - 1]], "<u8").tobytes()}
    ids = [[1, "b"], [3]] if texts else block
    said = Answer(200, {"ids": ids, "scores": scores, "counts": [2, 1], "seconds": 0.1})
    found, server = with_collection(lambda _: said, lambda c: c.query_batch(np.ones((2, 2)), 2, filter=["a = 1", None]))
    assert found[0].tolist() == ([[1, "b"], [3, None]] if texts else [[1, 2], [3, 2**64 - 1]])
    assert found[1].shape == (2, 2)
    assert found[2].tolist() == [2, 1]
    assert server.seen[0].body["filter"] == ["a = 1", None]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "not_found"), NotFound),
        (refused(409, "already_exists"), AlreadyExists),
        (refused(401, "unauthorized"), Unauthorized),
        (refused(400, "invalid_vector"), InvalidVector),
        (refused(503, "unavailable"), Unavailable),
        (Answer(0), Unavailable),
    ],
)
def test_errors_are_the_engines_own(answer: Answer, error: type[Exception]) -> None:
    def use(collection: RemoteCollection) -> None:
        with pytest.raises(error):
            collection.count()

    with_collection(lambda _: answer, use)


def test_a_busy_server_is_asked_again() -> None:
    said = iter([refused(503, "unavailable"), Answer(0), refused(429, "unavailable"), Answer(200, {"count": 4})])
    count, server = with_collection(lambda _: next(said), lambda c: c.count())
    assert count == 4
    assert len(server.seen) == 4


def test_nobody_there() -> None:
    with scripted_server(answers) as server:
        url = server.url
    with RemoteDatabase(url, retries=QUICK) as database, pytest.raises(Unavailable, match="cannot be reached"):
        database.list_collections()


def test_a_closed_client_says_so() -> None:
    with scripted_server(answers) as server:
        with RemoteDatabase(server.url) as database:
            collection = database.collection("c")
        with pytest.raises(Closed):
            collection.count()


@pytest.mark.parametrize("url", ["", "ftp://x", "localhost:6333", "http://", "http://[::1", "no address"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        RemoteDatabase(url)


@pytest.mark.parametrize("key", ["two\nlines", "é", "tab\t"])
def test_keys_that_no_header_carries_are_refused(key: str) -> None:
    with pytest.raises(InvalidArgument, match="key"):
        RemoteDatabase("http://127.0.0.1:1", api_key=key)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a" * 65, "é", "a b", "a?b"])
def test_names_that_would_bend_the_path_never_leave(name: str) -> None:
    with scripted_server(answers) as server, RemoteDatabase(server.url) as database:
        with pytest.raises(InvalidArgument):
            database.collection(name)
        assert not server.seen


def test_delete_wants_ids_or_a_filter() -> None:
    def use(collection: RemoteCollection) -> None:
        wrong: list[dict[str, Any]] = [{}, {"ids": [1], "filter": "a = 1"}]
        for given in wrong:
            with pytest.raises(InvalidArgument):
                collection.delete(**given)

    assert not with_collection(answers, use)[1].seen


def test_the_async_client_sends_the_same_calls() -> None:
    async def use(url: str) -> None:
        async with await connect_async(url, api_key="secret") as database:
            assert await database.list_collections() == ["a", "c"]
            collection = await database.create_collection("c", dim=2)
            assert await collection.upsert([1, 2], np.ones((2, 2))) == 9
            hits = await collection.query([1, 2], k=3, filter="a = 1")
            assert hits.ids == [7, "b"]
            assert await (await database.collection("c")).count() == 3
            assert await collection.flush() is True
            await database.drop_collection("c")
        with pytest.raises(Closed):
            await collection.count()

    with scripted_server(answers) as server:
        asyncio.run(use(server.url))
    assert {seen.headers["api-key"] for seen in server.seen} == {"secret"}


def test_connecting_async_shows_a_wrong_key_at_once() -> None:
    async def use(url: str) -> None:
        with pytest.raises(Unauthorized):
            await connect_async(url)

    with scripted_server(lambda _: refused(401, "unauthorized")) as server:
        asyncio.run(use(server.url))
