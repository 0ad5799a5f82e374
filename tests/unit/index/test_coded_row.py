"""One query as a row of labels: the answer of `search`, or None where somebody has to look first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import codes_oracle as oracle

from vicinal import casting
from vicinal.index.coded import CodedIndex
from vicinal.index.coded_effort import Effort
from vicinal.index.filtered import sweep
from vicinal.kernels import walk_steps
from vicinal.types import Bits, Metric, Rows

N, K, EF = 700, 10, 48
KINDS = [
    (Metric.COSINE, "signs", 96, False),
    (Metric.L2, "signs", 100, True),
    (Metric.L2, "nibbles", 96, False),
    (Metric.DOT, "bytes", 40, False),
]
LABELS = np.dtype(np.uint64)
NAMES = np.arange(N + 40, dtype=np.uint64) * np.uint64(7) + np.uint64(2**63)


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind[:3])))
def made(request):
    metric, codec, dim, whole = request.param
    rows = oracle.make_rows(N + 40, dim, metric, 1, whole=whole)
    return CodedIndex.build(rows, N, metric, oracle.make_links(rows, N, metric, 2), codec=codec), rows


class Aim(NamedTuple):
    """What to search."""

    rows: Rows
    n: int
    alive: Bits | None = None
    labels: NDArray[np.uint64] = NAMES
    plain: bool = True


def row_of(index, rows, query, *, k=K, ef=EF, limit=N, allowed=None, plain=True):
    return index.search_row(query, k, ef, Aim(rows, limit, allowed, plain=plain))


def test_a_row_is_what_a_search_finds(made):
    index, rows = made
    for at, (k, ef) in enumerate([(K, EF), (K, EF), (3, EF), (3, 12), (K, EF)]):
        query = rows.vectors[N + at]
        slots, near = index.search(query, k, ef, rows=rows)
        labels, distances = row_of(index, rows, query, k=k, ef=ef)
        assert labels.dtype == LABELS
        assert labels.shape == distances.shape == (1, k)
        assert (labels[0] == slots).all()
        assert (distances[0] == near).all()


def test_points_are_told_by_their_labels(made):
    index, rows = made
    query = rows.vectors[N + 5]
    slots, near = index.search(query, K, EF, rows=rows)
    for _ in range(2):
        labels, distances = row_of(index, rows, query, plain=False)
        assert (labels[0] == NAMES[slots]).all()
        assert (distances[0] == near).all()
        assert (index.search(query, K, EF, rows=rows)[0] == slots).all(), "searches tell slots as before"


def test_answers_stay_as_they_are_when_the_next_one_comes(made):
    index, rows = made
    first = row_of(index, rows, rows.vectors[N])
    kept = [part.copy() for part in first]
    row_of(index, rows, rows.vectors[N + 1])
    assert (first[0] == kept[0]).all()
    assert (first[1] == kept[1]).all()


def test_what_changes_between_calls_is_noticed(made):
    index, rows = made
    query = rows.vectors[N + 2]
    row_of(index, rows, query)
    assert (row_of(index, rows, query, limit=300)[0] < 300).all()
    row_of(index, rows, query)
    odd = np.packbits(np.resize([False, True], 704), bitorder="little").view(np.uint64)
    assert (row_of(index, rows, query, allowed=odd)[0] % 2 == 1).all()
    assert (row_of(index, rows, query)[0][0] == index.search(query, K, EF, rows=rows)[0]).all()
    other = Rows(rows.vectors.copy(), rows.inv_norms.copy())
    row_of(index, other, query)
    assert index._free[-1].rows is other
    row_of(index, other, query, ef=EF + 40)
    assert index._free[-1].packed == index._packed[K, EF + 40][0]


def test_memory_is_known_by_what_it_was_aimed_at(made):
    index, rows = made
    query = rows.vectors[N + 3]
    odd = np.packbits(np.resize([False, True], 704), bitorder="little").view(np.uint64)
    every, some = Aim(rows, N), Aim(rows, N, odd)
    want = index.search_row(query, K, EF, every)
    for between in (
        lambda: index.search_row(query, K, EF, some),
        lambda: index.search(query, K, EF, rows=rows, allowed=odd),
        lambda: index.search(query, K, EF, rows=rows, limit=300),
        lambda: index.search_row(query, 3, EF, every),
        lambda: index.search_row(query, K, EF + 40, every),
        lambda: sweep(index, query, K, Effort(64, 20, 8, 12), rows=rows, limit=N, allowed=odd),
        lambda: sweep(index, query, K, Effort(64, 20, 8, 12), rows=rows, limit=N, allowed=None, hidden=3),
    ):
        between()
        found = index.search_row(query, K, EF, every)
        assert all((part == known).all() for part, known in zip(found, want, strict=True))
        assert index._free[-1].aimed is every
    between()
    assert index._free[-1].aimed is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_queries_that_cannot_be_compared_get_no_row(made, bad):
    index, rows = made
    for places in ([3], slice(None)):
        query = rows.vectors[N].copy()
        query[places] = bad
        assert row_of(index, rows, query) is None
    assert row_of(index, rows, rows.vectors[N]) is not None


def test_a_query_without_direction_gets_no_row_under_cosine(made):
    index, rows = made
    for factor in (0, 1e-25):
        query = rows.vectors[N] * np.float32(factor)
        assert (row_of(index, rows, query) is None) == (index.metric is Metric.COSINE)


def test_queries_in_pieces_or_of_other_sizes_get_no_row(made):
    index, rows = made
    query = rows.vectors[N]
    assert row_of(index, rows, query[:-1]) is None
    assert row_of(index, rows, np.concatenate((query, query))) is None
    assert row_of(index, rows, np.array([query, query])) is None
    assert row_of(index, rows, query[None, None]) is None
    assert row_of(index, rows, query[0].reshape(())) is None
    assert row_of(index, rows, np.repeat(query, 2)[::2]) is None
    shifted = np.frombuffer(b" " + query.tobytes(), np.uint8)[1:].view(np.float32)
    assert row_of(index, rows, shifted) is None
    assert (row_of(index, rows, query[None])[0] == row_of(index, rows, query)[0]).all()


def test_a_short_answer_gives_no_row(made):
    index, rows = made
    assert row_of(index, rows, rows.vectors[N], limit=K - 1) is None
    few = np.zeros(11, np.uint64)
    few[0] = 7
    assert row_of(index, rows, rows.vectors[N], allowed=few) is None


def test_rows_that_are_not_float32_give_no_row():
    rows = oracle.make_rows(N + 40, 96, Metric.L2, 1)
    index = CodedIndex.build(rows, N, Metric.L2, oracle.make_links(rows, N, Metric.L2, 2), codec="nibbles")
    half = Rows(rows.vectors.astype(np.float16), rows.inv_norms)
    assert row_of(index, half, rows.vectors[N]) is None


def test_a_new_table_of_efforts_is_used():
    rows = oracle.make_rows(2_600, 40, Metric.L2, 1)
    index = CodedIndex.build(
        rows, 2_500, Metric.L2, oracle.make_links(rows, 2_500, Metric.L2, 2), codec="bytes", measure=False
    )
    row_of(index, rows, rows.vectors[2_550], limit=2_500)
    before = index._free[-1].packed
    index.measure_efforts(rows, queries=40)
    row_of(index, rows, rows.vectors[2_550], limit=2_500)
    assert index._free[-1].packed == index._packed[K, EF][0] != before


def test_kernel_and_checks_agree_on_what_is_too_long_or_too_short():
    assert (float(walk_steps.LONGEST), float(walk_steps.SHORTEST)) == (casting.LONGEST, casting.SHORTEST)
