"""Refuse writes while there is still room: before the disk is full, and before the kernel kills the process for memory.

A write needs space for its rows and its part of the catalogue, and memory for what the indexer will make of it: of the
rows that wait, or of all when so many wait that the graph will be built anew. A reserve stays free on top, so that
deletes, checkpoints and answers go on; when something was freed, writes go on by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vicinal.errors import StorageFull
from vicinal.storage.machine import Space, free_memory, free_space
from vicinal.storage.vectors import grown_size
from vicinal.view import DenseView, MultiView, View

__all__ = ["Room"]

_MEMORY_RESERVE: Final = 64 << 20
_WRITTEN: Final = 3  # times a batch: its rows, its payloads in the log, and once more when that is moved
_HELD: Final = 3  # times a batch: as it came, as it is cast, as it is bound
_ROW: Final = 2560  # bytes a row that a build holds at its peak, beside
_ROW_DIM: Final = 4  # so many per dimension
_POINT: Final = 64  # bytes of a point's id and payload in the catalogue, without the payload
_PAGE: Final = 4096 + 24  # of the catalogue's log: a commit writes every page that it touches
_PAGES: Final = 8  # that each commit touches, and two more for each point, until it has touched all of them
_PAGE_POINTS: Final = 128  # points a page
_REBUILD: Final = 8  # when one in so many rows waits, the graph is built anew (`index.bulk_insert.prefers_rebuild`)
_LARGER: Final = 1.25  # how much larger the arrays of an index are that it is copied to
_LINKS: Final = 160  # bytes a row that insertion keeps beside the graph, and a byte per dimension
_FRESH_SECONDS: Final = 0.1  # for which what was read is believed
_FRESH_BYTES: Final = 8 << 20  # or until so much was written


class Room:
    """What one collection may still use. Any thread may ask."""

    def __init__(
        self,
        directory: Path | None,
        space: Callable[[Path], Space] = free_space,
        memory: Callable[[], int] = free_memory,
    ) -> None:
        self._directory, self._space, self._memory = directory, space, memory
        self._until = 0.0
        self._taken = 0
        self._known: tuple[int, int] = (0, 0)

    def require(self, view: View, rows: int, nbytes: int) -> None:
        """Raise StorageFull unless `rows` more rows of `nbytes` bytes, payloads included, find room."""
        on_disk, in_memory = _disk_bytes(view, rows, nbytes), _HELD * nbytes + _index_bytes(view, rows)
        if self._directory is None:
            in_memory += _grown_bytes(view, nbytes)
        disk, memory = self._free(nbytes)
        if on_disk > disk or in_memory > memory:  # somebody may have freed some a moment ago
            self._until = 0.0
            disk, memory = self._free(nbytes)
        _require_disk(on_disk, disk)
        _require_memory(in_memory, memory)
        self._known = disk - on_disk, memory  # taken before it is written and could be read

    def require_copy(self, view: View, nbytes: int) -> None:
        """Raise StorageFull unless what is alive finds room a second time, where all of it has `nbytes` bytes."""
        self._until = 0.0
        disk, memory = self._free(0)
        _require_memory(_index_bytes(view, 0, anew=True), memory)
        wanted = nbytes * view.alive // max(view.n, 1)
        _require_disk(wanted, disk)

    def _free(self, nbytes: int) -> tuple[int, int]:
        """Bytes of disk and memory beside the reserves; read now and then, as that costs more than a small write."""
        now = time.monotonic()
        self._taken += nbytes
        if now > self._until or self._taken > _FRESH_BYTES:
            disk = 1 << 60
            if self._directory is not None:
                disk = self._space(self._directory).spare
            self._known = disk, self._memory() - _MEMORY_RESERVE
            self._until, self._taken = now + _FRESH_SECONDS, nbytes
        return self._known


def _require_disk(wanted: int, free: int) -> None:
    said = f"{wanted >> 10} KiB of disk are needed and {max(free, 0) >> 10} are left"
    _require("disk", wanted, free, f"{said} beside the reserve: free some, delete points, or compact")


def _require_memory(wanted: int, free: int) -> None:
    said = f"{wanted >> 20} MiB of memory may be needed and {max(free, 0) >> 20} are left"
    _require("memory", wanted, free, f"{said} beside the reserve: delete points and compact, or give the process more")


def _require(field: str, wanted: int, free: int, message: str) -> None:
    if wanted > free:
        raise StorageFull(message, field=field, value=wanted, limit=max(free, 0))


def _disk_bytes(view: View, rows: int, nbytes: int) -> int:
    """Bytes that writing `rows` points of `nbytes` bytes takes at the most, log included."""
    pages = _PAGES + 2 * min(rows, view.n // _PAGE_POINTS)
    return _WRITTEN * nbytes + _POINT * rows + _PAGE * pages


def _grown_bytes(view: View, nbytes: int) -> int:
    """Bytes of the arrays that those of rows in memory will be copied to, if they have not `nbytes` left."""
    wanted = 0
    for field in view.fields.values():
        if isinstance(field, DenseView):
            rows, used = field.rows.vectors, view.n
        else:
            rows, used = field.tokens.tokens, int(field.tokens.ends[view.n - 1]) if view.n else 0
        needed = used * rows.strides[0] + nbytes
        wanted += grown_size(rows.nbytes, needed) if needed > rows.nbytes else 0
    return wanted


def _index_bytes(view: View, rows: int, *, anew: bool = False) -> int:
    """Bytes that indexing what waits, and `rows` more, takes at its peak; `anew`: all that is alive."""
    wanted = 0
    for field in view.fields.values():
        total = view.n + rows
        waiting = total - field.indexed
        if anew:
            waiting = view.alive
        elif waiting * _REBUILD > total:
            waiting = total
        dim = field.rows.vectors.shape[1] if isinstance(field, DenseView) else 0
        wanted += max(waiting * (_ROW + _ROW_DIM * dim), _copied_bytes(field, total, dim))
    return wanted


def _copied_bytes(field: DenseView | MultiView, total: int, dim: int) -> int:
    """Bytes of the larger arrays that an index is copied to when so many slots exceed its room."""
    if isinstance(field, MultiView):
        held = 0 if field.proxies is None or total == field.indexed else field.proxies.memory_bytes
        return int(_LARGER * held)
    if field.graph is None or total <= field.graph.room:
        return 0
    return int(_LARGER * (field.graph.nbytes + total * (dim + _LINKS)))
