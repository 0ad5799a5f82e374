"""The segment tree: what its levels hold, and which edges a walk takes from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import Between, Keys
from vicinal.index.range_tree import RangeTree
from vicinal.types import Metric

N, DIM, SENTINEL = 1500, 12, 0xFFFFFFFF


def _built(n: int = N, **options: Any) -> tuple[RangeTree, np.ndarray]:
    vectors = clustered(N, DIM, seed=1)
    rows = rows_of(Metric.L2, vectors)
    keys = Keys(np.random.default_rng(3).permutation(N)[:n])
    return RangeTree.build(rows, n, Metric.L2, keys, **options), vectors


def test_every_segment_has_a_graph_inside_itself() -> None:
    graph, _ = _built(leaf=64)
    assert graph._links.shape == (4, N, 32)  # segments of 64, 256, 1024 and 4096 ranks
    for level, size in enumerate((64, 256, 1024, 4096)):
        for first in range(0, N, size):
            segment = graph._links[level, first : first + size].astype(np.int64)
            reached, new = {first}, [first]
            while new:
                new = [r for r in {*segment[np.array(new) - first].ravel().tolist()} - {SENTINEL} if r not in reached]
                reached |= set(new)
            assert reached == set(range(first, min(first + size, N)))


def test_threads_do_not_change_the_graphs() -> None:
    one, two = _built(leaf=256), _built(leaf=256, threads=2)
    assert (one[0]._links == two[0]._links).all()
    assert one[0].nbytes == one[0]._links.nbytes + N * 16


def test_small_ranges_are_scanned() -> None:
    graph, vectors = _built(leaf=128)
    assert graph.scan == 256
    for low in (0, 700, N - 200):
        found, _ = graph.search(vectors[3], Between(low, low + 199), 200, 200)
        assert len(found) == 200


@pytest.mark.parametrize("options", [{"leaf": 100}, {"leaf": 1}, {"branching": 3}, {"branching": 1}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        _built(**options)
