"""The file: whole or refused, atomic, and read without copying when viewed."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from vicinal.errors import CorruptData, FormatTooNew, VicinalError
from vicinal.flat.file_format import HEADER_BYTES, Settings, encode, total_bytes
from vicinal.flat_api import BFIndex, Index

X = np.random.default_rng(2).standard_normal((40, 3)).astype(np.float32)


def saved(space: str = "cosine") -> bytes:
    index = Index(space, 3)
    index.init_index(50, M=8)
    index.add_items(X, np.arange(40) * 2)
    index.mark_deleted(6)
    index.add_items(X[:1] * 2, [8])
    return index.to_bytes()


CONTENT = saved()
NAMES = [
    *("magic", "version", "order", "kind", "space", "dim", "M", "ef_construction", "ef", "threads", "flags"),
    *("seed", "max", "n", "graph", "total"),
]


def with_header(**fields) -> bytes:
    """The content with header fields changed and the header's checksum right."""
    values = list(struct.unpack_from("<8sIII64sIIIIiIQQQQQ", CONTENT))
    for name, value in fields.items():
        values[NAMES.index(name)] = value
    head = struct.pack("<8sIII64sIIIIiIQQQQQ", *values) + CONTENT[148 : HEADER_BYTES - 4]
    return head + struct.pack("<I", crc32c(head)) + CONTENT[HEADER_BYTES:]


def test_the_bytes_are_the_same_every_time():
    assert saved() == CONTENT
    assert Index.from_bytes(CONTENT).to_bytes() == CONTENT
    assert with_header() == CONTENT


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_padding(at, flip):
    content = bytearray(CONTENT)
    content[at] ^= flip
    try:
        index = Index.from_bytes(bytes(content))
    except VicinalError:
        return
    assert index.to_bytes() == CONTENT


@pytest.mark.parametrize("length", [0, 1, 8, 191, 192, 200, len(CONTENT) - 1])
def test_a_file_cut_short_is_refused(tmp_path, length):
    (tmp_path / "cut").write_bytes(CONTENT[:length])
    for open_ in (Index("cosine", 3).load_index, Index("cosine", 3).view):
        with pytest.raises(CorruptData):
            open_(tmp_path / "cut")


def test_a_longer_file_is_refused():
    with pytest.raises(CorruptData):
        Index.from_bytes(CONTENT + b"\0")


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1 << 62},
        {"n": 40},
        {"graph": 1 << 62},
        {"total": 1},
        {"dim": 0},
        {"dim": 1 << 31},
        {"dim": 4},
        {"M": 0},
        {"M": 129},
        {"M": 9},
        {"kind": 1},
        {"kind": 2},
        {"space": b"no name"},
        {"space": b""},
        {"ef": 0},
        {"threads": -1},
        {"flags": 4},
        {"ef_construction": 0},
        {"ef_construction": 1 << 20},
        {"max": 1 << 40},
        {"version": 0},
        {"order": 0x04030201},
        {"magic": b"VICFLAT1"},
    ],
    ids=str,
)
def test_a_header_that_cannot_be_is_refused_although_its_checksum_holds(fields):
    with pytest.raises(CorruptData):
        Index.from_bytes(with_header(**fields))


def test_a_newer_format_says_so():
    with pytest.raises(FormatTooNew):
        Index.from_bytes(with_header(version=2))


@pytest.mark.parametrize(
    ("vectors", "labels", "states"),
    [
        (X, np.arange(40) // 2, np.zeros(40)),
        (X, np.arange(40), np.full(40, 3)),
        (np.where(X > 1, np.nan, X), np.arange(40), np.zeros(40)),
        (X * 0, np.arange(40), np.zeros(40)),
    ],
    ids=["label twice", "state", "nan", "zero"],
)
def test_points_that_cannot_have_been_added_are_refused(vectors, labels, states):
    parts = vectors.astype(np.float32), labels.astype(np.uint64), states.astype(np.uint8)
    content = b"".join(encode(Settings("cosine", 3, started=True), *parts, b""))
    assert len(content) == total_bytes(3, 40, 0)
    with pytest.raises(CorruptData):
        BFIndex.from_bytes(content)


def test_a_graph_of_other_points_is_refused():
    graph = CONTENT[total_bytes(3, 41, 0) :]
    settings_ = Settings("cosine", 3, started=True, M=8, ef_construction=200)
    parts = X[:30], np.arange(30, dtype=np.uint64), np.zeros(30, np.uint8)
    with pytest.raises(CorruptData):
        Index.from_bytes(b"".join(encode(settings_, *parts, graph)))


def test_an_index_without_points_and_one_not_initiated(tmp_path):
    for index in (Index("l2", 3), BFIndex("ip", 5)):
        index.save_index(tmp_path / "empty")
        other = type(index)(index.space, index.dim)
        other.load_index(tmp_path / "empty")
        assert len(other) == 0
        assert (other.knn_query([[1.0] * index.dim], 2)[0] == 2**64 - 1).all()
        type(index).from_bytes(index.to_bytes()).init_index(10)


def test_saving_leaves_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "index"
    index = Index.from_bytes(CONTENT)
    index.save_index(path)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdatasync", fails)
    index.add_items(X)
    with pytest.raises(VicinalError):
        index.save_index(path)
    assert path.read_bytes() == CONTENT


def test_a_view_reads_vectors_from_the_file(tmp_path):
    index = Index.from_bytes(CONTENT)
    index.save_index(tmp_path / "a")
    view = Index("cosine", 3)
    view.view(tmp_path / "a")
    assert not view._points.picture.rows.vectors.flags.writeable
    for mine, theirs in zip(index.knn_query(X, 5), view.knn_query(X, 5), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    index.save_index(tmp_path / "a")  # over it: the view keeps the old file
    view.mark_deleted(0)
    view.add_items(X[:2] + 1, [100, 101])
    assert view.knn_query(X[0] + 1, 1)[0].tolist() == [[100]]
    assert 0 in index
