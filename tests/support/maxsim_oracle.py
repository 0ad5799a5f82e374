"""Plain numpy answers for token matrices: MaxSim, and the fixed-dimensional encoding step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.fde import FixedDimensionalEncoder

__all__ = ["encode_plainly", "least_sketch", "make_points", "maxsim", "split", "unit_rows"]


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> NDArray[np.float32]:
    """Random rows (count, dim) float32 of length one."""
    rows = rng.standard_normal((count, dim))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def make_points(
    rng: np.random.Generator, counts: NDArray[np.int64], dim: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A ragged block of unit tokens: (sum(counts), dim) float32 and ends."""
    return unit_rows(rng, int(counts.sum()), dim), np.cumsum(counts).astype(np.int64)


def split(tokens: NDArray[Any], ends: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The matrices of a ragged block."""
    return np.split(tokens, ends[:-1])


def maxsim(query: NDArray[np.float32], document: NDArray[np.float32]) -> float:
    """Sum over query tokens of the best inner product, in float64; -inf without tokens."""
    if not len(document):
        return -np.inf
    return float((query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1).sum())


def _codes(encoder: FixedDimensionalEncoder, tokens: NDArray[np.float32], repetition: int) -> list[str]:
    """Each token's sign bits as text, the first hyperplane first."""
    k = encoder.simhash_projections
    planes = encoder._hyperplanes[:, repetition * k : (repetition + 1) * k].astype(np.float64)
    return ["".join("1" if x > 0 else "0" for x in row) for row in tokens.astype(np.float64) @ planes]


def _from_gray(code: str) -> int:
    """The rank of a Gray code, bit by bit."""
    rank = 0
    for bit in code:
        rank = 2 * rank + (int(bit) ^ (rank & 1))
    return rank


def encode_plainly(encoder: FixedDimensionalEncoder, tokens: NDArray[np.float32], average: bool) -> NDArray[np.float64]:
    """The encoding in float64, from the encoder's matrices, without the final projection."""
    k, width = encoder.simhash_projections, encoder.projection_dimension or encoder.dim
    blocks = np.zeros((encoder.repetitions, 1 << k, width))
    rank_codes = {_from_gray(code): code for code in (format(b, f"0{k}b") if k else "" for b in range(1 << k))}
    for r in range(encoder.repetitions):
        codes = _codes(encoder, tokens, r)
        values = tokens.astype(np.float64)
        if encoder.projection_dimension is not None:
            values = values @ encoder._projection[:, r * width : (r + 1) * width].astype(np.float64)
        for block, code in rank_codes.items():
            members = [t for t, c in enumerate(codes) if c == code]
            if members:
                blocks[r, block] = values[members].sum(axis=0) / (len(members) if average else 1)
            elif average and encoder.fill_empty and k:
                distances = [sum(a != b for a, b in zip(c, code, strict=True)) for c in codes]
                blocks[r, block] = values[int(np.argmin(distances))]
    return blocks.reshape(-1)


def least_sketch(encoder: FixedDimensionalEncoder, tokens: NDArray[np.float32]) -> float:
    """How near a sketch comes to zero, where rounding decides the bucket."""
    sketches = np.abs(tokens.astype(np.float64) @ encoder._hyperplanes.astype(np.float64))
    return float(sketches.min()) if sketches.size else np.inf
