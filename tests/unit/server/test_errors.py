"""Every error has a status, the one shape, and shows nothing of ours."""

from __future__ import annotations

import orjson
import pytest

from vicinal import errors
from vicinal.errors import VicinalError
from vicinal_server.errors import BodyTooLarge, MethodNotAllowed, error_response, status_of

EXPECTED = {
    errors.InvalidArgument: 400,
    errors.InvalidVector: 400,
    errors.InvalidId: 400,
    errors.InvalidPayload: 400,
    errors.InvalidFilter: 400,
    errors.LimitExceeded: 400,
    errors.UnknownMetric: 400,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.Unauthorized: 401,
    errors.ReadOnly: 403,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.Closed: 503,
    errors.CorruptData: 500,
    errors.DatabaseLocked: 500,
    errors.FormatTooNew: 500,
    errors.VicinalError: 500,
}


def test_every_error_of_the_engine_has_a_status() -> None:
    public = {getattr(errors, name) for name in errors.__all__}
    assert public == set(EXPECTED)
    for kind, status in EXPECTED.items():
        assert status_of(kind("x")) == status


def body(error: BaseException) -> dict[str, object]:
    tree = orjson.loads(error_response(error, "abc").body)
    assert list(tree) == ["error"]
    shown: dict[str, object] = tree["error"]
    assert list(shown) == ["code", "message", "field", "value", "limit", "request_id"]
    return shown


def test_the_shape() -> None:
    shown = body(errors.InvalidVector("too wide", field="vector", value=9, limit=8))
    assert shown == {
        "code": "invalid_vector",
        "message": "too wide",
        "field": "vector",
        "value": "9",
        "limit": 8,
        "request_id": "abc",
    }


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), errors.CorruptData("secret", field="secret")])
def test_our_own_failures_show_no_cause(error: BaseException) -> None:
    response = error_response(error, "abc")
    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)


def test_files_of_ours_are_not_named() -> None:
    full = errors.StorageFull("/secret/catalog.db cannot grow, free some", field="/secret/catalog.db")
    assert body(full)["message"] == "a file of the data directory cannot grow, free some"
    assert body(full)["field"] is None


def test_a_newer_format_says_how_to_mend_it() -> None:
    newer = errors.FormatTooNew("/secret/a.db has format 9; upgrade the engine", field="/secret/a.db", limit=1)
    shown = body(newer)
    assert (shown["code"], shown["limit"]) == ("format_too_new", 1)
    assert "upgrade" in str(shown["message"])
    assert "secret" not in str(shown)


def test_lone_surrogates_do_not_break_the_answer() -> None:
    shown = body(errors.InvalidId("bad \ud800", field="ids", value="\udfff"))
    assert shown["code"] == "invalid_id"


def test_odd_limits_do_not_break_the_answer() -> None:
    assert body(VicinalError("x", limit={1: object()}))["code"] == "internal"


def test_headers_tell_the_client_what_to_do() -> None:
    assert error_response(errors.Unavailable("x"), "i").headers["Retry-After"] == "1"
    assert error_response(errors.Unauthorized("x"), "i").headers["WWW-Authenticate"] == "Bearer"
    assert error_response(BodyTooLarge("x"), "i").headers["Connection"] == "close"
    assert error_response(MethodNotAllowed("x", limit="POST"), "i").headers["Allow"] == "POST"


def test_running_out_of_memory_is_the_clients_to_mend() -> None:
    assert status_of(MemoryError()) == 507
    assert body(MemoryError())["code"] == "storage_full"
