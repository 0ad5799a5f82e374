"""Row files: growth, maps, checksums, the head page, and what happens when they do not match."""

from __future__ import annotations

import os
from pathlib import Path

import crc32c
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.crash_images import Disk, Recorder
from tests.support.faulty_files import FaultAt

from vicinal.errors import CorruptData, FormatTooNew, ReadOnly, StorageFull
from vicinal.storage.files import Files
from vicinal.storage.vectors import BLOCK_ROWS, HEAD_BYTES, RowFile

DIM = 5
ROW = 4 * DIM


def _block(rows: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, ROW), np.uint8)


def _make(kind: str, tmp_path: Path) -> RowFile:
    return RowFile.in_memory(ROW) if kind == "memory" else RowFile.create(Files(), tmp_path / "v.vec", ROW)


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_rows_come_back_from_the_matrix(kind: str, tmp_path: Path) -> None:
    file, blocks = _make(kind, tmp_path), [_block(m, m) for m in (1, 0, 1023, 1024, 7, 5000)]
    for block in blocks:
        file.append(block)
    everything = np.concatenate(blocks)
    matrix = file.matrix(np.float32, (DIM,))
    assert matrix.shape == (file.capacity, DIM)
    assert file.rows == len(everything)
    assert matrix[: file.rows].tobytes() == everything.tobytes()
    assert file.matrix(np.uint8, (5, 4)).shape == (file.capacity, 5, 4)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1
    file.verify(file.crcs_since())
    file.close()


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_the_matrix_is_the_same_array_until_the_file_grows(kind: str, tmp_path: Path) -> None:
    file = _make(kind, tmp_path)
    file.append(_block(10))
    old = file.matrix(np.float32, (DIM,))
    file.append(_block(10))
    assert file.matrix(np.float32, (DIM,)) is old
    file.append(_block(file.capacity))
    new = file.matrix(np.float32, (DIM,))
    assert new is not old
    assert old[:10].tobytes() == _block(10).tobytes() == new[:10].tobytes()
    file.close()
    assert old[:10].tobytes() == _block(10).tobytes()


def test_rows_appended_are_seen_through_an_older_map(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    file.append(_block(1))
    matrix = file.matrix(np.uint8, (ROW,))
    file.append(_block(3, 9))
    assert matrix[1:4].tobytes() == _block(3, 9).tobytes()
    file.close()


def test_a_file_grows_by_doubling_and_stays_small_on_disk(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    sizes = set()
    for _ in range(200):
        file.append(_block(2000))
        sizes.add((tmp_path / "v.vec").stat().st_size)
    assert len(sizes) <= 5
    file.close()
    small = RowFile.create(Files(), tmp_path / "small.vec", ROW)
    small.append(_block(3))
    assert small.disk_bytes <= 3 * 4096
    small.reserve(10_000_000)
    assert small.capacity >= 10_000_000
    assert small.disk_bytes <= 3 * 4096
    small.close()


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_checksums_cover_blocks_of_1024_rows(kind: str, tmp_path: Path) -> None:
    file, rows = _make(kind, tmp_path), _block(2500)
    expected = {b: crc32c.crc32c(rows[b * BLOCK_ROWS : (b + 1) * BLOCK_ROWS].tobytes()) for b in range(3)}
    for start in range(0, 2500, 300):
        file.append(rows[start : start + 300])
    assert file.crcs_since() == expected
    assert file.crcs_since() == {}
    file.append(rows[:1])
    assert set(file.crcs_since()) == {2}


def _reopen(file: RowFile, crcs: dict[int, int], rows: int, **more: object) -> RowFile:
    file.close()
    return RowFile.open(Files(), Path(file.name), ROW, rows, crcs=crcs, **more)  # type: ignore[arg-type]


def test_reopening_continues_where_the_commit_ended(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    file.append(_block(1500))
    file.sync(0)
    crcs = file.crcs_since()
    file.append(_block(50, 7))  # never committed
    file = _reopen(file, crcs, 1500, between=(0, 1))
    assert file.rows == 1500
    file.append(_block(700, 2))
    file.sync(1)
    crcs |= file.crcs_since()
    file = _reopen(file, crcs, 2200, between=(1, 2))
    file.verify(crcs)
    assert file.head_seq == 1
    assert file.matrix(np.uint8, (ROW,))[1500:2200].tobytes() == _block(700, 2).tobytes()
    file.close()


def test_rewind_forgets_rows_of_a_failed_commit(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    file.append(_block(1500))
    crcs = file.crcs_since()
    file.append(_block(900, 3))
    file.crcs_since()
    file.rewind(1500)
    assert file.crcs_since() == {}
    file.append(_block(10, 4))
    crcs |= file.crcs_since()
    assert file.rows == 1510
    file.verify(crcs)
    with pytest.raises(ValueError, match="cannot go back"):
        file.rewind(1511)
    file.close()


def test_the_head_keeps_two_seqs_in_turn(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    crcs: dict[int, int] = {}
    for seq in range(6):
        file.append(_block(1, seq))
        file.sync(seq)
        crcs |= file.crcs_since()
    file.sync(77)  # nothing new: nothing to sync
    assert file.head_seq == 5
    file.close()
    damaged = bytearray((tmp_path / "v.vec").read_bytes())
    damaged[512] ^= 1  # seq 5 went to the first slot; the second still holds 4
    (tmp_path / "v.vec").write_bytes(damaged)
    assert _reopen(file, crcs, 6).head_seq == 4
    damaged[1024] ^= 1
    (tmp_path / "v.vec").write_bytes(damaged)
    with pytest.raises(CorruptData, match="both head slots"):
        _reopen(file, crcs, 6)


def test_create_makes_name_and_head_durable(tmp_path: Path) -> None:
    recorder, disk = Recorder(), Disk(tmp_path)
    RowFile.create(Files(recorder), tmp_path / "v.vec", ROW).close()
    for call in recorder.calls:
        disk.apply(call)
    (tmp_path / "image").write_bytes(disk.worst()["v.vec"] or b"")
    RowFile.open(Files(), tmp_path / "image", ROW, 0).close()


def _saved(tmp_path: Path) -> tuple[Path, dict[int, int]]:
    file = _make("disk", tmp_path)
    file.append(_block(2100))
    file.sync(8)
    crcs = file.crcs_since()
    file.close()
    return tmp_path / "v.vec", crcs


@pytest.mark.parametrize("row", [0, 1023, 1024, 2047, 2048, 2099])
def test_a_flipped_bit_is_found_with_file_and_offset(row: int, tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[HEAD_BYTES + row * ROW + 3] ^= 4
    path.write_bytes(content)
    block = row // BLOCK_ROWS
    with pytest.raises(CorruptData, match=rf"v\.vec: rows {block * 1024} to .* bytes {4096 + block * 1024 * ROW} to"):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs).verify(crcs)


def test_appending_never_blesses_a_damaged_tail(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[HEAD_BYTES + 2099 * ROW] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptData, match="rows 2048 to 2099"):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs)


def test_a_missing_checksum_is_corruption(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    del crcs[0]
    with pytest.raises(CorruptData, match="rows 0 to 1023"):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs).verify(crcs)


def test_every_bit_of_the_head_that_matters_is_guarded(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    content = path.read_bytes()
    for at in range(36):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptData, match="head page"):
            RowFile.open(Files(), path, ROW, 2100, crcs=crcs)


@pytest.mark.parametrize("size", [0, 100, HEAD_BYTES, HEAD_BYTES + 2100 * ROW - 1])
def test_a_file_cut_short_is_refused(size: int, tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    os.truncate(path, size)
    with pytest.raises(CorruptData):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs)


def test_a_file_cut_short_is_refused_where_no_block_is_partial(tmp_path: Path) -> None:
    """There is nothing to compare with a checksum on opening, and a map would be read beyond the file."""
    path, crcs = _saved(tmp_path)
    RowFile.open(Files(), path, ROW, 2 * BLOCK_ROWS, crcs=crcs).close()
    os.truncate(path, HEAD_BYTES + 2 * BLOCK_ROWS * ROW - 1)
    with pytest.raises(CorruptData, match="bytes long"):
        RowFile.open(Files(), path, ROW, 2 * BLOCK_ROWS, crcs=crcs)


def test_another_file_of_rows_is_refused(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    with pytest.raises(CorruptData, match="8-byte rows"):
        RowFile.open(Files(), path, 8, 10)


@pytest.mark.parametrize(
    ("between", "culprit"), [((0, 7), "older copy of the catalogue"), ((9, 12), "older copy of the file")]
)
def test_a_swapped_old_version_is_named(between: tuple[int, int], culprit: str, tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    with pytest.raises(CorruptData, match=culprit):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs, between=between)
    RowFile.open(Files(), path, ROW, 2100, crcs=crcs, between=(8, 8)).close()


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[8] = 2
    content[32:36] = crc32c.crc32c(bytes(content[:32])).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(FormatTooNew, match="format 2"):
        RowFile.open(Files(), path, ROW, 2100, crcs=crcs)


def test_read_only_files_refuse_rows(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    file = RowFile.open(Files(), path, ROW, 2100, read_only=True, crcs=crcs)
    with pytest.raises(ReadOnly, match="opened read-only"):
        file.append(_block(1))
    assert file.matrix(np.uint8, (ROW,))[:2100].tobytes() == _block(2100).tobytes()
    file.close()


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, ROW + 1), np.uint8),
        np.zeros(ROW, np.uint8),
        np.zeros((2, ROW), np.int8),
        np.zeros((ROW, 2), np.uint8).T,
        np.zeros((4, ROW), np.uint8)[::2],
    ],
)
def test_rows_of_another_shape_are_refused(rows: NDArray[np.uint8], tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    with pytest.raises(ValueError, match="takes"):
        file.append(rows)
    assert file.rows == 0
    file.close()


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_after_a_failure_every_append_is_refused(at: int, tmp_path: Path) -> None:
    """Growth, rows, head slot, sync: after any of them fails only reopening tells what is there."""
    fault = FaultAt(10**9, "EIO")
    file = RowFile.create(Files(fault), tmp_path / "v.vec", ROW)
    fault.at = fault.calls + at
    with pytest.raises(ReadOnly, match="must be reopened"):
        _append_and_sync(file)
    with pytest.raises(ReadOnly, match="failed to be written before"):
        file.append(_block(1))
    file.close()


def _append_and_sync(file: RowFile) -> None:
    file.append(_block(3))
    file.sync(0)


def test_a_full_disk_is_retried(tmp_path: Path) -> None:
    fault = FaultAt(10**9, "ENOSPC")
    file = RowFile.create(Files(fault), tmp_path / "v.vec", ROW)
    fault.at = fault.calls + 1
    with pytest.raises(StorageFull):
        file.append(_block(3))
    file.rewind(0)
    _append_and_sync(file)
    file.verify(file.crcs_since())
    file.close()


def test_a_failing_read_is_corruption_that_names_the_file(tmp_path: Path) -> None:
    path, crcs = _saved(tmp_path)
    fault = FaultAt(0, "EIO", lasting=True)
    with pytest.raises(CorruptData, match=r"v\.vec cannot be read"):
        RowFile.open(Files(fault), path, ROW, 2100, crcs=crcs)


def test_an_empty_matrix(tmp_path: Path) -> None:
    file = _make("disk", tmp_path)
    assert file.matrix(np.float32, (DIM,)).shape == (0, DIM)
    file.close()


def test_a_matrix_made_while_the_file_grows_is_not_kept_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The indexer asks for one while the writer appends."""
    _make("disk", tmp_path).close()
    file = RowFile.open(Files(), tmp_path / "v.vec", ROW, 0)
    real = file._backing.map

    def grown() -> NDArray[np.uint8]:
        mapped = real()
        monkeypatch.undo()
        file.append(_block(3000))
        return mapped

    monkeypatch.setattr(file._backing, "map", grown)
    assert len(file.matrix(np.uint8, (ROW,))) == 0
    assert file.matrix(np.uint8, (ROW,))[:3000].tobytes() == _block(3000).tobytes()
    file.close()


def test_after_a_failure_no_sync_says_that_all_is_well(tmp_path: Path) -> None:
    fault = FaultAt(10**9, "EIO")
    file = RowFile.create(Files(fault), tmp_path / "v.vec", ROW)
    file.append(_block(3))
    fault.at = fault.calls + 1
    for _ in range(2):
        with pytest.raises(ReadOnly):
            file.sync(0)
    file.close()
