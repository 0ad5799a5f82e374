"""Random inserts, deaths and queries over rows that share nodes must give what a scan gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.support.machines import run_machine
from tests.support.vectors_oracle import METRICS, rows_of

from vicinal.bits import bits_from_mask
from vicinal.index.exact import exact_search
from vicinal.index.field_index import FieldIndex
from vicinal.index.shared import SharedIndex
from vicinal.types import HnswParams, Metric, Rows

DIM = 8


class SharedModel(RuleBasedStateMachine):
    """insert new rows, copies and near-copies; kill; index; retire; save and load; search."""

    @initialize(metric=st.sampled_from(METRICS), share=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 2**32 - 1))
    def begin(self, metric: Metric, share: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.metric, self.share = metric, share
        self.vectors = self.rng.standard_normal((3, DIM)).astype(np.float32)
        self.dead = np.zeros(3, np.bool_)
        self.index = self.fresh()
        self.retired = self.dead

    def fresh(self) -> SharedIndex:
        index = FieldIndex(self.metric, DIM, HnswParams(M=8, ef_construction=40))
        return SharedIndex(index, self.metric, DIM, np.dtype(np.float32), self.share)

    @property
    def rows(self) -> Rows:
        return rows_of(self.metric, self.vectors)

    @rule(count=st.integers(1, 60), noise=st.sampled_from([0.0, 0.02, 1.0]))
    def insert(self, count: int, noise: float) -> None:
        known = self.vectors[self.rng.integers(0, len(self.vectors), count)]
        more = known + noise * self.rng.standard_normal(known.shape) / np.sqrt(DIM)
        self.vectors = np.concatenate([self.vectors, more.astype(np.float32)])
        self.dead = np.append(self.dead, np.zeros(count, np.bool_))

    @rule(part=st.sampled_from([0.05, 0.5, 1.0]))
    def kill(self, part: float) -> None:
        self.dead = self.dead | (self.rng.random(len(self.dead)) < part)

    @rule()
    def kill_leaders(self) -> None:
        self.dead = self.dead.copy()
        self.dead[self.index._groups.leaders] = True

    @rule(part=st.floats(0, 1))
    def extend(self, part: float) -> None:
        stop = self.index.n + int(part * (len(self.vectors) - self.index.n))
        self.index.extend(self.rows, stop, lambda: False, self.dead)
        self.retired = self.dead

    @rule()
    def retire(self) -> None:
        while self.index.retire(self.rows, self.dead, lambda: False):
            pass
        self.retired = self.dead

    @rule()
    def reload(self) -> None:
        if self.index.n:
            saved = b"".join(self.index.chunks())
            self.index = self.fresh()
            self.index.decode(saved, self.rows, len(self.vectors))

    @rule(k=st.integers(1, 30), part=st.sampled_from([0.1, 0.5, 1.0]), cut=st.floats(0.2, 1))
    def search(self, k: int, part: float, cut: float) -> None:
        searcher = self.index.searcher()
        if searcher is None:
            return
        limit = max(int(searcher.n * cut), 1)
        mask = (self.rng.random(len(self.vectors)) < part) & ~self.dead
        allowed = bits_from_mask(mask)
        query = self.rng.standard_normal(DIM).astype(np.float32)
        rows = self.rows
        found, distances = searcher.search(query, k, 4096, rows=rows, limit=limit, allowed=allowed)
        true, best = exact_search(self.metric, rows, query, k, start=0, stop=limit, allowed=allowed)
        assert len(np.unique(found)) == len(found) == len(true)
        assert mask[found].all()
        own: dict[Any, Any] = dict(
            zip(*exact_search(self.metric, rows, query, limit, start=0, stop=limit), strict=True)
        )
        assert [own[slot] for slot in found] == distances.tolist()
        if self.share == 0 or searcher.candidates(k) >= searcher.groups.total:
            np.testing.assert_array_equal(distances, best)

    def teardown(self) -> None:
        if hasattr(self, "index") and self.index.n:
            assert self.index.problems() == []


def test_shared_rows_agree_with_a_scan() -> None:
    run_machine(SharedModel, 60, 30)


@pytest.mark.full
def test_shared_rows_agree_with_a_scan_for_long() -> None:
    run_machine(SharedModel, 2000, 50)
