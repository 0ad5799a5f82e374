"""Keys of payload attributes: dotted JSON paths, as Qdrant writes them.

`country.name` goes into objects, `tags[]` into the elements of an array, `"a.b".c` quotes a key that holds
dots, brackets or nothing. A path is a tuple of its steps: a string is a key of an object, None is "every
element of the array".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from vicinal.errors import InvalidFilter

__all__ = ["KEY_TEXT_MAX", "Path", "parse_key", "render_path", "values_at"]

Path = tuple[str | None, ...]

KEY_TEXT_MAX: Final = 1_024  # characters; a longer key is a mistake, and keys are cached

_STEP = re.compile(r'(?:"(?P<quoted>[^"]*)"|(?P<plain>[^."\[\]]+))(?P<arrays>(?:\[\])*)(?P<dot>\.?)')
_PLAIN = re.compile(r'[^."\[\]]+')


@lru_cache(maxsize=4_096)
def parse_key(key: str) -> Path:
    """The steps of a key; InvalidFilter names the character where it stops being a path."""
    if not key or len(key) > KEY_TEXT_MAX:
        raise InvalidFilter(
            f"a key must have 1 to {KEY_TEXT_MAX} characters, this one has {len(key)}",
            field="key",
            limit=KEY_TEXT_MAX,
        )
    steps: list[str | None] = []
    at, more = 0, True
    while more or at < len(key):
        step = _STEP.match(key, at) if more else None
        if step is None:
            raise InvalidFilter(
                f"key {key[:80]!r} cannot be read at character {at}: write country.name, tags[], or "
                '"a.b".c for a key with dots; positions such as tags[0] are not supported',
                field="key",
                value=key,
            )
        plain = step["plain"]
        steps.append(step["quoted"] if plain is None else plain)
        steps.extend([None] * (len(step["arrays"]) // 2))
        at, more = step.end(), bool(step["dot"])
    return tuple(steps)


def render_path(path: Path) -> str:
    """The key that `parse_key` turns into this path (for keys without double quotes)."""
    text = ""
    for step in path:
        if step is None:
            text += "[]"
        else:
            text += "." * bool(text) + (step if _PLAIN.fullmatch(step) else f'"{step}"')
    return text


def values_at(value: Any, path: Path) -> Iterator[Any]:
    """What conditions on the key look at in a JSON value: the values at the path, and the elements of arrays there."""
    if path and path[0] is None:
        for element in value if isinstance(value, list) else ():
            yield from values_at(element, path[1:])
    elif path:
        if isinstance(value, dict) and path[0] in value:
            yield from values_at(value[path[0]], path[1:])
    else:
        yield value
        if isinstance(value, list):
            yield from value
