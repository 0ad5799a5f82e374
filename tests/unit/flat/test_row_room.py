"""Rows in a nameless file: the same answers, nothing lost when it grows, moves, is full or belongs to a parent."""

from __future__ import annotations

import copy
import errno
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from vicinal.errors import StorageFull
from vicinal.flat.inputs import Refused
from vicinal.flat_api import BFIndex, Index
from vicinal.index import row_room
from vicinal.index.mapped import is_mapped, pages_of
from vicinal.index.row_room import RowRoom

DIM = 16
X = np.random.default_rng(3).standard_normal((600, DIM)).astype(np.float32)


def filled(vectors: str, kind=Index):
    index = kind("cosine", DIM, vectors=vectors)
    index.add_items(X[:200], np.arange(200) * 3)
    index.add_items(X[200:], np.arange(200, 600) * 3)
    return index


def rows_of(index):
    return index._points.picture.rows.vectors


def same(one, other) -> None:
    for mine, theirs in zip(one.knn_query(X[:50], 5), other.knn_query(X[:50], 5), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    labels = sorted(one.get_ids_list())
    assert labels == sorted(other.get_ids_list())
    np.testing.assert_array_equal(one.get_items(labels), other.get_items(labels))


@pytest.mark.parametrize("kind", [Index, BFIndex])
def test_answers_do_not_depend_on_where_rows_are(kind, tmp_path):
    held, filed = filled("memory", kind), filled("file", kind)
    assert is_mapped(rows_of(filed))
    assert not is_mapped(rows_of(held))
    same(held, filed)
    filed.save_index(tmp_path / "a")
    again = kind("cosine", DIM, vectors="file")
    again.load_index(tmp_path / "a")
    same(held, again)
    twin = copy.deepcopy(filed)
    same(held, twin)
    assert is_mapped(rows_of(twin))


def test_auto_files_what_is_large_and_coded(monkeypatch):
    monkeypatch.setattr(row_room, "FILE_FROM_BYTES", X.nbytes // 2)
    index = Index("l2", DIM)
    index.init_index(0)
    index.add_items(X[:100])
    assert not is_mapped(rows_of(index))
    index.add_items(X[100:])
    assert is_mapped(rows_of(index))
    np.testing.assert_array_equal(index.get_items(range(600)), X)
    wide = Index("l2", DIM)  # never on codes: its walks read the floats
    wide.init_index(0, M=8)
    wide.add_items(X)
    assert not is_mapped(rows_of(wide))
    assert not is_mapped(rows_of(filled("memory")))
    assert not BFIndex("l2", DIM)._points._room.in_file(10**6)


def test_memory_usage_tells_what_is_mapped(tmp_path):
    held, filed = filled("memory").memory_usage(), filled("file").memory_usage()
    assert held["mapped"] == 0
    assert filed["mapped"] >= X.nbytes
    assert filed["vectors"] < held["vectors"] - X.nbytes // 2
    assert filed["total"] == filed["vectors"] + filed["graph"] + filed["labels"]
    filled("memory").save_index(tmp_path / "a")
    view = Index("cosine", DIM)
    view.view(tmp_path / "a")
    assert view.memory_usage()["mapped"] >= X.nbytes


def test_a_loaded_index_does_not_need_its_file(tmp_path):
    for vectors in ("memory", "file"):
        index = filled(vectors)
        index.save_index(tmp_path / "a")
        loaded = Index("cosine", DIM, vectors=vectors)
        loaded.load_index(tmp_path / "a")
        with (tmp_path / "a").open("r+b") as file:  # in place, and shorter
            file.write(bytes(5000))
            file.truncate(5000)
        same(index, loaded)


def test_compacting_moves_rows_to_another_file():
    index = filled("file")
    for label in range(0, 900, 3):
        index.mark_deleted(label)
    before = index.memory_usage()["mapped"]
    index.compact()
    assert is_mapped(rows_of(index))
    assert index.memory_usage()["mapped"] < before
    np.testing.assert_array_equal(index.get_items(np.arange(300, 600) * 3), X[300:])


def test_growing_does_not_copy_and_old_arrays_stay():
    room = RowRoom(DIM, "file")
    first = room.longer(np.empty((0, DIM), np.float32), 10, 0)
    first[:] = X[:10]
    second = room.longer(first, 5000, 10)
    np.testing.assert_array_equal(second[:10], X[:10])
    second[3] = 7
    assert first[3].tolist() == [7.0] * DIM  # one file under both


def test_a_child_writes_to_a_file_of_its_own(monkeypatch):
    index = filled("file")
    index.add_items(X[:1], [6999])
    theirs = rows_of(index)
    assert len(theirs) > 610  # room that a parent would use next
    before = theirs.copy()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    index.add_items(X[:3] + 1, [7000, 7001, 7002])
    assert is_mapped(rows_of(index))
    assert not np.shares_memory(rows_of(index), theirs)
    np.testing.assert_array_equal(theirs, before)
    np.testing.assert_array_equal(index.get_items([7001, 3]), [X[1] + 1, X[1]])


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_or_memory(monkeypatch):
    monkeypatch.setattr(row_room, "FILE_FROM_BYTES", 1)
    index, strict = Index("l2", DIM), Index("l2", DIM, vectors="file")
    index.add_items(X[:64])
    strict.add_items(X[:64])
    assert is_mapped(rows_of(index))
    monkeypatch.setattr(os, "posix_fallocate", full)
    index.add_items(X[64:])
    assert not is_mapped(rows_of(index))
    np.testing.assert_array_equal(index.get_items(range(600)), X)
    with pytest.raises(StorageFull, match="TMPDIR"):
        strict.add_items(X[64:])
    assert strict.knn_query(X[:64], 1)[0].ravel().tolist() == list(range(64))
    fresh = Index("l2", DIM)
    fresh.add_items(X)
    assert not is_mapped(rows_of(fresh))
    with pytest.raises(StorageFull, match="TMPDIR"):
        Index("l2", DIM, vectors="file").add_items(X)


def test_folders_in_memory_are_not_taken(monkeypatch):
    device = Path(tempfile.gettempdir()).stat().st_dev
    other = Path("/var/tmp").stat().st_dev
    kinds = {f"{os.major(d)}:{os.minor(d)}": "tmpfs" for d in (device, other)}
    monkeypatch.setattr(row_room, "_device_kinds", lambda: kinds)
    with pytest.raises(StorageFull):
        Index("l2", DIM, vectors="file").add_items(X)
    monkeypatch.setattr(row_room, "_device_kinds", dict)  # a system that does not tell
    Index("l2", DIM, vectors="file").add_items(X)


def test_kinds_of_devices_are_read():
    kinds = row_room._device_kinds()
    assert "proc" in kinds.values()
    assert all(":" in device for device in kinds)


def test_the_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    index = filled("file")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(pages_of(rows_of(index)), mmap.mmap)


def test_another_word_is_refused():
    with pytest.raises(Refused, match="'auto', 'memory', 'file'"):
        Index("l2", DIM, vectors="disk")
