"""The coded walk: best-first search of a graph of degree 32 on code lines.

Two sorted arrays of keys: the **pool** (estimates of nodes that are not expanded yet, taken from its front) and the
**results** (distances of expanded ones). The walk stops when the best estimate exceeds the stop-th result.

The next node is chosen *one step ahead*, before the current one is worked on, so its row travels from memory during
the arithmetic; with `late` the code lines asked for in one step are used in the next. Expanding a node reads its
links and, with `exact_walk`, its bytes; each node is estimated once. After the walk the best unexpanded nodes are
scored, and the first few are settled on the stored floats, or as integers where rows and query are whole numbers.

After SymphonyQG (Gou et al. 2025). Departures: one code per node instead of one per edge (a quarter of the memory; an
update touches one row), about its cell's centre; two arrays instead of one, so exact distances re-sort what was
expanded; entry by the nearest of a cell's 32 spread over it, for the nearest cell; choice one step ahead.

What a search may return is a mask on the results (`Sieve`): every node is routed through, and nodes that may not be
returned never tighten the bound.
"""

from __future__ import annotations

from numba import types

from vicinal.kernels import njit
from vicinal.kernels.array_rows import ROW
from vicinal.kernels.heap import pool_clear
from vicinal.kernels.walk_fields import Call, IndexFields, Sieve, Work
from vicinal.kernels.walk_ir import read_fields
from vicinal.kernels.walk_query import byte_query, enter, frame_query, nibble_query, project, sign_query
from vicinal.kernels.walk_rows import fetch_last, row_query
from vicinal.kernels.walk_steps import (
    REFUSED,
    UNSURE,
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

__all__ = ["SEARCH", "search_bytes", "search_nibbles", "search_signs"]

SEARCH = ROW, types.intp, types.int64, ROW, ROW  # what the three searches take


@njit(forceinline=True)
def _search(code, framed, index, work, query, call, slots, distances, k, effort, cell):
    """Walk, re-score, settle; give how many of k were found, or that less 2^62 if the query was not sure."""
    entry = entry_of(code, index, work, cell)
    rows = row_query(framed, index, work)
    sieve = Sieve(call.limit, call.allowed, call.hidden)
    room = room_of(effort, k)
    pool_clear(work.pool, effort.pool >> 3)
    pool_clear(work.results, room >> 3)
    steps = open_walk(work, sieve, entry)
    while True:
        steps = look_ahead(index, work, effort, steps)
        if is_over(steps):
            break
        take_step(code, rows, index, work, effort, sieve, steps, room)
    if index.exact_walk != 0:
        fetch_last(index, work, framed, call.vectors, effort.settle)
        rescore_rows(rows, index, work, ask_rows(index, work, effort, sieve, steps.head), room)
    else:
        merge_estimates(work, effort, sieve, steps.head, room)
    fetch_last(index, work, framed, call.vectors, max(effort.settle, k))
    found = end_search(index, work, framed, query, call, effort, steps, slots, distances, k)
    return found if is_sure(query, index, framed) else found + UNSURE


@njit(forceinline=True)
def _begin(query, index, work):
    """Frame a query and project it, give the nearest cell and start fetching the lines of its entries."""
    framed = frame_query(query, index, work)
    project(framed, index, work)
    cell = enter(framed, index, work)
    ask_entries(index, cell)
    return framed, cell


@njit
def search_signs(query, call_at, effort, slots, distances):
    """Find the k nearest slots of a float32 query (dim,) in an index of sign lines; give how many were found.

    query: a Row, as are slots and distances, which take the answer and are of length k. call_at: address of a Call.
    effort: a packed Effort. Gives REFUSED for a row of another length; UNSURE is added for a query that is not of
    numbers only, or too long or too short to be compared.
    """
    call = read_fields(Call, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    if query.length != index.dim:
        return REFUSED
    framed, cell = _begin(query.address, index, work)
    code = sign_query(framed, index, work)
    to, near, k = slots.address, distances.address, distances.length
    return _search(code, framed, index, work, query.address, call, to, near, k, unpacked(effort), cell)


@njit
def search_nibbles(query, call_at, effort, slots, distances):
    """Do as `search_signs` in an index of 4-bit lines."""
    call = read_fields(Call, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    if query.length != index.dim:
        return REFUSED
    framed, cell = _begin(query.address, index, work)
    code = nibble_query(framed, index, work)
    to, near, k = slots.address, distances.address, distances.length
    return _search(code, framed, index, work, query.address, call, to, near, k, unpacked(effort), cell)


@njit
def search_bytes(query, call_at, effort, slots, distances):
    """Do as `search_signs` in an index of 8-bit lines."""
    call = read_fields(Call, call_at)
    index, work = read_fields(IndexFields, call.index_at), read_fields(Work, call.work_at)
    if query.length != index.dim:
        return REFUSED
    framed, cell = _begin(query.address, index, work)
    code = byte_query(framed, index, work)
    to, near, k = slots.address, distances.address, distances.length
    return _search(code, framed, index, work, query.address, call, to, near, k, unpacked(effort), cell)
