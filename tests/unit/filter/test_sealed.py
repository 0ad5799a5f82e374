"""Large columns: every way of answering against numpy, and the choice between them."""

import numpy as np
import pytest
from tests.support.filter_oracle import bits_to_list

from vicinal.filter import ordered as ordered_module
from vicinal.filter.membership import Between, NoneOf, OneOf
from vicinal.filter.ordered import Ordered, spans_of
from vicinal.filter.sealed import Sealed
from vicinal.filter.values import Values

N = 5_000
RANDOM = np.random.default_rng(3)
COLUMNS = {
    "few integers": RANDOM.integers(0, 9, N).astype(np.int64),
    "many integers": RANDOM.integers(-(10**12), 10**12, N),
    "skewed": np.where(RANDOM.random(N) < 0.9, 5, RANDOM.integers(0, 2_000, N)).astype(np.int64),
    "one value": np.full(N, 7, np.int64),
    "floats": RANDOM.normal(size=N),
}


def _ladder(values):
    return ("f8",) if values.dtype.kind == "f" else ("i1", "i2", "i4", "i8")


def _questions(values):
    low, middle, high = np.quantile(values, [0.0, 0.5, 1.0]).tolist()
    some = [v.item() for v in values[:4]]
    yield Between(low, high)
    yield Between(middle, high)
    yield Between(low, middle)
    yield Between(np.quantile(values, 0.2), np.quantile(values, 0.21))
    yield Between(some[0], some[0])
    yield Between(high + 1, high + 2)
    yield Between(high, low) if high > low else Between(high + 1, low)
    yield OneOf(np.unique(values[:1]))
    yield OneOf(np.unique(values[:4]))
    yield OneOf(np.unique(values[:40]))
    yield OneOf(values[:0])
    yield NoneOf(np.unique(values[:4]))


def _truth(question, values):
    if isinstance(question, Between):
        return (values >= question.low) & (values <= question.high)
    listed = np.isin(values, question.listed)
    return ~listed if isinstance(question, NoneOf) else listed


@pytest.fixture(params=[32, 3])
def way(request, monkeypatch):
    monkeypatch.setattr(ordered_module, "_QUANTILES", request.param)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("sealed_at", [N, 4_000, 3_968])
def test_single_values(name, holes, sealed_at, way):
    values = COLUMNS[name]
    has = RANDOM.random(N) < 0.8 if holes else np.ones(N, bool)
    slots = np.flatnonzero(has).astype(np.uint32)
    column = Values(*_ladder(values))
    before = slots < sealed_at
    column.append(slots[before], values[has][before])
    column.seal()
    if not before.all():
        column.append(slots[~before], values[has][~before])
    for question in _questions(values):
        truth = _truth(question, values) & has
        for stop in (N, 4_001, 640, 1):
            assert bits_to_list(column.bits(question, 0, stop), stop) == truth[:stop].tolist()
            low, about, high = column.count(question, stop)
            assert low <= truth[:stop].sum() <= high
            assert low <= about <= high
            if stop == N:
                assert low == high  # one value a slot: exact
        assert bits_to_list(column.bits(question, 128, N), N - 128) == truth[128:].tolist()


@pytest.mark.parametrize("sealed_at", [N, 4_000])
def test_lists_of_values(sealed_at, way):
    lengths = RANDOM.integers(0, 4, N)
    slots = np.repeat(np.arange(N), lengths).astype(np.uint32)
    values = RANDOM.integers(0, 12, slots.size)
    column = Values("i1", "i2")
    before = slots < sealed_at
    column.append(slots[before], values[before])
    column.seal()
    if not before.all():
        column.append(slots[~before], values[~before])
    for question in _questions(values):
        hit = _truth(question, values)
        truth = np.zeros(N, bool)
        truth[slots[hit]] = True
        for stop in (N, 4_001, 640):
            assert bits_to_list(column.bits(question, 0, stop), stop) == truth[:stop].tolist()
            low, about, high = column.count(question, stop)
            assert low <= truth[:stop].sum() <= high
            assert low <= about <= high
        if isinstance(question, Between) and question.low == question.high:
            assert column.count(question, N) == (truth.sum(),) * 3  # repeats in a list count once


def test_a_column_sorts_itself_as_it_grows(monkeypatch):
    monkeypatch.setattr("vicinal.filter.values.SEAL_FROM", 100)
    column = Values("i1", "i2")
    stops = []
    for begin in range(0, 2_000, 50):
        column.append(np.arange(begin, begin + 50, dtype=np.uint32), np.arange(50))
        stops.append(column.picture.sealed.stop if column.picture.sealed else 0)
    assert stops[0] == 0
    assert stops[-1] >= 1_300
    assert len(set(stops)) < 12  # a growing share, or sorting would cost more than appending


def test_sets_stand_at_the_ends_of_frequent_values():
    values = np.concatenate((np.zeros(3_000, np.int64), RANDOM.integers(1, 2_000, 2_000)))
    column = Values("i1", "i2")
    column.append(np.arange(N, dtype=np.uint32), values)
    column.seal()
    sealed = column.picture.sealed
    assert isinstance(sealed, Sealed)
    ordered = sealed.ordered
    assert ordered.single
    assert ordered.ranks[:2].tolist() == [0, 3_000]
    assert np.diff(ordered.ranks[1:]).max() <= N / 32 + 1
    assert bits_to_list(ordered.sets[0], N) == (values == 0).tolist()
    assert bits_to_list(ordered.sets[-1], N) == [True] * N
    assert column.memory_bytes > ordered.memory_bytes > ordered.sets.nbytes


def test_bits_of_lists_are_kept_for_frequent_values_only():
    slots = np.repeat(np.arange(N, dtype=np.uint32), 2)
    values = np.stack((np.full(N, 3), RANDOM.integers(100, 2_000, N)), axis=1).reshape(-1)
    column = Values("i1", "i2")
    column.append(slots, values)
    column.seal()
    sealed = column.picture.sealed
    assert isinstance(sealed, Sealed)
    ordered = sealed.ordered
    assert not ordered.single
    assert ordered.runs == ((0, N),)
    assert bits_to_list(column.bits(Between(3, 150), 0, N), N) == [True] * N


@pytest.mark.parametrize("n", [1, 63, 64, 65, 5_000])
def test_spans_of_an_order_are_its_slots(n):
    order = RANDOM.permutation(n).astype(np.uint32)
    for runs in ([], [(n // 3, n // 2)], [(0, n)]):
        ordered = Ordered.of(order, n, [run for run in runs if run[0] < run[1]], single=True)
        ends = RANDOM.integers(0, n + 1, (40, 2))
        for i, j in [(0, n), (0, 0), *np.sort(ends, axis=1).tolist()]:
            truth = np.zeros(n, bool)
            truth[order[i:j]] = True
            assert bits_to_list(ordered.bits(np.array(((i, j),), np.int64)), n) == truth.tolist()


def test_spans_that_touch_are_put_together():
    begins, ends = np.array([0, 4, 7, 9, 12]), np.array([4, 4, 9, 12, 13])
    assert spans_of(begins, ends).tolist() == [[0, 4], [7, 13]]


@pytest.mark.parametrize("kind", [OneOf, NoneOf])
def test_listed_values_that_narrow_keys_cannot_hold_are_not_there(kind):
    """Cast to a byte, 300 is 44 and -200 is 56, both of which the column holds."""
    values = np.array([44, 56, 7, 44, 56], np.int64)
    column = Values("i1", "i2", "i4", "i8")
    column.append(np.arange(5, dtype=np.uint32), values)
    column.seal()
    sealed = column.picture.sealed
    assert isinstance(sealed, Sealed) and sealed.keys.dtype == np.int8
    question = kind(np.array([-200, 7, 300]))
    assert bits_to_list(column.bits(question, 0, 5), 5) == _truth(question, values).tolist()


def test_stretches_around_kept_runs():
    """Slots that stand more than once: what lies before, between and after the runs is set one by one."""
    order = np.array([9, 0, 1, 2, 3, 4, 4, 5, 6, 7, 0, 8], np.uint32)
    ordered = Ordered.of(order, 10, [(1, 4), (6, 9)], single=False)
    for low in range(13):
        for high in range(low, 13):
            found = bits_to_list(ordered.bits(np.array([[low, high]])), 10)
            assert found == np.isin(np.arange(10), order[low:high]).tolist()
