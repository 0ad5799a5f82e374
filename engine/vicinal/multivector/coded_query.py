"""A query's tokens as the kernels want them: int8 codes with a scale each, packed; and fewer of them (carving)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.tokens import owned

__all__ = ["CodedQuery", "carve_query", "code_query"]

_ROUNDING: Final = 2.0**-22  # of float32 products and sums, for each dimension
_LANES: Final = 16


class CodedQuery(NamedTuple):
    """Query tokens (m, dim): `lanes` and `bias` of their codes (`kernels.maxsim_rows.pack_rows`), and by token (m,).

    `steps`: their scales. `apart`: how far products by these codes may lie from float32, for each unit of the other
    token's length. `lengths`: at least those of the tokens that the codes stand for.
    """

    lanes: NDArray[np.int8]
    bias: NDArray[np.int32]
    steps: NDArray[np.float32]
    apart: NDArray[np.float32]
    lengths: NDArray[np.float32]


def code_query(query: NDArray[np.float32]) -> CodedQuery:
    """The codes of a checked query (m, dim) float32, C-contiguous; dim >= 4."""
    from vicinal.kernels.maxsim_rows import code_rows

    m, dim = query.shape
    vectors = -(-m // _LANES)
    lanes, bias = np.empty((vectors, -(-dim // 4), _LANES, 4), np.int8), np.empty((vectors, _LANES), np.int32)
    steps, apart, lengths = np.empty((3, m), np.float32)
    code_rows(query, (dim + 8) * _ROUNDING, np.empty((m, dim), np.int8), lanes, bias, steps, apart, lengths)
    return CodedQuery(lanes, bias, steps, apart, lengths)


def carve_query(query: NDArray[np.float32], least: float = 0.7, *, cosines: bool = False) -> NDArray[np.float32]:
    """A shorter query (at most m, dim): greedy balls of tokens with inner product >= `least`, each replaced by its sum.

    MUVERA, section 3.1 (ball carving), for tokens of unit length: MaxSim of the carved query is near that of the query.
    With `cosines` tokens may have any length.
    """
    from vicinal.kernels.maxsim_settle import carve

    query = owned(query, np.float32)
    sums = np.empty_like(query)
    return sums[: carve(query, least, cosines, sums)]
