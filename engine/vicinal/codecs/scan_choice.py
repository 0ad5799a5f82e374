"""Which code line suits scans, where no row of bytes ranks what the estimates chose.

4-bit levels cost less than half of what 384 signs cost to estimate and, with the few more rows they settle, find as
much, unless the rows spread evenly over more dimensions than the levels hold; then signs find more. Both are fitted
and the better is kept, levels within `SLACK` of it.
"""

from __future__ import annotations

from vicinal.codecs.choice import Choice, choose, found_by_estimates
from vicinal.codecs.frame import sample_slots
from vicinal.codecs.levels import BYTE_DIMS
from vicinal.types import Metric, Rows

__all__ = ["choose_for_scans"]

ENOUGH = 0.93  # share of the nearest among the best estimates of a sample, from which nothing else is tried
SLACK = 0.05
_SAMPLE_ROWS = 10_000


def choose_for_scans(metric: Metric, rows: Rows, n: int, *, codec: str, seed: int) -> Choice:
    """Fit frame, cells and code to rows [0, n), n at least 1; codec: auto, signs, nibbles or bytes."""
    if codec != "auto" or rows.vectors.shape[1] <= BYTE_DIMS:
        return choose(metric, rows, n, codec=codec, seed=seed)
    levels = choose(metric, rows, n, codec="nibbles", seed=seed)
    found = _found(levels, rows, n, seed)
    if found >= ENOUGH:
        return levels._replace(why=f"4-bit estimates find {found:.3f} of the nearest of a sample")
    signs = choose(metric, rows, n, codec="signs", seed=seed)
    other = _found(signs, rows, n, seed)
    said = f"4-bit estimates find {found:.3f} of the nearest of a sample, signs {other:.3f}"
    return (levels if found >= other - SLACK else signs)._replace(why=said)


def _found(choice: Choice, rows: Rows, n: int, seed: int) -> float:
    """Give the share of rows' nearest in a sample that estimates find."""
    frame, cells, _, codec, *_ = choice
    return found_by_estimates(frame, cells, codec, frame.rows(rows, sample_slots(n, _SAMPLE_ROWS, seed)))
