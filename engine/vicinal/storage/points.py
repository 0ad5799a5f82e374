"""What a commit holds, and how ids of points go into SQLite and slots come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import apsw
import numpy as np

from vicinal.storage.sqlite import one

__all__ = ["ID_BIAS", "Commit", "CommitRow", "NewPoint", "bind_ids", "look_up", "runs"]

ID_BIAS: Final = 1 << 63  # SQLite's integers are signed; ids are not


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
    """Cut `points` where slots do not follow each other, or kind of id, fields or death differ."""
    if not points:
        return
    first = 0
    kinds = [(p.slot - at, type(p.id), p.fields, p.slot in dead) for at, p in enumerate(points)]
    for at in range(1, len(points)):
        if kinds[at] != kinds[at - 1]:
            yield first, at
            first = at
    yield first, len(points)


def bind_ids(ids: list[int | str]) -> Any:
    """Bind ids of one kind: integers biased into SQLite's range, strings as they are."""
    if isinstance(ids[0], str):
        return apsw.carray(tuple(ids))
    biased = np.array(ids, np.uint64) ^ np.uint64(ID_BIAS)
    return apsw.carray(biased.view(np.int64))


def look_up(
    connection: apsw.Connection, statement: str, ids: Sequence[int | str], rest: tuple[int, ...]
) -> list[int | None]:
    """Run a statement that gives one slot, or -1, per id; integers and strings are asked apart."""
    found: list[int | None] = [None] * len(ids)
    for kind in (int, str):
        places = [at for at, one_id in enumerate(ids) if isinstance(one_id, kind)]
        if places:
            slots = one(connection, statement, (bind_ids([ids[at] for at in places]), *rest))
            for at, slot in zip(places, slots.split(","), strict=True):
                found[at] = None if slot == "-1" else int(slot)
    return found
