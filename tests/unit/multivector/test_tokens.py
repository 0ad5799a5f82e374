"""Token matrices: checks, and the bounds of int8 storage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.maxsim_oracle import make_points, split

from vicinal.errors import InvalidVector
from vicinal.multivector.tokens import as_token_block, dequantise_tokens, quantise_tokens


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 12), st.integers(1, 70), st.floats(1e-30, 1e30))
def test_codes_are_the_nearest_with_one_scale_per_point(seed: int, points: int, dim: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    tokens, ends = make_points(rng, rng.integers(0, 5, points), dim)
    tokens *= np.float32(size)
    codes, scales = quantise_tokens(tokens, ends)
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    for matrix, of_matrix, scale in zip(split(tokens, ends), split(codes, ends), scales, strict=True):
        if len(matrix):
            assert np.isclose(scale, np.abs(matrix).max() / 127, rtol=1e-6)
            assert np.abs(of_matrix).max() == 127
            assert np.abs(of_matrix.astype(np.float64) * scale - matrix).max() <= 0.5001 * scale
        else:
            assert scale == 1


def test_zero_tokens_have_scale_one() -> None:
    codes, scales = quantise_tokens(np.zeros((3, 4), np.float32), np.array([3]))
    assert not codes.any()
    assert scales.tolist() == [1.0]


def test_smallest_numbers_do_not_leave_the_codes() -> None:
    tiny = np.full((2, 4), np.finfo(np.float32).smallest_subnormal, np.float32)
    codes, scales = quantise_tokens(tiny, np.array([2]))
    assert np.isfinite(scales).all()
    assert np.abs(codes.astype(np.int32)).max() <= 127


def test_values_come_back_as_scale_times_code() -> None:
    rng = np.random.default_rng(0)
    tokens, ends = make_points(rng, np.array([2, 0, 3]), 8)
    codes, scales = quantise_tokens(tokens, ends)
    back = dequantise_tokens(codes, ends, scales)
    assert back.dtype == np.float32
    assert np.array_equal(back[:2], codes[:2] * scales[0])
    assert np.array_equal(back[2:], codes[2:] * scales[2])
    again, same = quantise_tokens(back, ends)  # stored values are a fixed point
    assert np.array_equal(again, codes)
    assert np.allclose(same, scales, rtol=1e-6)


@pytest.mark.parametrize(
    "ends",
    [[2, 3], [3, 2, 4], [-1, 4], [2, 2, 4], [[4]], [4.0], [2, 4, 5]],
    ids=["short", "descending", "negative", "empty matrix", "nested", "float", "long"],
)
def test_ends_that_do_not_split_the_rows_are_refused(ends: Any) -> None:
    with pytest.raises(InvalidVector):
        as_token_block(np.zeros((4, 2), np.float32), ends, 2)


def test_ragged_blocks_are_taken() -> None:
    tokens, ends = as_token_block(np.zeros((4, 2)), [1, 4], 2)
    assert tokens.dtype == np.float32
    assert ends.tolist() == [1, 4]
