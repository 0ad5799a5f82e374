from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgpack
import numpy as np
import orjson
import pytest

from vicinal import errors
from vicinal.client.calls import Call
from vicinal.client.conversation import Broken, Outcome, Pause, Reply, Retries, Send, converse, error_of

READ = Call("POST", "/v1/x", lambda answer: answer["n"], {"a": 1})
CREATE = Call("PUT", "/v1/x", lambda answer: answer["n"], {"a": 1}, repeatable=False)
OK = Reply(200, {"content-type": "application/msgpack"}, msgpack.packb({"n": 5}))


def refusal(status: int, code: str = "unavailable", **headers: str) -> Reply:
    told = {"code": code, "message": "why", "field": "f", "value": "'v'", "limit": 3, "request_id": "r1"}
    return Reply(status, headers, orjson.dumps({"error": told}))


def carry(call: Call[Any], outcomes: list[Outcome], attempts: int = 4, chance: float = 1.0) -> tuple[Any, list[Any]]:
    """Perform a conversation against given outcomes; returns the answer or the error, and the steps taken."""
    talk = converse(call, Retries(attempts, first=0.1, longest=0.3, chance=lambda: chance))
    steps: list[Any] = []
    outcome: Outcome = None
    left = iter(outcomes)
    while True:
        try:
            step = talk.send(outcome)
        except StopIteration as finished:
            return finished.value, steps
        except errors.VicinalError as error:
            return error, steps
        steps.append(step)
        outcome = next(left) if isinstance(step, Send) else None


def test_one_exchange() -> None:
    answer, (step,) = carry(READ, [OK])
    assert answer == 5
    assert (step.method, step.path, msgpack.unpackb(step.content)) == ("POST", "/v1/x", {"a": 1})
    assert step.headers == {"accept": "application/msgpack", "content-type": "application/msgpack"}


@pytest.mark.parametrize("first", [refusal(503), refusal(429), Broken("down", sent=False), Broken("cut", sent=True)])
def test_what_passes_is_tried_again(first: Outcome) -> None:
    answer, steps = carry(READ, [first, first, OK])
    assert answer == 5
    assert [type(step) for step in steps] == [Send, Pause, Send, Pause, Send]


def test_pauses_double_up_to_the_longest_and_are_half_chance() -> None:
    assert [step.seconds for step in carry(READ, [refusal(503)] * 5, 5)[1][1::2]] == [0.1, 0.2, 0.3, 0.3]
    assert carry(READ, [refusal(503)] * 2, 2, chance=0.0)[1][1].seconds == 0.05


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("0", 0.1), ("9999", 60.0), ("soon", 0.1), ("-5", 0.1), ("nan", 0.1)]
)
def test_retry_after_is_obeyed_within_reason(header: str, seconds: float) -> None:
    _, steps = carry(READ, [refusal(429, **{"retry-after": header}), OK])
    assert steps[1].seconds == seconds


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 507])
def test_what_stays_is_not_tried_again(status: int) -> None:
    answer, steps = carry(READ, [refusal(status, "invalid_argument")])
    assert isinstance(answer, errors.InvalidArgument)
    assert len(steps) == 1


def test_a_call_that_cannot_be_repeated_is_sent_once_when_it_may_have_arrived() -> None:
    answer, steps = carry(CREATE, [Broken("cut", sent=True)])
    assert isinstance(answer, errors.Unavailable)
    assert len(steps) == 1
    assert carry(CREATE, [Broken("down", sent=False), OK])[0] == 5
    assert carry(CREATE, [refusal(503), OK])[0] == 5


def test_attempts_end() -> None:
    answer, steps = carry(READ, [refusal(503)] * 9, 3)
    assert isinstance(answer, errors.Unavailable)
    assert sum(isinstance(step, Send) for step in steps) == 3
    assert isinstance(carry(READ, [], 0)[0], errors.Unavailable)


def tree(root: type[errors.VicinalError]) -> list[type[errors.VicinalError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__])
def test_every_error_of_the_engine_comes_back_as_itself(kind: type[errors.VicinalError]) -> None:
    error = error_of(refusal(400, kind.code))
    assert type(error) is kind
    assert (error.message, error.field, error.value, error.limit) == ("why", "f", "'v'", 3)
    assert error.__notes__ == ["request r1"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, errors.Unauthorized),
        (404, errors.NotFound),
        (405, errors.InvalidArgument),
        (408, errors.Unavailable),
        (415, errors.InvalidArgument),
        (422, errors.InvalidArgument),
        (502, errors.Unavailable),
        (500, errors.VicinalError),
    ],
)
def test_codes_only_a_server_has_are_read_by_status(status: int, kind: type[errors.VicinalError]) -> None:
    assert type(error_of(refusal(status, "only_here"))) is kind


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"error": "text"}', b"\xff\xfe", b'{"error": null}'])
def test_answers_of_others_become_errors_too(content: bytes) -> None:
    error = error_of(Reply(502, {}, content))
    assert isinstance(error, errors.Unavailable)
    assert "502" in error.message


@pytest.mark.parametrize("reply", [Reply(200, {"content-type": "text/html"}, b"<p>"), Reply(200, {}, b"\xc1")])
def test_a_success_that_is_no_answer_is_an_error(reply: Reply) -> None:
    assert isinstance(carry(READ, [reply])[0], errors.Unavailable)


def test_json_answers_are_read_too() -> None:
    assert carry(READ, [Reply(200, {"content-type": "application/json"}, b'{"n": 6}')])[0] == 6


def test_payload_values_travel_as_the_engine_stores_them() -> None:
    key = uuid.uuid4()
    day = dt.date(2024, 2, 1)
    body = {"payloads": [{"n": np.int64(3), "v": np.array([1.5]), "day": day, "key": key}]}
    _, steps = carry(Call("POST", "/", lambda _: 0, body), [OK])
    sent = msgpack.unpackb(steps[0].content)["payloads"][0]
    assert sent == {"n": 3, "v": [1.5], "day": "2024-02-01", "key": str(key)}


@pytest.mark.parametrize("value", [object(), 2**70, {1, 2}])
def test_payload_values_that_json_has_not_are_refused(value: Any) -> None:
    answer, steps = carry(Call("POST", "/", lambda _: 0, {"payloads": [{"a": value}]}), [])
    assert isinstance(answer, errors.InvalidPayload)
    assert not steps
