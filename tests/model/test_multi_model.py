"""Random operations on a multi-vector field and on a dict beside it must give the same answers, across reopening."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray
from tests.support.machines import run_machine
from tests.support.model import maxsim

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.schema import Multi
from vicinal.types import PointId

DIM = 6
IDS: st.SearchStrategy[PointId] = st.one_of(st.integers(0, 40), st.sampled_from(["a", "7", "x" * 512]))
_SMALL: dict[str, Any] = {"repetitions": 3, "simhash_projections": 2, "projection_dimension": None}
# each keeps what is sent exactly, or beside it: whole numbers of -3 .. 3
SPECS = [
    Multi(DIM, scale=1.0),
    Multi(DIM, store="float16", proxy="fde", **_SMALL),
    Multi(DIM, store="float32"),
    Multi(DIM, store="bit", originals=True),
    Multi(DIM, pooling=2, originals=True, proxy="fde", proxy_bits=4, **_SMALL),
]


class MultiModel(RuleBasedStateMachine):
    """upsert, delete (by id, by filter), set_payload, query_multi, get, flush, reopen."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.points: dict[PointId, tuple[NDArray[np.float32], int]] = {}

    @initialize(spec=st.sampled_from(SPECS), seed=st.integers(0, 2**32 - 1))
    def begin(self, spec: Multi, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.database = Database(self.folder / "db")
        self.database.create_collection("c", vectors={"t": spec})

    @property
    def real(self) -> Collection:
        return self.database.collection("c")

    def matrix(self) -> NDArray[np.float32]:
        # few distinct values, so that ties are common
        return self.rng.integers(-3, 4, (int(self.rng.integers(1, 6)), DIM)).astype(np.float32)

    def _write(self, ids: list[PointId], n: int) -> None:
        matrices = [self.matrix() for _ in ids]
        self.real.upsert(ids, matrices, [{"n": n}] * len(ids))
        self.points.update({i: (matrix, n) for i, matrix in zip(ids, matrices, strict=True)})

    @rule(ids=st.lists(IDS, min_size=1, max_size=8, unique=True), n=st.integers(0, 2))
    def upsert(self, ids: list[PointId], n: int) -> None:
        self._write(ids, n)

    @rule(count=st.integers(50, 200), n=st.integers(0, 2))
    def upsert_many(self, count: int, n: int) -> None:
        self._write(list(range(1000, 1000 + count)), n)

    @rule(ids=st.lists(IDS, max_size=8))
    def delete(self, ids: list[PointId]) -> None:
        assert self.real.delete(ids) == sum(self.points.pop(i, None) is not None for i in dict.fromkeys(ids))

    @rule(n=st.integers(0, 2))
    def delete_by_filter(self, n: int) -> None:
        gone = self.matching(n)
        assert self.real.delete(filter=f"n = {n}") == len(gone)
        for i in gone:
            del self.points[i]

    @rule(ids=st.lists(IDS, max_size=8), n=st.integers(0, 2))
    def set_payload(self, ids: list[PointId], n: int) -> None:
        known = [i for i in dict.fromkeys(ids) if i in self.points]
        assert self.real.set_payload({"n": n}, ids) == len(known)
        self.points.update({i: (self.points[i][0], n) for i in known})

    def matching(self, n: int | None) -> list[PointId]:
        return [i for i, (_, has) in self.points.items() if n is None or has == n]

    @rule(k=st.integers(1, 40), n=st.one_of(st.none(), st.integers(0, 2)), exact=st.booleans())
    def query(self, k: int, n: int | None, exact: bool) -> None:
        query = self.matrix()
        filter_ = None if n is None else f"n = {n}"
        hits = self.real.query_multi(query, k, filter=filter_, exact=exact)
        truth = sorted((maxsim(query, self.points[i][0]) for i in self.matching(n)), reverse=True)[:k]
        np.testing.assert_allclose(hits.scores, truth, rtol=1e-6, atol=1e-5)
        self._own(query, hits, n)

    @rule(k=st.integers(1, 10), n=st.one_of(st.none(), st.integers(0, 2)))
    def query_by_few_candidates(self, k: int, n: int | None) -> None:
        query = self.matrix()
        hits = self.real.query_multi(query, k, filter=None if n is None else f"n = {n}", candidates=k)
        assert len(hits) == min(k, len(self.matching(n)))
        self._own(query, hits, n)

    def _own(self, query: NDArray[np.float32], hits: Any, n: int | None) -> None:
        """Distinct ids that match, each with its own score and payload."""
        assert len(set(hits.ids)) == len(hits)
        assert set(hits.ids) <= set(self.matching(n))
        own = [maxsim(query, self.points[i][0]) for i in hits.ids]
        np.testing.assert_allclose(hits.scores, own, rtol=1e-6, atol=1e-5)
        assert [hit.payload for hit in hits] == [{"n": self.points[i][1]} for i in hits.ids]

    @rule(ids=st.lists(IDS, max_size=8, unique=True))
    def get(self, ids: list[PointId]) -> None:
        points = self.real.get(ids, with_vectors=True)
        assert [p.id for p in points] == [i for i in ids if i in self.points]
        for point in points:
            np.testing.assert_array_equal(point.vector["t"], self.points[point.id][0])

    @rule()
    def flush(self) -> None:
        assert self.real.flush(30)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database(self.folder / "db")

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "database"):
            assert self.real.count() == len(self.points)

    def teardown(self) -> None:
        try:
            if hasattr(self, "database"):
                with self.database:
                    assert self.real.flush(30)
                    assert self.real.verify().problems == ()
        finally:
            shutil.rmtree(self.folder)


def test_multi_vectors_agree_with_a_dict() -> None:
    run_machine(MultiModel, 15, 25)


@pytest.mark.full
def test_multi_vectors_agree_with_a_dict_for_long() -> None:
    run_machine(MultiModel, 1000, 50)
