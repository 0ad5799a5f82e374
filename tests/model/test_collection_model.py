"""Random operations on a collection and on a dict beside it must give the same answers, across reopening."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.filter_oracle import facet_of, holds
from tests.support.machines import run_machine
from tests.support.model import ModelCollection
from tests.support.own_process import scratch_folder
from tests.support.vectors_oracle import FLOAT_METRICS
from tests.support.walked import walked

from vicinal.answers import scores_of
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.filter.geo import GeoBoundingBox, GeoCondition, GeoPoint, GeoRadius
from vicinal.filter.model import Filter
from vicinal.limits import EF_MAX
from vicinal.planner import EF_DEFAULT
from vicinal.types import Metric, PointId

DIM = 6
CODED_FROM = 150  # rows, in the collections that have codes
LONG = 300  # seconds: the first coded graph may wait for a compiler
RECALL = 0.98  # of all that walks of all examples are asked for whose beam does not hold every slot
IDS: st.SearchStrategy[PointId] = st.one_of(
    st.integers(0, 30), st.sampled_from(["a", "7", "é", "x" * 512]), st.just((1 << 64) - 1)
)
PLACES = [{"lon": lon, "lat": lat} for lon in (-179, 13, 179) for lat in (-52, 0, 52)]
PAYLOADS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"n": st.integers(0, 5)},
        optional={
            "t": st.text(max_size=3),
            "tags": st.lists(st.sampled_from([0, 1, True, "a", "b" * 99, 1.5, None]), max_size=3),
            "at": st.one_of(st.sampled_from(PLACES), st.lists(st.sampled_from(PLACES), max_size=2)),
        },
    ),
)
_SIDES = st.sampled_from([-180, 10, 170, 180])
AREAS: st.SearchStrategy[GeoCondition] = st.one_of(
    st.builds(GeoRadius, st.just("at"), st.sampled_from(PLACES), st.sampled_from([1e5, 4e5, 6e6])),  # type: ignore[arg-type]
    st.builds(lambda a, b: GeoBoundingBox("at", GeoPoint(a, 60), GeoPoint(b, -1)), _SIDES, _SIDES),
)


class CollectionModel(RuleBasedStateMachine):
    """upsert, delete (by id, by filter), query, get, scroll, count, flush, compact, backup, reopen."""

    walks: ClassVar[Counter[str]] = Counter()  # of all examples: queries by what was walked, and hits found and wanted

    def __init__(self) -> None:
        super().__init__()
        self.scope = ExitStack()
        self.folder = Path(self.scope.enter_context(scratch_folder()))
        self.rng = np.random.default_rng(0)

    @initialize(
        metric=st.sampled_from(FLOAT_METRICS),
        seed=st.integers(0, 2**32 - 1),
        share=st.sampled_from([None, None, 0.0, 0.2]),
        coded=st.sampled_from([False] * 7 + [True]),
        first=st.sampled_from([0, 40, 200, 400]),
    )
    def begin(self, metric: Metric, seed: int, share: float | None, coded: bool, first: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = ModelCollection(metric)
        self.scope.enter_context(walked(CODED_FROM if coded else None))
        self.coded, self.share = coded, share
        self.database = Database(self.folder / "db")
        spec: dict[str, Any] = {"M": 16} if coded else {"M": 4, "ef_construction": 16}
        self.database.create_collection("c", dim=DIM, metric=metric.value, share=share, **spec)
        if first:
            self.upsert_numbered(list(range(1000, 1000 + first)), [{"n": i % 6} for i in range(first)])

    @property
    def real(self) -> Collection:
        return self.database.collection("c")

    def vectors(self, n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        # few distinct values, so that exact duplicates and ties are common
        return self.rng.integers(-2, 3, (n, DIM)).astype(np.float32) + np.float32(0.5)

    @rule(ids=st.lists(IDS, min_size=1, max_size=8, unique=True), some=st.lists(PAYLOADS, min_size=8, max_size=8))
    def upsert(self, ids: list[PointId], some: list[Any]) -> None:
        vectors = self.vectors(len(ids))
        self.real.upsert(ids, vectors, some[: len(ids)])
        self.model.upsert(ids, vectors, some[: len(ids)])

    @rule(count=st.integers(100, 400))
    def upsert_many(self, count: int) -> None:
        self.upsert_numbered(list(range(1000, 1000 + count)), [None] * count)

    def upsert_numbered(self, ids: list[PointId], payloads: list[Any]) -> None:
        vectors = self.vectors(len(ids))
        self.real.upsert(ids, vectors, payloads)
        self.model.upsert(ids, vectors, payloads)

    @rule(ids=st.lists(IDS, max_size=8))
    def delete(self, ids: list[PointId]) -> None:
        assert self.real.delete(ids) == self.model.delete(ids)

    @rule(n=st.integers(0, 5))
    def delete_by_filter(self, n: int) -> None:
        assert self.real.delete(filter={"must": [{"key": "n", "match": {"value": n}}]}) == self.model.delete(
            self.matching(n)
        )

    @rule(ids=st.lists(IDS, max_size=8), n=st.integers(0, 5))
    def set_payload(self, ids: list[PointId], n: int) -> None:
        assert self.real.set_payload({"n": n}, ids) == self.model.rewrite(ids, {"n": n}, [])

    @rule(n=st.integers(0, 5), to=st.integers(0, 5))
    def set_payload_by_filter(self, n: int, to: int) -> None:
        changed = self.real.set_payload({"n": to, "t": "x"}, filter=f"n = {n}")
        assert changed == self.model.rewrite(self.matching(n), {"n": to, "t": "x"}, [])

    @rule(ids=st.lists(IDS, max_size=8))
    def delete_payload(self, ids: list[PointId]) -> None:
        assert self.real.delete_payload(["n", "u"], ids) == self.model.rewrite(ids, {}, ["n", "u"])

    @rule(ids=st.lists(IDS, max_size=8), n=st.integers(0, 5))
    def count_by_filter(self, ids: list[PointId], n: int) -> None:
        chosen = set(self.matching(n))
        assert self.real.count(f"n = {n}") == len(chosen)
        tree = {"must": [{"has_id": ids}, {"key": "n", "match": {"value": n}}]}
        assert self.real.count(tree) == len(chosen & set(ids))

    @rule(area=AREAS)
    def count_by_place(self, area: GeoCondition) -> None:
        tree = Filter(must=(area,))
        payloads = [payload for _, payload in self.model.points.values()]
        assert self.real.count(tree) == sum(holds(tree, payload, None) for payload in payloads)

    @rule(key=st.sampled_from(["n", "t", "tags"]), n=st.one_of(st.none(), st.integers(0, 5)), limit=st.integers(1, 5))
    def facet(self, key: str, n: int | None, limit: int) -> None:
        kept = list(self.model.points) if n is None else self.matching(n)
        counted = facet_of([self.model.points[i][1] for i in kept], key)
        assert repr(self.real.facet(key, None if n is None else f"n = {n}", limit)) == repr(counted[:limit])

    def matching(self, n: int) -> list[PointId]:
        return [i for i, (_, payload) in self.model.points.items() if payload is not None and payload.get("n") == n]

    @rule(
        k=st.integers(1, 60),
        n=st.one_of(st.none(), st.integers(0, 5)),
        exact=st.booleans(),
        settled=st.booleans(),
        wide=st.booleans(),
    )
    def query(self, k: int, n: int | None, exact: bool, settled: bool, wide: bool) -> None:
        if settled:
            assert self.real.flush(LONG)
        self.compare(k, n, exact=exact, ef=EF_MAX if wide else None)

    def compare(self, k: int, n: int | None, *, exact: bool = False, ef: int | None = None) -> None:
        """One query: living ids with their scores, as many as asked for, and all the nearest where that is promised."""
        query = self.vectors(1)[0]
        filter_ = None if n is None else f"n = {n}"
        hits = self.real.query(query, k, filter=filter_, exact=exact, ef=ef, explain=True)
        truth = self.model.nearest(query, None if n is None else self.matching(n))
        assert len(set(hits.ids)) == len(hits) == min(k, len(truth))
        assert set(hits.ids) <= set(truth)
        assert [h.payload for h in hits] == [self.model.points[i][1] for i in hits.ids]
        best = self.scores(np.sort(np.array(list(truth.values()), np.float64))[: len(hits)])
        own = self.scores(np.array([truth[i] for i in hits.ids], np.float64))
        np.testing.assert_allclose(hits.scores, own, rtol=1e-4, atol=1e-3)
        assert hits.explain is not None
        plan = hits.explain["plan"]
        scanned = plan in ("exact", "list", "empty") and not self.coded
        if exact or scanned or self.whole_graph(ef):
            np.testing.assert_allclose(own, best, rtol=1e-4, atol=1e-3)
        else:
            self.walks["found"] += int(np.isclose(own, best, rtol=1e-4, atol=1e-3).sum())
            self.walks["wanted"] += len(best)
        self.walks[f"{plan} {'coded' if self.coded else 'floats'}{' filtered' if n is not None else ''}"] += 1

    def scores(self, distances: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return scores_of(self.model.metric, distances.astype(np.float32))

    def whole_graph(self, ef: int | None) -> bool:
        """Whether the beam holds every slot: then a walk on floats misses only what no path leads to."""
        return not self.coded and self.share in (None, 0.0) and (ef or EF_DEFAULT) >= self.real.info().slots

    @rule(ids=st.lists(IDS, max_size=8))
    def get(self, ids: list[PointId]) -> None:
        points = self.real.get(ids, with_vectors=True)
        assert [p.id for p in points] == [i for i in ids if i in self.model.points]
        for point in points:
            vector, payload = self.model.points[point.id]
            np.testing.assert_array_equal(point.vector, vector)
            assert point.payload == payload

    @rule(limit=st.integers(1, 20))
    def scroll_all(self, limit: int) -> None:
        seen: list[PointId] = []
        offset = None
        while True:
            page, offset = self.real.scroll(limit=limit * 20, offset=offset)
            seen += [p.id for p in page]
            if offset is None:
                break
        assert seen == sorted(self.model.points, key=lambda i: (isinstance(i, str), i))

    @rule()
    def flush(self) -> None:
        assert self.real.flush(LONG)

    @rule()
    def compact(self) -> None:
        self.real.compact()
        assert self.real.info().slots == len(self.model.points)

    @rule()
    def backup(self) -> None:
        archive, folder = self.folder / "b.tar", self.folder / "restored"
        self.database.backup(archive)
        with Database(folder) as restored:
            assert restored.restore(archive) == ["c"]
            collection = restored.collection("c")
            points, _ = collection.scroll(limit=10_000, with_vectors=True)
            assert {p.id: p.payload for p in points} == {i: kept[1] for i, kept in self.model.points.items()}
            for p in points:
                np.testing.assert_array_equal(p.vector, self.model.points[p.id][0])
            assert collection.flush(LONG)
            assert collection.verify().problems == ()
        archive.unlink()
        shutil.rmtree(folder)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database(self.folder / "db")

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "model"):
            assert self.real.count() == len(self.model.points)

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self.settle()
        finally:
            if hasattr(self, "database"):
                self.database.close()
            self.scope.close()

    def settle(self) -> None:
        """After every sequence: the graph reaches all, files are whole, and walks are right."""
        assert self.real.flush(LONG)
        assert self.real.verify().problems == ()
        for ef, n in ((None, None), (EF_MAX, None), (None, 3)):
            self.compare(30, n, ef=ef)


def _run(examples: int, steps: int) -> None:
    told = CollectionModel.walks
    told.clear()
    run_machine(CollectionModel, examples, steps)
    print(told)
    assert told["sweep floats"] > examples // 4
    assert told["sweep coded"] > examples // 100  # one example in eight has codes, by chance
    assert told["found"] >= RECALL * told["wanted"], told


def test_collection_agrees_with_a_dict() -> None:
    _run(200, 12)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_collection_agrees_with_a_dict_for_long() -> None:
    _run(5000, 50)
