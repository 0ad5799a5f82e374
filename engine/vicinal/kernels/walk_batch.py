"""Many coded walks in one call: prepared together, then walked by turns.

The GIL is let go once, so threads that share a batch do not wait for each other. LANES queries are prepared together:
what every query is multiplied with (the projection, the cells' centres) is read once for four, which is what a single
query waits for. Then their walks take turns, one step each (AMAC: Kocberber, Falsafi & Grot 2015), so that the rows and
code lines that one asked for travel while the others compute; re-scoring and settling take a turn each, too. Answers
are those of single searches, to the last bit: the steps are the same and know nothing of each other.
"""

from __future__ import annotations

import numpy as np
from numba import types

from vicinal.kernels import njit
from vicinal.kernels.heap import pool_clear
from vicinal.kernels.lines import ByteQuery, NibbleQuery, SignQuery, kept_lines
from vicinal.kernels.simd import get_f32, get_i64, set_f32, set_i64
from vicinal.kernels.vnni import dots64, dots64_of_four
from vicinal.kernels.walk_fields import Call, IndexFields, Sieve, Work
from vicinal.kernels.walk_ir import read_fields, write_fields
from vicinal.kernels.walk_query import (
    CellQuery,
    Framed,
    cell_query,
    dot_tables,
    frame_query,
    into_code_space,
    line_query,
    nearest,
)
from vicinal.kernels.walk_rows import fetch_last, row_query
from vicinal.kernels.walk_steps import (
    Steps,
    ask_entries,
    ask_rows,
    end_search,
    entry_of,
    is_over,
    is_sure,
    look_ahead,
    merge_estimates,
    open_walk,
    rescore_rows,
    room_of,
    take_step,
    unpacked,
)

__all__ = ["BATCH", "LANES", "batch_bytes", "batch_nibbles", "batch_signs"]

LANES = 4  # walks that take turns; eight leave the first cache
_WORK = 8 * len(Work._fields)

_floats, _slots = types.Array(types.float32, 2, "C"), types.Array(types.uint32, 2, "C")
_numbers = types.Array(types.int64, 1, "C")
BATCH = _floats, types.intp, _numbers, types.int64, _slots, _floats, _numbers, types.intp, types.intp  # what all take

_WALKING, _SCORING, _SETTLING, _OVER = 0, 1, 2, 3

# Places of what is kept of a lane: its steps, then numbers
_TURN, _LISTED, _CELL = 80, 88, 96  # int64
_FRAMED, _QUERY = 128, 152  # float32: 6 of Framed, 3 of CellQuery, later of the code's query


@njit
def _keep_framed(framed, kept):
    """Keep a framed query."""
    set_f32(kept + _FRAMED, framed.scale)
    set_f32(kept + _FRAMED + 4, framed.offset)
    set_f32(kept + _FRAMED + 8, framed.total)
    set_f32(kept + _FRAMED + 12, framed.square)
    set_f32(kept + _FRAMED + 16, framed.inverse)
    set_f32(kept + _FRAMED + 20, np.float32(framed.whole))


@njit
def _kept_framed(kept):
    """Give the framed query that was kept."""
    return Framed(
        get_f32(kept + _FRAMED),
        get_f32(kept + _FRAMED + 4),
        get_f32(kept + _FRAMED + 8),
        get_f32(kept + _FRAMED + 12),
        get_f32(kept + _FRAMED + 16),
        get_f32(kept + _FRAMED + 20) != np.float32(0),
    )


@njit
def _keep_three(one, two, three, kept):
    set_f32(kept + _QUERY, one)
    set_f32(kept + _QUERY + 4, two)
    set_f32(kept + _QUERY + 8, three)


@njit
def _dots_of_lanes(table, query, query_step, out, out_step, lanes):
    """Multiply a table with the query of each lane, four at a time."""
    fours = lanes & -4
    for lane in range(0, fours, 4):
        at, to = query + lane * query_step, out + lane * out_step
        dots64_of_four(table.at, table.blocks, table.stride, at, query_step, table.quads, to, out_step)
    for lane in range(fours, lanes):
        dots64(table.at, table.blocks, table.stride, query + lane * query_step, table.quads, out + lane * out_step)


@njit
def _prepare(queries, index, first, lanes):
    """Frame and project the queries of all lanes, find their cells; give how many are not sure."""
    zero, one = read_fields(Work, first), read_fields(Work, first + _WORK)
    projection, cells = dot_tables(index)
    unsure = 0
    for lane in range(lanes):
        work, query = read_fields(Work, first + lane * _WORK), queries + lane * 4 * index.dim
        framed = frame_query(query, index, work)
        _keep_framed(framed, work.kept)
        if not is_sure(query, index, framed):
            unsure += 1
    if index.projection != 0:
        _dots_of_lanes(projection, zero.bytes, one.bytes - zero.bytes, zero.dots, one.dots - zero.dots, lanes)
    for lane in range(lanes):
        work = read_fields(Work, first + lane * _WORK)
        framed = _kept_framed(work.kept)
        if index.projection != 0:
            into_code_space(framed, index, work)
        query = cell_query(framed, index, work)
        _keep_three(query.factor, query.sums, query.constant, work.kept)
    at, step = zero.bytes, one.bytes - zero.bytes
    if index.narrow != 0:
        at, step = zero.narrow, one.narrow - zero.narrow
    _dots_of_lanes(cells, at, step, zero.scores, one.scores - zero.scores, lanes)
    for lane in range(lanes):
        work = read_fields(Work, first + lane * _WORK)
        kept = work.kept + _QUERY
        cell = nearest(CellQuery(get_f32(kept), get_f32(kept + 4), get_f32(kept + 8)), index, work)
        set_i64(work.kept + _CELL, cell)
        ask_entries(index, cell)
    return unsure


@njit
def _sieve_of(call, allowed, row):
    """What may be returned for a row of the batch."""
    return Sieve(call.limit, allowed[row] if allowed.shape[0] > 0 else call.allowed, call.hidden)


@njit(forceinline=True)
def _enter_lane(kind, index, work, effort, sieve, k):
    """Begin the walk of a prepared lane; its first turn finds the entry's row there."""
    framed = _kept_framed(work.kept)
    code = line_query(kind, framed, index, work)
    _keep_three(code.base, code.k0, code.k1, work.kept)
    entry = entry_of(code, index, work, get_i64(work.kept + _CELL))
    pool_clear(work.pool, effort.pool >> 3)
    pool_clear(work.results, room_of(effort, k) >> 3)
    write_fields(open_walk(work, sieve, entry), work.kept)
    set_i64(work.kept + _TURN, _WALKING)


@njit(forceinline=True)
def _step_lane(kind, index, work, effort, sieve, vectors, k):
    """Let a lane walk one step; give its next turn."""
    kept, room = work.kept, room_of(effort, k)
    framed = _kept_framed(kept)
    rows = row_query(framed, index, work)
    steps = read_fields(Steps, kept)
    if not is_over(steps):
        query = kept + _QUERY
        code = kept_lines(kind, work, get_f32(query), get_f32(query + 4), get_f32(query + 8))
        take_step(code, rows, index, work, effort, sieve, steps, room)
        write_fields(look_ahead(index, work, effort, steps), kept)
        return _WALKING
    if index.exact_walk != 0:
        fetch_last(index, work, framed, vectors, effort.settle)
        set_i64(kept + _LISTED, ask_rows(index, work, effort, sieve, steps.head))
        return _SCORING
    merge_estimates(work, effort, sieve, steps.head, room)
    fetch_last(index, work, framed, vectors, max(effort.settle, k))
    return _SETTLING


@njit(forceinline=True)
def _turn_lane(kind, index, work, call, effort, sieve, query, slots, distances, k, turn):
    """Let a lane take a turn; give how many were found at the last, else -1."""
    kept = work.kept
    if turn == _WALKING:
        set_i64(kept + _TURN, _step_lane(kind, index, work, effort, sieve, call.vectors, k))
        return np.int64(-1)
    framed = _kept_framed(kept)
    if turn == _SCORING:
        rescore_rows(row_query(framed, index, work), index, work, get_i64(kept + _LISTED), room_of(effort, k))
        fetch_last(index, work, framed, call.vectors, max(effort.settle, k))
        set_i64(kept + _TURN, _SETTLING)
        return np.int64(-1)
    set_i64(kept + _TURN, _OVER)
    steps = read_fields(Steps, kept)
    return np.int64(end_search(index, work, framed, query, call, effort, steps, slots, distances, k))


@njit
def _batch(kind, queries, call_at, allowed, packed, slots, distances, counts, start, stop):
    """Answer rows start .. stop - 1, LANES at a time; give how many queries were not sure."""
    call = read_fields(Call, call_at)
    index, effort, first = read_fields(IndexFields, call.index_at), unpacked(packed), call.work_at
    k, unsure = slots.shape[1], 0
    queries_at, slots_at, distances_at = queries.ctypes.data, slots.ctypes.data, distances.ctypes.data
    for row in range(start, stop, LANES):
        lanes = min(LANES, stop - row)
        unsure += _prepare(queries_at + row * 4 * index.dim, index, first, lanes)
        for lane in range(lanes):
            work = read_fields(Work, first + lane * _WORK)
            _enter_lane(kind, index, work, effort, _sieve_of(call, allowed, row + lane), k)
        walking = lanes
        while walking > 0:
            for lane in range(lanes):
                work, at = read_fields(Work, first + lane * _WORK), row + lane
                turn = get_i64(work.kept + _TURN)
                if turn == _OVER:
                    continue
                sieve, query = _sieve_of(call, allowed, at), queries_at + at * 4 * index.dim
                to, near = slots_at + at * 4 * k, distances_at + at * 4 * k
                found = _turn_lane(kind, index, work, call, effort, sieve, query, to, near, k, turn)
                if found >= 0:
                    counts[at] = found
                    walking -= 1
    return unsure


@njit
def _codes_of(call_at):
    """Where an index's code lines are."""
    return read_fields(IndexFields, read_fields(Call, call_at).index_at).codes


@njit
def batch_signs(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do `search_signs` for rows start .. stop - 1 of queries (n, dim) float32; give how many are not sure.

    allowed: int64 addresses of each row's bits (0: all slots); or an empty array for what the Call says, whose work_at
    is of LANES Works, one after another, their arrays evenly apart. The answers go to the same rows of slots (n, k)
    uint32, distances (n, k) float32 and counts (n,) int64, which says how many were found.
    """
    codes = _codes_of(call_at)
    kind = SignQuery(codes, codes, codes, 0.0, 0.0, 0.0)
    return _batch(kind, queries, call_at, allowed, effort, slots, distances, counts, start, stop)


@njit
def batch_nibbles(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do as `batch_signs` in an index of 4-bit lines."""
    codes = _codes_of(call_at)
    kind = NibbleQuery(codes, codes, 0.0, 0.0, 0.0)
    return _batch(kind, queries, call_at, allowed, effort, slots, distances, counts, start, stop)


@njit
def batch_bytes(queries, call_at, allowed, effort, slots, distances, counts, start, stop):
    """Do as `batch_signs` in an index of 8-bit lines."""
    codes = _codes_of(call_at)
    kind = ByteQuery(codes, codes, 0.0, 0.0, 0.0)
    return _batch(kind, queries, call_at, allowed, effort, slots, distances, counts, start, stop)
