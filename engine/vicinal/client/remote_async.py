"""The async client: the same calls as the sync one, awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
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

__all__ = ["AsyncCollection", "AsyncDatabase", "AsyncTransport"]

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransport:
    """Performs calls over one pool of connections, for one event loop."""

    def __init__(self, url: str, api_key: str | None, retries: Retries) -> None:
        self.url, options = options_of(url, api_key)
        self._retries = retries
        self._http = httpx.AsyncClient(**options)

    async def perform(self, call: Call[T]) -> T:
        """Carry a call out and return its answer, or raise its typed error."""
        steps = converse(call, self._retries)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as finished:
                answer: T = finished.value
                return answer
            outcome = await self._step(step)

    async def _step(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if self._http.is_closed:
            raise Closed("the connection was closed: connect again")
        try:
            return reply_of(await self._http.request(**send_options(step)))
        except httpx.TransportError as failure:
            return broken(failure)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


class _Owner(Protocol[C]):
    """What a method needs of the object it stands on."""

    transport: AsyncTransport
    calls: C


def _performed(
    build: Callable[Concatenate[C, P], Call[T]],
) -> Callable[Concatenate[_Owner[C], P], Coroutine[Any, Any, T]]:
    """Return the coroutine method that builds a call and performs it, documented as the builder is."""

    @wraps(build)
    async def method(self: _Owner[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.transport.perform(build(self.calls, *args, **kwargs))

    return method


def _opened(
    build: Callable[Concatenate[DatabaseCalls, P], Call[CollectionInfo]],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, AsyncCollection]]:
    """Return the coroutine method that performs a call about a collection and opens that collection."""

    @wraps(build)
    async def method(self: AsyncDatabase, /, *args: P.args, **kwargs: P.kwargs) -> AsyncCollection:
        info = await self.transport.perform(build(self.calls, *args, **kwargs))
        return AsyncCollection(self.transport, info.name)

    return method


class AsyncCollection:
    """A collection on a server; `RemoteCollection` with every method awaited."""

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

    def __init__(self, transport: AsyncTransport, name: str) -> None:
        self.transport = transport
        self.calls = CollectionCalls(name)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.calls.name

    def __repr__(self) -> str:
        return f"AsyncCollection({self.name!r} at {self.transport.url})"

    async def upload(
        self,
        ids: Any,
        vectors: Any,
        payloads: Sequence[Payload | None] | None = None,
        *,
        batch: int | Literal["auto"] = "auto",
        workers: int = 4,
        progress: bool = True,
    ) -> int:
        """Upsert many points in parallel requests, as `RemoteCollection.upload`."""
        total, parts = cut_upload(self.calls, ids, vectors, payloads, batch, workers)
        waiting: deque[tuple[Part, asyncio.Task[int]]] = deque()
        with Progress("upload", total, shown=progress) as bar:
            try:
                for part in parts:
                    waiting.append((part, asyncio.create_task(self.transport.perform(part.call))))
                    if len(waiting) >= workers:
                        await _settle(waiting, bar)
                while waiting:
                    await _settle(waiting, bar)
            finally:
                await _finish([task for _, task in waiting])
        return bar.done


async def _settle(waiting: deque[tuple[Part, asyncio.Task[int]]], bar: Progress) -> None:
    """Wait for the oldest request."""
    part, task = waiting.popleft()
    try:
        await task
    except VicinalError as error:
        error.add_note(part.failed)
        raise
    bar.advance(part.stop - part.start)


async def _finish(tasks: list[asyncio.Task[int]]) -> None:
    """Cancel what is still under way after an error, and wait until it has stopped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class AsyncDatabase:
    """The collections of a server; `RemoteDatabase` with every method awaited."""

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
        self.transport = AsyncTransport(url, api_key, retries or Retries())
        self.calls = DatabaseCalls()

    async def close(self) -> None:
        """Close all connections; the collections opened here raise Closed from now on."""
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncDatabase({self.transport.url!r})"
