"""Segment graphs (SeRF, Zuo et al., SIGMOD 2024): walking the graph of one range among those of all ranges.

* 1-D: the links of the graph over every prefix of the ranks. A link pruned away while rank t is inserted still belongs
  to the graphs of the first R <= t ranks: it ends with its death t.
* 2-D: for every left bound L the neighbours that the heuristic would choose among the candidates ranked L or higher,
  as links with the interval of L for which they are chosen. The heuristic's answer for a bound b holds up to the least
  rank it chose (without loss: what it did not choose had no part in it), or is taken to hold up to the greatest (the
  MAX leap, smaller and lossy); the next bound is one above.

Departures. Intervals instead of batches: neighbouring batches share most links, so the leap without loss becomes
affordable. Bounds have sixteen bits: of more ranks than that their lowest bits are left out, and a link may hold for a
few bounds more than it was chosen for. `kernels.segment_links` builds the graphs.
"""

# ruff: noqa: ARG001, ARG005 - overloads share the arguments of what they overload

from __future__ import annotations

from typing import NamedTuple

from numba.extending import overload

from vicinal.kernels import njit
from vicinal.kernels.beam import Filter, row_ahead, send_for, unvisited, walk
from vicinal.kernels.distance import distance, query_scale, space_at
from vicinal.kernels.exact import NO_LIMIT, drain, work_at
from vicinal.kernels.heap import pool_clear, pool_insert
from vicinal.kernels.simd import get_i64, get_u8, get_u32, make_key, set_u8, set_u32

__all__ = ["EDGE_BYTES", "STARTS", "Edges", "first_edge", "search_edges", "search_range"]

STARTS = 8  # evenly spaced ranks where a search begins; the paper takes 3
EDGE_BYTES = 8
_LISTED_MOST = 128  # fresh neighbours of one expansion: room of the scratch's list is 512


class Edges(NamedTuple):
    """A finished segment graph and the range of one search; addresses as integers."""

    order: int  # u32: slot of each rank
    ranks: int  # u32: rank of each slot
    ends: int  # int64 per rank, after a first 0: where its links end
    edges: int  # two u32 a link: the neighbour's rank, and the bounds between which it holds, first and last, as u16
    shift: int  # how many of a bound's lowest bits are left out
    low: int
    stop: int  # ranks low .. stop - 1 may be met
    bound: int  # a link holds if its bounds include this: stop in a 1-D graph, low in a 2-D one


@njit
def _edges_at(block, low, stop, bound):
    return Edges(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        low,
        stop,
        bound,
    )


@njit
def first_edge(graph, slot):
    """Address of the first link of a slot."""
    return graph.edges + get_i64(graph.ends + get_u32(graph.ranks + slot * 4) * 8) * EDGE_BYTES


@njit
def _in_range(space, graph, work, epoch, slot):
    """Fresh neighbours in the range by links that hold there."""
    rank, bound = get_u32(graph.ranks + slot * 4), graph.bound >> graph.shift
    n, first = 0, first_edge(graph, slot)
    for e in range(get_i64(graph.ends + rank * 8 + 8) - get_i64(graph.ends + rank * 8)):
        edge = first + e * EDGE_BYTES
        other = get_u32(edge)
        if other < graph.low or other >= graph.stop:
            continue
        bounds = get_u32(edge + 4)
        if bound < bounds & 0xFFFF or bound > bounds >> 16:
            continue
        near = get_u32(graph.order + other * 4)
        mark = work.visited + near
        if get_u8(mark) != epoch:
            set_u8(mark, epoch)
            set_u32(work.fresh + n * 4, near)
            n += 1
            if n == _LISTED_MOST:
                break
    send_for(space, work.fresh, n)
    return n


@overload(unvisited)
def _unvisited_in_range(space, graph, work, epoch, slot, level, wanted):
    if getattr(graph, "instance_class", None) is Edges:
        return lambda space, graph, work, epoch, slot, level, wanted: _in_range(space, graph, work, epoch, slot)
    return None


@overload(row_ahead)
def _ahead_of_edges(graph, slot, level):
    if getattr(graph, "instance_class", None) is Edges:
        return lambda graph, slot, level: first_edge(graph, slot)
    return None


@njit
def _seed_ranks(space, order, work, query, scale, vectors, epoch, low, stop):
    """Begin a beam at evenly spaced ranks of low .. stop - 1; they are results like any other."""
    for i in range(STARTS):
        slot = get_u32(order + (low + (2 * i + 1) * (stop - low) // (2 * STARTS)) * 4)
        if get_u8(work.visited + slot) != epoch:
            set_u8(work.visited + slot, epoch)
            pool_insert(work.pool, vectors, make_key(distance(space, query, scale, slot), slot))


@njit
def search_range(space, graph, work, epoch, ef, slots, distances):
    """The nearest len(slots) of graph.low .. graph.stop - 1 in a graph over ranks whose walks stay inside."""
    query, vectors = work.query, (ef + 7) >> 3
    scale = query_scale(space, query)
    pool_clear(work.pool, vectors)
    _seed_ranks(space, graph.order, work, query, scale, vectors, epoch, graph.low, graph.stop)
    walk(space, graph, work, epoch, 0, query, scale, vectors, work.pool, ef, Filter(NO_LIMIT, 0, 0))
    return drain(work.pool, ef, NO_LIMIT, slots, distances)


@njit
def search_edges(element, space_block, work_block, epoch, block, low, stop, bound, ef, slots, distances):
    """The nearest len(slots) of ranks low .. stop - 1 by a beam of width ef >= len(slots); returns how many.

    block: address of the first five fields of `Edges` as int64; other arguments as for `beam.search`.
    """
    space, work = space_at(space_block, element), work_at(work_block)
    return search_range(space, _edges_at(block, low, stop, bound), work, epoch, ef, slots, distances)
