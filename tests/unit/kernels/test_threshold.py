"""Selection by thresholds against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.kernels import njit, threshold
from vicinal.kernels.gemm import LOW
from vicinal.kernels.threshold import SLACK, rank_sort, shrink


@njit(cache=False)
def call(scores, ids, registers, least, out_scores, out_ids, count):
    kept = threshold.keep_above(scores, 0, ids, 0, registers, least, out_scores, out_ids, 0, count)
    return kept, threshold.count_above(scores, registers, least), threshold.span(scores, 0, registers)


@njit(cache=False)
def bits(scores, first, least):
    return threshold.above64(scores, first, least)


@pytest.mark.parametrize("least", [-100, -5, 0, 50, 98, 99])
def test_keeping_counting_and_bits_agree_with_numpy(least):
    draw = np.random.default_rng(3)
    scores = draw.integers(-99, 99, 80).astype(np.int32)
    ids = draw.integers(0, 1 << 31, 80).astype(np.int32)
    out, out_ids = np.zeros(120, np.int32), np.zeros(120, np.int32)
    kept, count, ends = call(scores, ids, 5, np.int32(least), out, out_ids, 7)
    above = scores > least
    assert kept == 7 + above.sum() and count == above.sum() and ends == (scores.min(), scores.max())
    assert (out[7:kept] == scores[above]).all() and (out_ids[7:kept] == ids[above]).all()
    want = sum(1 << i for i in range(64) if scores[16 + i] > least)
    assert bits(scores, 16, np.int32(least)) == want


@pytest.mark.parametrize("spread", [1, 2, 5, 40, 1 << 28])
@pytest.mark.parametrize("n", [65, 80, 97, 224, 300])
def test_shrink_keeps_the_best_and_of_equals_the_first(spread, n):
    draw = np.random.default_rng(n + spread)
    scores = np.full(320, 12345, np.int32)  # what lies behind is not looked at
    scores[:n] = draw.integers(-spread, spread, n)
    ids = np.arange(320, dtype=np.int32)
    before = scores[:n].copy()
    count, least = shrink(scores, ids, n, 64)
    order = np.lexsort((np.arange(n), -before))
    assert 64 <= count <= 64 + SLACK
    assert set(order[:64]) <= set(ids[:count].tolist()) <= set(order[:count].tolist())
    assert (scores[:count] == before[ids[:count]]).all() and (np.diff(ids[:count]) > 0).all()
    dropped = np.setdiff1d(np.arange(n), ids[:count])
    assert (before[dropped] <= least).all()  # whoever ties with the dropped comes later and loses too


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100])
def test_rank_sort_is_a_stable_descending_sort(n):
    draw = np.random.default_rng(n)
    scores = np.zeros(128, np.int32)
    scores[:n] = draw.integers(-5, 5, n)
    before = scores[:n].copy()
    ids = np.arange(128, dtype=np.int32)
    out, out_ids = np.full(128, LOW, np.int32), np.zeros(128, np.int32)
    rank_sort(scores, ids, n, out, out_ids)
    order = np.lexsort((np.arange(n), -before))
    assert (out_ids[:n] == order).all() and (out[:n] == before[order]).all()
