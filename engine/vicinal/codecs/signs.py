"""One bit per dimension: signs of the rotated vector about its cell's centre (RaBitQ; see `kernels.lines`).

Up to 384 dimensions are rotated, wider vectors are first projected to their leading principal components, as many as
hold most of the variance: each costs a query a pass over a row of the matrix. Either way the line's bits are filled,
because spreading 100 dimensions over 384 signs costs nothing and estimates better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.basis import Axes, byte_projection, enough, in_bytes, principal
from vicinal.codecs.cells import FAR, Cells, nearest_by_bytes
from vicinal.codecs.frame import Frame, pack64
from vicinal.codecs.lines import PACKED, Lines, QueryArrays

__all__ = ["SignCodec", "fit_signs"]

SIGN_BITS = 384
HELD = 0.95  # of the variance: what further components add to estimates is less than what they cost a query
_MEASURED_ROWS = 4_000
NARROW_FROM = 0.9  # of the variance: what centres hold beside it does not matter to which is nearest
_CELL, _ADD, _MUL = 12, 14, 15  # places of 4 bytes in a line


@dataclass(frozen=True)
class SignCodec:
    """Fitted sign lines; `basis` (dim, outputs) projects wide vectors, None rotates all dimensions."""

    query: QueryArrays
    basis: NDArray[np.float32] | None
    centres: NDArray[np.float32]  # of the cells, rotated
    name: str = "signs"

    @cached_property
    def _lanes(self) -> NDArray[np.uint8]:
        return self.query.lanes()

    def encode(self, frame: Frame, cells: Cells, framed: NDArray[np.float32], lines: Lines, start: int) -> None:
        """Write the lines of framed rows (n, dim) from line `start` on."""
        from vicinal.kernels.code_space import residual_rows
        from vicinal.kernels.codes import encode_signs
        from vicinal.kernels.rotate import rotate_rows

        cell = nearest_by_bytes(frame, cells, framed)
        constant = np.empty(len(framed), np.float32)
        wide = self.query.projected if self.basis is None else frame.dim
        rows = np.empty((len(framed), wide), np.float32)
        residual_rows(framed, cells.centres, cell, frame.squared, rows, constant)
        if self.basis is not None:
            rows = self.query.project(rows, self._lanes)
        assert self.query.signs is not None
        rotate_rows(rows, self.query.signs)
        encode_signs(rows, self.centres, cell, constant, lines.words, lines.floats, lines.numbers, start)

    def estimate(self, frame: Frame, cells: Cells, queries: NDArray[np.float32], lines: Lines) -> NDArray[np.float32]:
        """Estimate distances (queries, lines) in plain arithmetic, up to a constant per query."""
        bits = np.unpackbits(lines.bytes, axis=1, bitorder="little", count=self.query.projected)
        signs = bits.astype(np.float32) * np.float32(2) - np.float32(1)
        offsets = np.float32(-2) * queries @ cells.centres.T
        if frame.squared:
            offsets += cells.squares
        estimates: NDArray[np.float32] = _rotated(frame, queries, self.basis, self.query) @ signs.T
        estimates *= lines.floats[:, _MUL]
        estimates += lines.floats[:, _ADD] + offsets[:, lines.numbers[:, _CELL]]
        return estimates

    def search(self) -> Any:
        """Give the compiled walk over such lines."""
        from vicinal.kernels.walk import search_signs

        return search_signs

    def settings(self) -> Mapping[str, Any]:
        """Tell what was fitted."""
        return {"code": self.name, "bits": self.query.projected, "projected": self.query.outputs}


def _rotated(
    frame: Frame, framed: NDArray[np.float32], basis: NDArray[np.float32] | None, query: QueryArrays
) -> NDArray[np.float32]:
    """Give framed rows in the code space: about the frame's centre, projected or padded, rotated."""
    from vicinal.kernels.rotate import rotate_rows

    centred = framed - frame.centre[: frame.dim]
    out = np.zeros((len(framed), query.projected), np.float32)
    if basis is None:
        out[:, : frame.dim] = centred
    else:
        np.matmul(centred, basis, out=out[:, : basis.shape[1]])
    assert query.signs is not None
    rotate_rows(out, query.signs)
    return out


def _narrow(frame: Frame, cells: Cells, basis: NDArray[np.float32]) -> dict[str, Any]:
    """Give the cells' centres as `enter` compares them with a projected query."""
    centred = cells.centres - frame.centre[: frame.dim]
    projected = centred @ basis
    step = max(float(np.abs(projected).max()), 1e-30) / 127
    table = np.zeros((len(cells.norms), basis.shape[1]), np.uint8)
    table[: len(centred)] = np.rint(projected / np.float32(step) + np.float32(128))
    norms = np.full(len(cells.norms), FAR, np.float32)
    norms[: len(centred)] = np.einsum("ij,ij->i", centred, centred)
    return {"narrow": pack64(table), "narrow_norms": norms, "narrow_step": step}


def _projected(
    frame: Frame, sample: NDArray[np.float32], seed: int, bits: int, axes: Axes | None
) -> tuple[NDArray[np.float64], float]:
    """Give the leading directions that are projected to, and the share of the variance that they hold."""
    if axes is not None:
        count = axes.enough(HELD, PACKED, bits)
        return axes.directions[:, :count], float(axes.shares[count - 1])
    centred = sample - frame.centre[: frame.dim]
    full = principal(centred, bits, seed)
    some = centred[:: max(1, len(centred) // _MEASURED_ROWS)]
    full = full[:, : enough(some, full, HELD, PACKED)]
    inside = np.square(some @ full.astype(np.float32)).sum(dtype=np.float64)
    return full, float(inside / max(np.square(some).sum(dtype=np.float64), 1e-300))


def fit_signs(
    frame: Frame,
    cells: Cells,
    sample: NDArray[np.float32],
    seed: int,
    bits: int = SIGN_BITS,
    axes: Axes | None = None,
) -> SignCodec:
    """Fit sign lines of `bits` bits (a multiple of 128, at most 384) to framed rows; axes: of them, where known."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1, 1], np.float32), (2, bits)) * np.float32(2**-3.5)
    basis = None
    query = QueryArrays(projected=bits, signs=signs)
    if frame.padded > bits:
        full, held = _projected(frame, sample, seed, bits, axes)
        full = in_bytes(full)  # rows and centres are projected as queries are
        basis = np.ascontiguousarray(full, dtype=np.float32)
        query = QueryArrays(bits, *byte_projection(full, frame), signs)
        if frame.squared and held >= NARROW_FROM:
            query = query._replace(**_narrow(frame, cells, basis))
    return SignCodec(query, basis, _rotated(frame, cells.centres, basis, query))
