"""Cells come back from bytes as they were, and no number in these is believed before it is compared with the others."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Final

import numpy as np
import pytest
from crc32c import crc32c

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index import cells_snapshot
from vicinal.index.cell_effort import CellEffort, CellEfforts, CellMeasured
from vicinal.index.cell_lists import Partition
from vicinal.index.cells_snapshot import Saved
from vicinal.index.filter_effort import UNWALKED, FilterEfforts, Level

N, SLOTS, CELLS, DEAD = 3000, 4000, 50, 7
LISTED: Final = N - DEAD
HEADER, MEASURED, LEVEL, SHARE = 64, 40, 8, 48
SIZES: Final = HEADER + 4 * LISTED
EFFORTS: Final = SIZES + 4 * CELLS
FILTERS: Final = EFFORTS + 2 * MEASURED
HUGE = (1 << 31, (1 << 32) - 1, 1 << 32, 1 << 60, 1 << 63, (1 << 64) - 1)
COUNTS = {
    "rows": (16, (0, LISTED - 1, SLOTS + 1, *HUGE)),
    "listed rows": (24, (0, LISTED - 1, LISTED + 1, *HUGE)),
    "cells": (32, (0, CELLS - 1, CELLS + 1, *HUGE)),
    "efforts": (40, (0, 1, 3, 257, *HUGE)),
    "levels": (48, (0, 2, 257, *HUGE)),
}
NAN, INF = float("nan"), float("inf")
CONTENTS = {
    "a row that is not there": (HEADER, "<I", N),
    "a row beyond all": (HEADER + 40, "<I", (1 << 32) - 1),
    "an empty cell": (SIZES, "<I", 0),
    "a cell beyond the rows": (SIZES + 8, "<I", (1 << 32) - 1),
    "no quota": (EFFORTS, "<q", 0),
    "a huge quota": (EFFORTS, "<q", 1 << 62),
    "a negative quota": (EFFORTS + MEASURED, "<q", -1),
    "no re-score": (EFFORTS + 8, "<q", 0),
    "a huge re-score": (EFFORTS + 8, "<q", 1 << 40),
    "a margin that is no number": (EFFORTS + 16, "<d", NAN),
    "an endless margin": (EFFORTS + 16, "<d", INF),
    "a recall above 1": (EFFORTS + 24, "<d", 1.5),
    "a recall that is no number": (EFFORTS + 24, "<d", NAN),
    "no cost": (EFFORTS + 32, "<d", 0.0),
    "a cost that is no number": (EFFORTS + 32, "<d", NAN),
    "costs that fall": (EFFORTS + 32, "<d", 1e9),
    "no recall of a level": (FILTERS, "<d", 0.0),
    "a level's recall that is no number": (FILTERS, "<d", NAN),
    "no re-score of a filter": (FILTERS + LEVEL, "<q", 0),
    "a huge re-score of a filter": (FILTERS + LEVEL + SHARE, "<q", 1 << 62),
    "a huge quota of a filter": (FILTERS + LEVEL + 8, "<q", 1 << 62),
    "a margin of a filter that is no number": (FILTERS + LEVEL + 16, "<d", NAN),
    "rows of a filter that are no number": (FILTERS + LEVEL + 24, "<d", NAN),
    "endless members of a filter": (FILTERS + LEVEL + 32, "<d", INF),
    "a gap of a filter that is no number": (FILTERS + LEVEL + 40, "<d", NAN),
}


@pytest.fixture(scope="module")
def saved() -> Saved:
    rng = np.random.default_rng(0)
    alive = np.sort(rng.permutation(N)[:LISTED]).astype(np.int32)
    starts = np.append(0, np.sort(rng.permutation(np.arange(1, LISTED))[: CELLS - 1]))
    parts = Partition(np.append(starts, LISTED), rng.permutation(alive))
    measured = tuple(
        CellMeasured(CellEffort(quota, 16, margin), recall, cost)
        for quota, margin, recall, cost in ((250, float("-inf"), 0.9, 1000.0), (500, 0.25, 0.99, 4000.0))
    )
    by_share = tuple(
        standard._replace(rescore=30 + i, quota=300 + i, margin=0.5, rows=1.0, members=2.0, gap=0.0)
        for i, standard in enumerate(UNWALKED.levels[0].by_share)
    )
    dropped = np.ones(N, np.bool_)
    dropped[alive] = False
    return Saved(N, parts, CellEfforts(measured), FilterEfforts((Level(0.95, by_share),)), dropped)


@pytest.fixture(scope="module")
def content(saved: Saved) -> bytes:
    return cells_snapshot.encode(saved)


def _sealed(changed: bytearray) -> bytes:
    """The bytes with both checksums made right again."""
    struct.pack_into("<I", changed, HEADER - 8, crc32c(bytes(changed[HEADER:])))
    struct.pack_into("<I", changed, HEADER - 4, crc32c(bytes(changed[: HEADER - 4])))
    return bytes(changed)


def test_there_and_back(saved: Saved, content: bytes) -> None:
    again = cells_snapshot.decode(memoryview(content), SLOTS)
    assert (again.n, again.efforts, again.filters) == (saved.n, saved.efforts, saved.filters)
    for one, other in ((again.parts.order, saved.parts.order), (again.parts.starts, saved.parts.starts)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.dropped, saved.dropped)
    assert cells_snapshot.encode(again) == content
    assert _sealed(bytearray(content)) == content


def test_every_flipped_bit_of_the_header_is_found(content: bytes) -> None:
    for position in range(HEADER * 8):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises((CorruptData, FormatTooNew)):
            cells_snapshot.decode(memoryview(bytes(damaged)), SLOTS)


@pytest.mark.parametrize("what", COUNTS)
def test_a_count_is_compared_before_anything_is_allocated(what: str, content: bytes) -> None:
    offset, values = COUNTS[what]
    for value in values:
        crafted = bytearray(content)
        struct.pack_into("<Q", crafted, offset, value)
        sealed = memoryview(_sealed(crafted))
        tracemalloc.start()
        try:
            with pytest.raises(CorruptData):
                cells_snapshot.decode(sealed, SLOTS)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20, value
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("what", CONTENTS)
def test_what_cannot_be_is_refused_although_its_checksums_hold(what: str, content: bytes) -> None:
    offset, kind, value = CONTENTS[what]
    crafted = bytearray(content)
    struct.pack_into(kind, crafted, offset, value)
    with pytest.raises(CorruptData):
        cells_snapshot.decode(memoryview(_sealed(crafted)), SLOTS)


def test_a_row_in_two_cells_is_refused(content: bytes) -> None:
    crafted = bytearray(content)
    crafted[HEADER : HEADER + 4] = crafted[SIZES - 4 : SIZES]
    with pytest.raises(CorruptData, match="twice"):
        cells_snapshot.decode(memoryview(_sealed(crafted)), SLOTS)


def test_headers_of_before_are_read_and_of_later_refused(saved: Saved, content: bytes) -> None:
    older = bytearray(content)
    struct.pack_into("<I", older, 8, 2)
    struct.pack_into("<I", older, HEADER - 4, 0)
    assert cells_snapshot.decode(memoryview(bytes(older)), SLOTS).efforts == saved.efforts
    struct.pack_into("<I", older, 8, 4)
    with pytest.raises(FormatTooNew, match="format 4"):
        cells_snapshot.decode(memoryview(_sealed(older)), SLOTS)
    struct.pack_into("<I", older, 8, 1)
    with pytest.raises(CorruptData):
        cells_snapshot.decode(memoryview(_sealed(older)), SLOTS)
