"""Rows closer together than the common codes can tell: each group of them is linked again at a scale of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.index.bulk_candidates import Found
from vicinal.index.bulk_pieces import Pieces
from vicinal.kernels import prune
from vicinal.kernels.repair import components

__all__ = ["mix_links", "tight_groups"]

_ROUGH = 2.0  # half squared distance per dimension, in codes, below which rounding decides who is nearer
_COMMON = 8  # places of a row kept for links out of its group
_SHARED = 3  # of them that come from other rows of the group


def tight_groups(found: Found, copies: NDArray[np.int64], dim: int) -> list[NDArray[np.int64]]:
    """Give groups of rows, as positions in cell order, that have more rows so near than they have candidates.

    `copies` counts the rows with the codes of each position. Groups are joined by those candidates.
    """
    ids, dist = found.candidates
    near = (ids >= 0) & (dist < _ROUGH * dim)
    rows = np.flatnonzero(near[:, 0] | (copies > 1))
    around = copies[rows] + (copies[ids[rows]] * near[rows]).sum(1)
    tight = np.zeros(len(ids), bool)
    tight[rows] = around > ids.shape[1]
    if not tight.any():
        return []
    root = components(np.where(near, ids, -1), tight)
    members = np.flatnonzero(tight)
    members = members[np.argsort(root[members], kind="stable")]
    return np.split(members, np.flatnonzero(np.diff(root[members])) + 1)


def mix_links(
    links: NDArray[np.int32],
    degree: NDArray[np.int32],
    rows: NDArray[np.int64],
    local: NDArray[np.uint32],
    pieces: Pieces,
) -> None:
    """Give `rows` their group's links, named by place in `rows`, and beside them links out of the group."""
    k, width = links[rows].shape
    pieces.check()
    names = np.where(local.view(np.int32) >= 0, rows[np.minimum(local, k - 1)], -1).astype(np.int32)
    mixed, count = np.full((k, width), -1, np.int32), np.zeros(k, np.int32)
    room = np.full(k, width, np.int32)
    prune.mix_in(mixed, count, room - _COMMON, names, 0, k)
    prune.mix_in(mixed, count, room, _ways_out(links[rows], rows, len(links)), 0, k)
    links[rows], degree[rows] = mixed, count


def _ways_out(common: NDArray[np.int32], rows: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    """Give each row of a group its own links out of it and a few of the others': walks end anywhere in the group."""
    inside = np.zeros(n + 1, bool)
    inside[rows] = inside[-1] = True
    leaving = ~inside[common]
    pool = np.unique(common[leaving])
    own = np.where(leaving, common, -1)
    own = np.take_along_axis(own, np.argsort(~leaving, 1, kind="stable"), 1)[:, : _COMMON - _SHARED]
    take = min(_SHARED, len(pool))
    turn = np.arange(len(rows))[:, None] * take + np.arange(take)
    shared = pool[turn % max(len(pool), 1)]
    shared = np.where((shared[:, :, None] == own[:, None]).any(2), -1, shared)
    out = np.concatenate([own, shared], 1)
    order = np.argsort(out < 0, 1, kind="stable")
    return np.ascontiguousarray(np.take_along_axis(out, order, 1), np.int32)
