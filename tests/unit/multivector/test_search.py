"""Re-ranking and exact MaxSim against float64, ties, and points without tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.support.maxsim_oracle import make_points, maxsim, split, unit_rows
from tests.support.other_processor import run_again_on

from vicinal.multivector.coded_query import carve_query, code_query
from vicinal.multivector.search import (
    Sent,
    _code_scores,
    _float_scores,
    exact_maxsim,
    rerank,
    token_scores,
)
from vicinal.multivector.stores import encode_tokens, plain_tokens, raw_tokens
from vicinal.multivector.tokens import dequantise_tokens, quantise_tokens
from vicinal.types import Rerank, TokenRows

WAYS: tuple[Rerank, ...] = ("int8", "float32", "none")


def _stored(rng: np.random.Generator, counts: Any, dim: int, store: str) -> tuple[TokenRows, list[NDArray[np.float32]]]:
    """Rows of random points, and the values they stand for."""
    tokens, ends = make_points(rng, np.asarray(counts), dim)
    if store == "float32":
        return TokenRows(tokens, ends, np.ones(len(ends), np.float32)), split(tokens, ends)
    codes, scales = quantise_tokens(tokens, ends)
    return TokenRows(codes, ends, scales), split(dequantise_tokens(codes, ends, scales), ends)


def _expected(
    query: NDArray[np.float32], values: list[NDArray[np.float32]], slots: Iterable[int], k: int
) -> tuple[list[int], list[float]]:
    """Best slots and scores in float64, ties by slot."""
    scored = sorted((-maxsim(query, values[s]), s) for s in slots if len(values[s]))
    return [s for _, s in scored[:k]], [-x for x, _ in scored[:k]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(["int8", "float32"]),
    st.sampled_from([1, 3, 4, 7, 16, 50, 128, 130]),
    st.sampled_from([1, 2, 15, 16, 17, 32, 33, 70]),
    st.integers(1, 30),
)
def test_exact_scores_are_those_of_the_stored_tokens(seed: int, store: str, dim: int, m: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows, values = _stored(rng, rng.integers(0, 60, 20), dim, store)
    query = unit_rows(rng, m, dim)
    slots, scores, _ = exact_maxsim(query, rows, k, range(20))
    expected, best = _expected(query, values, range(20), k)
    assert slots.dtype == np.uint32
    assert scores.dtype == np.float32
    assert np.allclose(scores, best, rtol=1e-6, atol=1e-5)
    assert np.allclose([maxsim(query, values[s]) for s in slots], best, rtol=1e-6, atol=1e-5)
    assert len(set(slots.tolist())) == len(expected)


@pytest.mark.parametrize("store", ["int8", "float32"])
@pytest.mark.parametrize("way", ["int8", "float32"])
def test_rerank_finds_the_best_and_reports_exact_scores(store: str, way: Rerank) -> None:
    rng = np.random.default_rng(5)
    rows, values = _stored(rng, rng.integers(1, 90, 400), 128, store)
    query = unit_rows(rng, 32, 128)
    candidates = rng.permutation(400)[:250].astype(np.uint32)
    slots, scores, _ = rerank(query, rows, candidates, 10, way)
    expected, best = _expected(query, values, candidates.tolist(), 10)
    assert slots.tolist() == expected
    assert np.allclose(scores, best, atol=1e-5)


def test_settling_finds_what_codes_confuse() -> None:
    """Many points with near scores: rounding the query to codes swaps neighbours, float32 puts them right."""
    rng = np.random.default_rng(15)
    rows, values = _stored(rng, np.full(3_000, 4), 16, "int8")
    listed = np.arange(3_000, dtype=np.uint32)
    swapped = 0
    for _ in range(20):
        query = unit_rows(rng, 6, 16)
        expected = _expected(query, values, listed.tolist(), 100)[0]
        assert rerank(query, rows, listed, 100, "int8")[0].tolist() == expected
        swapped += set(rerank(query, rows, listed, 100, "none")[0].tolist()) != set(expected)
    assert swapped > 5


def test_rerank_without_settling_is_near() -> None:
    rng = np.random.default_rng(6)
    rows, values = _stored(rng, rng.integers(1, 90, 100), 64, "int8")
    query = unit_rows(rng, 20, 64)
    slots, scores, _ = rerank(query, rows, np.arange(100, dtype=np.uint32), 100, "none")
    exact = np.array([maxsim(query, values[s]) for s in slots])
    assert len(slots) == 100
    assert np.all(np.diff(scores) <= 0)
    assert 0 < np.abs(scores - exact).max() < 0.15


def test_all_candidates_come_back_when_k_is_larger() -> None:
    rng = np.random.default_rng(7)
    rows, _ = _stored(rng, [3, 0, 2, 1], 16, "int8")
    query = unit_rows(rng, 4, 16)
    for way in WAYS:
        slots = rerank(query, rows, np.array([3, 1, 0, 2], np.uint32), 50, way).slots
        assert sorted(slots.tolist()) == [0, 2, 3]  # slot 1 has no token
    assert len(exact_maxsim(query, rows, 50, range(4))[0]) == 3


def test_nothing_to_rank_gives_nothing() -> None:
    rng = np.random.default_rng(8)
    rows, _ = _stored(rng, [3, 0], 16, "int8")
    query = unit_rows(rng, 4, 16)
    none = np.empty(0, np.uint32)
    for found in (
        rerank(query, rows, none, 5),
        exact_maxsim(query, rows, 5, none),
        exact_maxsim(query, rows, 5, range(1, 2)),
    ):
        assert len(found[0]) == len(found[1]) == 0


def test_a_slot_beyond_the_points_is_refused() -> None:
    rows, _ = _stored(np.random.default_rng(9), [3, 2], 16, "int8")
    with pytest.raises(AssertionError):
        rerank(np.zeros((1, 16), np.float32), rows, np.array([2], np.uint32), 1)


@pytest.mark.parametrize("store", ["int8", "float32"])
def test_ties_go_to_the_smaller_slot(store: str) -> None:
    one = unit_rows(np.random.default_rng(10), 6, 32)
    counts = np.full(30, 6)
    tokens, ends = np.tile(one, (30, 1)), np.cumsum(counts)
    codes, scales = quantise_tokens(tokens, ends)
    stored = TokenRows(codes, ends, scales) if store == "int8" else TokenRows(tokens, ends, np.ones(30, np.float32))
    order = np.random.default_rng(0).permutation(30).astype(np.uint32)
    for way in WAYS:
        assert rerank(one[:3], stored, order, 7, way)[0].tolist() == list(range(7))
    assert exact_maxsim(one[:3], stored, 7, order)[0].tolist() == list(range(7))


def test_negative_products_are_kept() -> None:
    """A maximum starts from the lowest value, not from zero."""
    tokens = -np.eye(8, dtype=np.float32)[:3]
    query = np.ones((2, 8), np.float32)
    rows = TokenRows(tokens, np.array([3]), np.ones(1, np.float32))
    codes = TokenRows(*quantise_tokens(tokens, np.array([3]))[:1], rows.ends, quantise_tokens(tokens, rows.ends)[1])
    for stored in (rows, codes):
        assert exact_maxsim(query, stored, 1, range(1))[1].tolist() == pytest.approx([-2.0])
        assert rerank(query, stored, np.zeros(1, np.uint32), 1, "none")[1].tolist() == pytest.approx([-2.0])


def test_mapped_read_only_tokens_are_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    rows, _ = _stored(rng, [3, 4, 5], 16, "int8")
    query = unit_rows(rng, 4, 16)
    rows.tokens.tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", np.int8, "r", shape=rows.tokens.shape)
    found = rerank(query, TokenRows(mapped, rows.ends, rows.scales), np.arange(3, dtype=np.uint32), 3)
    again = rerank(query, rows, np.arange(3, dtype=np.uint32), 3)
    for ours, theirs in zip(found[:2], again[:2], strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("store", ["int8", "bit"])
def test_points_of_more_tokens_than_are_kept_at_once(store: str) -> None:
    """Products of a long point are taken again, part by part, for the pairs in doubt."""
    rng = np.random.default_rng(19)
    tokens, ends = make_points(rng, np.array([700, 3, 1_500, 171, 900]), 128)
    stored, scales = encode_tokens(store, tokens, ends)
    rows = TokenRows(stored, ends, scales)
    plain = plain_tokens(stored)
    values = split(dequantise_tokens(plain, ends, scales), ends)
    for m in (5, 40, 70):
        query = unit_rows(rng, m, 128)
        expected, best = _expected(query, values, range(5), 5)
        for found in (exact_maxsim(query, rows, 5, range(5)), rerank(query, rows, np.arange(5, dtype=np.uint32), 5)):
            assert found.slots.tolist() == expected
            assert np.allclose(found.scores, best, atol=1e-5)


def test_a_point_that_codes_put_behind_the_best_is_still_looked_at() -> None:
    """Codes drop the query's second number, to which the second point owes its place."""
    query = np.array([[1.0, 0.49 / 127, 0.0, 0.0]], np.float32)
    codes = np.array([[127, 0, 0, 0], [126, 127, 0, 0]], np.int8)
    rows = TokenRows(codes, np.array([1, 2]), np.array([126.3 / 127, 1.0], np.float32))
    assert exact_maxsim(query, rows, 1, range(2)).slots.tolist() == [1]
    assert rerank(query, rows, np.arange(2, dtype=np.uint32), 1, "none").slots.tolist() == [0]


def test_queries_of_any_size_are_settled() -> None:
    """What codes leave in doubt is measured in units of the query's own scale."""
    rng = np.random.default_rng(20)
    rows, values = _stored(rng, rng.integers(1, 40, 60), 32, "int8")
    query = unit_rows(rng, 9, 32)
    query[3] = 0  # a token of zeros
    expected, best = _expected(query, values, range(60), 10)
    for size in (1e-30, 1e-3, 1.0, 1e6, 1e30):
        found = exact_maxsim(query * np.float32(size), rows, 10, range(60))
        assert found.slots.tolist() == expected
        assert np.allclose(found.scores / size, best, rtol=1e-5)


def test_carving_by_cosines_takes_tokens_of_any_length() -> None:
    rng = np.random.default_rng(21)
    centres = unit_rows(rng, 4, 32)
    query = np.concatenate([3 * centres, 0.2 * centres, 7 * centres[:2]]).astype(np.float32)
    assert np.allclose(
        carve_query(query, 0.99, cosines=True), np.array([[10.2], [10.2], [3.2], [3.2]]) * centres, atol=1e-4
    )
    assert len(carve_query(query[4:8], 0.99)) == 4  # by products short tokens are never one


@pytest.mark.full
@pytest.mark.parametrize("name", ["haswell", "x86-64"])
def test_other_bodies_settle_and_choose_alike(name: str, tmp_path: Path) -> None:
    run_again_on(name, tmp_path, __file__, Path(__file__).with_name("test_centroids.py"), timeout=900)


def test_carving_merges_near_tokens_and_keeps_the_sum() -> None:
    rng = np.random.default_rng(12)
    centres = unit_rows(rng, 5, 64)
    query = np.repeat(centres, 4, axis=0) + rng.standard_normal((20, 64)).astype(np.float32) * 0.02
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    carved = carve_query(query, 0.7)
    assert carved.shape == (5, 64)
    assert np.allclose(carved.sum(axis=0), query.sum(axis=0), atol=1e-5)
    assert np.array_equal(carve_query(query, 1.1), query)
    rows, values = _stored(rng, rng.integers(1, 90, 200), 64, "int8")
    slots, scores, _ = rerank(query, rows, np.arange(200, dtype=np.uint32), 10, "int8", carve=0.7)
    assert len(set(slots.tolist()) & set(_expected(query, values, range(200), 10)[0])) >= 8
    assert np.allclose(scores, [maxsim(query, values[s]) for s in slots], atol=1e-5)


def test_token_scores_sum_to_the_score() -> None:
    rng = np.random.default_rng(13)
    rows, values = _stored(rng, [3, 4, 5], 16, "int8")
    query = unit_rows(rng, 4, 16)
    for slot in range(3):
        products = token_scores(query, rows, slot)
        assert products.shape == (4, 3 + slot)
        assert products.max(axis=1).sum() == pytest.approx(maxsim(query, values[slot]), abs=1e-5)


@pytest.mark.parametrize("store", ["int8", "bit"])
@pytest.mark.parametrize("near", [0.0, 0.02, 1.0])
def test_stopping_early_changes_nothing(store: str, near: float) -> None:
    """Points from equal to far apart: the same bytes as comparing all in float32, with fewer compared."""
    rng = np.random.default_rng(16)
    one = unit_rows(rng, 5, 128)
    tokens = np.concatenate([one + near * rng.standard_normal((5, 128)) / 11 for _ in range(2_000)]).astype(np.float32)
    tokens *= np.repeat(rng.uniform(0.97, 1.0, 2_000), 5)[:, None].astype(np.float32)
    ends = np.arange(1, 2_001, dtype=np.int64) * 5
    codes, scales = encode_tokens(store, tokens, ends)
    rows = TokenRows(codes, ends, scales)
    listed = rng.permutation(2_000).astype(np.uint32)
    raw = raw_tokens(rows)
    for m, k in ((1, 1), (5, 10), (40, 100)):
        query = unit_rows(rng, m, 128) + one[:1]
        all_of_them = _float_scores(query, raw, listed)
        best = np.lexsort((listed, -all_of_them))[:k]
        for found in (exact_maxsim(query, rows, k, listed), rerank(query, rows, listed, k)):
            assert found.slots.tolist() == listed[best].tolist()
            assert found.scores.tobytes() == all_of_them[best].tobytes()
            assert k <= found.settled <= 2_000
            if near == 1.0:
                assert found.settled < 1_000


def test_scores_by_codes_lie_within_the_bound() -> None:
    rng = np.random.default_rng(17)
    for dim in (4, 100, 128):
        rows, _ = _stored(rng, rng.integers(1, 9, 300), dim, "int8")
        rows = rows._replace(scales=rows.scales * rng.uniform(0.1, 30, 300).astype(np.float32))
        raw, listed = raw_tokens(rows), np.arange(300, dtype=np.uint32)
        for size in (1e-3, 1.0, 1e3):
            query = unit_rows(rng, 20, dim) * np.float32(size)
            coded = code_query(query)
            apart = np.abs(_code_scores(coded, raw, listed) - _float_scores(query, raw, listed))
            lengths = np.array([np.linalg.norm(v, axis=1).max() for v in _values_of(rows)])
            assert np.all(apart <= coded.apart.sum(dtype=np.float64) * lengths)


def _values_of(rows: TokenRows) -> list[NDArray[np.float32]]:
    return split(dequantise_tokens(rows.tokens, rows.ends, rows.scales), rows.ends)


@pytest.mark.parametrize("store", ["int8", "bit"])
def test_tokens_as_sent_settle(store: str) -> None:
    rng = np.random.default_rng(18)
    tokens, ends = make_points(rng, rng.integers(1, 12, 500), 128)
    codes, scales = encode_tokens(store, tokens, ends)
    rows, values = TokenRows(codes, ends, scales), split(tokens, ends)
    query = unit_rows(rng, 12, 128)
    sent = Sent(query, TokenRows(tokens, ends, np.ones(500, np.float32)))
    expected, best = _expected(query, values, range(500), 10)
    listed = np.arange(500, dtype=np.uint32)
    exact = exact_maxsim(query, rows, 10, listed, sent)
    assert exact.slots.tolist() == expected
    for way in WAYS[:2]:
        found = rerank(query, rows, listed, 10, way, None, sent)
        assert len(set(found.slots.tolist()) & set(expected)) >= (10 if way == "float32" or store == "int8" else 5)
        assert np.allclose(found.scores, [maxsim(query, values[s]) for s in found.slots], atol=1e-5)
    assert np.allclose(exact.scores, best, atol=1e-5)
    assert rerank(query, rows, listed, 10, "none", None, sent).settled == 0
