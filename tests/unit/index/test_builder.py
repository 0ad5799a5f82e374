"""Whole builds: shape, reachability, same bytes on any number of threads, quality, hard data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.build_oracle import check_shape, recall
from tests.support.vectors_oracle import METRICS

from vicinal.errors import InvalidArgument
from vicinal.index.builder import build_links
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels.simd import SENTINEL
from vicinal.types import Metric, Rows

NONE = np.zeros(0, np.float32)


def build(vectors, metric=Metric.L2, **options):
    vectors = np.ascontiguousarray(vectors, np.float32)
    graph = build_links(Rows(vectors, NONE), len(vectors), metric, **options)
    assert graph is not None
    return graph


def clouds(n, dim, centres, seed, spread=0.3):
    draw = np.random.default_rng(seed)
    middle = draw.standard_normal((centres, dim))
    return (middle[draw.integers(0, centres, n)] + spread * draw.standard_normal((n, dim))).astype(np.float32)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 33, 100, 1000])
@pytest.mark.parametrize("metric", METRICS)
def test_small_sets(n, metric):
    vectors = np.random.default_rng(n).standard_normal((n, 7)).astype(np.float32)
    graph = build(vectors, metric)
    check_shape(graph, n)
    if metric is Metric.L2 and n:
        assert recall(graph.links, graph.entry, vectors, vectors[:20], min(n, 5), 32) == 1


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 65, 300])
def test_any_dimension(dim):
    vectors = np.random.default_rng(dim).standard_normal((500, dim)).astype(np.float32)
    graph = build(vectors)
    check_shape(graph, 500)
    assert recall(graph.links, graph.entry, vectors, vectors[:50], 3, 48) > 0.97


@pytest.mark.parametrize("copies", [[500], [1, 499], [250, 250], [3] * 160])
def test_equal_rows(copies):
    draw = np.random.default_rng(4)
    vectors = np.repeat(draw.standard_normal((len(copies), 8)), copies, 0)
    vectors = draw.permutation(vectors).astype(np.float32)
    graph = build(vectors)
    check_shape(graph, len(vectors))
    assert recall(graph.links, graph.entry, vectors, vectors[:20], 5, 40) == 1


def test_rows_that_are_parallel_are_equal_under_cosine_and_zero_is_no_accident():
    vectors = np.outer(np.arange(50), np.ones(9))  # the first is zero: refused above this layer, harmless here
    check_shape(build(vectors, Metric.COSINE), 50)


def test_one_row_far_out_costs_the_others_no_resolution():
    vectors = clouds(3000, 16, 30, 6)
    vectors[1234] *= 1e7
    graph = build(vectors)
    check_shape(graph, 3000)
    assert len(graph.order) > 2990  # distinct codes
    some = np.delete(vectors, 1234, 0)[:50]
    assert recall(graph.links, graph.entry, vectors, some, 5, 48) > 0.97


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e36])
@pytest.mark.parametrize("metric", METRICS)
def test_extreme_magnitudes(scale, metric):
    graph = build(clouds(300, 10, 5, 8) * np.float32(scale), metric)
    check_shape(graph, 300)
    assert len(graph.order) > 290


@pytest.fixture(scope="module")
def many():
    """More rows than are all compared: cells, pilot, refinement and bridges; a thousand copies among them."""
    vectors = clouds(14000, 24, 300, 7)
    vectors[3000:4000] = vectors[1]
    return vectors, build(vectors, threads=1)


@pytest.mark.parametrize("threads", [2, 3])
def test_same_bytes_on_any_number_of_threads(many, threads):
    vectors, graph = many
    assert same(graph, build(vectors, threads=threads))


def test_another_seed_gives_another_graph_of_the_same_quality(many):
    vectors, graph = many
    other = build(vectors, seed=7, threads=2)
    assert not same(graph, other)
    check_shape(other, len(vectors))


def test_neighbours_are_found_in_a_large_set(many):
    vectors, graph = many
    check_shape(graph, len(vectors))
    queries = clouds(100, 24, 300, 7, 0.31)
    assert recall(graph.links, graph.entry, vectors, queries, 10, 64) > 0.97
    order = graph.order
    assert len(order) == 13000 and len(graph.cells) > 300
    inside = [
        vectors[order[a:b]].std(0).mean() for a, b in zip(graph.cells[:50], graph.cells[1:51], strict=True) if b > a
    ]
    assert np.mean(inside) < 0.5 * vectors.std(0).mean()  # cells hold near rows


def test_filled_rows_are_full_but_for_copies_and_their_owners(many):
    vectors, graph = many
    full = build(vectors, fill=True, threads=2)
    check_shape(full, len(vectors))
    single = np.setdiff1d(full.order, [1])
    assert (full.degree[single] == 32).mean() > 0.99 > (graph.degree[single] == 32).mean()


@pytest.mark.parametrize("many", [1 << 19, 1000])
def test_islands_are_joined(many, monkeypatch):
    """Forty islands of 250 rows: queries half-way between two need links that no nearest neighbour gives."""
    monkeypatch.setattr("vicinal.index.bulk_graph._MANY", many)  # above it, targets come in smaller lots
    draw = np.random.default_rng(11)
    middle = 4 * draw.standard_normal((40, 16))
    vectors = (np.repeat(middle, 250, 0) + draw.standard_normal((10000, 16)))[draw.permutation(10000)]
    vectors = vectors.astype(np.float32)
    graph = build(vectors, threads=2)
    check_shape(graph, 10000)
    a, b = draw.integers(0, 40, (2, 100))
    queries = ((middle[a] + middle[b]) / 2 + draw.standard_normal((100, 16))).astype(np.float32)
    assert recall(graph.links, graph.entry, vectors, queries, 10, 96) > 0.9


@pytest.mark.parametrize(("count", "spread"), [(60, 0.001), (500, 0.001), (500, 0.01), (9000, 1e-5)])
def test_groups_closer_than_the_codes_can_tell_are_resolved(count, spread):
    """Clusters a thousandth as wide as they are apart: the common codes make each of them a few points."""
    draw = np.random.default_rng(17)
    middle = 4 * draw.standard_normal((9000 // count, 24))
    labels = draw.permutation(np.repeat(np.arange(len(middle)), count))
    vectors = (middle[labels] + 4 * spread * draw.standard_normal((len(labels), 24))).astype(np.float32)
    graph = build(vectors, threads=2)
    check_shape(graph, len(vectors))
    queries = middle[draw.integers(0, len(middle), 60)] + 4 * spread * draw.standard_normal((60, 24))
    found = recall(graph.links, graph.entry, vectors.astype(np.float64), queries, 10, 96)
    assert found > 0.93
    assert same(graph, build(vectors, threads=1))


def test_inner_products_are_found_where_vectors_are_long_and_where_they_are_short():
    """Links by distance alone do not suffice here."""
    draw = np.random.default_rng(16)
    vectors = clouds(9000, 32, 3000, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    side = vectors @ vectors[3]
    vectors *= np.exp(1.5 * side + 0.2 * draw.standard_normal(9000)).astype(np.float32)[:, None]
    queries = clouds(100, 32, 3000, 16, 0.35)
    graph = build(vectors, Metric.DOT, threads=2)
    check_shape(graph, 9000)
    found = recall(graph.links, graph.entry, vectors, queries, 10, 96, Metric.DOT)
    by_distance = build(vectors, Metric.L2, threads=2)
    assert found > 0.97 > recall(by_distance.links, by_distance.entry, vectors, queries, 10, 96, Metric.DOT)


def test_many_copies_leave_the_rest_searchable():
    vectors = clouds(30000, 16, 500, 12)
    vectors[np.random.default_rng(13).permutation(30000)[:20000]] = vectors[7]
    graph = build(vectors, threads=2)
    check_shape(graph, 30000)
    assert recall(graph.links, graph.entry, vectors, clouds(60, 16, 500, 12, 0.31), 10, 96) > 0.95


def test_only_the_listed_slots_are_linked():
    vectors = clouds(2000, 12, 20, 14)
    vectors[500:520] = vectors[499]
    slots = np.flatnonzero(np.arange(2000) % 3)
    graph = build(vectors, slots=slots)
    check_shape(graph, 2000, slots)
    assert (graph.links[::3] == SENTINEL).all() and (graph.upper_row[::3] == -1).all()
    check_shape(build(vectors, slots=np.zeros(0, np.int64)), 2000, np.zeros(0, np.int64))


def test_rows_behind_n_are_not_read():
    vectors = clouds(700, 12, 20, 15)
    spare = np.full((900, 12), np.nan, np.float32)
    spare[:700] = vectors
    got = build_links(Rows(spare, NONE), 700, Metric.L2)
    assert got is not None and same(got, build(vectors))


def test_progress_ends_at_one_and_never_falls(many):
    seen: list[float] = []
    build(many[0][:9000], progress=seen.append)
    assert seen[-1] == 1 and seen == sorted(seen) and len(seen) > 3


@pytest.mark.parametrize("after", [0, 5, 40])
def test_cancelling_ends_the_build_at_once(many, after):
    asked = 0

    def cancel():
        nonlocal asked
        asked += 1
        return asked > after

    got = build_links(Rows(many[0], NONE), 14000, Metric.L2, threads=2, cancel=cancel)
    assert got is None and asked == after + 1


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("degree", {"degree": 16}),
        ("threads", {"threads": 0}),
        ("n", {"n": 51}),
        ("n", {"n": -1}),
        ("slots", {"slots": np.array([3, 2])}),
        ("slots", {"slots": np.array([2, 2])}),
        ("slots", {"slots": np.array([-1])}),
        ("slots", {"slots": np.array([50])}),
    ],
)
def test_bad_arguments_are_refused(field, options):
    options = {"n": 50} | options
    with pytest.raises(InvalidArgument) as caught:
        build_links(Rows(np.zeros((50, 4), np.float32), NONE), options.pop("n"), Metric.L2, **options)
    assert caught.value.field == field


def test_pieces_raise_what_a_piece_raised():
    def fail(start, _stop):
        if start == 6:
            raise ZeroDivisionError

    with Pieces(2) as pieces, pytest.raises(ZeroDivisionError):
        pieces.run(20, 2, fail)


_PRINT = """
import hashlib, numpy as np
from vicinal.index.builder import build_links
from vicinal.types import Metric, Rows
draw = np.random.default_rng(3)
x = (draw.integers(-9, 9, (60, 20))[draw.integers(0, 60, 9000)] + draw.integers(-3, 4, (9000, 20))).astype(np.float32)
print(hashlib.sha256(build_links(Rows(x, np.zeros(0, np.float32)), 9000, Metric.L2).links.tobytes()).hexdigest())
"""


@pytest.mark.full
@pytest.mark.parametrize("name", ["haswell", "x86-64"])
def test_other_processors_build_the_same_graph(name, tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("the bodies differ on x86-64 only")
    root = Path(__file__).resolve().parents[3]
    other = os.environ | {"NUMBA_CPU_NAME": name, "VICINAL_CACHE_DIR": str(tmp_path)}
    prints = [
        subprocess.run([sys.executable, "-c", _PRINT], env=env, cwd=root, capture_output=True, check=True).stdout
        for env in (os.environ, other)
    ]
    assert prints[0] == prints[1] and len(prints[0]) > 60
