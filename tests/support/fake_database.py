"""A database that answers from a script: for what the server does when the engine is slow, full or broken."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from vicinal.types import CollectionInfo, Hit, Hits, Point

__all__ = ["FakeCollection", "FakeDatabase"]


class FakeCollection:
    """Records every call in `calls`; raises `failure` when set; waits for `gate` when it is closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failure: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.read_only = False
        self.hits = Hits.of((Hit(7, 0.5, {"year": 2020}, np.array([1, 2], np.float32)), Hit("a", 0.25)))

    def _called(self, method: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((method, args, kwargs))
        self.gate.wait(30)
        if self.failure is not None:
            raise self.failure

    def info(self) -> CollectionInfo:
        fields = {"": {"kind": "dense", "dim": 2}}
        return CollectionInfo(self.name, 2, 1, 2, 0, 2, 10, 20, read_only=self.read_only, fields=fields)

    def upsert(self, *args: Any, **kwargs: Any) -> int:
        self._called("upsert", *args, **kwargs)
        return 5

    def delete(self, *args: Any, **kwargs: Any) -> int:
        self._called("delete", *args, **kwargs)
        return 1

    def set_payload(self, *args: Any, **kwargs: Any) -> int:
        self._called("set_payload", *args, **kwargs)
        return 1

    def compact(self) -> int:
        self._called("compact")
        return 3

    def query(self, *args: Any, **kwargs: Any) -> Hits:
        self._called("query", *args, **kwargs)
        return self.hits

    def query_batch(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        self._called("query_batch", *args, **kwargs)
        ids = np.array([[3, 4], [5, 2**64 - 1]], np.uint64)
        scores = np.array([[0.5, 0.25], [1.0, np.nan]], np.float32)
        return ids, scores, np.array([2, 1], np.int64)

    def query_multi(self, *args: Any, **kwargs: Any) -> Hits:
        self._called("query_multi", *args, **kwargs)
        return self.hits

    def get(self, *args: Any, **kwargs: Any) -> list[Point]:
        self._called("get", *args, **kwargs)
        return [Point(7, {"year": 2020}, {"title": np.array([1, 2], np.float32)}), Point("b", None)]

    def scroll(self, *args: Any, **kwargs: Any) -> tuple[list[Point], int | None]:
        self._called("scroll", *args, **kwargs)
        return [Point(7, {"year": 2020})], 8

    def count(self, *args: Any, **kwargs: Any) -> int:
        self._called("count", *args, **kwargs)
        return 2

    def facet(self, *args: Any, **kwargs: Any) -> list[tuple[bool | int | str, int]]:
        self._called("facet", *args, **kwargs)
        return [("cs.LG", 2), (True, 1)]

    def flush(self, timeout: float | None = None) -> bool:
        self._called("flush", timeout)
        return True


class FakeDatabase:
    """Any name is a collection; `closed` tells whether somebody closed it."""

    def __init__(self) -> None:
        self.closed = False
        self.made: dict[str, FakeCollection] = {}

    def create_collection(self, name: str, **_: Any) -> FakeCollection:
        return self.collection(name)

    def collection(self, name: str) -> FakeCollection:
        return self.made.setdefault(name, FakeCollection(name))

    def list_collections(self) -> list[str]:
        return list(self.made)

    def drop_collection(self, name: str) -> None:
        self.made.pop(name)

    def close(self) -> None:
        self.closed = True
