"""Groups of near-copies: no member far from its leader, few copies missed, and the same whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.near_copies import apart, near_copies
from tests.support.other_processor import run_again_on
from tests.support.vectors_oracle import rows_of

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index import groups_snapshot
from vicinal.index.groups import Groups
from vicinal.kernels.groups import NONE
from vicinal.types import Metric, Rows

TOLERANCE = 0.06
X = near_copies(300, 5, 24, 0.03, 1)


def grouped(metric: Metric, rows: Rows, share: float, n: int, step: int | None = None, useless: Any = None) -> Groups:
    groups = Groups(metric, rows.vectors.shape[1], share)
    while groups.n < n:
        groups.extend(rows, min(groups.n + (step or n), n), useless, lambda: False)
    return groups


def bits_like(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, (n, 256))[rng.integers(0, n, 5 * n)]
    return np.packbits(rows ^ (rng.random(rows.shape) < 0.01), axis=1)


def rows_in(metric: Metric, dtype: str) -> Rows:
    if metric.of_bits:
        return Rows(bits_like(200, 2), np.empty(0, np.float32))
    rows = rows_of(metric, X)
    if dtype == "float32":
        return rows
    whole = (X * 60).astype(dtype) if dtype != "float16" else X.astype(dtype)
    return Rows(whole, rows_of(metric, whole.astype(np.float32)).inv_norms)


KINDS = [
    *((metric, "float32") for metric in (Metric.COSINE, Metric.DOT, Metric.L2, Metric.L1)),
    (Metric.COSINE, "float16"),
    (Metric.L2, "int8"),
    (Metric.HAMMING, "bit"),
    (Metric.JACCARD, "bit"),
]


@pytest.mark.parametrize(("metric", "dtype"), KINDS)
def test_members_are_like_their_leaders_and_few_are_missed(metric, dtype):
    rows = rows_in(metric, dtype)
    groups = grouped(metric, rows, TOLERANCE, len(rows.vectors))
    leaders = groups.leaders
    assert (np.diff(leaders.astype(np.int64)) > 0).all()
    assert (groups.group_of[leaders] == np.arange(groups.count)).all()
    missed = 0
    for group, leader in enumerate(leaders):
        far = apart(metric, rows.vectors[leader], rows.vectors)
        members = groups.group_of == group
        assert far[members].max() <= TOLERANCE * 1.002
        assert np.flatnonzero(members)[0] == leader
        missed += (far[leaders[group + 1 :]] <= TOLERANCE * 0.95).sum()
    assert groups.count < len(rows.vectors) / 2, "the set has copies"
    assert missed <= 0.03 * len(rows.vectors), "rows that lead though they are like a leader"


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2, Metric.HAVERSINE])
def test_without_tolerance_equal_rows_share_and_no_others(metric):
    rng = np.random.default_rng(3)
    width = 2 if metric is Metric.HAVERSINE else 24
    some = np.round(rng.uniform(-80, 80, (200, width))).astype(np.float32)
    some[100:150] = some[:50]
    some[100:150, 0] = np.nextafter(some[:50, 0], np.float32(1000))  # as near as a row can be
    some[150:] = 2 * some[:50]  # in the same direction
    vectors = some[rng.integers(0, 200, 1500)]
    groups = grouped(metric, rows_of(metric, vectors), 0.0, len(vectors))
    _, first, group_of = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    assert groups.count == len(first)
    np.testing.assert_array_equal(groups.leaders, np.sort(first))
    np.testing.assert_array_equal(groups.leaders[groups.group_of], first[group_of.ravel()])
    assert not groups.radius.any()


def test_a_chain_of_near_rows_is_no_group():
    turns = np.linspace(0, 1, 200)
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    groups = grouped(Metric.L2, rows_of(Metric.L2, vectors), TOLERANCE, 200)
    assert groups.count >= 1 / TOLERANCE / 1.1
    led = vectors[groups.leaders[groups.group_of]]
    assert np.linalg.norm(vectors - led, axis=1).max() <= TOLERANCE * 1.002


def test_lengths_that_differ_part_rows_unless_directions_alone_count():
    vectors = np.outer(1.2 ** np.arange(40), X[0]).astype(np.float32)
    assert grouped(Metric.L2, rows_of(Metric.L2, vectors), TOLERANCE, 40).count == 40
    assert grouped(Metric.DOT, rows_of(Metric.DOT, vectors), TOLERANCE, 40).count == 40
    assert grouped(Metric.COSINE, rows_of(Metric.COSINE, vectors), TOLERANCE, 40).count == 1


def test_batches_do_not_matter():
    rows = rows_of(Metric.COSINE, X)
    one = grouped(Metric.COSINE, rows, TOLERANCE, len(X))
    for step in (1, 7, 600):
        other = grouped(Metric.COSINE, rows, TOLERANCE, len(X), step)
        np.testing.assert_array_equal(one.group_of, other.group_of)
        np.testing.assert_array_equal(one.radius, other.radius)


def test_numbers_at_the_ends_of_float32_are_taken():
    tiny, huge = np.float32(1e-42), np.float32(3e37)
    some = [X[0] * tiny, X[0] * huge, X[0] * huge, np.zeros(24), X[0] * 0, X[1] * huge]
    rows = Rows(np.stack(some).astype(np.float32), np.empty(0, np.float32))
    for metric in (Metric.L2, Metric.DOT, Metric.L1):
        groups = grouped(metric, rows, TOLERANCE, 6)
        assert groups.group_of[1] == groups.group_of[2]
        assert groups.group_of[3] == groups.group_of[4]
        assert len({int(groups.group_of[i]) for i in (0, 1, 3, 5)}) == 4


def test_dead_rows_lead_nothing_and_closed_groups_take_nothing_in():
    vectors = np.repeat(X[:4], 5, axis=0)  # slots 0-4 are equal, and so on
    rows = rows_of(Metric.L2, vectors)
    dead = np.zeros(20, np.bool_)
    dead[[5, 6]] = True
    groups = grouped(Metric.L2, rows, 0.0, 8, useless=dead)
    assert groups.group_of.tolist() == [0] * 5 + [NONE] * 2 + [1]
    dead[:5] = True
    gone = groups.gone(dead)
    assert gone is not None
    assert gone.tolist() == [True, False]
    again = Rows(np.concatenate([vectors[:8], vectors[:1], vectors[5:8]]), rows.inv_norms)
    groups.extend(again, 12, None, lambda: False)
    assert groups.group_of[8:].tolist() == [2, 1, 1, 1], "the first copy leads anew, the others join who lives"


def test_the_first_row_leads_though_it_is_dead():
    dead = np.ones(30, np.bool_)
    groups = grouped(Metric.L2, rows_of(Metric.L2, X), TOLERANCE, 30, useless=dead)
    assert groups.group_of.tolist() == [0] + [NONE] * 29


def test_a_cancelled_call_goes_on_later():
    rows, turns = rows_of(Metric.L2, X), iter([False, True])
    groups = Groups(Metric.L2, 24, TOLERANCE)
    groups.extend(rows, len(X), None, lambda: next(turns))
    assert 0 < groups.n < len(X)
    groups.extend(rows, len(X), None, lambda: False)
    np.testing.assert_array_equal(groups.group_of, grouped(Metric.L2, rows, TOLERANCE, len(X)).group_of)


def test_restored_groups_go_on_as_the_others_do():
    rows, half = rows_of(Metric.L2, X), len(X) // 2
    one = grouped(Metric.L2, rows, TOLERANCE, half)
    written = groups_snapshot.encode(one.group_of, one.radius, TOLERANCE)
    saved = groups_snapshot.decode(written + b"rest", TOLERANCE, half)
    assert bytes(saved.rest) == b"rest"
    two = Groups(Metric.L2, 24, TOLERANCE)
    two.restore(saved.group_of, saved.radius)
    assert two.memory_bytes < one.memory_bytes, "keys are made when rows come"
    for groups in (one, two):
        groups.extend(rows, len(X), None, lambda: False)
    for mine, theirs in zip(one.picture()[:4], two.picture()[:4], strict=True):
        used = min(len(mine), len(theirs), one.count)
        np.testing.assert_array_equal(mine[:used], theirs[:used])
    np.testing.assert_array_equal(one.group_of, two.group_of)


def test_a_damaged_snapshot_is_refused():
    groups = grouped(Metric.L2, rows_of(Metric.L2, X), TOLERANCE, 200)
    written = bytearray(groups_snapshot.encode(groups.group_of, groups.radius, TOLERANCE))
    groups_snapshot.decode(bytes(written), TOLERANCE, 200)
    for at in range(len(written)):
        written[at] ^= 1
        with pytest.raises((CorruptData, FormatTooNew)):
            groups_snapshot.decode(bytes(written), TOLERANCE, 200)
        written[at] ^= 1
    for size in (0, 10, 63, 64, 100, len(written) - 64):
        with pytest.raises(CorruptData):
            groups_snapshot.decode(bytes(written[:size]), TOLERANCE, 200)
    for share, slots in ((0.0, 200), (TOLERANCE, 199)):
        with pytest.raises(CorruptData):
            groups_snapshot.decode(bytes(written), share, slots)


@pytest.mark.parametrize(
    ("group_of", "radius"),
    [
        ([0, 2, 1], [0, 0, 0]),  # not numbered by their leaders
        ([1, 0, 1], [0, 0]),
        ([0, 1, 5], [0, 0]),  # beyond
        ([0, 0, 0], [0, 0]),  # nobody leads the last
        ([NONE, NONE, NONE], [0]),
        ([0, 1, 0], [0, np.nan]),
        ([0, 1, 0], [-1, 0]),
        ([0, 1, 0], [np.inf, 0]),
    ],
)
def test_groups_that_cannot_be_are_refused_though_their_checksums_hold(group_of, radius):
    written = groups_snapshot.encode(np.array(group_of, np.uint32), np.array(radius, np.float32), TOLERANCE)
    with pytest.raises(CorruptData):
        groups_snapshot.decode(written, TOLERANCE, 3)


def test_a_later_format_is_told_apart(monkeypatch):
    monkeypatch.setattr(groups_snapshot, "FORMAT", 2)
    written = groups_snapshot.encode(np.zeros(3, np.uint32), np.zeros(1, np.float32), TOLERANCE)
    monkeypatch.undo()
    with pytest.raises(FormatTooNew):
        groups_snapshot.decode(written, TOLERANCE, 3)


@pytest.mark.full
@pytest.mark.parametrize("name", ["haswell", "x86-64"])
def test_other_bodies_make_the_same_groups_and_find_their_members(name, tmp_path):
    """A fresh process that compiles for another processor runs these tests again; numpy's answers are the same."""
    picked = "not other_bodies and not codes and not threads"
    run_again_on(name, tmp_path, __file__, Path(__file__).with_name("test_shared.py"), picked=picked, timeout=600)
