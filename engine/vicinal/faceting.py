"""The commonest values of a key among the points that match a filter, counted exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidFilter
from vicinal.filter.facets import Counts
from vicinal.filter.path import Path, parse_key
from vicinal.matching import Matcher
from vicinal.types import Bits
from vicinal.view import View

__all__ = ["Facet", "facet_path", "facets"]

Facet = tuple[bool | int | str, int]

_READ_MAX: Final = 1_024


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

    Most slots first; among equals false, true, integers, strings, each ascending. Strings that no dictionary has are
    read from payloads: where more than `_READ_MAX` of them tie at the end of the list, those of the first slots are.
    """
    found = matcher.tally(path, allowed, view)
    few = [np.array(list(group.values()), np.int64) for group in (found.booleans, found.texts)]
    counts = np.concatenate((*few, found.integers.slots, found.large.slots, found.digests.slots))
    if not counts.size:
        return []
    least = int(np.partition(counts, max(counts.size - limit, 0))[max(counts.size - limit, 0)])
    whole = [_leading(group, group.values, least, limit) for group in (found.integers, found.large)]
    integers = [pair for group in whole for pair in group.pairs()]
    wanted = _leading(found.digests, found.digests.first, least, max(limit, _READ_MAX))
    texts = found.texts + matcher.texts(wanted, path, view)
    groups: tuple[Iterable[tuple[Any, int]], ...] = (found.booleans.items(), integers, texts.items())
    ranked = [(-n, rank, value) for rank, group in enumerate(groups) for value, n in group if n >= least]
    return [(value, -n) for n, _, value in sorted(ranked)[:limit]]


def _leading(counts: Counts, order: NDArray[np.int64], least: int, limit: int) -> Counts:
    """Those that more than `least` slots have, and of those that so many have the first `limit` in an order."""
    ties = np.flatnonzero(counts.slots == least)
    if ties.size > limit:
        ties = ties[np.argpartition(order[ties], limit)[:limit]]
    return counts.where(np.concatenate((np.flatnonzero(counts.slots > least), ties)))
