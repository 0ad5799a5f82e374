"""Frames, bases, cells and the choice of a code."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support import codes_oracle as oracle
from tests.support.vectors_oracle import METRICS

from vicinal.codecs import basis, cells, choice, frame
from vicinal.codecs.levels import ByteCodec, fit_nibbles
from vicinal.codecs.lines import Codec, view_lines
from vicinal.codecs.signs import fit_signs
from vicinal.errors import InvalidArgument
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_arrays import SENTINEL
from vicinal.types import Metric, Rows

PLAIN = np.zeros(0, np.float32)


def framed(metric, dim, *, whole=False, n=800):
    rows = oracle.make_rows(n, dim, metric, 5, whole=whole)
    fitted = frame.fit_frame(metric, rows, n, seed=1)
    return rows, fitted, fitted.rows(rows, slice(0, n))


@pytest.mark.parametrize("metric", METRICS)
def test_float_rows_have_mean_zero_and_spread_one_in_the_frame(metric):
    _, fitted, x = framed(metric, 70)
    assert not fitted.whole
    assert fitted.padded == 128
    assert np.allclose(x.mean(0), 0, atol=1e-3)
    assert np.isclose((x * x).sum(1).mean(), 1, rtol=1e-3)
    assert fitted.query_shift.any() == (metric is not Metric.DOT)


def test_cosine_rows_enter_by_direction_only():
    rows, fitted, x = framed(Metric.COSINE, 40)
    longer = Rows(rows.vectors * 7, rows.inv_norms / 7)
    assert np.allclose(fitted.rows(longer, slice(0, 800)), x, atol=1e-5)


@pytest.mark.parametrize(
    ("least", "most", "whole"), [(0, 255, True), (-128, 127, True), (0, 256, False), (5, 300, False)]
)
def test_whole_numbers_are_recognised_by_their_range(least, most, whole):
    x = np.random.default_rng(1).integers(least, most + 1, (500, 20)).astype(np.float32)
    x[0, :2] = least, most
    fitted = frame.fit_frame(Metric.L2, Rows(x, PLAIN), 500, seed=1)
    assert fitted.whole == whole
    if whole:
        inside = fitted.rows(Rows(x, PLAIN), slice(0, 500))
        assert (inside >= 0).all()
        assert (inside <= 255).all()
        assert np.allclose(inside.mean(0), fitted.centre[:20], atol=1e-2)
    assert not frame.fit_frame(Metric.DOT, Rows(x, PLAIN), 500, seed=1).whole
    assert not frame.fit_frame(Metric.L2, Rows(x, PLAIN), 500, seed=1, exact=False).whole


def test_one_fraction_far_down_ends_wholeness():
    x = np.ones((9000, 3), np.float32)
    x[8999, 1] = 0.5
    assert not frame.fit_frame(Metric.L2, Rows(x, PLAIN), 9000, seed=1).whole


@pytest.mark.parametrize("dim", [30, 1100])
def test_principal_directions_are_orthonormal_and_carry_the_most(dim):
    rng = np.random.default_rng(dim)
    x = (rng.standard_normal((2000, dim)) / (1 + np.arange(dim))).astype(np.float32)
    x = x[:, rng.permutation(dim)]
    found = basis.principal(x, 12, 1)
    assert np.allclose(found.T @ found, np.eye(12), atol=1e-6)
    kept = ((x @ found) ** 2).sum()
    best = np.sort((x.astype(np.float64) ** 2).sum(0))[-12:].sum()
    assert kept >= 0.99 * best


def test_as_many_directions_are_enough_as_hold_the_share():
    spread = np.sqrt(np.repeat([8.0, 1.0, 0.1], [10, 80, 110]))  # variances add up to 80, 160 and 171
    x = np.random.default_rng(4).standard_normal((4000, 200)) * spread
    sample = x.astype(np.float32)
    directions = basis.principal(sample, 200, 1)
    assert basis.enough(sample, directions, 0.40, 64) == 64
    assert basis.enough(sample, directions, 0.90, 64) == 128
    assert basis.enough(sample, directions, 0.90, 8) == 88
    assert basis.enough(sample, directions[:, :50], 0.9, 64) == 50, "no more than there are"
    assert basis.enough(np.zeros_like(sample), directions, 0.95, 64) == 64


def test_wide_rows_of_few_directions_are_projected_to_no_more():
    rng = np.random.default_rng(6)
    thin = rng.standard_normal((800, 90)) @ rng.standard_normal((90, 500)) + rng.standard_normal((800, 500)) * 0.1
    rows = Rows(thin.astype(np.float32), PLAIN)
    fitted = frame.fit_frame(Metric.L2, rows, 800, seed=1)
    x = fitted.rows(rows, slice(0, 800))
    made = cells.fit_cells(x, fitted, 64, seed=3)
    codec = fit_signs(fitted, made, x, 1)
    assert codec.query.outputs == 128
    assert codec.query.projected == 384, "all of the line's bits are used"
    lines = view_lines(np.zeros((len(x), 64), np.uint8))
    codec.encode(fitted, made, x, lines, 0)
    true = -2 * x[:40] @ x.T + (x * x).sum(1)
    estimated = codec.estimate(fitted, made, x[:40], lines)
    assert np.mean([np.corrcoef(t, e)[0, 1] for t, e in zip(true, estimated, strict=True)]) > 0.9


def test_a_projection_in_bytes_is_near_its_matrix():
    _, fitted, _ = framed(Metric.L2, 60)
    matrix = np.zeros((60, 64))
    matrix[:, :40] = np.linalg.qr(np.random.default_rng(2).standard_normal((60, 40)))[0]
    table, scale, shift, _ = basis.byte_projection(matrix, fitted)
    unpacked = table.reshape(1, 16, 64, 4).transpose(0, 2, 1, 3).reshape(64, 64)[:, :60].astype(np.float64) - 128
    rebuilt = (unpacked * scale[:, None]).T
    assert np.allclose(rebuilt, matrix, atol=np.abs(matrix).max() / 200)
    assert not rebuilt[:, 40:].any()
    assert not shift.any()


def test_cells_are_their_bytes_and_rows_go_to_the_nearest():
    _, fitted, x = framed(Metric.L2, 50)
    made = cells.fit_cells(x, fitted, 64, seed=3)
    nearest, score = cells.assign(x, made)
    full = ((x[:, None].astype(np.float64) - made.centres[None]) ** 2).sum(2)
    assert np.allclose(full[np.arange(len(x)), nearest], full.min(1), atol=1e-3)
    assert np.allclose(score + (x * x).sum(1), full.min(1), atol=1e-3)
    assert len(np.unique(nearest)) > 50
    assert full.min(1).mean() < 0.8 * (x * x).sum(1).mean()


def test_fewer_rows_than_cells_leave_places_that_are_never_nearest():
    _, fitted, x = framed(Metric.L2, 50)
    made = cells.fit_cells(x[:10], fitted, 64, seed=3)
    assert len(made.centres) == 10
    assert (made.norms[10:] > 1e38).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["signs", "nibbles", "bytes"])
def test_estimates_rank_like_distances(metric, kind):
    _, fitted, x = framed(metric, 50)
    made = cells.fit_cells(x, fitted, 64, seed=3)
    codec: Codec = ByteCodec()
    if kind != "bytes":
        codec = fit_signs(fitted, made, x, 1) if kind == "signs" else fit_nibbles(fitted, x, 1)
    lines = view_lines(np.zeros((len(x), 64), np.uint8))
    codec.encode(fitted, made, x, lines, 0)
    true = -2 * x[:40] @ x.T + ((x * x).sum(1) if fitted.squared else 0)
    estimated = codec.estimate(fitted, made, x[:40], lines)
    rows = [np.corrcoef(t, e)[0, 1] for t, e in zip(true, estimated, strict=True)]
    assert np.mean(rows) > {"signs": 0.93, "nibbles": 0.995, "bytes": 0.9995}[kind]


def test_the_choice_follows_dimension_and_data():
    rng = np.random.default_rng(1)
    small = Rows(rng.standard_normal((600, 56)).astype(np.float32), PLAIN)
    assert choice.choose(Metric.L2, small, 600, codec="auto", seed=1).codec.name == "bytes"
    middle = Rows(rng.standard_normal((600, 100)).astype(np.float32), PLAIN)
    chosen = choice.choose(Metric.L2, middle, 600, codec="auto", seed=1)
    assert chosen.codec.name == "nibbles"
    assert "4-bit" in chosen.why
    sphere = rng.standard_normal((3000, 384)).astype(np.float32)
    flat = Rows(sphere, (1 / np.linalg.norm(sphere, axis=1)).astype(np.float32))
    chosen = choice.choose(Metric.COSINE, flat, 3000, codec="auto", seed=1)
    assert chosen.codec.name == "signs"
    assert chosen.exact_walk
    with pytest.raises(InvalidArgument, match="56 dimensions"):
        choice.choose(Metric.COSINE, flat, 600, codec="bytes", seed=1)


def test_the_same_seed_fits_the_same():
    rows = oracle.make_rows(900, 120, Metric.COSINE, 4)
    one, two = (choice.choose(Metric.COSINE, rows, 900, codec="signs", seed=9) for _ in range(2))
    assert (one.cells.table == two.cells.table).all()
    assert (one.cell_nodes == two.cell_nodes).all()
    assert one.codec.query.signs is not None
    assert (one.codec.query.signs == two.codec.query.signs).all()


def test_entries_are_rows_of_their_cell_spread_over_it_and_few():
    rows = oracle.make_rows(6_000, 48, Metric.L2, 8)
    chosen = choice.choose(Metric.L2, rows, 6_000, codec="signs", seed=3)
    framed = chosen.frame.rows(rows, slice(0, 6_000))
    member, _ = cells.assign(framed, chosen.cells)
    distances = ((framed[:, None] - chosen.cells.centres[None, :8]) ** 2).sum(2)
    for cell in range(8):
        first, *others = chosen.cell_nodes[cell]
        assert distances[first, cell] == distances[:, cell].min()
        assert (member[others] == cell).all()
        assert min(20, (member == cell).sum()) <= len(set(others)) <= 23
    few = choice.entry_nodes(chosen.cells, framed[:600], np.arange(600), 600)
    assert all(1 <= len(set(nodes)) <= 2 for nodes in few[: len(chosen.cells.centres)])


@pytest.mark.parametrize(("strong", "kept"), [(150, True), (700, False)])
def test_centres_are_compared_where_codes_are_only_if_little_lies_outside(strong, kept):
    rng = np.random.default_rng(2)
    spread = np.where(np.arange(700) < strong, 1.0, 0.05)
    vectors = np.concatenate([rng.standard_normal((3_000, 700)), 0.5 + rng.standard_normal((3_000, 700))]) * spread
    rows = Rows(vectors.astype(np.float32), np.zeros(0, np.float32))
    chosen = choice.choose(Metric.L2, rows, 6_000, codec="signs", seed=3)
    query = chosen.codec.query
    assert (query.narrow is not None) == kept
    if not kept:
        return
    index = CodedIndex.of_choice(rows, 6_000, Metric.L2, chosen, np.full((6_000, 32), SENTINEL, np.uint32))
    for at in range(0, 6_000, 800):
        prepared = oracle.prepare(index, vectors[at].astype(np.float32))
        framed = chosen.frame.rows(rows, slice(at, at + 1))
        count = len(chosen.cells.centres)
        true = chosen.cells.squares - 2 * (framed @ chosen.cells.centres.T)[0]
        assert np.allclose(prepared.scores[:count], true, atol=0.02 * (true.max() - true.min()))
        assert (prepared.scores[count:] > true.max()).all()
