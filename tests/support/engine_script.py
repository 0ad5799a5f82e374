"""A scripted user of a whole data directory, and a reader that says what one holds.

The script goes through the public interface, so writer, indexer, graph and column snapshots all write. What each
operation should leave is known before it is tried, so a test knows which states a crash may leave.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pytest

from vicinal import database as database_module
from vicinal import indexer, matching
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.storage import vectors
from vicinal.storage.files import Files, Observer

__all__ = [
    "DIM",
    "NAME",
    "Operation",
    "Script",
    "Session",
    "State",
    "act",
    "create",
    "make_script",
    "observed",
    "play",
    "read_state",
]

DIM: Final = 4
NAME: Final = "c"
_IDS: Final = (*range(12), *"0123456789", (1 << 64) - 1)
State = dict[Any, tuple[bytes, bytes, bytes | None]]  # id → (vector, tokens, payload); b"" without


class Operation(NamedTuple):
    """One call of the user: upsert (of some fields), delete, set_payload, flush, compact or reopen."""

    kind: str
    ids: tuple[Any, ...] = ()
    seed: int = 0
    fields: tuple[str, ...] = ("v", "t")


class Script(NamedTuple):
    """Operations, and the state before the first and after each."""

    operations: list[Operation]
    states: list[State]


def vector_of(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector that tells which write it came from."""
    return np.array([seed % 251, seed // 251 % 251, 1, seed % 7], np.float32)


def tokens_of(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A matrix of one to three tokens, so that ends matter."""
    rows = [[seed % 127 + 1, row + 1, 2, 1] for row in range(seed % 3 + 1)]
    return np.array(rows, np.float32)


def payload_of(seed: int) -> dict[str, Any] | None:
    """None now and then, and some of more than a page."""
    return None if seed % 5 == 0 else {"n": seed % 9, "text": "x" * (seed % 11 * 60)}


def make_script(seed: int, operations: int) -> Script:
    """Random operations on few ids, so that they meet each other; a third of them before tokens are written.

    Then the collection is compacted, while it has a field that no point has.
    """
    rng = random.Random(seed)
    made: list[Operation] = []
    states: list[State] = [{}]
    for number in range(operations):
        kind = rng.choices(("upsert", "delete", "set_payload", "flush", "reopen", "compact"), (12, 3, 3, 2, 1, 1))[0]
        first = operations // 3
        kind = "upsert" if number == 0 else "compact" if number == first else kind
        ids = tuple(rng.sample(_IDS, rng.randint(1, 9))) if kind not in {"flush", "reopen", "compact"} else ()
        fields = ("v",) if number < first else rng.choice([("v", "t"), ("v", "t"), ("v",), ("t",)])
        operation = Operation(kind, ids, seed * 1000 + number, fields)
        made.append(operation)
        states.append(_after(states[-1], operation))
    return Script(made, states)


def _after(before: State, operation: Operation) -> State:
    state = dict(before)
    for place, i in enumerate(operation.ids):
        seed = operation.seed * 16 + place
        if operation.kind == "upsert":
            payload = payload_of(seed)
            state[i] = (
                vector_of(seed).tobytes() if "v" in operation.fields else b"",
                tokens_of(seed).tobytes() if "t" in operation.fields else b"",
                None if payload is None else orjson.dumps(payload),
            )
        elif operation.kind == "delete":
            state.pop(i, None)
        elif i in state:
            vector, tokens, old = state[i]
            changed = {**(orjson.loads(old) if old else {}), "n": operation.seed}
            state[i] = (vector, tokens, orjson.dumps(changed))
    return state


@contextmanager
def observed(observer: Observer | None, *, often: int = 12) -> Any:
    """Let databases opened meanwhile tell the observer of every call, and save snapshots after few rows."""
    made = Files(observer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_module, "Files", lambda: made)
        patch.setattr(indexer, "SNAPSHOT_ROWS", often)
        patch.setattr(matching, "SAVE_FROM", often)
        patch.setattr(matching, "FOLD_FROM", often)
        patch.setattr(vectors, "_STEP_MIN", 1 << 11)  # files grow often, and images stay small
        yield


def create(root: Path) -> Session:
    """Make a database and its collection."""
    made = Database(root)
    fields = {"v": {"kind": "dense", "dim": DIM, "metric": "l2", "M": 4}}
    fields["t"] = {"kind": "multi", "dim": DIM, "pooling": 2, "originals": True}  # all the files there are
    made.create_collection(NAME, vectors=fields)
    return Session(root, made)


def act(collection: Collection, operation: Operation) -> None:
    """Carry out one operation but `reopen`."""
    ids = list(operation.ids)
    if operation.kind == "upsert":
        seeds = [operation.seed * 16 + place for place in range(len(ids))]
        vectors = {"v": np.array([vector_of(s) for s in seeds]), "t": [tokens_of(s) for s in seeds]}
        collection.upsert(ids, {name: vectors[name] for name in operation.fields}, [payload_of(s) for s in seeds])
    elif operation.kind == "delete":
        collection.delete(ids)
    elif operation.kind == "set_payload":
        collection.set_payload({"n": operation.seed}, ids)
    elif operation.kind == "flush":
        collection.flush(60)
    elif operation.kind == "compact":
        collection.compact()


class Session:
    """A database that may be opened again; `database` is the one open now, None between two."""

    database: Database | None

    def __init__(self, root: Path, database: Database | None = None) -> None:
        self.root = root
        self.database = Database(root) if database is None else database

    @property
    def collection(self) -> Collection:
        assert self.database is not None
        return self.database.collection(NAME)

    def reopen(self) -> None:
        self.close()
        self.database = Database(self.root)

    def close(self) -> None:
        if self.database is not None:
            old, self.database = self.database, None
            old.close()


def play(session: Session, script: Script, first: int, note: Callable[[str, int], None]) -> None:
    """Carry out the operations from `first` on."""
    for number in range(first, len(script.operations)):
        operation = script.operations[number]
        note("tried", number + 1)
        if operation.kind == "reopen":
            session.reopen()
        else:
            act(session.collection, operation)
        note("acknowledged", number + 1)


def read_state(collection: Collection) -> State:
    """Every point by scrolling; ids, counts, filters and exact queries must agree with it."""
    points, rest = collection.scroll(limit=1000, with_vectors=True)
    assert rest is None
    state: State = {}
    for p in points:
        assert p.id not in state, f"two points {p.id!r}"
        payload = None if p.payload is None else orjson.dumps(p.payload)
        vector, tokens = (p.vector[name].tobytes() if name in p.vector else b"" for name in ("v", "t"))
        state[p.id] = (vector, tokens, payload)
    assert collection.count() == len(state)
    known = [p.payload["n"] for p in points if p.payload is not None]
    for n in known[:2]:
        assert collection.count(f"n = {n}") == known.count(n)
    _check_answers(collection, points)
    return state


def _check_answers(collection: Collection, points: list[Any]) -> None:
    """Queries with what some points hold find all that have that field."""
    single, tokens = ([p for p in points if name in p.vector] for name in ("v", "t"))
    for p in single[:2]:
        found = collection.query(p.vector["v"], len(points), using="v")
        assert set(found.ids) == {p.id for p in single}
        assert found.scores[0] == 0
    for p in tokens[:2]:
        found = collection.query_multi(p.vector["t"], len(points), using="t", exact=True)
        assert set(found.ids) == {p.id for p in tokens}
