"""What the sync and the async client share of httpx: its options, its answers, its failures."""

from __future__ import annotations

from typing import Any, Final

import httpx

from vicinal.client.conversation import Broken, Reply, Send
from vicinal.errors import InvalidArgument

__all__ = ["broken", "options_of", "reply_of", "send_options"]

_CONNECT_SECONDS: Final = 5.0
_CONNECTIONS: Final = 64
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def options_of(url: str, api_key: str | None) -> tuple[str, dict[str, Any]]:
    """Return the address without a trailing slash, and how to make an httpx client for it.

    Raises InvalidArgument when it is no http or https address, or the key cannot be sent.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as cause:
        raise InvalidArgument(f"{url!r} is no address: {cause}", field="url", value=url) from cause
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidArgument(f"{url!r} is no address: give one like http://127.0.0.1:6333", field="url", value=url)
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument(
            "the API key holds characters that no header can carry: is it the file's whole content?",
            field="api_key",
        )
    address = str(parsed).rstrip("/")
    return address, {
        "base_url": address,
        "headers": {"api-key": api_key} if api_key else {},
        "limits": httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        "verify": parsed.scheme == "https",  # certificates take 30 ms to load and serve https alone
        "trust_env": parsed.host not in _LOOPBACK,  # no proxy stands between us and this machine
    }


def send_options(step: Send) -> dict[str, Any]:
    """Return the arguments of httpx's `request`."""
    return {
        "method": step.method,
        "url": step.path,
        "content": step.content,
        "headers": step.headers,
        "timeout": httpx.Timeout(step.seconds, connect=_CONNECT_SECONDS),
    }


def reply_of(response: httpx.Response) -> Reply:
    """Return an answer as the conversation wants it."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def broken(failure: httpx.TransportError) -> Broken:
    """Return a failed exchange as the conversation wants it."""
    reason = f"{type(failure).__name__}: {failure}".removesuffix(": ")
    return Broken(reason, sent=not isinstance(failure, _NEVER_SENT))
