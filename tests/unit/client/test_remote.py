"""Both clients against a scripted server: what they send, what they make of answers, how uploads behave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from tests.support.scripted_server import Answer, ScriptedServer, Seen, scripted_server

from vicinal.client import AsyncDatabase, RemoteCollection, RemoteDatabase, Retries, connect_async
from vicinal.client.blocks import unpack_array
from vicinal.errors import (
    AlreadyExists,
    Closed,
    InvalidArgument,
    InvalidId,
    InvalidPayload,
    InvalidVector,
    NotFound,
    Unauthorized,
    Unavailable,
)
from vicinal.schema import Dense, Multi
from vicinal.types import Metric

QUICK = Retries(attempts=4, first=0.001, longest=0.002)
INFO = {
    "name": "c",
    "points": 3,
    "seq": 9,
    "slots": 4,
    "indexed": 4,
    "tail": 0,
    "disk_bytes": 10,
    "memory_bytes": 20,
    "read_only": False,
    "fields": {"": {"dim": 2}},
    "of_a_later_version": True,
}
HITS = {
    "hits": [
        {"id": 7, "score": 0.5, "payload": {"a": 1}},
        {"id": "b", "score": 0.25, "vector": {"dtype": "<f4", "shape": [2], "data": b"\0" * 8}},
    ],
    "complete": True,
    "explain": {"plan": "graph"},
    "seconds": 0.1,
}


def refused(status: int, code: str) -> Answer:
    body = {"error": {"code": code, "message": "no", "field": None, "value": None, "limit": None}}
    return Answer(status, orjson.dumps(body), {"content-type": "application/json"})


def answers(seen: Seen) -> Answer:
    action = seen.path.rpartition("/")[2]
    body: dict[str, Any] = {
        "collections": {"collections": ["a", "c"]},
        "c": INFO,
        "insert": {"accepted": 2, "seq": 9},
        "delete": {"deleted": 2},
        "get": {"points": [{"id": 7, "payload": {"a": 1}}]},
        "scroll": {"points": [{"id": "x", "payload": None, "vector": [1, 2]}], "next_offset": "y"},
        "count": {"count": 3},
        "flush": INFO,
        "query": HITS,
        "query_multi": HITS,
    }
    return Answer(201 if seen.method == "PUT" else 200, body[action])


def with_collection(
    answer: Callable[[Seen], Answer], use: Callable[[RemoteCollection], Any], **options: Any
) -> tuple[Any, ScriptedServer]:
    """Run `use` on the collection of a scripted server; returns its result and the server, requests kept."""
    with (
        scripted_server(lambda seen: answers(seen) if seen.method == "GET" else answer(seen)) as server,
        RemoteDatabase(server.url, retries=QUICK, **options) as database,
    ):
        collection = database.collection("c")
        server.seen.clear()
        return use(collection), server


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


class Store:
    """Takes inserts as a server would: slow, out of order, failing on some rows."""

    def __init__(self, fails: Callable[[int], Answer | None] = lambda _: None) -> None:
        self.rows: dict[int, tuple[list[float], Any]] = {}
        self.sizes: list[int] = []
        self.under_way = self.most_under_way = 0
        self._fails = fails
        self._guard = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        ids = unpack_array(seen.body["ids"]).tolist()
        with self._guard:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        time.sleep(0.02)
        with self._guard:
            self.under_way -= 1
            failed = self._fails(ids[0])
            if failed is not None:
                return failed
            self.sizes.append(len(ids))
            vectors = unpack_array(seen.body["vectors"]).tolist()
            payloads = seen.body["payloads"] or [None] * len(ids)
            self.rows.update(zip(ids, zip(vectors, payloads, strict=True), strict=True))
        return Answer(200, {"accepted": len(ids), "seq": 1})


def test_upload_sends_every_row_once_in_bounded_parallel() -> None:
    store, n = Store(), 95
    vectors = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    payloads = [{"n": row} for row in range(n)]
    count, _ = with_collection(
        store, lambda c: c.upload(range(n), vectors, payloads, batch=10, workers=3, progress=False)
    )
    assert count == n
    assert sorted(store.sizes) == [5, *[10] * 9]
    assert 2 <= store.most_under_way <= 3
    assert store.rows == {row: (vectors[row].tolist(), {"n": row}) for row in range(n)}


class Watched(list[int]):
    """Ids that remember how far they were cut."""

    cut = 0

    def __getitem__(self, part: Any) -> Any:
        self.cut = max(self.cut, part.stop)
        return super().__getitem__(part)


def test_rows_are_not_cut_long_before_they_are_sent() -> None:
    ids = Watched(range(1000))
    ahead: list[int] = []

    def answer(seen: Seen) -> Answer:
        time.sleep(0.002)
        ahead.append(ids.cut - len(ahead) * 10)
        return Answer(200, {"accepted": 10, "seq": 1})

    with_collection(answer, lambda c: c.upload(ids, np.ones((1000, 2)), batch=10, workers=3, progress=False))
    assert len(ahead) == 100
    assert max(ahead) <= 60


def test_automatic_batches_grow_from_two_to_eight_megabytes() -> None:
    store, dim = Store(), 1024
    vectors = np.zeros((6000, dim), np.float16)
    with_collection(store, lambda c: c.upload(np.arange(6000), vectors, workers=1, progress=False))
    sizes = [4 * dim * rows / 2**20 for rows in store.sizes]
    np.testing.assert_allclose(sizes[:3], [2, 4, 8], rtol=0.02)
    assert max(sizes) <= 8
    assert sum(store.sizes) == 6000


def test_uploads_get_past_a_busy_server() -> None:
    said = iter([refused(503, "unavailable"), refused(429, "unavailable")])
    store = Store(lambda first: next(said, None) if first == 20 else None)
    count, _ = with_collection(store, lambda c: c.upload(range(50), np.ones((50, 2)), batch=10, progress=False))
    assert count == len(store.rows) == 50


def test_the_first_error_in_the_order_of_rows_is_raised() -> None:
    codes = {20: "invalid_vector", 30: "invalid_payload"}
    store = Store(lambda first: refused(400, codes[first]) if first in codes else None)

    def use(collection: RemoteCollection) -> None:
        with pytest.raises(InvalidVector) as caught:
            collection.upload(range(1000), np.ones((1000, 2)), batch=10, workers=4, progress=False)
        assert caught.value.__notes__ == ["rows before 20 are stored; rows 20..29 failed"]

    with_collection(store, use)
    assert set(range(20)) <= set(store.rows)
    assert len(store.rows) < 100


def test_wrong_uploads_send_nothing() -> None:
    def use(collection: RemoteCollection) -> None:
        rows = np.ones((5, 2))
        wrong: list[tuple[type[Exception], tuple[Any, ...], dict[str, Any]]] = [
            (InvalidArgument, (range(4), rows), {}),
            (InvalidPayload, (range(5), rows, [{}] * 4), {}),
            (InvalidId, ("abcde", rows), {}),
            (InvalidId, (iter(range(5)), rows), {}),
            (InvalidArgument, (range(5), rows), {"batch": 0}),
            (InvalidArgument, (range(5), rows), {"batch": "large"}),
            (InvalidArgument, (range(5), rows), {"workers": 0}),
            (InvalidVector, (range(5), np.ones(5)), {}),
        ]
        for error, args, options in wrong:
            with pytest.raises(error):
                collection.upload(*args, progress=False, **options)

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


def test_the_async_client_uploads_and_retries() -> None:
    said = iter([refused(503, "unavailable"), Answer(0)])
    store = Store(lambda first: next(said, None) if first == 20 else None)

    async def use(url: str) -> int:
        async with AsyncDatabase(url, retries=QUICK) as database:
            collection = await database.collection("c")
            return await collection.upload(range(95), np.ones((95, 2)), batch=10, workers=3, progress=False)

    with scripted_server(lambda seen: answers(seen) if seen.method == "GET" else store(seen)) as server:
        assert asyncio.run(use(server.url)) == 95
    assert len(store.rows) == 95
    assert 2 <= store.most_under_way <= 3


def test_the_async_client_raises_the_first_error() -> None:
    store = Store(lambda first: refused(400, "invalid_vector") if first == 20 else None)

    async def use(url: str) -> None:
        async with AsyncDatabase(url, retries=QUICK) as database:
            collection = await database.collection("c")
            with pytest.raises(InvalidVector) as caught:
                await collection.upload(range(1000), np.ones((1000, 2)), batch=10, progress=False)
            assert caught.value.__notes__ == ["rows before 20 are stored; rows 20..29 failed"]

    with scripted_server(lambda seen: answers(seen) if seen.method == "GET" else store(seen)) as server:
        asyncio.run(use(server.url))


def test_connecting_async_shows_a_wrong_key_at_once() -> None:
    async def use(url: str) -> None:
        with pytest.raises(Unauthorized):
            await connect_async(url)

    with scripted_server(lambda _: refused(401, "unauthorized")) as server:
        asyncio.run(use(server.url))
