"""Around every request: an id, a key, a place among those in flight, one error shape, one count.

Pure ASGI, because Starlette's BaseHTTPMiddleware runs each request in a second task and breaks streaming.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any, Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicinal.errors import Unavailable
from vicinal_server.auth import OPEN_PATHS, Gate
from vicinal_server.errors import error_response, status_of
from vicinal_server.service import Service

__all__ = ["Admit", "Observe"]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.-]{1,128}")
_LOG: Final = structlog.get_logger("vicinal_server")


class Observe:
    """Outermost: names the request, renders every error, counts every response."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors end here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        failure: Exception | None = None
        try:
            await self._app(scope, receive, tagged)
        except Exception as error:
            failure = error
            if status:
                raise  # half an answer is out: only cutting the connection is honest
            await error_response(error, request_id)(scope, receive, tagged)
        finally:
            self._note(scope, request_id, status or 500, time.perf_counter() - started, failure)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float, failure: Exception | None) -> None:
        endpoint = getattr(scope.get("route"), "path", "unmatched")  # never the path: labels must stay few
        method = scope["method"] if endpoint != "unmatched" else "any"
        self._service.metrics.record(method, endpoint, status, seconds)
        said: dict[str, Any] = {
            "request_id": request_id,
            "method": scope["method"],
            "endpoint": endpoint,
            "status": status,
            "seconds": round(seconds, 6),
        }
        if failure is not None and status_of(failure) == 500:
            _LOG.error("request failed", exc_info=failure, **said)
        elif failure is not None:
            _LOG.info("request refused", error=str(failure), **said)
        else:
            _LOG.debug("request", **said)


class Admit:
    """Checks the key first, then whether there is room; gives back what the request held."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._gate = Gate(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or raise Unauthorized, Forbidden or Unavailable."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        self._gate.admit(scope["method"], scope["path"], dict(scope["headers"]))
        service = self._service
        if service.in_flight >= service.settings.in_flight_max:
            raise Unavailable("too many requests at once: try again", limit=service.settings.in_flight_max)
        service.in_flight += 1
        service.metrics.in_flight.set(service.in_flight)
        try:
            await self._app(scope, receive, send)
        finally:
            service.in_flight -= 1
            service.metrics.in_flight.set(service.in_flight)
            service.buffers.give_back(scope)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
