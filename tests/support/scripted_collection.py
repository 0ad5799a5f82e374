"""A scripted server with one collection `c`, and answers for every call on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from tests.support.scripted_server import Answer, ScriptedServer, Seen, scripted_server

from vicinal.client import RemoteCollection, RemoteDatabase, Retries

__all__ = ["QUICK", "answers", "refused", "with_collection"]

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
        "flush": {**INFO, "flushed": True},
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
