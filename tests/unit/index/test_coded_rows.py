"""Bytes that stand for rows while a graph is built: the same order of distances, and rows they cannot tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support import codes_oracle as oracle
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.index.bulk_codes import coded_rows
from vicinal.index.coded import CodedIndex
from vicinal.types import Metric, Rows

N, DIM = 600, 24
VECTORS = clustered(N, DIM, 5)


@pytest.mark.parametrize(
    ("metric", "compared"), [(Metric.L2, Metric.L2), (Metric.COSINE, Metric.L2), (Metric.DOT, Metric.DOT)]
)
def test_near_stays_near(metric: Metric, compared: Metric) -> None:
    vectors = (VECTORS * np.linspace(0.5, 2, N)[:, None]).astype(np.float32)
    rows, by = coded_rows(rows_of(metric, vectors), N, metric)
    assert by is compared and rows.vectors.dtype == np.int8 and rows.vectors.shape == (N, 64)
    codes = rows.vectors.astype(np.float64)
    if metric is Metric.COSINE:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lists = []
    for some in (codes, vectors.astype(np.float64)):
        gram = some @ some.T
        squares = np.diag(gram)
        near = -gram if metric is Metric.DOT else squares[:, None] + squares - 2 * gram
        lists.append(np.argsort(near, 1)[:, :10])
    assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(*lists, strict=True)]) >= 8.5


def test_what_bytes_cannot_tell_apart_stays_as_it_is() -> None:
    tight = VECTORS.copy()
    tight[: N // 5] = tight[0] + 1e-5 * VECTORS[: N // 5]
    for rows, metric in (
        (rows_of(Metric.L2, tight), Metric.L2),
        (rows_of(Metric.L2, VECTORS), Metric.JACCARD),
        (rows_of(Metric.L2, VECTORS)._replace(vectors=VECTORS.astype(np.int8)), Metric.L2),
    ):
        assert coded_rows(rows, N, metric) == (rows, metric)
    rows = rows_of(Metric.L2, VECTORS[:0])
    assert coded_rows(rows, 0, Metric.L2)[0] is rows


def test_rows_so_far_that_rounding_might_show_are_settled_on_the_floats():
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((N + 20, 48)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # each nearly as far from the others as it is long
    rows = Rows(vectors[:N], np.zeros(0, np.float32))
    index = CodedIndex.build(rows, N, Metric.L2, oracle.make_links(rows, N, Metric.L2, 2), codec="signs")
    assert index.info["fine"]
    for query in vectors[N:]:
        slots, found = index.search(query, 10, 64, rows=rows)
        assert np.allclose(found, oracle.distances(Metric.L2, rows, query, N)[slots], rtol=5e-7)
