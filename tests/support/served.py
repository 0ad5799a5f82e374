"""An application served in process: its lifespan and every request run on one event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

__all__ = ["Served", "serve"]

T = TypeVar("T")


class Served:
    """A synchronous client of an application; `request` as httpx, `run` for anything on its loop."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop, headers: dict[str, str]) -> None:
        self.app = app
        self._loop = loop
        transport = httpx.ASGITransport(app=app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine on the application's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """One exchange."""
        return self.run(self._client.request(method, path, **kwargs))

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **kwargs)

    def post(self, path: str, tree: Any = None, **kwargs: Any) -> httpx.Response:
        """POST; `tree` as JSON unless `content` is given."""
        if "content" not in kwargs:
            kwargs["json"] = {} if tree is None else tree
        return self.request("POST", path, **kwargs)

    def put(self, path: str, tree: Any) -> httpx.Response:
        """PUT `tree` as JSON."""
        return self.request("PUT", path, json=tree)

    def delete(self, path: str) -> httpx.Response:
        """DELETE."""
        return self.request("DELETE", path)

    def ready(self) -> httpx.Response:
        """What /readyz answers once kernels are loaded."""
        for _ in range(600):
            answer = self.get("/readyz")
            if "kernels" not in answer.text:
                break
            time.sleep(0.05)
        return answer

    def close(self) -> None:
        """Close the client."""
        self.run(self._client.aclose())


@contextmanager
def serve(app: FastAPI, **headers: str) -> Iterator[Served]:
    """Open the application, yield its client, close it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="served")
    thread.start()
    lifespan = app.router.lifespan_context(app)
    try:
        asyncio.run_coroutine_threadsafe(lifespan.__aenter__(), loop).result(60)
        served = Served(app, loop, {name.replace("_", "-"): value for name, value in headers.items()})
        try:
            yield served
        finally:
            served.close()
            asyncio.run_coroutine_threadsafe(lifespan.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
