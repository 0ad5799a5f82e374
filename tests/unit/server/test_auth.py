"""The gate: which request needs what, which key gives what, which host is ours."""

from __future__ import annotations

import pytest

from vicinal.errors import Unauthorized
from vicinal_server.auth import Access, Gate, needed_access
from vicinal_server.errors import Forbidden
from vicinal_server.settings import load_settings

ADMIN, READER = "a" * 32, "r" * 32


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/healthz", Access.OPEN),
        ("POST", "/readyz", Access.OPEN),
        ("GET", "/healthz/", Access.READ),
        ("GET", "/metrics", Access.READ),
        ("POST", "/v1/collections/c/query", Access.READ),
        ("POST", "/v1/collections/c/insert", Access.WRITE),
        ("PUT", "/v1/collections/query", Access.WRITE),
        ("DELETE", "/v1/collections/count", Access.WRITE),
        ("POST", "/v1/other/query", Access.WRITE),
        ("BREW", "/", Access.WRITE),
    ],
)
def test_what_is_not_known_to_read_writes(method: str, path: str, needed: Access) -> None:
    assert needed_access(method, path) is needed


@pytest.fixture
def gate() -> Gate:
    return Gate(load_settings(dir="d", api_key=ADMIN, read_only_api_key=READER))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"api-key": b""},
        {b"api-key": b"wrong"},
        {b"api-key": ADMIN[:-1].encode()},
        {b"api-key": (ADMIN + "a").encode()},
        {b"api-key": b"\xff\xfe"},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer  "},
        {b"authorization": f"Basic {ADMIN}".encode()},
        {b"authorization": ADMIN.encode()},
        {b"api-key": b"wrong", b"authorization": f"Bearer {ADMIN}".encode()},
    ],
)
def test_a_missing_or_wrong_key_opens_nothing(gate: Gate, headers: dict[bytes, bytes]) -> None:
    gate.admit("GET", "/livez", headers)
    for method, path in (("GET", "/metrics"), ("POST", "/v1/collections/c/insert"), ("GET", "/nowhere")):
        with pytest.raises(Unauthorized):
            gate.admit(method, path, headers)


def test_both_ways_to_send_the_key(gate: Gate) -> None:
    for headers in ({b"api-key": ADMIN.encode()}, {b"authorization": f"bearer {ADMIN}".encode()}):
        gate.admit("DELETE", "/v1/collections/c", headers)


def test_the_read_only_key_reads_only(gate: Gate) -> None:
    headers = {b"api-key": READER.encode()}
    gate.admit("POST", "/v1/collections/c/query", headers)
    with pytest.raises(Forbidden):
        gate.admit("POST", "/v1/collections/c/insert", headers)


@pytest.mark.parametrize("host", [b"localhost", b"localhost:6333", b"127.0.0.1:1", b"[::1]:6333", b"[::1]"])
def test_without_a_key_loopback_names_are_served(host: bytes) -> None:
    Gate(load_settings(dir="d")).admit("GET", "/v1/collections", {b"host": host})


@pytest.mark.parametrize("host", [b"", b"evil.org", b"evil.org:6333", b"localhost.evil.org", b"10.0.0.1:6333"])
def test_without_a_key_other_names_are_refused(host: bytes) -> None:
    with pytest.raises(Forbidden):
        Gate(load_settings(dir="d")).admit("GET", "/v1/collections", {b"host": host})
