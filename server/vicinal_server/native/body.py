"""Receiving a body: counted while it streams in, not held beyond its limit, not waited for without end."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from vicinal.errors import Unavailable
from vicinal_server.errors import BodyTimeout, BodyTooLarge, UnsupportedMediaType
from vicinal_server.native.codec import JSON, decode_body, media_type
from vicinal_server.service import Service

__all__ = ["read_map"]

_LARGE_BYTES: Final = 1024 * 1024  # a JSON body from here takes its turn: decoding multiplies it about eightfold


async def read_map(request: Request, service: Service) -> dict[str, Any]:
    """The map in a request's body, {} for an empty one; typed errors of docs/http.md otherwise."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body uncompressed", field="content-encoding")
    header = request.headers.get("content-type")
    settings = service.settings
    media = media_type(header) if header is not None else ""
    limit = settings.body_json_max if media == JSON else settings.body_binary_max
    raw = await _receive(request, service, limit)
    if not raw:
        return {}
    media = media_type(header)
    if media == JSON and len(raw) > _LARGE_BYTES:
        async with service.large_decodes:
            return decode_body(raw, media, settings.body_json_max)
    return decode_body(raw, media, settings.body_json_max)


async def _receive(request: Request, service: Service, limit: int) -> bytearray:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(int(declared), limit)
    raw = bytearray()
    try:
        async with asyncio.timeout(service.settings.body_seconds):
            async for chunk in request.stream():
                raw += chunk
                service.buffers.take(request.scope, len(chunk))
                if len(raw) > limit:
                    raise _too_large(len(raw), limit)
    except TimeoutError:
        raise BodyTimeout(
            f"the body did not arrive within {service.settings.body_seconds:g} s",
            field="body",
            value=len(raw),
            limit=service.settings.body_seconds,
        ) from None
    except ClientDisconnect:
        raise Unavailable("the client went away while sending") from None  # nobody reads this
    return raw


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is over {limit} bytes: send fewer points at once, or vectors as msgpack blocks",
        field="body",
        value=size,
        limit=limit,
    )
