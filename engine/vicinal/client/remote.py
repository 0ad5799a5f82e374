"""The sync client: `Database` and `Collection` over HTTP.

Its methods are those of `calls`, performed: signatures and documentation stand there once, for this client
and for the async one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, Self, TypeVar

import httpx

from vicinal.client.calls import Call, CollectionCalls, DatabaseCalls
from vicinal.client.conversation import Outcome, Pause, Retries, Send, converse
from vicinal.client.link import broken, options_of, reply_of, send_options
from vicinal.client.parts import Part, cut_upload
from vicinal.client.progress import Progress
from vicinal.errors import Closed, VicinalError
from vicinal.types import CollectionInfo, Payload

__all__ = ["RemoteCollection", "RemoteDatabase"]

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class Transport:
    """Performs calls over one pool of connections; any number of threads may share it."""

    def __init__(self, url: str, api_key: str | None, retries: Retries) -> None:
        self.url, options = options_of(url, api_key)
        self._retries = retries
        self._http = httpx.Client(**options)

    def perform(self, call: Call[T]) -> T:
        """Carry a call out and return its answer, or raise its typed error."""
        steps = converse(call, self._retries)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as finished:
                answer: T = finished.value
                return answer
            outcome = self._step(step)

    def _step(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if self._http.is_closed:
            raise Closed("the connection was closed: connect again")
        try:
            return reply_of(self._http.request(**send_options(step)))
        except httpx.TransportError as failure:
            return broken(failure)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class _Owner(Protocol[C]):
    """What a method needs of the object it stands on."""

    transport: Transport
    calls: C


def _performed(
    build: Callable[Concatenate[C, P], Call[T]],
) -> Callable[Concatenate[_Owner[C], P], T]:
    """Return the method that builds a call and performs it; signature and documentation are the builder's."""

    @wraps(build)
    def method(self: _Owner[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.transport.perform(build(self.calls, *args, **kwargs))

    return method


def _opened(
    build: Callable[Concatenate[DatabaseCalls, P], Call[CollectionInfo]],
) -> Callable[Concatenate[RemoteDatabase, P], RemoteCollection]:
    """Return the method that performs a call about a collection and opens that collection."""

    @wraps(build)
    def method(self: RemoteDatabase, /, *args: P.args, **kwargs: P.kwargs) -> RemoteCollection:
        info = self.transport.perform(build(self.calls, *args, **kwargs))
        return RemoteCollection(self.transport, info.name)

    return method


class RemoteCollection:
    """A collection on a server; the methods of `vicinal.Collection`, and `upload`."""

    upsert = _performed(CollectionCalls.upsert)
    delete = _performed(CollectionCalls.delete)
    set_payload = _performed(CollectionCalls.set_payload)
    delete_payload = _performed(CollectionCalls.delete_payload)
    get = _performed(CollectionCalls.get)
    scroll = _performed(CollectionCalls.scroll)
    count = _performed(CollectionCalls.count)
    facet = _performed(CollectionCalls.facet)
    info = _performed(CollectionCalls.info)
    flush = _performed(CollectionCalls.flush)
    compact = _performed(CollectionCalls.compact)
    verify = _performed(CollectionCalls.verify)
    query = _performed(CollectionCalls.query)
    query_batch = _performed(CollectionCalls.query_batch)
    query_multi = _performed(CollectionCalls.query_multi)

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.calls = CollectionCalls(name)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.calls.name

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        return f"RemoteCollection({self.name!r} at {self.transport.url})"

    def upload(
        self,
        ids: Any,
        vectors: Any,
        payloads: Sequence[Payload | None] | None = None,
        *,
        batch: int | Literal["auto"] = "auto",
        workers: int = 4,
        progress: bool = True,
    ) -> int:
        """Upsert many points in parallel requests; returns how many were accepted.

        `batch` rows go in a request; `auto` fits them to 2 to 8 MB. At most `workers` requests are under
        way. The first error in the order of the rows is raised, with a note on how many rows before it
        are stored; uploading the same rows again is harmless.
        """
        total, parts = cut_upload(self.calls, ids, vectors, payloads, batch, workers)
        waiting: deque[tuple[Part, Future[int]]] = deque()
        with Progress("upload", total, shown=progress) as bar, ThreadPoolExecutor(workers) as pool:
            for part in parts:
                waiting.append((part, pool.submit(self.transport.perform, part.call)))
                if len(waiting) >= workers:  # parts are cut one at a time: memory stays bounded too
                    _settle(waiting, bar)
            while waiting:
                _settle(waiting, bar)
        return bar.done


def _settle(waiting: deque[tuple[Part, Future[int]]], bar: Progress) -> None:
    """Wait for the oldest request."""
    part, future = waiting.popleft()
    try:
        future.result()
    except VicinalError as error:
        error.add_note(part.failed)
        raise
    bar.advance(part.stop - part.start)


class RemoteDatabase:
    """The collections of a server; the methods of `vicinal.Database`. A context manager."""

    create_collection = _opened(DatabaseCalls.create_collection)
    collection = _opened(DatabaseCalls.collection)
    list_collections = _performed(DatabaseCalls.list_collections)
    drop_collection = _performed(DatabaseCalls.drop_collection)
    verify = _performed(DatabaseCalls.verify)
    backup = _performed(DatabaseCalls.backup)
    restore = _performed(DatabaseCalls.restore)
    list_backups = _performed(DatabaseCalls.list_backups)
    drop_backup = _performed(DatabaseCalls.drop_backup)

    def __init__(self, url: str, *, api_key: str | None = None, retries: Retries | None = None) -> None:
        self.transport = Transport(url, api_key, retries or Retries())
        self.calls = DatabaseCalls()

    def close(self) -> None:
        """Close all connections; the collections opened here raise Closed from now on."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteDatabase({self.transport.url!r})"
