"""Walking a segment tree of graphs over ranks, its edges picked on the way (iRangeGraph, Xu et al., SIGMOD 2025).

Node by node the walk takes the graph a range would have from the graphs of the tree's segments: `search_tree`.
"""
# ruff: noqa: ARG001, ARG005 - overloads share the arguments of what they overload

from __future__ import annotations

from typing import NamedTuple

from numba.extending import overload

from vicinal.kernels import njit
from vicinal.kernels.beam import row_ahead, send_for, unvisited
from vicinal.kernels.distance import space_at
from vicinal.kernels.exact import work_at
from vicinal.kernels.segments import search_range
from vicinal.kernels.simd import SENTINEL, get_i64, get_u8, get_u32, set_u8, set_u32

__all__ = ["Tree", "row_of_level", "search_tree"]


class Tree(NamedTuple):
    """A tree of graphs and the range of one search; addresses as integers.

    Level l has segments of 1 << (leaf_bits + l * step_bits) ranks, and one row of links per rank; the last has one.
    """

    order: int  # u32: slot of each rank
    ranks: int  # u32: rank of each slot
    links: int  # u32 ranks: `width` of rank r at level l from (l * n + r) * width, ended by SENTINEL unless full
    n: int
    width: int
    levels: int
    leaf_bits: int
    step_bits: int
    low: int
    stop: int  # ranks low .. stop - 1 may be met


@njit
def _tree_at(block, low, stop):
    return Tree(
        get_i64(block),
        get_i64(block + 8),
        get_i64(block + 16),
        get_i64(block + 24),
        get_i64(block + 32),
        get_i64(block + 40),
        get_i64(block + 48),
        get_i64(block + 56),
        low,
        stop,
    )


@njit
def _overlap(tree, rank, level):
    """Which ranks of a rank's segment at a level are in the range, and whether that is all of the segment."""
    shift = tree.leaf_bits + level * tree.step_bits
    first = (rank >> shift) << shift
    end = min(first + (1 << shift), tree.n)
    low, stop = max(first, tree.low), min(end, tree.stop)
    return low, stop, low == first and stop == end


@njit
def row_of_level(tree, level, rank):
    """Address of a rank's row of links at a level."""
    return tree.links + (level * tree.n + rank) * tree.width * 4


@njit
def _picked(space, tree, work, epoch, slot):
    """Fresh neighbours in the range, from the root's graph down to the first segment that lies in it.

    A level whose child covers as much of the range is passed over: the child's graph is denser there.
    """
    rank = get_u32(tree.ranks + slot * 4)
    n, met = 0, 0
    level = tree.levels - 1
    low, stop, whole = _overlap(tree, rank, level)
    while level >= 0:
        below_low, below_stop, below_whole = low, stop, whole
        if level > 0:
            below_low, below_stop, below_whole = _overlap(tree, rank, level - 1)
        if level == 0 or below_low != low or below_stop != stop:
            row = row_of_level(tree, level, rank)
            for t in range(tree.width):
                other = get_u32(row + t * 4)
                if other == SENTINEL:
                    break
                if other < tree.low or other >= tree.stop:
                    continue
                met += 1
                near = get_u32(tree.order + other * 4)
                mark = work.visited + near
                set_u32(work.fresh + n * 4, near)
                n += int(get_u8(mark) != epoch)
                set_u8(mark, epoch)
            if whole or met >= tree.width:
                break
        low, stop, whole = below_low, below_stop, below_whole
        level -= 1
    send_for(space, work.fresh, n)
    return n


@overload(unvisited)
def _unvisited_of_tree(space, graph, work, epoch, slot, level, wanted):
    if getattr(graph, "instance_class", None) is Tree:
        return lambda space, graph, work, epoch, slot, level, wanted: _picked(space, graph, work, epoch, slot)
    return None


@overload(row_ahead)
def _ahead_of_tree(graph, slot, level):
    if getattr(graph, "instance_class", None) is Tree:
        return lambda graph, slot, level: row_of_level(graph, 0, get_u32(graph.ranks + slot * 4))
    return None


@njit
def search_tree(element, space_block, work_block, epoch, block, low, stop, bound, ef, slots, distances):
    """As `segments.search_edges`; block: the first eight fields of `Tree` as int64, `bound` is not used."""
    space, work = space_at(space_block, element), work_at(work_block)
    return search_range(space, _tree_at(block, low, stop), work, epoch, ef, slots, distances)
