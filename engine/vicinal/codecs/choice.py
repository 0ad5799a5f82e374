"""Which code line suits the data: decided at build by how well estimates find the true neighbours of a sample.

bytes up to 56 dimensions; else nibbles of up to 112 principal components, or signs of up to 384 dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.cells import Cells, fit_cells
from vicinal.codecs.frame import Frame, fit_frame, sample_slots
from vicinal.codecs.levels import BYTE_DIMS, ByteCodec, fit_nibbles
from vicinal.codecs.lines import Codec
from vicinal.codecs.signs import fit_signs
from vicinal.errors import InvalidArgument
from vicinal.types import Metric, Rows

__all__ = ["Choice", "choose"]

_SAMPLE_ROWS = 20_000
_MANY_ROWS = 20_000  # from here more cells pay


class Choice(NamedTuple):
    """A fitted code and why it was taken; `exact_walk`: its estimates need exact distances beside them."""

    frame: Frame
    cells: Cells
    cell_nodes: NDArray[np.uint32]
    codec: Codec
    exact_walk: bool
    why: str


def _entry_nodes(frame: Frame, cells: Cells, rows: Rows, slots: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Give the sampled slot nearest to each centre; unused places repeat the first."""
    best = np.full(len(cells.centres), np.inf)
    nodes = np.zeros(len(cells.norms), np.uint32)
    for at in range(0, len(slots), 4096):
        part = slots[at : at + 4096]
        framed = frame.rows(rows, part)
        squares = np.einsum("ij,ij->i", framed, framed)[:, None]
        scores = squares - np.float32(2) * framed @ cells.centres.T
        nearest = scores.argmin(0)
        value = scores[nearest, np.arange(len(best))]
        better = value < best
        best[better] = value[better]
        nodes[: len(best)][better] = part[nearest[better]]
    nodes[len(best) :] = nodes[0]
    return nodes


def choose(metric: Metric, rows: Rows, n: int, *, codec: str, seed: int) -> Choice:
    """Fit frame, cells and code to rows [0, n), n at least 1."""
    if codec not in ("auto", "signs", "nibbles", "bytes"):
        raise InvalidArgument("codec is auto, signs, nibbles or bytes", field="codec", value=codec)
    dim = rows.vectors.shape[1]
    if n < 1:
        raise InvalidArgument("an index is built from at least one row", field="n", value=n, limit=1)
    wanted = codec
    why = "asked for"
    if codec == "auto":
        wanted, why = ("bytes", f"{dim} dimensions fit a line in 8 bits") if dim <= BYTE_DIMS else ("signs", "")
    if wanted == "bytes" and dim > BYTE_DIMS:
        raise InvalidArgument(f"codec bytes holds {BYTE_DIMS} dimensions", field="codec", value=dim, limit=BYTE_DIMS)
    exact_walk = wanted == "signs"
    frame = fit_frame(metric, rows, n, seed=seed, exact=exact_walk)
    slots = sample_slots(n, _SAMPLE_ROWS, seed)
    sample = frame.rows(rows, slots)
    cells = fit_cells(sample, frame, 128 if n >= _MANY_ROWS else 64, seed)
    nodes = _entry_nodes(frame, cells, rows, np.arange(n))
    if wanted == "signs":
        return Choice(frame, cells, nodes, fit_signs(frame, cells, sample, seed), exact_walk, why)
    if wanted == "nibbles":
        return Choice(frame, cells, nodes, fit_nibbles(frame, sample, seed), exact_walk, why)
    return Choice(frame, cells, nodes, ByteCodec(), exact_walk, why)
