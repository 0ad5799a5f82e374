"""Centroid numbers of tokens, and approximate MaxSim over them, against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import make_points, maxsim, split, unit_rows

from vicinal.multivector.centroids import CENTROIDS_MIN, CentroidIndex, CentroidPicture
from vicinal.multivector.search import exact_maxsim, rerank
from vicinal.multivector.tokens import quantise_tokens
from vicinal.types import TokenRows


def _families(seed: int, counts: Any, dim: int = 32, store: str = "int8") -> TokenRows:
    """Points whose tokens lie near some directions, as real tokens do."""
    rng = np.random.default_rng(seed)
    noise, ends = make_points(rng, np.asarray(counts), dim)
    tokens = unit_rows(rng, 100, dim)[rng.integers(0, 100, len(noise))] + 0.4 * noise
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    if store == "float32":
        return TokenRows(tokens, ends, np.ones(len(ends), np.float32))
    codes, scales = quantise_tokens(tokens, ends)
    return TokenRows(codes, ends, scales)


def _built(rows: TokenRows) -> CentroidPicture:
    index = CentroidIndex(rows.tokens.shape[1])
    index.extend(rows, len(rows.ends))
    picture = index.picture()
    assert picture is not None
    return picture


def _vectors(picture: CentroidPicture) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = picture.centroids.codes * picture.centroids.factors[:, None]
    return vectors


def _numbers(picture: CentroidPicture, slot: int) -> NDArray[np.uint16]:
    return picture.codes[picture.ends[slot - 1] if slot else 0 : picture.ends[slot]]


@pytest.mark.parametrize("dim", [4, 7, 32, 130])
@pytest.mark.parametrize("store", ["int8", "float32"])
def test_each_token_has_its_nearest_centroid(store: str, dim: int) -> None:
    rows = _families(1, np.random.default_rng(1).integers(0, 12, 60), dim, store)
    picture = _built(rows)
    directions = _vectors(picture).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for slot, tokens in enumerate(split(rows.tokens, rows.ends)):
        unit = tokens.astype(np.float64) / np.linalg.norm(tokens.astype(np.float64), axis=1, keepdims=True)
        found = _numbers(picture, slot)
        assert np.array_equal(found, np.unique(found))  # ascending, each once
        assert len(found) <= len(tokens)
        if len(tokens):  # the nearest up to the rounding of directions to int8
            products = unit @ directions.T
            assert np.all(products[:, found].max(axis=1) >= products.max(axis=1) - 0.02)


def test_approximate_scores_put_centroids_in_the_place_of_tokens() -> None:
    rows = _families(2, np.random.default_rng(2).integers(0, 30, 80))
    picture = _built(rows)
    for m in (1, 16, 17, 32, 33, 64, 100):
        query = unit_rows(np.random.default_rng(m), m, 32)
        slots, scores = picture.nearest(query, 80, range(80))
        expected = [maxsim(query, _vectors(picture)[_numbers(picture, s)]) for s in slots]
        assert np.all(np.diff(scores) <= 0)
        # a byte is worth about 1 / 255 of the span, and products far below the mean count as the lowest
        assert np.allclose(scores[: len(scores) // 2], expected[: len(scores) // 2], atol=0.02 * m)
        assert set(slots.tolist()) == {s for s in range(80) if len(_numbers(picture, s))}


def test_long_queries_are_scored_by_fewer_tokens() -> None:
    """Repeated directions become one token: the same sum of products, from a line half as wide."""
    rows = _families(12, np.random.default_rng(12).integers(1, 30, 80))
    picture = _built(rows)
    some = unit_rows(np.random.default_rng(13), 12, 32)
    query = np.concatenate([some, some, 2 * some])
    slots, scores = picture.nearest(query, 80, range(80))
    expected = [maxsim(query, _vectors(picture)[_numbers(picture, s)]) for s in slots]
    assert np.allclose(scores[:40], expected[:40], atol=0.02 * 4 * 12)
    alone, short = picture.nearest(4 * some, 80, range(80))
    assert slots.tolist() == alone.tolist()
    assert np.allclose(scores, short, rtol=1e-5)


def test_candidates_hold_the_exact_best() -> None:
    rows = _families(3, np.full(1_500, 12))
    picture = _built(rows)
    found = 0
    for seed in range(10):
        query = unit_rows(np.random.default_rng(seed), 8, 32)
        slots, _ = picture.nearest(query, 150, range(1_500))
        best = exact_maxsim(query, rows, 10, range(1_500))[0]
        found += len(set(rerank(query, rows, slots, 10)[0].tolist()) & set(best.tolist()))
    assert found >= 90


def test_only_the_given_slots_are_searched() -> None:
    rows = _families(4, np.full(200, 5))
    picture = _built(rows)
    query = unit_rows(np.random.default_rng(0), 4, 32)
    allowed = np.arange(3, 200, 7, dtype=np.uint32)
    everything, all_scores = picture.nearest(query, 200, range(200))
    slots, scores = picture.nearest(query, 200, allowed)
    assert sorted(slots.tolist()) == allowed.tolist()
    score_of = dict(zip(everything.tolist(), all_scores.tolist(), strict=True))
    assert scores.tolist() == [score_of[s] for s in slots.tolist()]
    assert len(picture.nearest(query, 5, np.empty(0, np.uint32))[0]) == 0
    with pytest.raises(AssertionError):
        picture.nearest(query, 5, np.array([200], np.uint32))


def test_of_equal_scores_the_first_are_chosen() -> None:
    one = unit_rows(np.random.default_rng(5), 6, 32)
    codes, scales = quantise_tokens(np.tile(one, (50, 1)), np.arange(1, 51) * 6)
    picture = _built(TokenRows(codes, np.arange(1, 51) * 6, scales))
    assert picture.nearest(one[:3], 9, range(50))[0].tolist() == list(range(9))


def test_growth_leaves_pictures_and_gives_the_same_numbers() -> None:
    rows = _families(6, np.random.default_rng(6).integers(0, 9, 700))
    index = CentroidIndex(32)
    index.extend(rows, 400)
    early = index.picture()
    assert early is not None
    kept = [_numbers(early, s).copy() for s in range(early.n)]
    index.extend(rows, 700)  # less than four times the tokens: the same centroids
    late = index.picture()
    assert late is not None
    assert (early.n, late.n, index.n) == (400, 700, 700)
    assert late.centroids is early.centroids
    for slot in range(400):
        assert np.array_equal(_numbers(early, slot), kept[slot])
        assert np.array_equal(_numbers(late, slot), kept[slot])


def test_fourfold_growth_draws_centroids_again() -> None:
    rows = _families(7, np.full(500, 8))
    index = CentroidIndex(32)
    index.extend(rows, 50)
    early = index.picture()
    index.extend(rows, 500)
    late = index.picture()
    assert early is not None
    assert late is not None
    assert len(early.centroids.codes) < len(late.centroids.codes)
    assert index.fitted_tokens == 4_000
    fresh = _built(rows)
    assert fresh.codes[: fresh.ends[499]].tobytes() == late.codes[: late.ends[499]].tobytes()
    assert fresh.centroids.codes.tobytes() == late.centroids.codes.tobytes()
    assert fresh.centroids.factors.tobytes() == late.centroids.factors.tobytes()


def test_cancelling_keeps_what_is_done() -> None:
    rows = _families(8, np.full(1_100, 3))
    index = CentroidIndex(32)
    index.extend(rows, 1_100, cancel=lambda: True)
    assert index.n == 0
    index.extend(rows, 300)
    turns = iter([False, True])
    index.extend(rows, 1_000, cancel=lambda: next(turns))
    assert index.n == 556
    index.extend(rows, 1_000)
    assert index.n == 1_000


def test_few_or_no_tokens() -> None:
    index = CentroidIndex(8)
    empty = TokenRows(np.empty((0, 8), np.int8), np.zeros(3, np.int64), np.ones(3, np.float32))
    index.extend(empty, 3)
    nothing = index.picture()
    assert nothing is not None
    assert len(nothing.nearest(np.ones((1, 8), np.float32), 10, range(3))[0]) == 0
    one = TokenRows(np.full((1, 8), 5, np.int8), np.array([0, 1, 1]), np.ones(3, np.float32))
    picture = _built(one)
    assert len(picture.centroids.codes) == CENTROIDS_MIN
    slots, scores = picture.nearest(np.ones((1, 8), np.float32), 10, range(3))
    assert slots.tolist() == [1]
    assert scores[0] == pytest.approx(40, rel=0.01)  # lengths other than one are kept


def test_zero_tokens_are_numbered() -> None:
    rows = TokenRows(np.zeros((9, 8), np.int8), np.arange(1, 10), np.ones(9, np.float32))
    picture = _built(rows)
    slots, scores = picture.nearest(np.ones((2, 8), np.float32), 9, range(9))
    assert slots.tolist() == list(range(9))
    assert np.allclose(scores, 0, atol=1e-5)
