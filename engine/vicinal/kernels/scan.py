"""Scans of code lines: all that may be returned (X, F), or the members of the nearest cells (C); settled on floats.

The lines are the walk's, by slot, and so is what prepares a query and settles the answer: a scan only replaces the
walk as what fills the pool of best estimates.

    list    every slot below the limit and in the allowed set is estimated
    cells   cells by the estimate of their centre, nearest first, until `quota` matching rows are estimated; a few
            first, which tell how many cells hold so many (see `near_cells`); once more and farther where the farthest
            cell looked at lies nearer than the k-th best estimate plus `margin`: then the neighbours were not all in
            these cells, as under a filter correlated with the query. All cells together hold all slots, so what runs
            out of cells has seen every match. Before it looks at more than `most` members, as where all matches are
            far away, it turns into a list; a row estimated counts as `ROW_MEMBERS` of them.

Estimates of rows far from the query lie closer together than they are exact. The `gap` between the k-th distance and
the last estimate that was re-scored tells: where it is small, or negative, more should be. Gap and margin are in units
of the k-th distance's root, in which errors of estimates, and the spread of a cell, are about the same near and far.

The cells follow IVF (Jegou et al. 2011) with a filter as in IVF^2 (NeurIPS'23 filtered track); the margin is ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from vicinal.kernels import njit
from vicinal.kernels.centre_lines import score_centres
from vicinal.kernels.distance import DOT
from vicinal.kernels.heap import pool_clear
from vicinal.kernels.lines import BATCH, estimate
from vicinal.kernels.near_cells import enough_rows, first_cells, next_cells
from vicinal.kernels.scan_lists import (
    CHUNK,
    append_word,
    count_within,
    list_chunk,
    list_within,
    nonzero_words,
    nth_distance,
)
from vicinal.kernels.simd import (
    INF_KEY,
    get_f32,
    get_i32,
    get_i64,
    get_u32,
    key_distance,
    lowest_bit,
    make_key,
    prefetch,
    set_f32,
    set_i64,
)
from vicinal.kernels.walk_fields import EFFORT_BITS, SLOTS, Effort, IndexFields, Sieve, Work
from vicinal.kernels.walk_ir import LINE, read_fields
from vicinal.kernels.walk_pool import insert
from vicinal.kernels.walk_query import byte_query, enter, frame_query, nibble_query, project, sign_query
from vicinal.kernels.walk_rows import answer, fetch_last, row_query, settle
from vicinal.kernels.walk_steps import ask_rows, rescore_rows

__all__ = [
    "BLOCK",
    "ROW_MEMBERS",
    "SCAN",
    "CellFields",
    "ScanCall",
    "ScanWork",
    "scan_bytes",
    "scan_nibbles",
    "scan_signs",
]

# of the scans: query, address of a ScanCall, slots, distances
SCAN = (types.float32[::1], types.int64, types.uint32[::1], types.float32[::1])

BLOCK = 512  # slots listed before they are estimated
ROW_MEMBERS = 4  # what a row estimated costs, in members of cells asked whether they match
_AHEAD = 64  # lines asked for ahead of the estimates
_CELLS_AHEAD = 8
_PART = (1 << EFFORT_BITS) - 1
_MARGIN_AT = 15 * 8  # in a ScanCall
_LEAST = np.float32(-np.inf)
_MOST = np.float32(np.inf)


class CellFields(NamedTuple):
    """Cells and their members; 0 cells: there are none, and every scan is a list."""

    cells: int
    centres: int  # code lines of the centres
    firsts: int  # int32 (cells,): the first chunk of each cell
    chunks: int  # u32 (chunks, 16), see `scan_lists`
    groups: int  # the centres' sign lines as `centre_lines` reads them; 0: lines of another kind


class ScanWork(NamedTuple):
    """Addresses of what a scan needs beside the walk's scratch memory."""

    names: int  # u32 (cells,): 0, 1, 2 ...
    scores: int  # float32 per cell, filled to 32
    near: int  # u32 per cell, and 16 spare
    listed: int  # u32 (BLOCK + SPARE,)
    told: int  # int64 (6,): rows estimated, cells looked at, rounds, margin and gap (float32), members, 1: gave up


class ScanCall(NamedTuple):
    """One call: addresses, what may be returned, and how far to go."""

    index_at: int  # of IndexFields
    work_at: int  # of Work
    scan_at: int  # of ScanWork
    cells_at: int  # of CellFields
    vectors: int  # of the stored floats, 0: none
    inv_norms: int
    allowed: int  # of bits, 0: all
    listed: int  # of as many slots as match, each once and below the limit, 0: those of the bits
    limit: int
    hidden: int
    k: int
    matches: int  # how many slots may be returned, at least 1
    quota: int  # matching rows that the nearest cells are to hold, 0: every match is estimated
    most: int  # see `Wanted`
    effort: int  # estimates kept and settled, 16 bits higher how many are settled where there are rows of bytes
    margin: int  # float32 in the lower half


class Wanted(NamedTuple):
    """How far a scan of cells goes."""

    k: int  # results asked for, at most as many as match
    matches: int
    quota: int
    most: int  # members of cells to look at, whether they match or not, before every match is estimated instead
    margin: float


@njit
def _score(code, index, work, sieve, listed, count, pool, vectors):
    """Estimate the listed slots and keep the best in the pool."""
    last = pool + vectors * 64 - 8
    for i in range(min(count, _AHEAD)):
        prefetch(index.codes + get_u32(listed + i * 4) * LINE)
    for i in range(0, count, BATCH):
        for j in range(i + _AHEAD, min(i + _AHEAD + BATCH, count)):
            prefetch(index.codes + get_u32(listed + j * 4) * LINE)
        slots = listed + i * 4
        bound = key_distance(get_i64(last))
        mask = estimate(code, slots, min(BATCH, count - i), bound, work.estimates, work.lane_work)
        while mask != 0:
            lane = lowest_bit(mask)
            mask &= mask - 1
            slot = get_u32(slots + lane * 4)
            if slot != sieve.hidden:
                insert(pool, vectors, make_key(get_f32(work.estimates + lane * 4), slot))


@njit
def _word(sieve, at):
    """Give the word of slots 64 at .. that may be returned."""
    word = np.int64(-1)
    if sieve.allowed != 0:
        word = get_i64(sieve.allowed + at * 8)
    if at == sieve.limit >> 6:
        word &= (np.int64(1) << (sieve.limit & 63)) - 1
    return word


@njit
def _some(sieve, at, words):
    """Give which of up to eight words from `at` hold a slot that may be returned, as bits."""
    if sieve.allowed == 0 or at + 8 > words:
        return (np.int64(1) << min(words - at, 8)) - 1
    return nonzero_words(sieve.allowed + at * 8)


@njit
def _scan_all(code, index, work, scan, sieve, listed, matches, pool, vectors):
    """Estimate every slot that may be returned, in the list if there is one; give how many."""
    if listed != 0:
        _score(code, index, work, sieve, listed, matches, pool, vectors)
        return matches
    count, scored, words = 0, 0, (sieve.limit + 63) >> 6
    for first in range(0, words, 8):
        some = _some(sieve, first, words)
        while some != 0:
            at = first + lowest_bit(some)
            some &= some - 1
            count = append_word(_word(sieve, at), at * 64, scan.listed, count)
            if count >= BLOCK:
                _score(code, index, work, sieve, scan.listed, count, pool, vectors)
                scored += count
                count = 0
    _score(code, index, work, sieve, scan.listed, count, pool, vectors)
    return scored + count


@njit
def _take(sieve, slot, pool, count):
    """Put a slot into the pool unless it is the hidden one; give how many are there."""
    if slot == sieve.hidden:
        return count
    set_i64(pool + count * 8, make_key(np.float32(0), slot))
    return count + 1


@njit
def _take_all(sieve, listed, matches, pool):
    """Put every slot that may be returned into the pool, which has room; nothing need be ranked. Give how many."""
    count = 0
    if listed != 0:
        for i in range(matches):
            count = _take(sieve, get_u32(listed + i * 4), pool, count)
        return count
    words = (sieve.limit + 63) >> 6
    for first in range(0, words, 8):
        some = _some(sieve, first, words)
        while some != 0:
            at = first + lowest_bit(some)
            some &= some - 1
            word = _word(sieve, at)
            while word != 0:
                count = _take(sieve, at * 64 + lowest_bit(word), pool, count)
                word &= word - 1
    return count


@njit
def _first_chunk(cells, scan, near):
    """Give the address of the first chunk of a near cell."""
    return cells.chunks + np.int64(get_i32(cells.firsts + get_u32(scan.near + near * 4) * 4)) * LINE


@njit
def _scan_members(code, index, work, scan, cells, sieve, near, pool, vectors):
    """Estimate the members of the first `near` cells of scan.near that may be returned; give how many, and of which."""
    count, scored, looked = 0, 0, 0
    for i in range(min(near, _CELLS_AHEAD)):
        prefetch(_first_chunk(cells, scan, i))
    for i in range(near):
        if i + _CELLS_AHEAD < near:
            prefetch(_first_chunk(cells, scan, i + _CELLS_AHEAD))
        chunk = get_i32(cells.firsts + get_u32(scan.near + i * 4) * 4)
        while chunk >= 0:
            count, chunk = list_chunk(
                cells.chunks + np.int64(chunk) * LINE, sieve.limit, sieve.allowed, scan.listed, count
            )
            looked += CHUNK
            if count >= BLOCK:
                _score(code, index, work, sieve, scan.listed, count, pool, vectors)
                scored += count
                count = 0
    _score(code, index, work, sieve, scan.listed, count, pool, vectors)
    return scored + count, looked


@njit
def _unit(index, kth):
    """Give the unit of gaps and margins where the k-th distance is `kth`."""
    if index.metric == DOT:
        return np.float32(1)
    return np.sqrt(max(kth, np.float32(1e-12)))


@njit
def _scan_cells(code, index, work, scan, cells, sieve, wanted, pool, vectors):
    """Estimate members of near cells until enough were seen; give rows, cells, rounds, the margin, members, done."""
    blocks, share = (cells.cells + 15) // 16, np.float64(wanted.matches) / sieve.limit
    score_centres(code, work, scan.names, cells, scan.scores)
    fewest, count = first_cells(cells.cells, sieve.limit, wanted)
    low, high = _LEAST, nth_distance(scan.scores, cells.cells, fewest)
    scored, visited, rounds, looked = 0, 0, 0, 0
    margin, done = _MOST, True
    while True:
        near = list_within(scan.scores, blocks, low, high, scan.near)
        ahead = near * (1 + share * ROW_MEMBERS) * sieve.limit / cells.cells
        if looked + scored * ROW_MEMBERS + ahead > wanted.most:
            done = False
            break
        rows, members = _scan_members(code, index, work, scan, cells, sieve, near, pool, vectors)
        scored += rows
        looked += members
        visited += near
        rounds += 1
        low, margin, share = high, _MOST, np.float64(scored) / max(looked, 1)
        if visited >= cells.cells or near == 0:  # none: distances that are not numbers
            break
        kth = get_i64(pool + (wanted.k - 1) * 8)
        enough = enough_rows(scored, visited, count, wanted.quota)
        if kth == INF_KEY or scored * 2 < enough:
            high = nth_distance(scan.scores, cells.cells, next_cells(scored, visited, enough, cells.cells))
            continue
        unit = _unit(index, key_distance(kth))
        margin = (high - key_distance(kth)) / unit
        if margin >= wanted.margin:
            break
        high = key_distance(kth) + wanted.margin * unit
        if count_within(scan.scores, blocks, low, high) == 0:
            break
    return scored, visited, rounds, margin, looked, done


@njit
def _gap(index, end, kth):
    """Give how far the last estimate that is re-scored lies beyond the k-th best that was, a key each."""
    if max(end, kth) == INF_KEY:
        return _MOST
    return (key_distance(end) - key_distance(kth)) / _unit(index, key_distance(kth))


@njit
def _effort(packed):
    """Give how many estimates are re-scored and, of those, how many settled where rows of bytes rank them."""
    rescore = packed & _PART
    return Effort(rescore, 0, rescore, packed >> EFFORT_BITS)


@njit
def _scan(code, framed, index, work, call, margin_of_call, query, slots, distances):
    """Fill the pool by one of the ways, re-score, settle; give how many of k were found."""
    scan, cells = read_fields(ScanWork, call.scan_at), read_fields(CellFields, call.cells_at)
    sieve, effort = Sieve(call.limit, call.allowed, call.hidden), _effort(call.effort)
    wanted = Wanted(min(call.k, call.matches), call.matches, call.quota, call.most, margin_of_call)
    pool = work.pool if index.exact_walk != 0 else work.results
    room = (effort.rescore + 7) & -8
    pool_clear(pool, room >> 3)
    scored, visited, rounds, margin, looked, done = wanted.matches, 0, 1, _MOST, 0, True
    if wanted.matches <= effort.rescore:
        _take_all(sieve, call.listed, wanted.matches, pool)
    else:
        near, scored = wanted.quota > 0 and cells.cells > 0, 0
        if near:
            scored, visited, rounds, margin, looked, done = _scan_cells(
                code, index, work, scan, cells, sieve, wanted, pool, room >> 3
            )
        if not near or not done:
            pool_clear(pool, room >> 3)
            scored += _scan_all(code, index, work, scan, sieve, call.listed, wanted.matches, pool, room >> 3)
            margin = _MOST
    last = effort.rescore
    end, kth = get_i64(pool + (last - 1) * 8), get_i64(pool + (wanted.k - 1) * 8)
    if index.exact_walk != 0:
        last = effort.settle
        results = (last + 7) & -8
        pool_clear(work.results, results >> 3)
        listed = ask_rows(index, work, effort, sieve, 0)
        rescore_rows(row_query(framed, index, work), index, work, listed, results)
        kth = get_i64(work.results + (wanted.k - 1) * 8)
    set_f32(scan.told + 28, _gap(index, end, kth))
    k = slots.shape[0]
    fetch_last(index, work, framed, call.vectors, last)
    settle(index, work, framed, query, call.vectors, call.inv_norms, k, last)
    set_i64(scan.told, scored)
    set_i64(scan.told + 8, visited)
    set_i64(scan.told + 16, rounds)
    set_f32(scan.told + 24, margin)
    set_i64(scan.told + 32, looked)
    set_i64(scan.told + 40, np.int64(not done))
    return answer(work, SLOTS, slots.ctypes.data, distances.ctypes.data, k)


@njit
def scan_signs(query, call_at, slots, distances):
    """Find the k nearest slots of a float32 query (dim,) among sign lines by scanning; give how many were found.

    call_at: address of a `ScanCall`. The effort is at least k and below 2^16. The answer goes to slots and distances,
    of length k or, where there are no stored floats, as long as what the caller settles; `ScanWork.told` says the rest.
    """
    call = read_fields(ScanCall, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    at = query.ctypes.data
    framed = frame_query(at, index, work)
    project(framed, index, work)
    enter(framed, index, work)
    code = sign_query(framed, index, work)
    return _scan(code, framed, index, work, call, get_f32(call_at + _MARGIN_AT), at, slots, distances)


@njit
def scan_nibbles(query, call_at, slots, distances):
    """Do as `scan_signs` among 4-bit lines."""
    call = read_fields(ScanCall, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    at = query.ctypes.data
    framed = frame_query(at, index, work)
    project(framed, index, work)
    code = nibble_query(framed, index, work)
    return _scan(code, framed, index, work, call, get_f32(call_at + _MARGIN_AT), at, slots, distances)


@njit
def scan_bytes(query, call_at, slots, distances):
    """Do as `scan_signs` among 8-bit lines."""
    call = read_fields(ScanCall, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    at = query.ctypes.data
    framed = frame_query(at, index, work)
    code = byte_query(framed, index, work)
    return _scan(code, framed, index, work, call, get_f32(call_at + _MARGIN_AT), at, slots, distances)
