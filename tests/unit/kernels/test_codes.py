"""Encoding against numpy, and what codes promise about distances."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.kernels import codes, rotate


def empty(n, kind, width):
    memory = np.zeros((n, width), np.uint8)
    return memory, memory.view(np.float32), memory.view(np.int32)


def test_rows_keep_bytes_step_sum_and_square():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20, 50)).astype(np.float32)
    x[3] = 0
    rows, floats, numbers = empty(25, np.uint8, 192 + 64)
    codes.encode_rows(x, True, rows, floats, numbers, 2)
    step = np.maximum(np.abs(x).max(1) / np.float32(127), np.float32(1e-30))
    assert np.allclose(floats[2:22, 1], step, rtol=1e-6)
    decoded = (rows[2:22, 192 : 192 + 50].astype(np.float64) - 128) * floats[2:22, 1:2]
    assert (np.abs(decoded - x) <= step[:, None] * 0.501).all()
    assert np.allclose(floats[2:22, 0], (decoded**2).sum(1), rtol=1e-5)
    assert (numbers[2:22, 2] == rows[2:22, 192:].sum(1, dtype=np.int64)).all()
    assert not rows[:2].any()
    assert not rows[22:].any()
    assert not rows[:, 192 + 50 :].any()
    codes.encode_rows(x, False, rows, floats, numbers, 2)
    assert not floats[:, 0].any()


def test_whole_numbers_are_kept_and_others_reported():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (20, 70)).astype(np.float32)
    rows, floats, numbers = empty(20, np.uint8, 192 + 128)
    assert codes.encode_whole_rows(x, rows, floats, numbers, 0)
    assert (rows[:, 192:262] == x).all()
    assert (numbers[:, 3] == (x.astype(np.int64) ** 2).sum(1)).all()
    assert (numbers[:, 2] == x.sum(1)).all()
    for wrong in (0.5, -1, 256):
        x[4, 4] = wrong
        assert not codes.encode_whole_rows(x, rows, floats, numbers, 0)


@pytest.mark.parametrize("m", [128, 256, 384])
def test_rotation_keeps_lengths_and_angles_and_spreads_one_coordinate(m):
    rng = np.random.default_rng(m)
    signs = rng.choice(np.array([-1, 1], np.float32), (2, m)) * np.float32(2**-3.5)
    x = rng.standard_normal((9, m)).astype(np.float32)
    x[0] = 0
    x[0, 5] = 1
    rotated = x.copy()
    rotate.rotate_rows(rotated, signs)
    assert np.allclose(rotated @ rotated.T, x @ x.T, atol=1e-3)
    assert (np.abs(rotated[0]) > 0).sum() > 0.8 * m
    assert np.abs(rotated[0]).max() < 0.4


def test_sign_lines_hold_bits_cell_and_least_squares_factors():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((30, 256)).astype(np.float32)
    centres = rng.standard_normal((64, 256)).astype(np.float32)
    cells = rng.integers(0, 64, 30)
    constants = rng.standard_normal(30).astype(np.float32)
    lines, floats, numbers = empty(33, np.uint8, 64)
    codes.encode_signs(x, centres, cells, constants, lines.view(np.uint64), floats, numbers, 3)
    r = x.astype(np.float64)
    bits = np.unpackbits(lines[3:], axis=1, bitorder="little", count=256)
    assert (bits == (r > 0)).all()
    assert (numbers[3:, 12] == cells).all()
    factor = (r * r).sum(1) / np.abs(r).sum(1)
    across = (np.where(r > 0, 1, -1) * centres[cells]).sum(1)
    assert np.allclose(floats[3:, 15], -2 * factor, rtol=1e-4)
    assert np.allclose(floats[3:, 14], constants + 2 * factor * across, rtol=1e-3, atol=1e-3)
    assert not lines[3:, 32:48].any()


@pytest.mark.parametrize("dims", [1, 5, 57, 112])
def test_nibble_lines_rebuild_the_row(dims):
    rng = np.random.default_rng(dims)
    x = rng.standard_normal((40, dims)).astype(np.float32)
    constants = rng.standard_normal(40).astype(np.float32)
    lines, floats, _ = empty(40, np.uint8, 64)
    lines[:] = 255
    codes.encode_nibbles(x, constants, lines, floats, 0)
    half = (dims + 1) // 2
    levels = np.concatenate([lines[:, :half] & 15, lines[:, : dims - half] >> 4], axis=1)
    values = 2.0 * levels - 15
    rebuilt = -floats[:, 15:16] / 2 * values
    assert (floats[:, 14] == constants).all()
    error = np.linalg.norm(rebuilt - x, axis=1) / np.linalg.norm(x, axis=1)
    assert error.mean() < 0.14
    # the factor makes the estimate of |x|^2 exact
    assert np.allclose((rebuilt * x).sum(1), (x * x).sum(1), rtol=1e-4)


def test_byte_lines_hold_the_row_within_half_a_step():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((40, 50)).astype(np.float32)
    lines, floats, _ = empty(40, np.uint8, 64)
    codes.encode_bytes(x, True, lines, floats, 0)
    decoded = (lines[:, :50].astype(np.float64) - 128) * floats[:, 15:16]
    assert (np.abs(decoded - x) <= floats[:, 15:16] * 0.501).all()
    assert np.allclose(floats[:, 14], (decoded**2).sum(1), rtol=1e-5)
