"""How many of the nearest cells a filtered scan looks at: what the first of them held tells how many are needed.

By their number alone as many cells would be taken under every filter. Where matches lie beside the query, a few hold
enough; where they lie elsewhere, it is seen early.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit

__all__ = ["enough_rows", "first_cells", "next_cells"]

_FIRST_PART = 8  # of the cells that would hold the quota at random, one in so many is looked at first
_LEAST_MORE = 1.25  # times as many cells in each round


@njit
def first_cells(cells, limit, wanted):
    """Give of how many cells the members are looked at first, and how many would hold the quota at random.

    First a part of these: as many as hold the quota where all their members match, as beside the query.
    """
    count = min(max(wanted.quota * cells // wanted.matches, 1), cells)
    fewest = max(wanted.quota * cells // max(limit, 1), count // _FIRST_PART, 1)
    return count if fewest * 2 > count else fewest, count


@njit
def enough_rows(scored, visited, count, quota):
    """Give how many matching rows are to be estimated, where `visited` cells held so many that match.

    Where they lie closer to each other than at random the nearest cells hold more of them for as good an answer; the
    quota grows with the root of that, as the quotas do that were fitted for more matches.
    """
    closer = np.float64(scored) * count / (np.float64(quota) * visited)
    return np.int64(quota * np.sqrt(max(closer, 1.0)))


@njit
def next_cells(scored, visited, enough, cells):
    """Give how many of the nearest cells hold `enough` matching rows, by the share in those that were looked at."""
    more = np.float64(enough) / max(scored, 1)
    return min(np.int64(visited * min(max(more, _LEAST_MORE), np.float64(_FIRST_PART))) + 1, cells)
