"""Which code line suits scans, where no row of bytes ranks what the estimates chose.

4-bit levels cost less than half of what 384 signs cost to estimate and, with the few more rows they settle, find as
much, unless the rows spread evenly over more dimensions than the levels hold; then signs find more. Both are fitted
and the better is kept, levels within `SLACK` of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.basis import principal_axes
from vicinal.codecs.cells import fit_cells
from vicinal.codecs.choice import Choice, choose, found_by_estimates
from vicinal.codecs.frame import Frame, fit_frame, sample_slots
from vicinal.codecs.levels import BYTE_DIMS, ByteCodec, fit_nibbles
from vicinal.codecs.lines import ENTRIES, Codec
from vicinal.types import Metric, Rows

__all__ = ["choose_for_scans"]

ENOUGH = 0.93  # share of the nearest among the best estimates of a sample, from which nothing else is tried
SLACK = 0.05
_SAMPLE_ROWS = 10_000
_CELLS, _CELL_ROWS = 64, 24  # rows of the sample for each cell


def choose_for_scans(metric: Metric, rows: Rows, n: int, *, codec: str, seed: int) -> Choice:
    """Fit frame and code to rows [0, n), n at least 1; codec: auto, signs, nibbles or bytes.

    Only signs have their origins in cells. The other codes get a few rough ones, which tell later rows unlike these.
    """
    if codec not in ("auto", "nibbles", "bytes") or n < 1:
        return choose(metric, rows, n, codec=codec, seed=seed)
    dim = rows.vectors.shape[1]
    frame = fit_frame(metric, rows, n, seed=seed, exact=False)
    sample = frame.rows(rows, sample_slots(n, _SAMPLE_ROWS, seed))
    if codec == "bytes" or (codec == "auto" and dim <= BYTE_DIMS):
        if dim > BYTE_DIMS:
            return choose(metric, rows, n, codec=codec, seed=seed)  # which says why not
        return _choice(frame, sample, ByteCodec(), f"{dim} dimensions fit a line in 8 bits", seed)
    code = fit_nibbles(frame, sample, seed, principal_axes(sample, frame.centre[:dim]))
    levels = _choice(frame, sample, code, f"asked for; it keeps {code.kept:.3f} of the variance", seed)
    if codec == "nibbles":
        return levels
    found = found_by_estimates(frame, levels.cells, code, sample)
    if found >= ENOUGH:
        return levels._replace(why=f"4-bit estimates find {found:.3f} of the nearest of a sample")
    signs = choose(metric, rows, n, codec="signs", seed=seed)
    framed = signs.frame.rows(rows, sample_slots(n, _SAMPLE_ROWS, seed))
    other = found_by_estimates(signs.frame, signs.cells, signs.codec, framed)
    said = f"4-bit estimates find {found:.3f} of the nearest of a sample, signs {other:.3f}"
    return (levels if found >= other - SLACK else signs)._replace(why=said)


def _thinned(sample: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """About `most` of the sample's rows, or all."""
    return np.ascontiguousarray(sample[:: max(1, round(len(sample) / most))])


def _choice(frame: Frame, sample: NDArray[np.float32], code: Codec, why: str, seed: int) -> Choice:
    """A code of scans, beside which nothing is walked: rough cells, no entries."""
    cells = fit_cells(_thinned(sample, _CELLS * _CELL_ROWS), frame, _CELLS, seed)
    return Choice(frame, cells, np.zeros((len(cells.norms), ENTRIES), np.uint32), code, False, why)
