"""What requests share: the database, the threads that call it, and the bounds on what is held at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import structlog
from starlette.types import Scope

import vicinal
from vicinal.errors import Unavailable, VicinalError
from vicinal.types import CollectionInfo
from vicinal_server.errors import RequestTimeout
from vicinal_server.metrics import Metrics
from vicinal_server.settings import Settings

__all__ = ["Buffers", "Service"]

P = ParamSpec("P")
R = TypeVar("R")

# A search of 25 us beside one busy Python thread took 5 ms at the default interval, 0.2 ms at this one.
_SWITCH_SECONDS: Final = 0.0001
_WRITE_THREADS: Final = 16  # writers mostly wait for a commit, and commits gather while one is syncing
_WAIT_THREADS: Final = 4  # flush may wait for minutes and must not keep writers from their threads
_LARGE_DECODES: Final = 2
_BUFFERED_KEY: Final = "vicinal.buffered"
_LOG: Final = structlog.get_logger("vicinal_server")


def _tell_failure(warming: asyncio.Task[None]) -> None:
    """A query that fails here will fail for its sender, who is told why: the service is not worse for it."""
    if warming.exception() is not None:
        _LOG.error("warm-up failed", exc_info=warming.exception())


class Buffers:
    """Counts the bytes of all bodies held at once and refuses beyond a budget."""

    def __init__(self, budget: int) -> None:
        self.held = 0
        self._budget = budget

    def take(self, scope: Scope, size: int) -> None:
        """Add to what this request holds; Unavailable when all requests together hold too much."""
        if self.held + size > self._budget:
            raise Unavailable("too many large requests at once: try again", field="body", limit=self._budget)
        self.held += size
        scope[_BUFFERED_KEY] = scope.get(_BUFFERED_KEY, 0) + size

    def give_back(self, scope: Scope) -> None:
        """Forget what this request held."""
        self.held -= scope.pop(_BUFFERED_KEY, 0)


class Service:
    """One database behind bounded pools. Open it before the first request and close it after the last."""

    def __init__(self, settings: Settings, database: Any | None = None) -> None:
        self.settings = settings
        self.in_flight = 0
        self.large_decodes = asyncio.Semaphore(_LARGE_DECODES)
        self.buffers = Buffers(2 * max(settings.body_binary_max, settings.body_json_max))
        self.metrics = Metrics(vicinal.__version__, self.infos)
        self._database = database
        self._given = database is not None
        self._ready = False
        self._warming: asyncio.Task[None] | None = None
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._switch_seconds = sys.getswitchinterval()

    @property
    def database(self) -> Any:
        """The open database; Unavailable before opening and after closing."""
        if self._database is None:
            raise Unavailable("the service is starting or shutting down: try again")
        return self._database

    async def unready(self) -> str:
        """Why requests should be sent elsewhere for now; empty when they should come."""
        if not self._ready or self._warming is None:
            return "starting or shutting down"
        if not self._warming.done():
            return "loading or compiling kernels"
        if self.settings.read_only:
            return ""
        failed = await asyncio.to_thread(lambda: [info.name for info in self.infos() if info.read_only])
        return f"read-only after a failed write, restart to recover: {', '.join(failed)}" if failed else ""

    async def open(self) -> None:
        """Open the directory, start the threads. Errors of the engine pass through."""
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        sizes = {"read": self.settings.threads, "write": _WRITE_THREADS, "wait": _WAIT_THREADS}
        self._pools = {name: ThreadPoolExecutor(size, f"vicinal-{name}") for name, size in sizes.items()}
        if self._database is None:
            connect = partial(vicinal.connect, str(self.settings.dir.absolute()), read_only=self.settings.read_only)
            self._database = await asyncio.to_thread(connect)
        self._ready = True
        self._warming = asyncio.create_task(asyncio.to_thread(self._ask_once))
        self._warming.add_done_callback(_tell_failure)

    def _ask_once(self) -> None:
        """Ask every field one query, so that no user waits for kernels; until then `unready` says so."""
        for told in self.infos():
            for field, spec in told.fields.items():
                if not self._ready:
                    return
                collection, one = self.database.collection(told.name), np.ones(spec["dim"], np.float32)
                if spec["kind"] == "multi":
                    collection.query_multi(one[None], 1, using=field or None)
                else:
                    collection.query(one, 1, using=field or None, with_payload=False)

    async def close(self) -> None:
        """Let calls end, then close the database unless it was given."""
        self._ready = False
        if self._warming is not None:
            await asyncio.wait([self._warming])
        for pool in self._pools.values():
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        database, self._database = self._database, None
        if database is not None and not self._given:
            await asyncio.to_thread(database.close)
        sys.setswitchinterval(self._switch_seconds)

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a search or a look-up on a reading thread; RequestTimeout when it takes too long."""
        seconds = self.settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._run("read", partial(call, *args, **kwargs))
        except TimeoutError:
            raise RequestTimeout(
                f"no answer within {seconds:g} s: narrow the filter, lower k or ef", limit=seconds
            ) from None

    async def write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a change on a writing thread, without a deadline: a change begun is a change answered."""
        return await self._run("write", partial(call, *args, **kwargs))

    async def wait(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call that may wait for minutes."""
        return await self._run("wait", partial(call, *args, **kwargs))

    async def _run(self, pool: str, call: Callable[[], R]) -> R:
        if not self._ready:
            raise Unavailable("the service is starting or shutting down: try again")
        return await asyncio.get_running_loop().run_in_executor(self._pools[pool], call)

    def infos(self) -> Iterable[CollectionInfo]:
        """What every collection says of itself; one that is being dropped is left out."""
        for name in self.database.list_collections():
            try:
                yield self.database.collection(name).info()
            except VicinalError:
                continue
