"""Memory that insertion works in, and links grouped by target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.kernels.build import Candidates

__all__ = ["CANDIDATES", "DEGREE", "FORWARD", "OneRow", "by_target", "candidates"]

DEGREE = 32
FORWARD = 16
CANDIDATES = 48  # 64 or 32 give the same graphs


class OneRow(NamedTuple):
    """Memory for inserting one row."""

    ids: NDArray[np.uint32]  # (1, candidates)
    found: Candidates  # (1, candidates)
    chosen: Candidates  # (1, links)
    rows: NDArray[np.int32]  # (1,) the row itself
    touched: NDArray[np.int32]  # rows that changed

    @classmethod
    def fresh(cls) -> OneRow:
        """New memory."""
        chosen = Candidates(np.empty((1, DEGREE), np.int32), np.empty((1, DEGREE), np.int32))
        touched = np.empty(FORWARD * (DEGREE + 2) + 2, np.int32)
        ids = np.empty((1, CANDIDATES), np.uint32)
        return cls(ids, candidates(1), chosen, np.empty(1, np.int32), touched)


def candidates(count: int) -> Candidates:
    """Allocate candidates of `count` rows."""
    return Candidates(np.empty((count, CANDIDATES), np.int32), np.empty((count, CANDIDATES), np.int32))


def by_target(
    rows: NDArray[np.int32], chosen: NDArray[np.int32], dist: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Group links by target, then by source: targets, first place of each, sources and distances."""
    real = chosen.reshape(-1) >= 0
    target = chosen.reshape(-1)[real]
    order = np.argsort(target, kind="stable")
    target = target[order]
    firsts = np.flatnonzero(np.diff(target, prepend=-1))
    sources = np.repeat(rows, chosen.shape[1])[real][order]
    return target[firsts], np.append(firsts, len(order)), sources, dist.reshape(-1)[real][order]
