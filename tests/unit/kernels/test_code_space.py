"""Rows into the frame and the code space, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.codecs import basis, cells, frame, lines
from vicinal.kernels import code_space
from vicinal.types import Metric, Rows


def rows_of(metric, n=700, dim=70, *, whole=False):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((n, dim)).astype(np.float32) * 3 + 2
    if whole:
        vectors = np.clip(np.rint(vectors * 20 + 100), 0, 255)
    norms = (1 / np.linalg.norm(vectors, axis=1)).astype(np.float32)
    return Rows(vectors, norms if metric is Metric.COSINE else np.empty(0, np.float32))


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT, Metric.COSINE])
@pytest.mark.parametrize("kind", ["float32", "float16", "apart"])
def test_framed_rows_and_squares_are_those_of_the_frame(metric, kind):
    rows = rows_of(metric)
    if kind == "float16":
        rows = rows._replace(vectors=rows.vectors.astype(np.float16))
    elif kind == "apart":
        rows = rows._replace(vectors=np.repeat(rows.vectors, 2, axis=1)[:, :70])
    fitted = frame.fit_frame(metric, rows, 700, seed=1)
    out, squares = np.empty((90, 70), np.float32), np.empty(90, np.float32)
    fitted.into(rows, slice(5, 95), out, squares)
    expected = fitted.rows(rows, slice(5, 95))
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(squares, (expected**2).sum(1) * fitted.squared, rtol=1e-5)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT, Metric.COSINE])
def test_the_nearest_rows_are_those_of_a_sort(metric):
    rows = rows_of(metric, 2_500)
    rows.vectors[2_000:2_010] = rows.vectors[:10]  # copies, of which the first come first
    fitted = frame.fit_frame(metric, rows, 2_500, seed=1)
    slots, allowed = np.array([3, 700, 1_500, 2_499]), np.arange(2_500) % 3 != 1
    x = fitted.rows(rows, slice(0, 2_500)).astype(np.float64)
    asked = x[slots] if metric is not Metric.DOT else rows.vectors[slots] * fitted.scale
    scores = -2 * asked @ x.T + (x * x).sum(1) * fitted.squared
    scores[np.arange(4), slots] = np.inf
    for mask in (None, allowed):
        found = frame.nearest_rows(fitted, rows, 2_500, slots, 7, mask)
        open_to = np.where(True if mask is None else mask, scores, np.inf)
        reached = np.take_along_axis(open_to, found, 1)
        np.testing.assert_allclose(reached, np.sort(open_to, axis=1)[:, :7], rtol=1e-4, atol=1e-4)
        assert all(len(set(names)) == 7 for names in found.tolist())
    assert frame.nearest_rows(fitted, rows, 2_500, slots[:1], 7)[0, 0] == (
        2_003 if metric is not Metric.DOT else found[0, 0]
    )
    listed = np.arange(0, 2_500, 5)
    nearest = frame.nearest_listed(fitted, rows, listed, slots)
    np.testing.assert_allclose(scores[np.arange(4), nearest], scores[:, listed].min(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_rows_go_to_the_nearest_cell_or_one_hardly_farther(whole, n):
    rows = rows_of(Metric.L2, whole=whole)
    fitted = frame.fit_frame(Metric.L2, rows, 700, seed=1)
    assert fitted.whole == whole
    x = fitted.rows(rows, slice(0, 700))
    made = cells.fit_cells(x, fitted, 64, seed=3)
    distances = ((x[:n, None].astype(np.float64) - made.centres) ** 2).sum(2)
    chosen = distances[np.arange(n), cells.nearest_by_bytes(fitted, made, x[:n])]
    assert (chosen <= distances.min(1) * 1.02).all()
    assert (chosen == distances.min(1)).mean() > 0.9


@pytest.mark.parametrize("squared", [True, False])
def test_residuals_are_about_centres_and_keep_what_is_small(squared):
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((4, 50)).astype(np.float32) * 100
    nearest = np.arange(40) % 4
    away = rng.standard_normal((40, 50)) * 0.01
    rows = (centres[nearest] + away).astype(np.float32)
    out, constants = np.full((40, 64), 7, np.float32), np.empty(40, np.float32)
    code_space.residual_rows(rows, centres, nearest, squared, out, constants)
    exact = rows.astype(np.float64) - centres[nearest]
    np.testing.assert_allclose(out[:, :50], exact, atol=1e-9)
    assert not out[:, 50:].any()
    expected = (exact**2).sum(1) if squared else -2 * (exact * centres[nearest]).sum(1)
    np.testing.assert_allclose(constants, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 6, 25, 61])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_rows_are_projected_as_queries_are(n, scale):
    rng = np.random.default_rng(n)
    matrix = np.linalg.qr(rng.standard_normal((200, 128)))[0]
    fitted = frame.fit_frame(
        Metric.L2, Rows(rng.standard_normal((50, 200)).astype(np.float32), np.empty(0, np.float32)), 50, seed=1
    )
    query = lines.QueryArrays(384, *basis.byte_projection(matrix, fitted))
    rows = (rng.standard_normal((n, 200)) * scale).astype(np.float32)
    found = query.project(rows, query.lanes())
    step = np.abs(rows).max(1, keepdims=True) / 127
    true = np.rint(rows / step) * step @ basis.in_bytes(matrix)
    np.testing.assert_allclose(found[:, :128], true, atol=2e-5 * scale * np.sqrt(200), rtol=1e-4)
    assert np.abs(found[:, :128] - rows @ matrix).max() < 0.1 * scale
    assert not found[:, 128:].any()


def test_sums_and_counts_by_cell():
    rng = np.random.default_rng(2)
    rows, of = rng.standard_normal((90, 20)).astype(np.float32), rng.integers(0, 5, 90)
    sums, counts = np.zeros((6, 20), np.float32), np.zeros(6, np.int64)
    code_space.sum_by_cell(rows, of, sums, counts)
    np.testing.assert_array_equal(counts, np.bincount(of, minlength=6))
    np.testing.assert_allclose(sums[:5], [rows[of == cell].sum(0) for cell in range(5)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -np.inf, 1e30])
def test_one_number_that_is_not_whole_is_seen_wherever_it_is(bad):
    rows, range_ = np.full((50, 101), 3, np.float32), np.array([np.inf, -np.inf], np.float32)
    assert code_space.whole_range(rows, range_)
    assert range_.tolist() == [3, 3]
    rows[10, 4], rows[49, 100] = -7, 250
    assert code_space.whole_range(rows, range_)
    assert range_.tolist() == [-7, 250]
    for place in ((0, 0), (20, 50), (49, 100), (49, 99)):
        kept, rows[place] = rows[place], bad
        whole = code_space.whole_range(rows, range_)
        assert not whole or max(abs(range_)) > 1 << 22
        rows[place] = kept
        range_[:] = np.inf, -np.inf
