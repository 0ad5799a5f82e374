"""Blocked int8 products against numpy, in every body."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.build_oracle import make_codes, measured, random_codes, scores_of
from tests.support.other_processor import run_again_on

from vicinal.kernels import gemm, njit
from vicinal.kernels.gemm import LOW
from vicinal.kernels.rows8 import fill_groups


@njit(cache=False)
def multiply(codes, rows, lanes, groups, bias, wide, out):
    for r in range(0, rows.shape[0], 6):
        for g in range(0, groups.shape[0], 4 if wide else 2):
            at = r * out.shape[1] + g * 16
            if wide:
                gemm.tile6x4(codes, rows, r, lanes, groups, g, bias, out, at, out.shape[1])
            else:
                gemm.tile6x2(codes, rows, r, lanes, groups, g, bias, out, at, out.shape[1])


@njit(cache=False)
def pairs(codes, out):
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = gemm.dot8(codes, i, j)


def packed(codes, members):
    lanes = np.empty((len(members), codes.rows.shape[1] * 16), np.uint8)
    bias = np.empty((len(members), 16), np.int32)
    fill_groups(codes, members.astype(np.int32), lanes, bias, 0, len(members))
    return lanes, bias


@pytest.mark.parametrize("dim", [1, 3, 64, 65, 200, 384])
@pytest.mark.parametrize("wide", [True, False])
def test_tiles_score_gathered_rows_against_gathered_groups(dim, wide):
    codes = random_codes(100, dim, dim)
    draw = np.random.default_rng(1)
    rows = draw.integers(0, 100, 12).astype(np.int32)
    members = draw.integers(0, 100, (8, 16)).astype(np.int32)
    lanes, bias = packed(codes, members)
    groups = draw.integers(0, 8, 4).astype(np.int32)
    out = np.zeros((12, 64), np.int32)
    multiply(codes.rows, rows, lanes, groups, bias, wide, out)
    assert (out == scores_of(codes, rows, members[groups].reshape(-1))).all()


def test_sums_hold_at_the_widest_rows_and_the_extreme_codes():
    codes = make_codes(np.array([[127], [-127]] * 24, np.int8).repeat(8192, 1))
    members = np.arange(32, dtype=np.int32).reshape(2, 16)
    lanes, bias = packed(codes, members)
    out = np.zeros((6, 32), np.int32)
    multiply(codes.rows, np.arange(6, dtype=np.int32), lanes, np.arange(2, dtype=np.int32), bias, False, out)
    want = scores_of(codes, np.arange(6), np.arange(32))
    assert (out == want).all()
    assert abs(want).max() < 1 << 29  # padding lanes at LOW lose against every sum
    half, offset = measured(codes, 48)
    assert (half == codes.half[:48]).all() and (offset == codes.offset[:48]).all()


def test_packing_marks_lanes_without_a_row():
    codes = random_codes(20, 64, 3)
    members = np.full((1, 16), -1, np.int32)
    members[0, :5] = [7, 3, 3, 0, 19]
    lanes, bias = packed(codes, members)
    assert (bias[0, 5:] == LOW).all() and (bias[0, :5] == -codes.half[members[0, :5]]).all()
    as_bytes = lanes.reshape(1, 16, 16, 4).transpose(0, 2, 1, 3).reshape(16, 64)
    assert (as_bytes[:5] == (codes.rows[members[0, :5]].astype(np.int16) + 128)).all()


def test_single_products_read_the_first_row_as_unsigned():
    codes = random_codes(30, 130, 4)
    out = np.zeros((30, 30), np.int32)
    pairs(codes.rows, out)
    wide = codes.rows[:30].astype(np.int64)
    assert (out == wide @ wide.T + 128 * wide.sum(1)[None]).all()


def test_operands_of_a_wrong_kind_are_refused_while_compiling():
    codes = random_codes(20, 64, 5)
    out = np.zeros((3, 3), np.int32)
    with pytest.raises(Exception, match="C-contiguous array of int8"):
        pairs(codes.rows.astype(np.int16), out)
    with pytest.raises(Exception, match="C-contiguous array of int8"):
        pairs(codes.rows[::2], out)


@pytest.mark.parametrize("name", ["haswell", "x86-64"])
def test_other_bodies_give_the_same_integers(name, tmp_path):
    """A fresh process that compiles for another processor runs this file's other tests."""
    run_again_on(name, tmp_path, __file__, timeout=110)
