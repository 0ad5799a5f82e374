"""The application: `create_app` puts the parts together, `run` serves them until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from structlog.tracebacks import ExceptionDictTransformer

import vicinal
from vicinal.errors import InvalidArgument, Unavailable
from vicinal_server.docs_page import render_docs
from vicinal_server.errors import MethodNotAllowed, UnknownRoute
from vicinal_server.middleware import Admit, Observe
from vicinal_server.native import admin
from vicinal_server.native.routes import router
from vicinal_server.native.schemas import components
from vicinal_server.protocol import BoundedProtocol
from vicinal_server.service import Service
from vicinal_server.settings import Settings

__all__ = ["create_app", "run"]

_DRAIN_SECONDS: Final = 30
_BACKLOG: Final = 2048
_LOG: Final = structlog.get_logger("vicinal_server")


def create_app(settings: Settings, database: Any | None = None) -> FastAPI:
    """The ASGI application over `settings.dir`, or over a `database` that stays the caller's to close."""
    service = Service(settings, database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.open()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="vicinal",
        version=vicinal.__version__,
        description="Vector search: see docs/http.md",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirected POST loses its body
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(admin.router)
    _add_open_routes(app, service)
    _add_pages(app, service)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(Admit, service=service)
    app.add_middleware(Observe, service=service)  # the last added is the outermost
    return app


def _add_open_routes(app: FastAPI, service: Service) -> None:
    async def alive() -> PlainTextResponse:
        """The process answers; never touches the disk."""
        return PlainTextResponse("ok\n")

    async def ready() -> PlainTextResponse:
        """The database is open and writable unless asked otherwise, kernels are loaded."""
        why = await service.unready()
        return PlainTextResponse(f"{why}\n", 503) if why else PlainTextResponse("ready\n")

    for path in ("/healthz", "/livez"):
        app.get(path, summary="alive?", operation_id=path[1:], response_class=PlainTextResponse)(alive)
    app.get("/readyz", summary="ready?", response_class=PlainTextResponse)(ready)


def _add_pages(app: FastAPI, service: Service) -> None:
    async def metrics() -> Response:
        """Prometheus text."""
        text = await service.read(service.metrics.render)
        return Response(text, headers={"Content-Type": service.metrics.content_type})

    async def openapi() -> JSONResponse:
        return JSONResponse(_document(app))

    async def docs() -> HTMLResponse:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(render_docs(_document(app)), headers=headers)

    app.get("/metrics", summary="metrics", response_class=PlainTextResponse)(metrics)
    app.get("/openapi.json", include_in_schema=False)(openapi)
    app.get("/docs", include_in_schema=False)(docs)


def _document(app: FastAPI) -> dict[str, Any]:
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():  # FastAPI promises a 422 of its own for every path parameter
            operation.get("responses", {}).pop("422", None)
    parts = document.setdefault("components", {})
    parts["schemas"] = components()
    parts["securitySchemes"] = {
        "header": {"type": "apiKey", "in": "header", "name": "api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"header": []}, {"bearer": []}, {}]
    return document


async def _refuse(request: Request, error: Exception) -> Response:
    """Turn the router's own refusals into ours; the outermost middleware renders them."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        raise MethodNotAllowed(
            f"{request.url.path} takes no {request.method}",
            field="method",
            value=request.method,
            limit=(error.headers or {}).get("Allow"),
        )
    if isinstance(error, HTTPException) and error.status_code == 404:
        raise UnknownRoute(f"there is no route {request.url.path}: see /docs", field="path")
    raise error


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; call it from the main thread.

    Requests begun are finished (at most 30 s), then the database is committed and closed. Raises InvalidArgument
    when the service would be open to the network without a key or cannot listen, DatabaseLocked, FormatTooNew,
    CorruptData and ReadOnly when the directory cannot be opened: all before anything listens.
    """
    settings.require_safe_host()
    _log_as_json(settings.log_level)
    with (
        _listening(settings.host, settings.port) as listener,
        vicinal.connect(settings.dir.absolute(), read_only=settings.read_only) as database,
    ):
        config = uvicorn.Config(
            create_app(settings, database),
            loop="uvloop",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        # uvicorn raises the signal again once it has drained, which would end us before the database is closed
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise Unavailable("the service did not start; its log says why")


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket; InvalidArgument when the address is unknown or taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InvalidArgument(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with VICINAL_HOST, VICINAL_PORT",
            field="port",
            value=port,
        ) from None
    name = f"[{host}]" if ":" in host else host
    _LOG.info("listening", url=f"http://{name}:{bound.getsockname()[1]}")
    return bound


def _log_as_json(level: str) -> None:
    """One JSON line per event on standard error, uvicorn's and ours alike."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Callable[..., Any]] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),  # they hold keys and data
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    lines = logging.StreamHandler()
    lines.setFormatter(formatter)
    logging.basicConfig(level=number, handlers=[lines], force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
