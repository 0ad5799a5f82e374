"""Uploads against a server that is slow, busy or refuses some rows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support.scripted_collection import QUICK, answers, refused, with_collection
from tests.support.scripted_server import Answer, Seen, scripted_server

from vicinal.client import AsyncDatabase, RemoteCollection
from vicinal.client.blocks import unpack_array
from vicinal.errors import InvalidArgument, InvalidId, InvalidPayload, InvalidVector


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
    vectors = np.zeros((6000, dim), np.float32)
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
