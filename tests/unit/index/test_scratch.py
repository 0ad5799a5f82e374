from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.index import spaces
from vicinal.index.scratch import Scratch, address, aligned, give_back, take
from vicinal.types import Metric


@pytest.mark.parametrize("shape", [(1,), (7, 3), (100,)])
@pytest.mark.parametrize("fill", [None, 5])
def test_aligned_arrays(shape, fill):
    array = aligned(shape, np.uint32, fill)
    assert array.shape == shape
    assert address(array) % 64 == 0
    assert (array == (fill or 0)).all()


def test_a_scratch_is_lent_to_one_at_a_time():
    one, two = take(10, 1, 4), take(10, 1, 4)
    assert one is not two
    give_back(one)
    assert take(10, 1, 4) is one
    give_back(one)
    give_back(two)


def test_growing_keeps_the_block_true():
    scratch = Scratch()
    for slots, vectors, dim in [(10, 1, 4), (5, 9, 4), (1000, 2, 16), (3, 1, 8)]:
        scratch.fit(slots, vectors, dim)
        assert scratch._block.tolist() == list(scratch.work())
        assert len(scratch.query) == dim
        work = scratch.work()
        assert work.pool % 64 == work.results % 64 == 0
        assert work.results - work.pool >= 64 * (work.pool_vectors + 1)
        assert work.pool_vectors >= vectors


def test_epochs_never_repeat_without_a_wipe():
    scratch = Scratch()
    scratch.fit(4, 1, 1)
    for _ in range(600):
        epoch = scratch.next_epoch()
        assert 1 <= epoch <= 255
        assert (scratch._visited < epoch).all()
        scratch._visited[1] = epoch


def test_rows_are_remembered_while_they_live():
    rows = rows_of(Metric.L2, clustered(5, 4, 1))
    at = spaces.space_at(Metric.L2, rows)
    assert spaces.space_at(Metric.L2, rows) == at
    assert spaces.space_at(Metric.DOT, rows) != at
    keys = [key for key in spaces._known if key[0] == id(rows.vectors)]
    assert len(keys) == 2
    del rows
    gc.collect()
    assert not any(key in spaces._known for key in keys)


@pytest.mark.parametrize("changed", ["metric", "norms"])
def test_what_one_thread_was_given_stays_while_another_looks_in_another_way(changed):
    """A kernel reads the block after the call: it must not be freed because the same vectors are compared otherwise."""
    rows = rows_of(Metric.COSINE, clustered(5, 4, 1))
    metric = Metric.L2 if changed == "metric" else Metric.COSINE
    other = rows if changed == "metric" else rows._replace(inv_norms=rows.inv_norms.copy())
    spaces.space_at(Metric.COSINE, rows)
    block = weakref.ref(next(known.block for key, known in spaces._known.items() if key[0] == id(rows.vectors)))
    spaces.space_at(metric, other)
    gc.collect()
    assert block() is not None


def test_other_norms_are_another_space():
    rows = rows_of(Metric.COSINE, clustered(5, 4, 1))
    other = rows._replace(inv_norms=rows.inv_norms.copy())
    first = spaces.space_of(Metric.COSINE, rows)
    spaces.space_at(Metric.COSINE, rows)
    spaces.space_at(Metric.COSINE, other)
    expected = spaces.space_of(Metric.COSINE, other)
    key = id(other.vectors), id(other.inv_norms), Metric.COSINE
    assert tuple(spaces._known[key].block) == expected[:-1] != first[:-1]


def test_norms_of_another_type_are_refused():
    rows = rows_of(Metric.COSINE, clustered(5, 4, 1))
    with pytest.raises(ValueError, match="inv_norms"):
        spaces.space_at(Metric.COSINE, rows._replace(inv_norms=rows.inv_norms.astype(np.float64)))


def test_inverse_norms():
    vectors = clustered(5, 33, 1)
    vectors[2] = 0
    found = spaces.inverse_norms(vectors)
    np.testing.assert_allclose(found, rows_of(Metric.COSINE, vectors).inv_norms, rtol=1e-6)
    assert found[2] == 0
