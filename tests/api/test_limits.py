"""Overload, oversize, slowness, and failures of the engine: a typed answer each, and the service goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgpack
import pytest
from tests.support.fake_database import FakeDatabase
from tests.support.served import Served, serve

from vicinal.errors import CorruptData, ReadOnly, StorageFull
from vicinal_server.app import create_app
from vicinal_server.service import Service
from vicinal_server.settings import load_settings

ONE = "/v1/collections/papers"
JSON = {"content-type": "application/json"}
PACKED = {"content-type": "application/msgpack"}


@contextmanager
def limited(database: FakeDatabase, **settings: Any) -> Iterator[Served]:
    with serve(create_app(load_settings(dir="unused", **settings), database)) as served:
        yield served


def service_of(served: Served) -> Service:
    service: Service = served.app.state.service
    return service


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    code: str = response.json()["error"]["code"]
    return code


async def endless(sent: list[int]) -> AsyncIterator[bytes]:
    while True:
        sent.append(1024)
        yield b" " * 1024


@pytest.mark.parametrize("headers", [JSON, PACKED])
def test_a_body_is_cut_while_it_streams(database: FakeDatabase, headers: dict[str, str]) -> None:
    sent: list[int] = []
    with limited(database, body_json_max=4096, body_binary_max=8192) as served:
        response = served.post(ONE + "/insert", content=endless(sent), headers=headers)
        assert (response.status_code, code_of(response)) == (413, "limit_exceeded")
        assert response.headers["connection"] == "close"
        assert sum(sent) <= 8192 + 1024
        assert service_of(served).buffers.held == 0


def test_a_declared_length_is_refused_before_reading(database: FakeDatabase) -> None:
    with limited(database, body_json_max=4096) as served:
        sent: list[int] = []
        headers = {**JSON, "content-length": "5000"}
        response = served.post(ONE + "/insert", content=endless(sent), headers=headers)
        assert response.status_code == 413
        assert not sent


def test_msgpack_structure_counts_as_json(database: FakeDatabase) -> None:
    with limited(database, body_json_max=1024, body_binary_max=10_000) as served:
        body = msgpack.packb({"ids": list(range(3000)), "vectors": []})
        response = served.post(ONE + "/insert", content=body, headers=PACKED)
        assert (response.status_code, code_of(response)) == (413, "limit_exceeded")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_types_are_415(scripted: Served, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    response = scripted.post(ONE + "/count", content=b"{}", headers=headers)
    assert (response.status_code, code_of(response)) == (415, "unsupported_media_type")


def test_compressed_bodies_are_415(scripted: Served) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    assert scripted.post(ONE + "/count", content=b"{}", headers=headers).status_code == 415


def test_a_slow_body_is_408(database: FakeDatabase) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"k":'
        await asyncio.sleep(30)

    with limited(database, body_seconds=0.05) as served:
        started = time.monotonic()
        response = served.post(ONE + "/query", content=stalled(), headers=JSON)
        assert time.monotonic() - started < 5
        assert (response.status_code, code_of(response)) == (408, "timeout")
        assert service_of(served).buffers.held == 0


def test_a_slow_search_is_408_and_the_service_goes_on(database: FakeDatabase) -> None:
    with limited(database, request_seconds=0.05, threads=2) as served:
        collection = database.collection("papers")
        collection.gate.clear()
        response = served.post(ONE + "/query", {"vector": [1]})
        assert (response.status_code, code_of(response)) == (408, "timeout")
        collection.gate.set()
        assert served.post(ONE + "/query", {"vector": [1]}).status_code == 200


def in_background(count: int, call: Any) -> tuple[list[threading.Thread], list[Any]]:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_beyond_the_requests_in_flight_is_503(database: FakeDatabase) -> None:
    with limited(database, in_flight_max=3, threads=1) as served:
        collection = database.collection("papers")
        collection.gate.clear()
        threads, answers = in_background(3, lambda: served.post(ONE + "/query", {"vector": [1]}))
        until(lambda: service_of(served).in_flight == 3)
        refused = served.post(ONE + "/count")
        assert (refused.status_code, code_of(refused)) == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"
        assert served.get("/healthz").status_code == 200
        collection.gate.set()
        for thread in threads:
            thread.join()
        assert [a.status_code for a in answers] == [200, 200, 200]
        assert service_of(served).in_flight == 0


def test_large_bodies_together_are_bounded(database: FakeDatabase) -> None:
    async def held(release: asyncio.Event) -> AsyncIterator[bytes]:
        yield b" " * 4000
        await release.wait()
        yield b"{}"

    with limited(database, body_json_max=4096, body_binary_max=4096) as served:
        release = asyncio.Event()
        call = lambda: served.post(ONE + "/count", content=held(release), headers=JSON)
        threads, answers = in_background(2, call)
        until(lambda: service_of(served).buffers.held == 8000)
        assert served.post(ONE + "/count", content=b" " * 1000, headers=JSON).status_code == 503
        served.run(set_event(release))
        for thread in threads:
            thread.join()
        assert [a.status_code for a in answers] == [200, 200]


async def set_event(event: asyncio.Event) -> None:
    event.set()


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (StorageFull("the disk is full"), 507, "storage_full"),
        (MemoryError(), 507, "storage_full"),
        (ReadOnly("a sync failed"), 403, "read_only"),
        (CorruptData("/secret/path"), 500, "corrupt_data"),
        (ZeroDivisionError("/secret/path"), 500, "internal"),
        (RecursionError("/secret/path"), 500, "internal"),
    ],
)
def test_failures_of_the_engine(
    scripted: Served, database: FakeDatabase, log: list[Any], failure: BaseException, status: int, code: str
) -> None:
    database.collection("papers").failure = failure
    response = scripted.post(ONE + "/insert", {"ids": [1], "vectors": [[1]]})
    assert (response.status_code, code_of(response)) == (status, code)
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    entry = log[-1]
    assert entry["request_id"] == response.headers["x-request-id"]
    assert (entry["log_level"] == "error") is (status == 500)
    assert entry.get("exc_info") is (failure if status == 500 else None)
    database.collection("papers").failure = None
    assert scripted.post(ONE + "/insert", {"ids": [1], "vectors": [[1]]}).status_code == 200


def test_a_closed_service_is_unavailable(scripted: Served) -> None:
    scripted.run(service_of(scripted).close())
    assert scripted.get("/livez").status_code == 200
    assert scripted.get("/readyz").status_code == 503
    for path in ("/count", "/insert"):
        tree = {"ids": [1], "vectors": [[1]]} if path == "/insert" else {}
        response = scripted.post(ONE + path, tree)
        assert (response.status_code, code_of(response)) == (503, "unavailable")


def test_closing_waits_for_writes_begun(database: FakeDatabase) -> None:
    with limited(database) as served:
        collection = database.collection("papers")
        collection.gate.clear()
        insert = lambda: served.post(ONE + "/insert", {"ids": [1], "vectors": [[1]]})
        threads, answers = in_background(1, insert)
        until(lambda: bool(collection.calls))
        closer = threading.Thread(target=lambda: served.run(service_of(served).close()))
        closer.start()
        time.sleep(0.05)
        assert closer.is_alive()
        collection.gate.set()
        closer.join()
        threads[0].join()
        assert answers[0].status_code == 200
