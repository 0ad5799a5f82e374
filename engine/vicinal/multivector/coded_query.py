"""A query's tokens as int8 codes, each with a scale of its own, packed for the kernels."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.tokens import quantise_tokens

__all__ = ["CodedQuery", "code_query"]

_ROUNDING: Final = 2.0**-22  # of float32 products and sums, for each dimension


class CodedQuery(NamedTuple):
    """Query tokens (m, dim): `lanes` and `bias` of their codes (`kernels.maxsim.pack_codes`), `scales` (m,) float32.

    `apart`: how far MaxSim by these codes may lie from float32, for each unit of length of a point's longest token.
    `longest`: at least the length of the longest token.
    """

    lanes: NDArray[np.int8]
    bias: NDArray[np.int32]
    scales: NDArray[np.float32]
    apart: float
    longest: float

    @property
    def packed(self) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
        """What kernels take."""
        return self[:3]


def code_query(query: NDArray[np.float32]) -> CodedQuery:
    """The codes of a checked query (m, dim) float32, C-contiguous; dim >= 4."""
    from vicinal.kernels.maxsim import pack_codes
    from vicinal.kernels.maxsim_rows import lost_lengths

    m, dim = query.shape
    codes, scales = quantise_tokens(query, np.arange(1, m + 1, dtype=np.int64))
    lost, whole, longest = lost_lengths(query, codes, scales)
    return CodedQuery(*pack_codes(codes), scales, lost + (dim + 8) * _ROUNDING * whole, longest)
