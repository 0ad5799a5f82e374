"""Who may do what: an admin key, an optional read-only key, and loopback names when there is no key.

Keys are held as SHA-256 digests and compared in constant time, so neither memory dumps nor timing show them.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from hashlib import sha256
from typing import Final

from vicinal.errors import Unauthorized
from vicinal_server.errors import Forbidden
from vicinal_server.settings import Settings, is_loopback

__all__ = ["OPEN_PATHS", "Access", "Gate", "needed_access"]

OPEN_PATHS: Final = frozenset({"/healthz", "/livez", "/readyz"})
_READING_VERBS: Final = frozenset({"query", "query_multi", "get", "scroll", "count", "facet"})


class Access(IntEnum):
    """What a request needs, and what a key gives."""

    OPEN = 0
    READ = 1
    WRITE = 2


def needed_access(method: str, path: str) -> Access:
    """What a request needs. Whatever is not known to read is taken to write, unknown routes too."""
    if path in OPEN_PATHS:
        return Access.OPEN
    if method in ("GET", "HEAD"):
        return Access.READ
    verb = path.rpartition("/")[2]
    reads = method == "POST" and path.startswith("/v1/collections/") and verb in _READING_VERBS
    return Access.READ if reads else Access.WRITE


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


class Gate:
    """Decides about one request from its headers; raises Unauthorized or Forbidden."""

    def __init__(self, settings: Settings) -> None:
        keys = ((settings.admin_key, Access.WRITE), (settings.reader_key, Access.READ))
        self._keys = [(_digest(key), access) for key, access in keys if key is not None]

    def admit(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Return when the request may go on."""
        needed = needed_access(method, path)
        if needed is Access.OPEN:
            return
        if not self._keys:
            _require_loopback_name(headers.get(b"host", b""))
            return
        given = self._access_of(_sent_key(headers))
        if given is Access.OPEN:
            raise Unauthorized(
                "the API key is missing or wrong: send it as `api-key: KEY` or `Authorization: Bearer KEY`",
                field="api-key",
            )
        if given < needed:
            raise Forbidden("this key only reads; this route writes", field="api-key")

    def _access_of(self, key: str | None) -> Access:
        if key is None:
            return Access.OPEN
        sent = _digest(key)
        given = Access.OPEN
        for known, access in self._keys:  # no early exit: the time must not tell which key matched
            if hmac.compare_digest(known, sent):
                given = access
        return given


def _sent_key(headers: dict[bytes, bytes]) -> str | None:
    if b"api-key" in headers:
        return headers[b"api-key"].decode("latin-1")
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def _require_loopback_name(host: bytes) -> None:
    # A web page can make a browser reach 127.0.0.1 under a name of its own (DNS rebinding).
    name = host.decode("latin-1")
    bare = name.rpartition(":")[0] if ":" in name and not name.endswith("]") else name
    if not is_loopback(bare):
        raise Forbidden(
            "without an API key the service answers only to loopback names: set a key or use 127.0.0.1",
            field="host",
            value=name,
            limit="localhost",
        )
