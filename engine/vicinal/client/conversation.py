"""One call as a conversation: what to send, how long to wait, when to give up. No input or output.

`converse` is a generator. It yields a `Send` or a `Pause`, is sent a `Reply` or None (the connection
failed; None also after a pause), and returns the decoded answer or raises a typed error. The sync and the
async client only perform its steps, so retries behave the same in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import msgpack
import numpy as np
import orjson

from vicinal import errors
from vicinal.client.calls import Call
from vicinal.errors import InvalidArgument, InvalidPayload, NotFound, Unauthorized, Unavailable, VicinalError

__all__ = ["Broken", "Conversation", "Pause", "Reply", "Retries", "Send", "converse", "error_of"]

T = TypeVar("T")

MSGPACK: Final = "application/msgpack"
_BUSY: Final = (429, 503)
_SHOWN: Final = 200
_CLASSES: Final[dict[str, type[VicinalError]]] = {
    kind.code: kind for kind in (getattr(errors, name) for name in errors.__all__)
}


class Send(NamedTuple):
    """Send this request; `seconds` bounds the wait for its answer, None does not."""

    method: str
    path: str
    content: bytes
    headers: Mapping[str, str]
    seconds: float | None


class Pause(NamedTuple):
    """Wait before the next step."""

    seconds: float


class Reply(NamedTuple):
    """What the server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Broken(NamedTuple):
    """No answer came; `sent` says whether the request may have reached the server."""

    reason: str
    sent: bool


Outcome = Reply | Broken | None
Conversation = Generator[Send | Pause, Outcome, T]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how fast a call is tried again.

    The n-th pause is a random part, half at least, of `first` x 2**n seconds, `longest` at most, or what
    the server's Retry-After says when that is more. `attempts` counts the first try.
    """

    attempts: int = 6
    first: float = 0.1
    longest: float = 10.0
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def pause(self, attempt: int, asked: float = 0.0) -> Pause:
        """Return the pause after the given attempt, counted from 0; at most 60 seconds."""
        grown = min(self.first * 2.0**attempt, self.longest)
        return Pause(min(max(grown * (0.5 + self.chance() / 2), asked), 60.0))


def converse(call: Call[T], retries: Retries) -> Conversation[T]:
    """Carry out one call; raises the error the engine itself would raise."""
    send = _request(call)
    for attempt in range(retries.attempts):
        outcome = yield send
        if isinstance(outcome, Reply) and outcome.status < 300:
            return call.decode(_unpacked(outcome))
        error, again, asked = _judged(outcome, call)
        if not again or attempt + 1 == retries.attempts:
            raise error
        yield retries.pause(attempt, asked)
    raise Unavailable("no attempt was allowed: set attempts to 1 or more", field="attempts")


def _judged(outcome: Outcome, call: Call[Any]) -> tuple[VicinalError, bool, float]:
    """Return the error an outcome stands for, whether to try again, and how long the server asked to wait."""
    if isinstance(outcome, Reply):
        again = outcome.status in _BUSY
        return error_of(outcome), again, _retry_after(outcome.headers) if again else 0.0
    broken = outcome or Broken("no answer", sent=True)
    error = Unavailable(
        f"the server cannot be reached ({broken.reason}): check the address and that it is running",
        field="url",
    )
    return error, call.repeatable or not broken.sent, 0.0


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the header's seconds; 0 where it is missing or a date."""
    try:
        return max(float(headers.get("retry-after", "0")), 0.0)
    except ValueError:
        return 0.0


def _request(call: Call[Any]) -> Send:
    headers = {"accept": MSGPACK}
    if call.body is None:
        return Send(call.method, call.path, b"", headers, call.seconds)
    try:
        content: bytes = msgpack.packb(call.body, default=_as_json)
    except (OverflowError, ValueError, TypeError, RecursionError) as cause:
        raise InvalidPayload(f"the request cannot be encoded: {cause}", field="payloads") from cause
    return Send(call.method, call.path, content, headers | {"content-type": MSGPACK}, call.seconds)


def _as_json(value: Any) -> Any:
    """Return dates, UUIDs and numpy values as the engine itself stores them; what it refuses, NaN too, as it is."""
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "fiub":
        return value.tolist()
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def _unpacked(reply: Reply) -> Any:
    kind = reply.headers.get("content-type", "")
    try:
        if kind.startswith(MSGPACK):
            return msgpack.unpackb(reply.content)
        return orjson.loads(reply.content)
    except (ValueError, msgpack.UnpackException) as cause:
        raise Unavailable(
            f"the answer is neither msgpack nor JSON but {kind or 'nothing'}: is this a vicinal server?",
            field="url",
        ) from cause


def error_of(reply: Reply) -> VicinalError:
    """Return the typed error of an answer that is not a success; the request id is a note on it."""
    try:
        told = orjson.loads(reply.content)["error"]
        message, code = str(told["message"]), str(told["code"])
    except (ValueError, LookupError, TypeError):
        shown = reply.content[:_SHOWN].decode("utf-8", "replace")
        return _class_of("", reply.status)(f"the server answered {reply.status}: {shown}")
    error = _class_of(code, reply.status)(message, field=told.get("field"), limit=told.get("limit"))
    error.value = told.get("value")
    if told.get("request_id"):
        error.add_note(f"request {told['request_id']}")
    return error


def _class_of(code: str, status: int) -> type[VicinalError]:
    """Return the class with that code, or for codes only a server has, what its status means."""
    if code in _CLASSES:
        return _CLASSES[code]
    if status in (401, 403):
        return Unauthorized
    if status == 404:
        return NotFound
    if status in (408, 429, 502, 503, 504):
        return Unavailable
    return InvalidArgument if 400 <= status < 500 else VicinalError
