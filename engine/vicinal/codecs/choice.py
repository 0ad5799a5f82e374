"""Which code line suits the data: decided at build by how well estimates find the true neighbours of a sample.

    bytes     up to 56 dimensions: estimates are exact but for rounding, the walk reads links and lines only
    nibbles   112 principal components in 4 bits, where they hold nearly all variance: links and lines only, too
    signs     else: up to 384 dimensions (principal components beyond) in one bit, with rows beside them

Nibbles must also find the ten true neighbours of sampled rows among their 24 best estimates (`TOP`), which is about
what a walk settles in the end. The bounds lie between data sets on which each choice was measured to be the faster: on
pixels, where 112 components hold .92, nibbles with rows walk slower than signs although they find more of a small
sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.basis import principal_axes, spectrum_share
from vicinal.codecs.cells import Cells, fit_cells
from vicinal.codecs.frame import Frame, fit_frame, sample_slots
from vicinal.codecs.levels import BYTE_DIMS, NIBBLE_DIMS, ByteCodec, fit_nibbles
from vicinal.codecs.lines import ENTRIES, LINE, Codec, view_lines
from vicinal.codecs.signs import fit_signs
from vicinal.errors import InvalidArgument
from vicinal.types import Metric, Rows

__all__ = ["Choice", "choose", "entry_nodes", "found_by_estimates"]

CODECS = ("auto", "signs", "nibbles", "bytes")
TOP = 24
NEAR_EXACT = 0.95  # share of the variance in nibbles' dimensions: no row need be read on the way
FOUND = 0.97  # share of the nearest that nibbles must find
_SAMPLE_ROWS = 10_000
_QUERIES = 100
_SPECTRUM_ROWS = 4_000
_ENTRY_SHARE = 4
_MANY_ROWS = 20_000  # from here more cells pay


class Choice(NamedTuple):
    """A fitted code and why it was taken; `exact_walk`: its estimates need exact distances beside them."""

    frame: Frame
    cells: Cells
    cell_nodes: NDArray[np.uint32]
    codec: Codec
    exact_walk: bool
    why: str


class _Fitted(NamedTuple):
    """What all kinds of code are fitted to."""

    frame: Frame
    cells: Cells
    sample: NDArray[np.float32]
    slots: NDArray[np.int64]


def found_by_estimates(frame: Frame, cells: Cells, codec: Codec, sample: NDArray[np.float32]) -> float:
    """Give the share of rows' ten nearest (of the sample, themselves left out) among their TOP best estimates."""
    lines = view_lines(np.zeros((len(sample), LINE), np.uint8))
    codec.encode(frame, cells, sample, lines, 0)
    asked = np.linspace(0, len(sample) - 1, min(_QUERIES, len(sample))).astype(np.int64)
    queries = sample[asked]
    true = np.float32(-2) * queries @ sample.T
    if frame.squared:
        true += np.einsum("ij,ij->i", sample, sample)
    estimated = codec.estimate(frame, cells, queries, lines)
    k, top = min(10, len(sample) - 1), min(TOP, len(sample) - 1)
    if k < 1:
        return 1.0
    found = 0
    for at, slot in enumerate(asked):
        true[at, slot] = estimated[at, slot] = np.inf
        nearest = np.argpartition(true[at], k - 1)[:k]
        found += np.isin(nearest, np.argpartition(estimated[at], top - 1)[:top]).sum()
    return float(found) / (k * len(asked))


def entry_nodes(cells: Cells, sample: NDArray[np.float32], slots: NDArray[np.int64], n: int) -> NDArray[np.uint32]:
    """Give where walks may enter each cell: (places, ENTRIES) sampled slots of an index of n.

    The first is the nearest to the centre, further ones lie anywhere in the cell; they are repeated where there are
    fewer, and so that no more than a quarter of all slots are entries. Unused places repeat the first cell.
    """
    scores = sample @ (np.float32(-2) * cells.centres).T
    members = (scores + cells.squares).argmin(1)
    scores += np.einsum("ij,ij->i", sample, sample)[:, None]
    most = int(np.clip(n // (_ENTRY_SHARE * len(cells.centres)), 1, ENTRIES))
    nodes = np.zeros((len(cells.norms), ENTRIES), np.uint32)
    for cell, first in enumerate(scores.argmin(0)):
        others = np.flatnonzero(members == cell)
        spread = others[np.linspace(0, len(others) - 1, min(most - 1, len(others))).astype(np.int64)]
        nodes[cell] = np.resize(slots[np.concatenate([[first], spread]).astype(np.int64)], ENTRIES)
    nodes[len(cells.centres) :] = nodes[0]
    return nodes


def _fit(metric: Metric, rows: Rows, n: int, seed: int, *, exact: bool) -> _Fitted:
    """Fit frame and cells; exact: whole numbers may stay as they are."""
    frame = fit_frame(metric, rows, n, seed=seed, exact=exact)
    slots = sample_slots(n, _SAMPLE_ROWS, seed)
    sample = frame.rows(rows, slots)
    return _Fitted(frame, fit_cells(sample, frame, 128 if n >= _MANY_ROWS else 64, seed), sample, slots)


def _measured(fitted: _Fitted, seed: int) -> tuple[Codec, bool, str]:
    """Choose between signs and nibbles; give the code, whether rows are needed beside it, and why."""
    frame, cells, sample, _ = fitted
    centre = frame.centre[: frame.dim]
    axes = principal_axes(sample, centre)
    if axes is not None:
        share = float(axes.shares[min(NIBBLE_DIMS, frame.dim) - 1])
    else:
        share = spectrum_share(sample[:: max(1, len(sample) // _SPECTRUM_ROWS)] - centre, NIBBLE_DIMS)
    said = f"{NIBBLE_DIMS} principal components hold {share:.3f} of the variance"
    if share >= NEAR_EXACT:
        nibbles = fit_nibbles(frame, sample, seed, axes)
        found = found_by_estimates(frame, cells, nibbles, sample)
        if found >= FOUND:
            return nibbles, False, f"{said}; 4-bit estimates find {found:.3f} of the nearest"
        said += f", but 4-bit estimates find only {found:.3f} of the nearest"
    return fit_signs(frame, cells, sample, seed, axes=axes), True, said


def choose(metric: Metric, rows: Rows, n: int, *, codec: str, seed: int) -> Choice:
    """Fit frame, cells and code to rows [0, n), n at least 1."""
    dim = rows.vectors.shape[1]
    if codec not in CODECS:
        raise InvalidArgument(f"codec is one of {', '.join(CODECS)}", field="codec", value=codec)
    if n < 1:
        raise InvalidArgument("an index is built from at least one row", field="n", value=n, limit=1)
    if codec == "bytes" and dim > BYTE_DIMS:
        raise InvalidArgument(f"codec bytes holds {BYTE_DIMS} dimensions", field="codec", value=dim, limit=BYTE_DIMS)
    kind = "bytes" if codec == "auto" and dim <= BYTE_DIMS else codec
    fitted = _fit(metric, rows, n, seed, exact=kind in ("auto", "signs"))
    code: Codec
    if kind == "auto":
        code, rows_too, why = _measured(fitted, seed)
    elif kind == "signs":
        axes = principal_axes(fitted.sample, fitted.frame.centre[:dim])
        code = fit_signs(fitted.frame, fitted.cells, fitted.sample, seed, axes=axes)
        rows_too, why = True, "asked for"
    elif kind == "nibbles":
        code = fit_nibbles(fitted.frame, fitted.sample, seed)
        rows_too, why = code.kept < NEAR_EXACT, f"asked for; it keeps {code.kept:.3f} of the variance"
    else:
        code, rows_too, why = ByteCodec(), False, f"{dim} dimensions fit a line in 8 bits"
    nodes = entry_nodes(fitted.cells, fitted.sample, fitted.slots, n)
    return Choice(fitted.frame, fitted.cells, nodes, code, rows_too, why)
