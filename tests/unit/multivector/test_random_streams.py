"""The encoder's random streams: pinned words, and the statistics that the estimator rests on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vicinal.multivector import random_streams as streams

# [rand.predef]: the 10,000th word of a default-seeded mt19937
MERSENNE_10000TH = 4123659995
PINNED_GAUSSIANS = [[0.23454992, 0.58429873], [-0.4201588, 0.32768187]]
PINNED_SIGNS = [[-1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]]
PINNED_COLUMNS = [926, 146, 724, 865, 961, 9]
PINNED_COLUMN_SIGNS = [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]


def test_mersenne_words_are_those_of_the_standard() -> None:
    words = streams._MersenneWords(5489)
    assert int(words.peek(10_000)[9_999]) == MERSENNE_10000TH


def test_words_stay_in_order_across_runs() -> None:
    words, whole = streams._MersenneWords(7), streams._MersenneWords(7).peek(100_000)
    drawn = []
    for count in (1, 40_000, 3, 59_996):
        drawn.append(words.peek(count))
        words.skip(count)
    assert np.array_equal(np.concatenate(drawn), whole)


def test_gaussians_fill_column_by_column() -> None:
    flat = streams.gaussians(11, 24, 1).reshape(-1)
    assert np.array_equal(streams.gaussians(11, 8, 3), flat.reshape(3, 8).T)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    columns, signs = streams.count_sketch(3, 50_000, 1_000)
    fewer, their_signs = streams.count_sketch(3, 17, 1_000)
    assert np.array_equal(columns[:17], fewer)
    assert np.array_equal(signs[:17], their_signs)
    assert np.array_equal(streams.gaussians(3, 50_000, 1)[:17], streams.gaussians(3, 17, 1))


def test_a_rejected_word_is_skipped_as_lemire_does() -> None:
    width = (1 << 31) + 1  # almost half of all words are rejected
    words = streams._MersenneWords(5).peek(4_000)
    at = 0
    expected: list[tuple[int, int]] = []
    while len(expected) < 500:
        product = int(words[at]) * width
        at += 1
        if product % (1 << 32) >= ((1 << 32) - width) % width:
            heads = int(words[at + 1]) < 1 << 31
            expected.append((product >> 32, 1 if heads else -1))
            at += 2
    columns, signs = streams.count_sketch(5, 500, width)
    assert list(zip(columns.tolist(), signs.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "draw", [lambda: streams.gaussians(1, 400, 250), lambda: streams.paper_gaussians(1, 2, 400, 250)]
)
def test_gaussians_are_standard_normal(draw: Callable[[], NDArray[np.float32]]) -> None:
    values = draw().astype(np.float64)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values > 1.96).mean() - 0.025) < 0.003
    assert abs((values**4).mean() - 3) < 0.15


def test_paper_streams_are_pinned() -> None:
    """Version 1 of our own generator: a change here changes every stored proxy."""
    assert np.allclose(streams.paper_gaussians(42, 0, 2, 2), PINNED_GAUSSIANS, rtol=0, atol=1e-7)
    assert streams.paper_signs(42, 1, 2, 4).tolist() == PINNED_SIGNS
    columns, signs = streams.paper_count_sketch(42, 40, 6, 1_000)
    assert columns.tolist() == PINNED_COLUMNS
    assert signs.tolist() == PINNED_COLUMN_SIGNS


def test_paper_streams_differ_by_seed_and_stream() -> None:
    base = streams.paper_gaussians(1, 0, 8, 8)
    assert not np.isclose(base, streams.paper_gaussians(2, 0, 8, 8)).any()
    assert not np.isclose(base, streams.paper_gaussians(1, 1, 8, 8)).any()


@pytest.mark.parametrize(
    "sketch", [lambda: streams.count_sketch(9, 90_000, 30), lambda: streams.paper_count_sketch(9, 1, 90_000, 30)]
)
def test_count_sketch_is_uniform(sketch: Callable[[], tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
    columns, signs = sketch()
    counts = np.bincount(columns, minlength=30)
    assert len(counts) == 30
    assert abs(counts - 3_000).max() < 300
    assert abs(signs.mean()) < 0.02
    assert set(np.unique(signs)) == {-1.0, 1.0}
