"""k-means on int8 rows by blocked products: centres, the centre nearest to each row, near centres of each centre.

Lloyd's rounds on a sample; two levels (parts, then cells inside each part) keep the cost linear in the rows.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit
from vicinal.kernels.gemm import LOW, ROWS_PER_TILE, tile6x4
from vicinal.kernels.operands import greater, lesser
from vicinal.kernels.rows8 import SPARE, Codes, fill_groups, measure, numbers
from vicinal.kernels.threshold import keep_above, shrink, span

__all__ = ["assign", "assign_parts", "chain", "count_used", "counting_sort", "near_cells", "train"]

_LANES = np.int64(16)
_ZERO = np.int64(0)
_ROWS = np.int64(24)  # rows whose scores against all centres lie in cache at once
_BINS = np.int64(256)


@njit
def assign(codes, rows, lanes, bias, groups, names, best, start, stop):
    """Set best[i] to the nearest centre of row rows[i], i in start .. stop, among the listed groups of centres.

    groups: a multiple of four group numbers; names: the centre in each lane of the panel, flat. Of equally near
    centres the first listed is taken.
    """
    width = groups.shape[0] * 16
    scores = np.empty(_ROWS * width, np.int32)
    lane = numbers(width)
    top = np.empty(width + 16, np.int32)
    top_lane = np.empty(width + 16, np.int32)
    block = np.empty(_ROWS, np.int32)
    for b in range(start, stop, _ROWS):
        m = lesser(_ROWS, stop - b)
        for r in range(_ROWS):
            block[r] = rows[lesser(b + r, stop - 1)]
        for g in range(0, groups.shape[0], 4):
            for r in range(0, m, ROWS_PER_TILE):
                tile6x4(codes.rows, block, r, lanes, groups, g, bias, scores, r * width + g * 16, width)
        for r in range(m):
            _, greatest = span(scores, r * width, groups.shape[0])
            below = np.int32(greatest - 1)
            keep_above(scores, r * width, lane, 0, groups.shape[0], below, top, top_lane, 0, 0)
            best[b + r] = names[groups[top_lane[0] >> 4] * 16 + (top_lane[0] & 15)]


@njit
def _move(codes, rows, best, centres, n):
    """Set each of n centres to the rounded mean of the rows it is nearest to; one without rows stays."""
    sums = np.zeros((n, centres.shape[1]), np.int32)
    count = np.zeros(n, np.int64)
    for i in range(rows.shape[0]):
        c = best[i]
        count[c] += 1
        for j in range(codes.rows.shape[1]):
            sums[c, j] += np.int32(codes.rows[rows[i], j])
    for c in range(n):
        if count[c]:
            factor = np.float32(1) / np.float32(count[c])
            for j in range(centres.shape[1]):
                centres[c, j] = np.int8(np.int32(np.rint(np.float32(sums[c, j]) * factor)))


@njit
def train(codes, rows, starts, centre_starts, per, rounds, centres, start, stop):
    """Train the centres of parts start .. stop, each on `per` evenly taken rows a centre, in `rounds` of Lloyd.

    Part i holds rows[starts[i] : starts[i + 1]] and gets centres[centre_starts[i] : centre_starts[i + 1]].
    """
    width = codes.rows.shape[1]
    for i in range(start, stop):
        m = starts[i + 1] - starts[i]
        wanted = centre_starts[i + 1] - centre_starts[i]
        if wanted == 0:
            continue
        size = lesser(m, per * wanted)
        sample = np.empty(size, np.int32)
        best = np.empty(size, np.int32)
        for j in range(size):
            sample[j] = rows[starts[i] + j * m // size]
        local = Codes(
            np.zeros((wanted + SPARE, width), np.int8),
            np.zeros(wanted + SPARE, np.int32),
            np.zeros(wanted + SPARE, np.int32),
        )
        for c in range(wanted):
            for j in range(width):
                local.rows[c, j] = codes.rows[sample[c * size // wanted], j]
        count = (wanted + 63) // 64 * 4
        members = np.empty((count, _LANES), np.int32)
        for c in range(count * 16):
            members[c >> 4, c & 15] = c if c < wanted else -1
        groups = numbers(count)
        names = numbers(count * 16)
        lanes = np.empty((count, width * 16), np.uint8)
        bias = np.empty((count, 16), np.int32)
        for _ in range(rounds):
            measure(local, _ZERO, wanted)
            fill_groups(local, members, lanes, bias, _ZERO, count)
            assign(codes, sample, lanes, bias, groups, names, best, _ZERO, size)
            _move(codes, sample, best, local.rows, wanted)
        for c in range(wanted):
            for j in range(width):
                centres[centre_starts[i] + c, j] = local.rows[c, j]


@njit
def assign_parts(codes, rows, panel, names, near, probe, pieces, best, start, stop):
    """Assign pieces (first, end, part) of rows to the nearest cell of the `probe` nearest parts of their part.

    names: the panel's members, flat.
    """
    groups = np.empty(panel.lanes.shape[0], np.int32)
    for i in range(start, stop):
        part = pieces[i, 2]
        count = 0
        for t in range(lesser(probe, near.shape[1])):
            c = near[part, t]
            if c < 0:
                break
            for g in range(panel.starts[c], panel.starts[c + 1]):
                groups[count] = g
                count += 1
        while count % 4:
            groups[count] = panel.lanes.shape[0] - 1
            count += 1
        assign(codes, rows, panel.lanes, panel.bias, groups[:count], names, best, pieces[i, 0], pieces[i, 1])


@njit
def counting_sort(keys, limit):
    """Sort positions by key in 0 .. limit - 1, stably; give the start of each key (limit + 1,) and the order."""
    starts = np.zeros(limit + 1, np.int64)
    for i in range(keys.shape[0]):
        starts[keys[i] + 1] += 1
    for c in range(limit):
        starts[c + 1] += starts[c]
    place = starts.copy()
    order = np.empty(keys.shape[0], np.int32)
    for i in range(keys.shape[0]):
        order[place[keys[i]]] = i
        place[keys[i]] += 1
    return starts, order


@njit
def chain(near):
    """Rank the cells by a greedy walk, each time to the nearest one left: near cells get neighbouring rows."""
    cells = near.shape[0]
    rank = np.empty(cells, np.int32)
    for c in range(cells):
        rank[c] = -1
    here = 0
    low = 0
    for k in range(cells):
        rank[here] = k
        following = -1
        for j in range(near.shape[1]):
            c = near[here, j]
            if c >= 0 and rank[c] < 0:
                following = c
                break
        if following < 0:
            while low < cells and rank[low] >= 0:
                low += 1
            following = low
        here = following
    return rank


@njit
def _by_bins(scores, ids, n, out):
    """Write ids to out[1:] by score, descending, in 256 bins; within a bin by position."""
    bins = np.zeros(_BINS + 1, np.int64)
    least = np.int64(scores[0])
    greatest = least
    for j in range(n):
        least = lesser(least, scores[j])
        greatest = greater(greatest, scores[j])
    factor = np.float32(_BINS - 1) / np.float32(greater(greatest - least, 1))
    for j in range(n):
        bin_ = lesser(np.int64(np.float32(greatest - np.int64(scores[j])) * factor), _BINS - 1)
        scores[j] = bin_
        bins[bin_ + 1] += 1
    for j in range(_BINS):
        bins[j + 1] += bins[j]
    for j in range(n):
        place = bins[scores[j]]
        bins[scores[j]] += 1
        if place + 1 < out.shape[0]:
            out[place + 1] = ids[j]


@njit
def near_cells(centres, lanes, bias, near, start, stop):
    """Fill near[c], c in start .. stop, with c and the cells nearest to it, nearest first; -1 in unused places.

    centres: the cells' centres in the order of the panel's lanes; its row length bounds how many are listed.
    """
    count = lanes.shape[0]
    n = count * 16
    wanted = near.shape[1]
    groups = numbers(count)
    scores = np.empty(ROWS_PER_TILE * n, np.int32)
    row = np.empty(n + 16, np.int32)
    ids = np.empty(n + 16, np.int32)
    block = np.empty(ROWS_PER_TILE, np.int32)
    for b in range(start, stop, ROWS_PER_TILE):
        for r in range(ROWS_PER_TILE):
            block[r] = lesser(b + r, stop - 1)
        for g in range(0, count, 4):
            tile6x4(centres, block, _ZERO, lanes, groups, g, bias, scores, g * 16, n)
        for r in range(lesser(ROWS_PER_TILE, stop - b)):
            c = b + r
            for j in range(n):
                row[j] = scores[r * n + j]
                ids[j] = j
            row[c] = LOW  # itself goes first
            found, _ = shrink(row, ids, n, wanted)
            kept = _ZERO
            for j in range(found):
                if row[j] > LOW // 2:  # not a padding lane
                    row[kept] = row[j]
                    ids[kept] = ids[j]
                    kept += 1
            for j in range(wanted):
                near[c, j] = c if j == 0 else -1
            if kept:
                _by_bins(row, ids, kept, near[c])


@njit
def count_used(near, starts, budget, used):
    """Set used[c] to how many of the cells near[c] hold `budget` groups, given the first group of each cell."""
    for c in range(near.shape[0]):
        groups = 0
        k = 0
        while k < near.shape[1] and near[c, k] >= 0 and groups < budget:
            groups += starts[near[c, k] + 1] - starts[near[c, k]]
            k += 1
        used[c] = k
