"""Tokens as bytes, halves, floats and bits: what they stand for, and MaxSim over each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import make_points, maxsim, split, unit_rows

from vicinal.multivector.search import exact_maxsim, rerank
from vicinal.multivector.stores import encode_tokens, plain_tokens, rotated, rotation, unrotated
from vicinal.multivector.tokens import dequantise_tokens, quantise_tokens
from vicinal.types import TokenRows

STORES = ["int8", "float16", "float32", "bit"]


def _stored(store: str, counts: Any, dim: int, seed: int = 1) -> tuple[TokenRows, list[NDArray[np.float32]]]:
    """Rows, and the values they stand for as the page of kernels says it."""
    tokens, ends = make_points(np.random.default_rng(seed), np.asarray(counts), dim)
    rows, scales = encode_tokens(store, tokens, ends)
    values = rows.astype(np.float32)
    if store == "bit":
        signs = 2.0 * np.unpackbits(rows[:, :-1], axis=1, bitorder="little") - 1
        values = (signs * rows[:, -1:]).astype(np.float32)
    per_token = np.repeat(scales, np.diff(ends, prepend=0))
    return TokenRows(rows, ends, scales), split(values * per_token[:, None], ends)


@pytest.mark.parametrize("dim", [1, 5, 128, 130, 300])
def test_a_rotation_keeps_products_and_is_undone(dim: int) -> None:
    tokens = np.random.default_rng(dim).standard_normal((9, dim)).astype(np.float32)
    signs = rotation(dim, 3)
    turned = rotated(signs, tokens)
    assert turned.shape == (9, -(-dim // 128) * 128)
    assert np.allclose(turned @ turned.T, tokens @ tokens.T, atol=1e-3)
    assert np.allclose(unrotated(signs, turned, dim), tokens, atol=1e-4)
    assert np.abs(turned).max() < np.abs(tokens).max() or dim > 5  # one large number is spread over all
    assert rotated(None, tokens) is tokens


@pytest.mark.parametrize(("store", "dims"), [("bit", (128, 384)), *((s, (3, 4, 16, 17, 130)) for s in STORES[:3])])
def test_scores_are_those_of_what_is_stored(store: str, dims: tuple[int, ...]) -> None:
    for dim in dims:
        rows, values = _stored(store, [0, 3, 1, 60, 0, 49, 97], dim)
        rng = np.random.default_rng(2)
        for m in (1, 16, 33):
            query = unit_rows(rng, m, dim)
            for found in (
                exact_maxsim(query, rows, 9, range(7)),
                rerank(query, rows, np.arange(7, dtype=np.uint32), 9),
            ):
                assert sorted(found.slots.tolist()) == [1, 2, 3, 5, 6]
                assert np.allclose(found.scores, [maxsim(query, values[s]) for s in found.slots], rtol=1e-6, atol=1e-5)
                assert np.all(np.diff(found.scores) <= 0)


def test_bits_are_the_signs_and_the_factor_keeps_products_with_the_token_itself() -> None:
    tokens, ends = make_points(np.random.default_rng(4), np.array([50, 1, 70]), 256)
    tokens[7] = 0
    tokens[9] *= 3
    rows, scales = encode_tokens("bit", tokens, ends)
    assert rows.shape == (121, 33)
    plain = plain_tokens(rows)
    assert plain.dtype == np.int8
    values = dequantise_tokens(plain, ends, scales)
    assert np.array_equal(values[7], np.zeros(256))
    kept = np.delete(np.arange(121), 7)
    assert np.array_equal(np.sign(values[kept]) > 0, tokens[kept] > 0)
    squares = (tokens**2).sum(axis=1)
    assert np.allclose((values * tokens).sum(axis=1), squares, rtol=0.02)
    query = np.random.default_rng(5).standard_normal((400, 256))
    error = query @ (values - tokens)[kept].T / np.sqrt(squares[kept])
    assert abs(error.mean()) < 0.02  # estimates are not too large, nor too small
    assert error.std() < 1.0


def test_one_scale_for_all_keeps_its_multiples() -> None:
    codes = np.random.default_rng(6).integers(-127, 128, (40, 8)).astype(np.int8)
    tokens = (codes / np.float32(127)).astype(np.float32)
    again, scales = quantise_tokens(tokens, np.array([3, 40]), 1 / 127)
    assert np.array_equal(again, codes)
    assert np.all(scales == np.float32(1 / 127))
    cut, _ = quantise_tokens(tokens * 5, np.array([40]), 1 / 127)
    assert np.abs(cut.astype(int)).max() == 127
    scales = quantise_tokens(tokens[:3] / np.float32(2), np.array([3]))[1]
    assert scales[0] < 1 / 127


@pytest.mark.parametrize("store", STORES[1:3])
def test_floats_are_kept_as_they_are(store: str) -> None:
    tokens, ends = make_points(np.random.default_rng(7), np.array([5, 4]), 20)
    rows, scales = encode_tokens(store, tokens, ends)
    assert rows.dtype == store
    assert np.array_equal(rows, tokens.astype(store))
    assert np.all(scales == 1)
    assert np.array_equal(plain_tokens(rows), rows.astype(np.float32))
