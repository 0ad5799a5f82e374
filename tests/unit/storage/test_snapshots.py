"""Snapshots are whole or refused."""

from __future__ import annotations

from pathlib import Path

import crc32c
import numpy as np
import pytest
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.storage import snapshots
from vicinal.storage.files import Files


def test_bytes_come_back(tmp_path: Path) -> None:
    chunks: list[bytes | bytearray | memoryview | NDArray[np.generic]] = [
        b"ab",
        bytearray(b"c"),
        memoryview(b"d"),
        np.arange(6, dtype=np.uint16).reshape(2, 3).T,
        np.zeros((0, 4)),
        b"",
    ]
    path = snapshots.publish(Files(), tmp_path, "graph-3", chunks)
    assert path == tmp_path / "graph-3.snapshot"
    loaded = snapshots.load(Files(), path)
    assert bytes(loaded) == b"abcd" + np.arange(6, dtype=np.uint16).reshape(2, 3).T.tobytes()
    assert loaded.readonly
    path.unlink()
    assert bytes(loaded[:2]) == b"ab"


def test_a_large_chunk_is_written_in_parts(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, 40 << 20, np.uint8)
    loaded = snapshots.load(Files(), snapshots.publish(Files(), tmp_path, "g", [b"x", big]))
    assert loaded[1:] == big.data


def test_an_empty_snapshot(tmp_path: Path) -> None:
    assert len(snapshots.load(Files(), snapshots.publish(Files(), tmp_path, "g", []))) == 0


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = snapshots.publish(Files(), tmp_path, "g", [b"some links of a graph"])
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((CorruptData, FormatTooNew), match=r"g\.snapshot"):
            snapshots.load(Files(), path)


def test_every_cut_and_any_addition_is_found(tmp_path: Path) -> None:
    path = snapshots.publish(Files(), tmp_path, "g", [b"some links of a graph"])
    content = path.read_bytes()
    for wrong in [content[:size] for size in range(len(content))] + [content + b"\0", content + content[-24:]]:
        path.write_bytes(wrong)
        with pytest.raises(CorruptData, match=r"g\.snapshot"):
            snapshots.load(Files(), path)


def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    path = snapshots.publish(Files(), tmp_path, "g", [b"abc"])
    content = bytearray(path.read_bytes())
    content[3:11] = (2**63).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(CorruptData, match="were written"):
        snapshots.load(Files(), path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = snapshots.publish(Files(), tmp_path, "g", [b"abc"])
    content = bytearray(path.read_bytes())
    content[15:19] = (2).to_bytes(4, "little")
    content[11:15] = crc32c.crc32c(b"abc" + bytes(content[3:11]) + bytes(content[15:19])).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(FormatTooNew, match="format 2"):
        snapshots.load(Files(), path)


def test_old_ones_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("g-1", "g-2", "g-3"):
        snapshots.publish(Files(), tmp_path, name, [b"abc"])
    (tmp_path / "g-4.snapshot.tmp").write_bytes(b"left by a crash")
    (tmp_path / "v-0.vec").write_bytes(b"")
    assert snapshots.remove_old(Files(), tmp_path, ["g-3"]) == ["g-1.snapshot", "g-2.snapshot", "g-4.snapshot.tmp"]
    assert Files().listdir(tmp_path) == ["g-3.snapshot", "v-0.vec"]
