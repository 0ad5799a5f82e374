"""How a stored payload changes without its point's vectors: keys set or removed.

A change is a function from the old JSON (None: no payload) to the new, for the writer to apply in commit order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from vicinal.batch import encode_payload
from vicinal.errors import InvalidArgument, InvalidPayload

__all__ = ["Change", "removing", "setting"]

Change = Callable[[bytes | None], bytes | None]


def setting(payload: Any) -> Change:
    """Set these keys at the top level, keeping the others. InvalidPayload unless a JSON object."""
    text = encode_payload(payload)
    if text is None:
        raise InvalidPayload("set_payload takes a JSON object: which keys to set", field="payload")
    new: dict[str, Any] = orjson.loads(text)

    def change(old: bytes | None) -> bytes | None:
        if old is None:
            return text
        merged: Mapping[str, Any] = orjson.loads(old) | new
        return encode_payload(merged)

    return change


def removing(keys: Any) -> Change:
    """Remove these keys at the top level; those a payload lacks are no error. InvalidArgument unless texts."""
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidArgument("keys is a list of names", field="keys", value=keys)
    names = list(keys)
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument("a payload's key is a text", field="keys", value=name)

    def change(old: bytes | None) -> bytes | None:
        if old is None:
            return None
        kept = {key: value for key, value in orjson.loads(old).items() if key not in names}
        return encode_payload(kept)

    return change
