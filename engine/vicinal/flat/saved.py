"""Saving an index as one file and reading it back, a file of hnswlib's included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vicinal.casting import check_vectors, inverse_norms
from vicinal.errors import CorruptData
from vicinal.flat.file_format import MAGIC, Bytes, Parts, Settings, encode, parse, total_bytes
from vicinal.flat.inputs import Refused, metric_of
from vicinal.flat.points import DELETED, GONE, Points
from vicinal.index.row_room import RowRoom, copy_of_file
from vicinal.io.hnswlib_file import HnswlibPoints, read_brute_force, read_hnsw
from vicinal.limits import EF_CONSTRUCTION_MAX, SLOTS_MAX
from vicinal.storage.files import Files, OpenFile
from vicinal.types import HnswParams, Metric

__all__ = ["file_bytes", "load", "load_file", "pack", "params_of", "revive", "save"]

_NO_NORMS: Final = np.empty(0, np.float32)


def save(path: str | os.PathLike[str], settings: Settings, points: Points) -> None:
    """Write the file so that after any crash `path` holds all of it, or what was there before."""
    target = Path(os.fsdecode(path))
    Files().write_atomic(target, encode(settings, *points.content()))


def pack(settings: Settings, points: Points) -> bytes:
    """The file's bytes."""
    return b"".join(encode(settings, *points.content()))


def file_bytes(settings: Settings, points: Points) -> int:
    """How long the file would be."""
    _, labels, _, graph = points.content()
    return total_bytes(settings.dim, len(labels), len(graph))


class _Unmapped:
    """A file's bytes, read slice by slice: none stays in memory unless it is kept."""

    def __init__(self, file: OpenFile) -> None:
        self._file, self._size = file, file.size()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> memoryview:
        start, stop, _ = part.indices(self._size)
        return memoryview(self._file.pread(max(0, stop - start), start))


def load_file(path: str | os.PathLike[str], wanted: Settings, *, mapped: bool) -> tuple[Settings, Points]:
    """The index of a file for one of `wanted` space, dimension and kind; see `load`.

    mapped: vectors stay in the file, which must not be cut while the index lives; otherwise the file is read, or where
    the vectors belong in a file copied, and not needed afterwards.
    """
    target = Path(os.fsdecode(path))
    if not target.is_file():
        raise Refused(f"Cannot open file {target}", field="path", value=str(target))
    file = Files().open(target, read_only=True)
    try:
        size = file.size()
        copied = RowRoom(1, wanted.vectors).in_file(size // 4) and not mapped
        buffer: Bytes | None = copy_of_file(target) if copied else None
        if mapped and size:
            buffer = file.map(size).data
        return load(_Unmapped(file) if buffer is None else buffer, wanted, target.name)
    finally:
        file.close()


def load(buffer: Bytes, wanted: Settings, name: str) -> tuple[Settings, Points]:
    """The index of a file's bytes for an index of `wanted` space, dimension and kind (M 0: no graph)."""
    if bytes(buffer[: len(MAGIC)]) == MAGIC:
        parts = parse(buffer, name)
        if parts.settings.dim != wanted.dim:
            raise Refused(
                f"{name} holds vectors of {parts.settings.dim} dimensions, this index has {wanted.dim}",
                field="dim",
                value=parts.settings.dim,
                limit=wanted.dim,
            )
        if bool(parts.settings.M) != bool(wanted.M):
            raise Refused(f"{name} was saved by the other kind of index: Index or BFIndex", field="path", value=name)
        settings = parts.settings._replace(space=wanted.space, vectors=wanted.vectors)
        return revive(parts._replace(settings=settings), parts.settings.space, name)
    read = read_hnsw if wanted.M else read_brute_force
    return _imported(read(buffer[:], wanted.dim, name), wanted, name)


def revive(parts: Parts, built_for: str, name: str) -> tuple[Settings, Points]:
    """The points of a file; a graph built for another space is built anew."""
    settings, metric = parts.settings, metric_of(parts.settings.space)
    points = Points(metric, settings.dim, params_of(settings), settings.vectors)
    same = settings.space == built_for
    norms = _norms(parts.vectors, metric, parts.states, name)
    points.adopt(parts.vectors, norms, parts.labels, parts.states, parts.graph if same else b"")
    return settings, points


def _imported(found: HnswlibPoints, wanted: Settings, name: str) -> tuple[Settings, Points]:
    settings = wanted._replace(
        started=True,
        M=found.M,
        ef_construction=min(found.ef_construction, EF_CONSTRUCTION_MAX),
        max_elements=min(found.max_elements, SLOTS_MAX),
    )
    metric = metric_of(settings.space)
    states = np.where(found.deleted, DELETED, 0).astype(np.uint8)
    points = Points(metric, settings.dim, params_of(settings), settings.vectors)
    points.adopt(found.vectors, _norms(found.vectors, metric, states, name), found.labels, states)
    return settings, points


def params_of(settings: Settings) -> HnswParams | None:
    """The graph's parameters, None for an index without one."""
    return HnswParams(settings.M, settings.ef_construction, settings.seed) if settings.M else None


def _norms(vectors: NDArray[np.float32], metric: Metric, states: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """1 / |x| under cosine, 0 for what is gone; CorruptData unless every vector could have been added."""
    try:
        named = states != GONE
        squares = check_vectors(vectors if named.all() else vectors[named], metric, "vectors")
    except ValueError as error:
        raise CorruptData(f"{name}: {error}", field=name) from error
    if metric is not Metric.COSINE:
        return _NO_NORMS
    norms = np.zeros(len(vectors), np.float32)
    norms[named] = inverse_norms(squares)
    return norms
