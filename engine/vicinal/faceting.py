"""The commonest values of a key among the points that match a filter, counted exactly."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vicinal.errors import InvalidArgument, InvalidFilter
from vicinal.filter.path import Path, parse_key
from vicinal.matching import Matcher
from vicinal.types import Bits
from vicinal.view import View

__all__ = ["Facet", "facet_path", "facets"]

Facet = tuple[bool | int | str, int]


def facet_path(key: Any) -> Path:
    """The steps of a key; InvalidArgument if it is none."""
    if not isinstance(key, str):
        raise InvalidArgument(f"key must be a string, not {type(key).__name__}", field="key")
    try:
        return parse_key(key)
    except InvalidFilter as error:
        raise InvalidArgument(error.message, field="key", value=key, limit=error.limit) from error


def facets(matcher: Matcher, path: Path, allowed: Bits, view: View, limit: int) -> list[Facet]:
    """The values that most of the allowed slots have, with how many.

    Most slots first; among equals false, true, integers, strings, each ascending.
    """
    found = matcher.tally(path, allowed, view)
    counts = [n for group in (found.booleans, found.integers, found.texts, found.digests) for n in group.values()]
    if not counts:
        return []
    least = sorted(counts, reverse=True)[:limit][-1]
    # only texts that may be listed are looked up: a key may have as many as there are points
    digests = Counter({digest: n for digest, n in found.digests.items() if n >= least})
    texts = found.texts + matcher.texts(digests, path, found.found_at, view)
    groups: tuple[Counter[Any], ...] = (found.booleans, found.integers, texts)
    ranked = [(-n, rank, value) for rank, group in enumerate(groups) for value, n in group.items() if n >= least]
    return [(value, -n) for n, _, value in sorted(ranked)[:limit]]
