"""What the coded walk is given: the fields of an index, of a thread's scratch memory and of one call, by name.

Each NamedTuple is an int64 array in memory (`read_fields`), so a call passes one address instead of thirty. Real
numbers are in a float32 array of their own, at the places named by `Number`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "EFFORT_BITS",
    "HEAD_NORM",
    "HEAD_SQUARE",
    "HEAD_STEP",
    "HEAD_SUM",
    "KEPT_BYTES",
    "LINKS_AT",
    "SLOTS",
    "VECTOR_AT",
    "WIDE_SLOTS",
    "Call",
    "Effort",
    "IndexFields",
    "Number",
    "Sieve",
    "Work",
]

# A row of a node: one line of head, 32 links, the vector as bytes.
HEAD_NORM, HEAD_STEP, HEAD_SUM, HEAD_SQUARE = 0, 4, 8, 12  # float32, float32, int32, int32
LINKS_AT, VECTOR_AT = 64, 192

SLOTS, WIDE_SLOTS = 0, -1  # the slot's number, as uint32 or as uint64
KEPT_BYTES = 256

EFFORT_BITS = 16  # of each part of an Effort packed into one int64, `pool` lowest


class IndexFields(NamedTuple):
    """Addresses and sizes of an index; 0 where a code form has no such array."""

    capacity: int  # slots that every array has room for
    dim: int
    padded: int  # dim rounded up to whole lines of bytes
    metric: int  # L2, DOT or COSINE of kernels.distance
    exact_walk: int  # 1: expanded nodes are scored from their rows; 0: the walk reads links and code lines only
    late: int  # 1: code lines are used one step after they are asked for
    whole: int  # 1: rows hold whole numbers 0 .. 255 exactly
    rows: int
    row_bytes: int
    fine: int  # low bytes of the rows' 16-bit values, (capacity, padded) u8, or 0: settle on the stored floats
    mean_shift: int  # float32 (padded,): what rows subtract to enter the frame
    links: int  # of slot 0
    links_stride: int
    codes: int
    numbers: int  # float32 array, see Number
    shift: int  # float32 (padded,): subtracted from the scaled query to enter the frame
    off_centre: int  # 1: codes are about `centre`, not about the frame's origin
    centre: int  # float32 (padded,): further subtracted for codes
    cells: int  # packed table of the cells' centres
    cell_blocks: int  # of 64 cells
    cell_norms: int
    cell_sums: int
    cell_nodes: int  # u32 (cells, BATCH): slots of each cell, where a walk may enter
    entry_places: int  # u32: 0, 1, 2, ..., the places of those in `entry_lines`
    entry_lines: int  # copies of their code lines
    narrow: int  # packed table of the centres in the code space, about `centre`; or 0: cells are compared in the frame
    narrow_norms: int
    projection: int  # packed u8 matrix, or 0: the codes rotate all dimensions
    outputs: int  # of the projection, a multiple of 64; further dimensions of the code space are 0 before rotation
    projected: int  # dimensions of the code space
    projection_scale: int
    projection_shift: int
    projection_shift_whole: int  # for whole-number queries, whose bytes are offset by 128
    signs: int  # of the rotation


class Number(IntEnum):
    """Places of an index's float32 constants."""

    SCALE = 0  # of the frame: frame = vector * scale - shift
    ZERO = 1  # byte that stands for 0 in rows: 128, or 0 for whole numbers
    CELL_STEP = 2  # centre = step * (byte - zero)
    CELL_ZERO = 3
    NARROW_STEP = 4  # projected centre = step * (byte - 128)


class Work(NamedTuple):
    """Addresses of one thread's scratch memory; all 64-byte aligned."""

    vector: int  # float32 (padded,): the query in the frame
    centred: int  # float32 (padded,): about the codes' centre
    bytes: int  # int8 (padded,)
    projected: int  # float32
    dots: int  # int32
    lines: int  # the query as code lines
    scores: int  # float32 per cell
    pool: int  # keys of estimated nodes; eight guards before it
    pool_room: int
    results: int  # keys of expanded nodes; eight guards before it
    results_room: int
    settled: int  # keys of the last few; eight guards before it
    estimates: int  # float32 (32,)
    lane_work: int  # WORK_BYTES
    listed: int  # u32: every slot marked as seen
    listed_room: int
    chosen: int  # u32: slots about to be scored, room as for results
    seen: int  # bits
    seen_words: int
    narrow: int  # int8 (padded,): the projected query
    hops: int  # int64: rows expanded and nodes estimated by the last call; float32: its slack, see `walk`
    kept: int  # KEPT_BYTES of a walk that waits for its turn, see `walk_batch`


class Call(NamedTuple):
    """What a thread's walks search, said once: addresses, and what may be returned."""

    index_at: int  # of IndexFields
    work_at: int  # of Work
    vectors: int  # of the stored floats, 0: none
    inv_norms: int
    allowed: int  # of bits, 0: all
    limit: int
    hidden: int
    names: int  # what is told of a slot: SLOTS, WIDE_SLOTS, or the address of an uint64 for each


class Effort(NamedTuple):
    """How hard one call tries, in nodes: see `vicinal.index.coded_effort`."""

    pool: int  # estimates kept, a multiple of 8
    stop: int  # stop when the best estimate exceeds the stop-th exact distance
    rescore: int  # best unexpanded nodes scored exactly after the walk
    settle: int  # nodes settled on stored floats; below 2^15


class Sieve(NamedTuple):
    """What may be returned."""

    limit: int  # slots below it
    allowed: int  # address of bits, 0: all
    hidden: int  # a slot the walk must not even see, -1: none
