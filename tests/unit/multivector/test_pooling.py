"""Pooling of tokens: Ward's clusters as scipy finds them, the first token, lengths, windows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import make_points, split, unit_rows

from vicinal.kernels.pooling import ward_labels
from vicinal.multivector.pooling import WINDOW, pool_tokens


def _labels(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    wide = rows.astype(np.float64)
    labels: NDArray[np.int64] = ward_labels(((wide[:, None] - wide) ** 2).sum(axis=2), count)
    return labels


def _error(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Sum of squares about the means."""
    return float(sum(((rows[labels == c] - rows[labels == c].mean(axis=0)) ** 2).sum() for c in set(labels.tolist())))


@pytest.mark.parametrize("n", [1, 2, 3, 17, 90])
def test_clusters_are_those_of_scipy(n: int) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    rows = unit_rows(np.random.default_rng(n), n, 12)
    for count in {1, 2, n // 3, n // 2, n - 1, n} - {0}:
        if count > n:
            continue
        ours = _labels(rows, count)
        theirs = hierarchy.fcluster(hierarchy.linkage(rows, "ward"), count, "maxclust") if n > 1 else np.ones(1, int)
        assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == len(set(theirs.tolist())) == count
        assert ours[np.sort(np.unique(ours, return_index=True)[1])].tolist() == list(range(count))  # by first rows


def test_each_merge_adds_least() -> None:
    """Without scipy: of all pairs of clusters the one merged adds least to the sum of squares."""
    rows = unit_rows(np.random.default_rng(1), 14, 5)
    for count in range(13, 0, -1):
        before, after = _labels(rows, count + 1), _labels(rows, count)
        tried = [
            _error(rows, np.where(before == b, a, before)) for a in range(count + 1) for b in range(a + 1, count + 1)
        ]
        assert _error(rows, after) == pytest.approx(min(tried), rel=1e-6)


def test_pooled_tokens_are_means_of_their_length_and_the_first_stays() -> None:
    rng = np.random.default_rng(2)
    directions = unit_rows(rng, 5, 32)
    tokens = np.repeat(directions, 4, axis=0) + 0.02 * rng.standard_normal((20, 32)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    first = unit_rows(rng, 1, 32)
    pooled, ends = pool_tokens(np.vstack([first, tokens]), np.array([21]), 4)
    assert ends.tolist() == [6]
    assert pooled.dtype == np.float32
    assert np.array_equal(pooled[0], first[0])
    assert np.allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)
    assert np.allclose(pooled[1:], directions, atol=0.05)
    twice, _ = pool_tokens(np.vstack([first, 3 * tokens]), np.array([21]), 4)
    assert np.allclose(twice[1:], 3 * pooled[1:], atol=1e-4)


def test_counts_of_pooled_points() -> None:
    tokens, ends = make_points(np.random.default_rng(3), np.array([1, 2, 3, 10, 41]), 8)
    pooled, stops = pool_tokens(tokens, ends, 3)
    assert np.diff(stops, prepend=0).tolist() == [1, 2, 2, 4, 14]
    for matrix, of in zip(split(pooled, stops), split(tokens, ends), strict=True):
        assert np.array_equal(matrix[0], of[0])
    assert pool_tokens(tokens, ends, 1)[0] is tokens
    assert pool_tokens(tokens[:0], ends[:0], 3)[0].shape == (0, 8)
    assert np.isfinite(pool_tokens(np.zeros((9, 4), np.float32), np.array([9]), 2)[0]).all()


def test_long_points_are_pooled_in_windows() -> None:
    tokens, ends = make_points(np.random.default_rng(4), np.array([1 + 2 * WINDOW + 10]), 4)
    pooled, stops = pool_tokens(tokens, ends, 8)
    assert stops.tolist() == [1 + 2 * (WINDOW // 8) + 1] == [len(pooled)]
    part, _ = pool_tokens(tokens[: 1 + WINDOW], np.array([1 + WINDOW]), 8)
    assert np.array_equal(pooled[: len(part)], part)
