"""Filling cells: their means, their members in chunks, members that come later (layout: `scan_lists`)."""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.scan_lists import CHUNK
from vicinal.kernels.simd import publish_fence

__all__ = ["add_members", "fill_chunks", "mean_rows"]


@njit
def mean_rows(codes, order, starts, means, start, stop):
    """Set means[c] (float32) to the mean of code rows order[starts[c] : starts[c + 1]], c in start .. stop."""
    width = codes.shape[1]
    sums = np.empty(width, np.int32)
    for c in range(start, stop):
        sums[:] = 0
        for i in range(starts[c], starts[c + 1]):
            row = order[i]
            for j in range(width):
                sums[j] += np.int32(codes[row, j])
        factor = np.float32(1) / np.float32(max(starts[c + 1] - starts[c], 1))
        for j in range(width):
            means[c, j] = np.float32(sums[j]) * factor


@njit
def fill_chunks(order, starts, firsts, chunks, lasts, filled):
    """Write the members of every cell into chunks firsts[c] .. of a matrix of `SENTINEL`; note where each cell ends.

    chunks: uint32 (room, CHUNK + 1). lasts: int32, a cell's last chunk; filled: int32, places used there.
    """
    for c in range(firsts.shape[0]):
        chunk, place = firsts[c], 0
        for i in range(starts[c], starts[c + 1]):
            if place == CHUNK:
                chunks[chunk, CHUNK] = chunk + 1
                chunk += 1
                place = 0
            chunks[chunk, place] = order[i]
            place += 1
        lasts[c], filled[c] = chunk, place


@njit
def add_members(slots, cells, chunks, lasts, filled, used):
    """Append slots[i] to cell cells[i], taking new chunks from `used` on; give how many are used then.

    Readers may be listing the cells: a chunk is complete before anything leads to it.
    """
    for i in range(slots.shape[0]):
        c = cells[i]
        if filled[c] == CHUNK:
            chunks[used, 0] = slots[i]
            publish_fence()
            chunks[lasts[c], CHUNK] = used
            lasts[c], filled[c] = used, 1
            used += 1
        else:
            chunks[lasts[c], filled[c]] = slots[i]
            filled[c] += 1
    return used
