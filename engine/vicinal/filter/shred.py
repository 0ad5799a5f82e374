"""Payloads taken apart: for every path the values at it, with their slots.

This is the column striping of Dremel (Melnik et al., VLDB 2010) without its levels: filters ask whether *any*
value at a path matches, so it is enough to know the slot a value came from. An array's elements lie one step
None deeper, so that `tags` holding "a" and `tags` holding ["a"] stay apart (`tags[]` asks for the second only).

The loop runs over paths, not over payloads: one call of a C function handles one key of thousands of payloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.geo import LAT_MAX, LON_MAX
from vicinal.filter.path import Path

__all__ = ["Piece", "shred"]

Slots = NDArray[np.uint32]
_PLAIN = (str, int, float)


class Piece(NamedTuple):
    """Values at a path, ascending by slot, all of type `kind`; `object`: several types, not str, int or float.

    Objects that are places (see `geo`) come once more, as complex numbers: lon + lat * 1j.
    """

    path: Path
    kind: type
    slots: Slots
    values: Sequence[Any]


def shred(objects: Sequence[dict[str, Any]], slots: Slots) -> Iterator[Piece]:
    """All values of the objects; a path and kind comes once. `slots` ascend."""
    waiting: list[tuple[Path, Slots, Sequence[Any], bool]] = [((), slots, objects, True)]
    while waiting:
        path, at, found, are_objects = waiting.pop()
        if are_objects:
            members = _by_key(found, at)
            waiting.extend(((*path, key), member_at, values, False) for key, member_at, values in members)
            continue
        for kind, kind_at, values in _by_kind(found, at):
            yield Piece(path, kind, kind_at, values)
            if kind in (dict, list, object):
                waiting.extend(_containers(path, kind, kind_at, values))
            if kind in (dict, object):
                yield from _places(path, kind_at, values)


def _by_key(objects: Sequence[dict[str, Any]], slots: Slots) -> Iterator[tuple[str, Slots, Sequence[Any]]]:
    if len(set(map(len, objects))) == 1:
        try:  # all have the same keys, as in most collections
            for key, values in [(key, list(map(itemgetter(key), objects))) for key in objects[0]]:
                yield key, slots, values
        except KeyError:
            pass
        else:
            return
    rows: dict[str, tuple[list[int], list[Any]]] = {}
    for row, members in enumerate(objects):
        for key, value in members.items():
            if key in rows:
                at, found = rows[key]
                at.append(row)
                found.append(value)
            else:
                rows[key] = ([row], [value])
    for key, (at, found) in rows.items():
        yield key, slots if len(at) == len(objects) else slots[at], found


def _by_kind(values: Sequence[Any], slots: Slots) -> Iterator[tuple[type, Slots, Sequence[Any]]]:
    types = set(map(type, values))
    if len(types) == 1:
        (only,) = types
        yield only, slots, values
        return
    for kind in _PLAIN:
        if kind in types:
            rows = [i for i, v in enumerate(values) if type(v) is kind]
            yield kind, slots[rows], [values[i] for i in rows]
    if types.difference(_PLAIN):
        rows = [i for i, v in enumerate(values) if type(v) not in _PLAIN]
        yield object, slots[rows], [values[i] for i in rows]


def _containers(
    path: Path, kind: type, slots: Slots, values: Sequence[Any]
) -> Iterator[tuple[Path, Slots, Sequence[Any], bool]]:
    """What to look into: the objects at the path, and the elements of the arrays."""
    for container in (dict, list):
        inside, at = values, slots
        if kind is object:
            rows = [i for i, v in enumerate(values) if type(v) is container]
            inside, at = [values[i] for i in rows], slots[rows]
        elif kind is not container:
            continue
        if container is list:
            lengths = np.fromiter(map(len, inside), np.int64, len(inside))
            elements = list(chain.from_iterable(inside))
            if elements:
                yield (*path, None), np.repeat(at, lengths), elements, False
        elif inside:
            yield path, at, inside, True


def _places(path: Path, slots: Slots, values: Sequence[Any]) -> Iterator[Piece]:
    """The places among the values, if there are any."""
    rows = [i for i, v in enumerate(values) if type(v) is dict and "lon" in v and "lat" in v]
    pairs = [(i, values[i]["lon"], values[i]["lat"]) for i in rows]
    pairs = [(i, lon, lat) for i, lon, lat in pairs if _degrees(lon, LON_MAX) and _degrees(lat, LAT_MAX)]
    if pairs:
        yield Piece(path, complex, slots[[i for i, _, _ in pairs]], [complex(lon, lat) for _, lon, lat in pairs])


def _degrees(value: Any, most: float) -> bool:
    return type(value) in (int, float) and -most <= value <= most
