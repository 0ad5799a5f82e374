"""What a commit holds, and how ids of points go into SQLite and slots come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import apsw
import numpy as np

from vicinal.storage.sqlite import one

__all__ = [
    "CHUNK",
    "ID_BIAS",
    "Commit",
    "CommitRow",
    "NewPoint",
    "bind_ids",
    "bind_payloads",
    "look_up",
    "runs",
    "split_payloads",
]

ID_BIAS: Final = 1 << 63  # SQLite's integers are signed; ids are not
CHUNK: Final = 2048  # rows per statement: binding holds the GIL for about 0.1 µs a row
SEPARATOR: Final = b"\x1e"  # cannot occur raw inside JSON text (RFC 7464)


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point that takes a new slot. `payload` is JSON; bit f of `fields`: vector field f is present."""

    slot: int
    id: int | str
    payload: bytes | None = None
    fields: int = 1


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit changes.

    `rows` is the number of slots afterwards, `dead` the slots that die now (also new ones replaced within
    the same commit), `payloads` new payloads of existing slots, `counts` the rows of each row file, `crcs`
    the changed blocks of those that grew. A file that grew was synced with `previous_seq` = seq - 1.
    """

    seq: int
    rows: int
    points: Sequence[NewPoint] = ()
    dead: Sequence[int] = ()
    crcs: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    payloads: Sequence[tuple[int, bytes | None]] = ()


@dataclass(frozen=True, slots=True)
class CommitRow:
    """The last commit. `since` bounds each row file's head seq from below, for `RowFile.open(between=...)`."""

    seq: int
    rows: int
    counts: dict[str, int]
    time: float
    since: dict[str, int]


def runs(points: Sequence[NewPoint], dead: set[int]) -> Iterator[tuple[int, int]]:
    """Cut `points` into pieces of at most CHUNK with one kind of id, fields and fate, and consecutive slots."""
    if not points:
        return
    first = 0
    kinds = [(p.slot - at, type(p.id), p.fields, p.slot in dead) for at, p in enumerate(points)]
    for at in range(1, len(points)):
        if kinds[at] != kinds[at - 1] or at - first == CHUNK:
            yield first, at
            first = at
    yield first, len(points)


def bind_ids(ids: list[int | str]) -> Any:
    """Bind ids of one kind: integers biased into SQLite's range, strings as their UTF-8 bytes."""
    if isinstance(ids[0], str):
        return apsw.carray(tuple([str(text).encode() for text in ids]))
    biased = np.array(ids, np.uint64) ^ np.uint64(ID_BIAS)
    return apsw.carray(biased.view(np.int64))


def look_up(
    connection: apsw.Connection, statement: str, ids: Sequence[int | str], rest: tuple[int, ...]
) -> list[int | None]:
    """Run a statement that gives one slot, or -1, per id; integers and strings are asked apart."""
    found: list[int | None] = [None] * len(ids)
    for kind in (int, str):
        places = [at for at, one_id in enumerate(ids) if isinstance(one_id, kind)]
        for first in range(0, len(places), CHUNK):
            piece = places[first : first + CHUNK]
            slots = one(connection, statement, (bind_ids([ids[at] for at in piece]), *rest))
            for at, slot in zip(piece, slots.split(","), strict=True):
                found[at] = None if slot == "-1" else int(slot)
    return found


def bind_payloads(points: Sequence[NewPoint]) -> Any | None:
    """Bind the payloads of some points, empty for none; None when no point has one."""
    bodies = tuple([p.payload or b"" for p in points])
    if SEPARATOR in b"".join(bodies):
        raise ValueError("a payload holds a raw control character, so it is not JSON")
    return apsw.carray(bodies) if any(bodies) else None


def split_payloads(joined: bytes) -> list[bytes | None]:
    """Take apart what `payloads` statements join."""
    return [item or None for item in joined.split(SEPARATOR)]
