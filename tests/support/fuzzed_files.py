"""Files that are read whole or mapped, to be damaged: seeds, and what reads a mutant."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.support.fuzzed_parts import Seeded, ignore, some_tokens
from tests.support.hnswlib_oracle import brute_file, hnsw_file

from vicinal.backup import listed
from vicinal.flat_api import BFIndex, Index
from vicinal.io.fvecs import VecsSource
from vicinal.io.jsonl import JsonlSource
from vicinal.io.npy import read_matrix, read_tokens
from vicinal.io.parquet import ParquetSource
from vicinal.storage.archive import Archive, Source, pack
from vicinal.storage.files import Files
from vicinal.storage.vectors import RowFile

__all__ = [
    "archive",
    "fvecs",
    "hnswlib",
    "hnswlib_brute",
    "jsonl",
    "manifest",
    "npy",
    "npz",
    "parquet",
    "row_file",
    "saved_index",
]


def row_file() -> Seeded:
    """The head of a file of rows, and rows that no checksum guards."""

    def save(path: str) -> None:
        file = RowFile.create(Files(), Path(path), 16)
        file.append(np.arange(640, dtype=np.uint8).reshape(40, 16))
        file.sync(0)
        file.close()

    def use(path: Path) -> None:
        file = RowFile.open(Files(), path, 16, 40, between=(0, 5))
        try:
            file.matrix(np.uint8, (16,))[:40].sum()
            file.verify({0: 0})
            file.append(np.zeros((3, 16), np.uint8))
            file.sync(5)
        finally:
            file.close()

    return [_saved(save)[: 4096 + 640]], _through_file(use)


def _archived(manifest: bytes) -> bytes:
    """An archive of one member with its manifest, its headers right."""
    whole = bytearray(b"".join(pack([Source("0/catalog.db", 600, [bytes(600)])], {"collections": [], "aliases": {}})))
    at = 512 + 1024  # the manifest's header
    head = whole[at : at + 512]
    head[124:136] = b"%011o\0" % len(manifest)
    return bytes(whole[:at] + head + manifest + bytes(-len(manifest) % 512 + 1024))


def _with_sums(content: bytes) -> bytes:
    """The same, whatever headers say, with their checksums."""
    whole, at = bytearray(content), 0
    while at + 512 <= len(whole) and any(whole[at : at + 512]):
        whole[at + 148 : at + 156] = b" " * 8
        whole[at + 148 : at + 156] = b"%06o\0 " % (sum(whole[at : at + 512]) & 0o777777)
        size = bytes(whole[at + 124 : at + 136]).rstrip(b"\0 ")
        at += 512 + (-(-int(size, 8) // 512) * 512 if re.fullmatch(rb"[0-7]+", size) else 0)
    return bytes(whole)


def _use_archive(path: Path) -> None:
    with closing(Archive.open(Files(), path)) as archive:
        listed(archive)
        for name in archive.names:
            for _ in archive.read(name):
                pass


_MANIFEST = {
    "format": 1,
    "collections": [{"name": "c", "seq": 3, "points": 2}],
    "aliases": {"a": "c"},
    "files": {"0/catalog.db": {"bytes": 600, "sha256": hashlib.sha256(bytes(600)).hexdigest()}},
}


def archive() -> Seeded:
    run = _through_file(_use_archive, "f.tar")
    return [_archived(orjson.dumps(_MANIFEST))], lambda content: run(_with_sums(content))


def manifest() -> Seeded:
    run = _through_file(_use_archive, "f.tar")
    return [orjson.dumps(_MANIFEST)], lambda content: run(_with_sums(_archived(content)))


def _read(source: Callable[[Path], Any], name: str) -> Callable[[bytes], None]:
    return _through_file(lambda path: ignore(*source(path).batches(4)), name)


def jsonl() -> Seeded:
    lines = [orjson.dumps({"id": i, "v": [1.5, i], "t": "x", "at": {"lon": 1, "lat": [None]}}) for i in range(9)]
    return [b"\n".join(lines)], _read(lambda path: JsonlSource(path, id_key="id", vector_key="v"), "f.jsonl")


def parquet() -> Seeded:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    arrow.set_cpu_count(1)  # a thread that is started later takes memory for its stack
    arrow.set_io_thread_count(1)
    told = {"id": list(range(9)), "v": [[1.5, i] for i in range(9)], "t": ["x", None, "y"] * 3}

    def save(path: str) -> None:
        parquet.write_table(arrow.table(told), path, row_group_size=5)

    return [_saved(save)], _read(lambda path: ParquetSource(path, id_column="id", vector_column="v"), "f.parquet")


def saved_index() -> Seeded:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 8)).astype(np.float32)
    index = Index("cosine", 8)
    index.init_index(400)
    index.add_items(rows, np.arange(300) * 3)
    index.mark_deleted(6)

    def use(path: Path) -> None:
        again = Index("cosine", 8)
        again.load_index(path)
        again.knn_query(rows[:3], 1)
        again.add_items(rows[:2], [10_000, 10_001])

    return [_saved(index.save_index)], _through_file(use)


def _saved(save: Callable[[str], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        save(str(path))
        return path.read_bytes()


def _through_file(use: Callable[[Path], None], name: str = "f.bin") -> Callable[[bytes], None]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def run(content: bytes) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        use(path)

    return run


def hnswlib() -> Seeded:
    rows = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)
    ids = np.arange(20) + 100

    def use(path: Path) -> None:
        index = Index("l2", 3)
        index.load_index(path)
        index.knn_query(rows[:2], 1)

    return [bytes(hnsw_file(rows, ids, deleted={2}))], _through_file(use)


def hnswlib_brute() -> Seeded:
    rows = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)

    def use(path: Path) -> None:
        index = BFIndex("l2", 3)
        index.load_index(path)
        index.knn_query(rows[:2], 1)

    return [bytes(brute_file(rows, np.arange(20), 25))], _through_file(use)


def npy() -> Seeded:
    def save(path: str) -> None:
        with Path(path).open("wb") as file:
            np.save(file, np.arange(60, dtype=np.float32).reshape(10, 6))

    return [_saved(save)], _through_file(lambda path: ignore(read_matrix(path).sum()), "f.npy")


def npz() -> Seeded:
    tokens, ends = some_tokens(2)

    def save(path: str) -> None:
        with Path(path).open("wb") as file:
            np.savez(file, tokens=tokens, offsets=np.append(0, ends))

    return [_saved(save)], _through_file(lambda path: ignore(read_tokens(path).rows(0, 1)), "f.npz")


def fvecs() -> Seeded:
    rows = np.zeros((9, 5), np.float32)
    rows[:, 0] = np.array([4], np.int32).view(np.float32)
    return [rows.tobytes()], _through_file(lambda path: ignore(*VecsSource(path).batches(4)), "f.fvecs")
