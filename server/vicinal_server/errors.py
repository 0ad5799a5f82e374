"""One shape for every error, and which HTTP status each one is.

    {"error": {"code", "message", "field", "value", "limit", "request_id"}}

Always JSON, whatever the client accepts: a client that cannot read its answer's type can still read why.
A failure of ours is shown without its cause; the log has it under the same request id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
from starlette.responses import Response

from vicinal.errors import (
    AlreadyExists,
    Closed,
    FormatTooNew,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    ReadOnly,
    StorageFull,
    Unauthorized,
    Unavailable,
    VicinalError,
)

__all__ = [
    "BodyTimeout",
    "BodyTooLarge",
    "Damaged",
    "Forbidden",
    "MalformedBody",
    "MethodNotAllowed",
    "RequestError",
    "RequestTimeout",
    "UnknownRoute",
    "UnsupportedMediaType",
    "error_response",
    "status_of",
]

RETRY_AFTER_SECONDS: Final = 1


class RequestError(VicinalError):
    """An error of the HTTP exchange itself, before the engine is asked.

    `closes` tells the client that the rest of its body will not be read.
    """

    status: ClassVar[int] = 400
    closes: ClassVar[bool] = False


class MalformedBody(RequestError):
    """The body cannot be decoded at all."""

    status = 422
    code = "malformed_body"


class BodyTooLarge(RequestError):
    """The body passed a limit; the rest was not read."""

    status = 413
    code = "limit_exceeded"
    closes = True


class BodyTimeout(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "timeout"
    closes = True


class RequestTimeout(RequestError):
    """The answer was not ready in time."""

    status = 408
    code = "timeout"


class UnsupportedMediaType(RequestError):
    """The body is neither JSON nor msgpack."""

    status = 415
    code = "unsupported_media_type"


class Forbidden(RequestError):
    """The key does not open this route, or the request came for a foreign host."""

    status = 403
    code = "forbidden"


class UnknownRoute(RequestError):
    """No route has this path."""

    status = 404
    code = "not_found"


class Damaged(RequestError):
    """What is stored is damaged, so it is not copied."""

    status = 500
    code = "corrupt_data"


class MethodNotAllowed(RequestError):
    """The path has no such method."""

    status = 405
    code = "method_not_allowed"


# The first class that fits decides; what is not listed is our fault.
_STATUS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (InvalidArgument, 400),
    (LimitExceeded, 400),
    (NotFound, 404),
    (AlreadyExists, 409),
    (Unauthorized, 401),
    (ReadOnly, 403),
    (StorageFull, 507),
    (MemoryError, 507),
    (Unavailable, 503),
    (Closed, 503),
)


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for everything not raised on purpose for the client."""
    if isinstance(error, RequestError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_response(error: BaseException, request_id: str) -> Response:
    """The answer to a failed request."""
    status = status_of(error)
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.limit is not None:
        headers["Allow"] = str(error.limit)
    if isinstance(error, RequestError) and error.closes:
        headers["Connection"] = "close"
    body = {"error": {**_described(error, status), "request_id": request_id}}
    text = orjson.dumps(body, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(text, status, headers, "application/json")


def _described(error: BaseException, status: int) -> dict[str, Any]:
    if isinstance(error, MemoryError):
        return _shape("storage_full", "the request needs more memory than there is: send less at once")
    if not isinstance(error, VicinalError):
        return _shape("internal", "the service failed; its log has this request id")
    if status == 500 and not isinstance(error, FormatTooNew | Damaged):
        return _shape(error.code, "the service failed; its log has this request id")
    message, field = error.message, error.field
    if field is not None and Path(field).is_absolute():  # the engine names files in full; clients need not know
        message, field = message.replace(field, "a file of the data directory"), None
    return _shape(error.code, _printable(message), field, error.value, error.limit)


def _printable(text: str) -> str:
    """`text` without lone surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()


def _shape(
    code: str, message: str, field: str | None = None, value: str | None = None, limit: Any = None
) -> dict[str, Any]:
    shown = None if value is None else _printable(value)
    named = None if field is None else _printable(field)
    return {"code": code, "message": message, "field": named, "value": shown, "limit": limit}
