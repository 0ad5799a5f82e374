"""Every route of the application: closed without a key, and closed to writing with a read-only key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.fake_database import FakeDatabase
from tests.support.served import Served, serve

from vicinal_server.app import create_app
from vicinal_server.settings import load_settings

ADMIN, READER = "a" * 32, "r" * 32
OPEN = {"/healthz", "/livez", "/readyz"}
PAGES = [("GET", "/docs"), ("GET", "/openapi.json")]


@pytest.fixture
def keyed(database: FakeDatabase) -> Iterator[Served]:
    settings = load_settings(dir="unused", api_key=ADMIN, read_only_api_key=READER)
    with serve(create_app(settings, database)) as served:
        yield served


def routes(served: Served) -> list[tuple[str, str]]:
    paths = served.get("/openapi.json", headers={"api-key": ADMIN}).json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) >= 16
    return found + PAGES


def test_no_route_opens_without_the_key(keyed: Served, database: FakeDatabase) -> None:
    for method, path in routes(keyed):
        for headers in ({}, {"api-key": ADMIN[:-1]}, {"authorization": "Bearer nonsense"}):
            response = keyed.request(method, path.replace("{c}", "papers"), headers=headers)
            if path in OPEN:
                assert response.status_code == 200
                continue
            assert response.status_code == 401, path
            assert response.json()["error"]["code"] == "unauthorized"
            assert response.headers["www-authenticate"] == "Bearer"
    assert not database.made


def test_a_wrong_key_does_not_tell_which_routes_exist(keyed: Served) -> None:
    assert keyed.get("/nowhere").status_code == 401


def test_the_read_only_key(keyed: Served, database: FakeDatabase) -> None:
    writing = {"PUT", "DELETE"}
    for method, path in routes(keyed):
        if path in OPEN:
            continue
        response = keyed.request(method, path.replace("{c}", "papers"), headers={"api-key": READER})
        writes = method in writing or path.rpartition("/")[2] in {
            "insert",
            "delete",
            "set_payload",
            "delete_payload",
            "compact",
            "verify",
            "restore",
            "flush",
        }
        assert (response.status_code == 403) is writes, (method, path)
    assert not any(
        name in ("upsert", "delete", "set_payload", "delete_payload")
        for c in database.made.values()
        for name, *_ in c.calls
    )


def test_the_admin_key_opens(keyed: Served) -> None:
    for headers in ({"api-key": ADMIN}, {"Authorization": f"Bearer {ADMIN}"}):
        assert keyed.get("/v1/collections", headers=headers).status_code == 200


def test_a_rebound_name_is_refused_without_a_key(scripted: Served) -> None:
    refused = scripted.get("/v1/collections", headers={"host": "evil.org"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert scripted.get("/healthz", headers={"host": "evil.org"}).status_code == 200


def test_with_a_key_any_name_is_served(keyed: Served) -> None:
    headers = {"host": "vectors.example.org", "api-key": ADMIN}
    assert keyed.get("/v1/collections", headers=headers).status_code == 200
