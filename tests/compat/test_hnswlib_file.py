"""hnswlib's files: what it wrote is read, and what it cannot have written is refused before anything is allocated."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.hnswlib_oracle import brute_file, hnsw_file

from vicinal.errors import CorruptData
from vicinal.flat_api import BFIndex, Index
from vicinal.io.hnswlib_file import read_brute_force, read_hnsw

HERE = Path(__file__).parent
GOLDEN = np.random.default_rng(5).standard_normal((60, 4)).astype(np.float32).round(2)
LABELS = np.arange(60, dtype=np.uint64) * 3 + 1
X = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)
IDS = np.arange(20) + 100


def read(content: bytes | bytearray, dim: int = 3):
    return read_hnsw(memoryview(content), dim, "a.bin")


def test_a_file_that_hnswlib_wrote():
    index = Index("l2", 4)
    index.load_index(HERE / "hnswlib-0.8.0-hnsw.bin")
    assert (index.M, index.ef_construction, index.max_elements, index.element_count) == (4, 50, 80, 60)
    assert sorted(index.get_ids_list()) == LABELS.tolist()
    assert len(index) == 58
    assert 4 not in index
    index.unmark_deleted(4)
    np.testing.assert_array_equal(index.get_items([4, 178]), GOLDEN[[1, 59]])
    labels, distances = index.knn_query(GOLDEN[5], 1)
    assert labels.tolist() == [[16]]
    assert distances.tolist() == [[0]]
    index.add_items(GOLDEN[0] + 1)
    assert index.element_count == 61


def test_a_brute_force_file_that_hnswlib_wrote():
    index = BFIndex("l2", 4)
    index.load_index(HERE / "hnswlib-0.8.0-brute.bin")
    assert (index.get_max_elements(), index.get_current_count()) == (70, 60)
    assert index.knn_query(GOLDEN, 1)[0].ravel().tolist() == LABELS.tolist()


def test_the_oracle_writes_what_is_read():
    found = read(hnsw_file(X, IDS, deleted={2}))
    np.testing.assert_array_equal(found.vectors, X)
    assert found.labels.tolist() == IDS.tolist()
    assert np.flatnonzero(found.deleted).tolist() == [2]
    assert (found.M, found.ef_construction, found.max_elements) == (4, 50, 23)
    assert len(read(hnsw_file(X[:0], IDS[:0], upper={}, entry=0xFFFFFFFF, top=-1)).vectors) == 0
    assert read_brute_force(memoryview(brute_file(X, IDS, 25)), 3, "b").labels.tolist() == IDS.tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 1 << 60, "max_elements": 1 << 61},
        {"n": 24},
        {"n": 21},
        {"n": 19},
        {"M": 1},
        {"M": 5},
        {"M": 1 << 40, "maxM": 1 << 40, "maxM0": 1 << 41},
        {"maxM0": 9},
        {"maxM": 3},
        {"offset": 8},
        {"element": 1 << 40},
        {"element": 0},
        {"label_at": 1 << 63},
        {"label_at": 37},
        {"vector_at": 0},
        {"top": 2},
        {"top": -1},
        {"entry": 5},
        {"entry": 20},
        {"factor": float("nan")},
        {"ef_construction": 0},
        {"links": {3: [20]}},
        {"links": {3: [0xFFFFFFFF]}},
        {"links": {3: list(range(9))}},
        {"upper": {0: [[20]], 1: [[0]]}},
        {"upper": {0: [[5]], 1: [[0]]}},
        {"upper": {0: [[1, 1, 1, 1, 1]], 1: [[0]]}},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(CorruptData, match=r"a\.bin"):
        read(hnsw_file(X, IDS, **wrong))


def test_another_dimension_labels_twice_and_nan_are_refused():
    with pytest.raises(CorruptData, match="3 dimensions, not 4"):
        read(hnsw_file(X, IDS), 4)
    with pytest.raises(CorruptData, match="same label"):
        read(hnsw_file(X, IDS // 2))
    with pytest.raises(CorruptData, match="NaN"):
        read(hnsw_file(np.where(X > 1, np.nan, X), IDS))


@pytest.mark.parametrize("cut", [0, 10, 95, 96, 100, 500, -5, -1])
def test_a_file_cut_short_is_refused(cut):
    content = hnsw_file(X, IDS)
    with pytest.raises(CorruptData):
        read(content[:cut])
    with pytest.raises(CorruptData):
        read_brute_force(memoryview(brute_file(X, IDS, 25))[:cut], 3, "b")


def test_a_longer_file_is_refused():
    with pytest.raises(CorruptData, match="follow its end"):
        read(hnsw_file(X, IDS) + b"\0")


def test_upper_lists_longer_than_the_file_are_refused():
    content = hnsw_file(X, IDS)
    at = len(content) - 4
    for size in (20, 0xFFFFFFF0, 3):
        content[at:] = struct.pack("<I", size)
        with pytest.raises(CorruptData, match="upper lists"):
            read(content)


@pytest.mark.parametrize("head", [(1 << 62, 20, 1), (20, 20, 21), (25, 20, 1 << 60), (20, 24, 20)])
def test_brute_force_sizes_that_do_not_fit_are_refused(head):
    content = brute_file(X, IDS, 20)
    content[:24] = struct.pack("<QQQ", *head)
    with pytest.raises(CorruptData):
        read_brute_force(memoryview(content), 3, "b")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 96 + 20 * 60 + 200), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_gives_a_sound_index(at, flip):
    content = hnsw_file(X, IDS, deleted={2})
    content[at % len(content)] ^= flip
    try:
        found = read(content)
    except CorruptData:
        return
    assert found.vectors.shape == (20, 3)
    assert np.isfinite(found.vectors).all()
    assert len(set(found.labels.tolist())) == 20


def test_an_index_refuses_a_file_of_neither_kind(tmp_path):
    (tmp_path / "text").write_bytes(b"no index at all" * 20)
    with pytest.raises(CorruptData, match="text"):
        Index("l2", 4).load_index(tmp_path / "text")
    with pytest.raises(RuntimeError, match="Cannot open file"):
        Index("l2", 4).load_index(str(tmp_path / "nothing"))
