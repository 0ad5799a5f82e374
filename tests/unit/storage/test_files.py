"""The seam for files: whole writes, typed errors, locks."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from tests.support.crash_images import Disk, Recorder
from tests.support.faulty_files import FaultAt

from vicinal.errors import Closed, CorruptData, DatabaseLocked, ReadOnly, StorageFull
from vicinal.storage.files import Files, IoCall


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = Files().open(tmp_path / "f", create=True)
    file.pwrite(b"0123456789", 4)
    file.pwrite(memoryview(np.arange(3, dtype=np.uint16).data), 20)
    assert file.size() == 26
    assert file.pread(100, 0) == bytes(4) + b"0123456789" + bytes(6) + b"\0\0\1\0\2\0"
    file.close()
    file.close()


def test_create_refuses_an_existing_file(tmp_path: Path) -> None:
    Files().open(tmp_path / "f", create=True).close()
    with pytest.raises(ReadOnly, match="f failed"):
        Files().open(tmp_path / "f", create=True)


def test_a_missing_file_is_corruption_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match="gone"):
        Files().open(tmp_path / "gone")


def test_a_map_is_read_only_and_outlives_the_file(tmp_path: Path) -> None:
    file = Files().open(tmp_path / "f", create=True)
    file.pwrite(b"abc", 0)
    mapped = file.map(3)
    file.pwrite(b"xyz", 0)
    file.close()
    assert mapped.tobytes() == b"xyz"
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_a_map_beyond_the_end_is_refused(tmp_path: Path) -> None:
    file = Files().open(tmp_path / "f", create=True)
    file.truncate(10)
    with pytest.raises(CorruptData, match="10 bytes long, 11"):
        file.map(11)
    file.close()


def test_maps_are_given_back(tmp_path: Path) -> None:
    file = Files().open(tmp_path / "f", create=True)
    file.truncate(1 << 20)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        file.map(1 << 20)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    file.close()


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, ReadOnly)]
)
def test_a_failed_write_is_typed(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    class Broken:
        def before(self, call: IoCall) -> int | None:
            if call.kind == "write":
                raise OSError(code, os.strerror(code))
            return None

    file = Files(Broken()).open(tmp_path / "f", create=True)
    with pytest.raises(kind) as caught:
        file.pwrite(b"a", 0)
    assert str(tmp_path / "f") in str(caught.value)
    file.close()


def test_a_full_disk_at_a_sync_is_not_to_be_retried(tmp_path: Path) -> None:
    file = Files(FaultAt(2, "ENOSPC")).open(tmp_path / "f", create=True)
    file.pwrite(b"a", 0)
    with pytest.raises(ReadOnly):
        file.fdatasync()
    file.close()


def test_a_short_write_is_continued(tmp_path: Path) -> None:
    file = Files(FaultAt(1, "short", lasting=True)).open(tmp_path / "f", create=True)
    file.pwrite(b"0123456789", 0)
    assert file.pread(10, 0) == b"0123456789"
    file.close()


def test_write_atomic_replaces_a_file_and_leaves_no_partial_one(tmp_path: Path) -> None:
    files, path = Files(), tmp_path / "f"
    files.write_atomic(path, [b"old"])
    (tmp_path / "f.tmp").write_bytes(b"left by a crash")
    files.write_atomic(path, [b"n", bytearray(b"e"), memoryview(b"w")])
    assert path.read_bytes() == b"new"
    assert files.listdir(tmp_path) == ["f"]


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    Files().write_atomic(path, [b"old"])
    for at in range(5):
        with pytest.raises((ReadOnly, StorageFull)):
            Files(FaultAt(at, "EIO")).write_atomic(path, [b"new"])
        if at < 4:  # the rename itself went through before the directory's sync failed
            assert path.read_bytes() == b"old"


def test_directories(tmp_path: Path) -> None:
    files, folder = Files(), tmp_path / "a"
    files.mkdir(folder)
    files.mkdir(folder)
    files.mkdir(folder / "b")
    files.open(folder / "b" / "f", create=True).close()
    files.rename(folder / "b" / "f", folder / "b" / "g")
    assert files.exists(folder / "b" / "g")
    assert files.listdir(folder) == ["b"]
    files.remove_tree(folder)
    files.remove_tree(folder)
    files.remove(folder)
    assert not files.exists(folder)


def test_remove_tree_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(outside)
    Files().remove_tree(tmp_path / "tree")
    assert (outside / "kept").exists()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    lock = Files().lock(tmp_path / "LOCK")
    with pytest.raises(DatabaseLocked, match=f"process {os.getpid()} on "):
        Files().lock(tmp_path / "LOCK")
    lock.release()
    lock.release()
    Files().lock(tmp_path / "LOCK").release()


def test_readers_share_the_lock_and_keep_writers_out(tmp_path: Path) -> None:
    first, second = (Files().lock(tmp_path / "LOCK", shared=True) for _ in range(2))
    first.release()
    with pytest.raises(DatabaseLocked):
        Files().lock(tmp_path / "LOCK")
    second.release()
    writer = Files().lock(tmp_path / "LOCK")
    with pytest.raises(DatabaseLocked):
        Files().lock(tmp_path / "LOCK", shared=True)
    writer.release()


def _lock_and_die(path: str) -> None:
    Files().lock(Path(path))
    os._exit(0)


def test_a_dead_process_leaves_no_lock(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_lock_and_die, args=(str(tmp_path / "LOCK"),))
    other.start()
    other.join()
    Files().lock(tmp_path / "LOCK").release()


def test_names_are_durable_after_mkdir_and_write_atomic(tmp_path: Path) -> None:
    recorder = Recorder()
    files = Files(recorder)
    files.write_atomic(tmp_path / "f", [b"whole"])
    disk = Disk(tmp_path)
    for call in recorder.calls:
        disk.apply(call)
    assert disk.worst() == {"f": b"whole"}


def test_a_new_directory_is_durable(tmp_path: Path) -> None:
    recorder = Recorder()
    Files(recorder).mkdir(tmp_path / "d")
    assert [(call.kind, call.path) for call in recorder.calls] == [
        ("mkdir", str(tmp_path / "d")),
        ("sync_dir", str(tmp_path)),
    ]


@pytest.mark.parametrize("at", range(4))
def test_a_failed_write_atomic_leaves_nothing_and_keeps_what_was(at: int, tmp_path: Path) -> None:
    """What was written so far may be all that a full disk lacks."""
    Files().write_atomic(tmp_path / "f", [b"old"])
    with pytest.raises((StorageFull, ReadOnly)):
        Files(FaultAt(at, "ENOSPC")).write_atomic(tmp_path / "f", [b"new", b"er"])
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_full_disk_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the holder's name is not told; to read what there is takes a lock too."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        lock = Files().lock(tmp_path / "LOCK")
    with pytest.raises(DatabaseLocked):
        Files().lock(tmp_path / "LOCK")
    lock.release()
    Files().lock(tmp_path / "LOCK").release()


def test_a_file_closed_while_it_is_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Files().open(tmp_path / "f", create=True)
    real = os.pread

    def closed(*arguments: int) -> bytes:
        file.close()
        return real(*arguments)

    monkeypatch.setattr(os, "pread", closed)
    with pytest.raises(Closed, match="f was closed"):
        file.pread(1, 0)


def test_a_closed_file_says_so(tmp_path: Path) -> None:
    file = Files().open(tmp_path / "f", create=True)
    file.close()
    for call in (file.size, file.disk_bytes, file.fdatasync, lambda: file.pread(1, 0), lambda: file.pwrite(b"x", 0)):
        with pytest.raises(Closed, match="f was closed"):
            call()
