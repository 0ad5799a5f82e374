"""A collection of a graph with codes, of cells, and of near-copies that share nodes, small enough to damage often."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tests.support.vectors_oracle import true_distances

from vicinal.answers import scores_of
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.types import Metric

__all__ = ["ROWS_FROM", "State", "change", "make", "read_state"]

ROWS: Final = 330
ROWS_FROM: Final = 150  # for `walked`: all of it is above
DIM: Final = 16
FIELDS: Final[dict[str, dict[str, Any]]] = {
    "coded": {"codec": "int8"},
    "cells": {"layout": "cells", "codec": "int8"},
    "shared": {"share": 0.1},
}
RECALL: Final = 0.9  # of ten nearest, over all fields and queries: a tenth of the rows is among the candidates at least
State = dict[int, tuple[NDArray[np.float32], int]]  # by id: the vector that all fields have, and a number


def _rows(seed: int, n: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows: NDArray[np.float32] = rng.standard_normal((n, DIM)).astype(np.float32)
    rows[n // 2 :] = rows[: n - n // 2] + 0.001  # each has a near-copy
    return rows


def _write(collection: Collection, state: State, ids: list[int], seed: int) -> None:
    rows = _rows(seed, len(ids))
    collection.upsert(ids, dict.fromkeys(FIELDS, rows), [{"n": i % 7} for i in ids])
    state.update({i: (row, i % 7) for i, row in zip(ids, rows, strict=True)})


def make(root: Path) -> State:
    """Write, settle and close it."""
    state: State = {}
    with Database(root) as database:
        vectors = {name: {"kind": "dense", "dim": DIM, "metric": "l2", **more} for name, more in FIELDS.items()}
        _write(database.create_collection("c", vectors=vectors), state, list(range(ROWS)), 0)
        assert database.collection("c").flush(300)
    return state


def change(collection: Collection, state: State) -> State:
    """The state after other rows took the place of some, which this writes."""
    after = dict(state)
    _write(collection, after, list(range(40, 100)), 1)
    return after


def read_state(collection: Collection, state: State) -> None:
    """All points are those of the state; what is found by every field is, with right scores, and nearly all of it."""
    points, rest = collection.scroll(limit=1000, with_vectors=True)
    assert rest is None
    assert {p.id: p.payload for p in points} == {i: {"n": n} for i, (_, n) in state.items()}
    for p in points:
        for name in FIELDS:
            np.testing.assert_array_equal(p.vector[name], state[int(p.id)][0])
    found = [
        share
        for name in FIELDS
        for filter_, of in ((None, list(state)), ("n = 3", [i for i, (_, n) in state.items() if n == 3]))
        for at in (0, 160)
        for share in [_found(collection, state, name, state[at][0] + 0.3, filter_, of)]
    ]
    assert np.mean(found) >= RECALL, found


def _found(
    collection: Collection, state: State, name: str, query: NDArray[np.float32], filter_: str | None, of: list[int]
) -> float:
    """The share of the ten nearest of these points that a walk finds; exact queries find all."""
    distances = true_distances(Metric.L2, np.array([state[i][0] for i in of]), query)
    truth = dict(zip(of, scores_of(Metric.L2, distances.astype(np.float32)).tolist(), strict=True))
    best = sorted(truth.values())[:10]
    for exact in (True, False):
        hits = collection.query(query, 10, using=name, filter=filter_, exact=exact)
        own = [truth[int(i)] for i in hits.ids]
        assert len(set(hits.ids)) == 10
        np.testing.assert_allclose(hits.scores, own, rtol=1e-4, atol=1e-4)
        if exact:
            np.testing.assert_allclose(own, best, rtol=1e-4, atol=1e-4)
    return float(np.isclose(own, best, rtol=1e-4, atol=1e-4).mean())
