"""Token matrices: checks, and int8 codes with one scale per point.

A point's tokens are int8 codes c and one float32 scale s, value = s * c, s = max|value| / 127 unless given: symmetric,
so that dot products of codes are dot products of values up to the scales. Codes are the nearest, halves to even. Other
ways to store tokens are in `stores`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vicinal.errors import InvalidVector
from vicinal.types import TokenRows

__all__ = ["as_token_block", "as_token_matrix", "dequantise_tokens", "frozen", "no_tokens", "owned", "quantise_tokens"]

D = TypeVar("D", bound=np.generic)


def as_token_matrix(tokens: ArrayLike, dim: int, name: str = "tokens") -> NDArray[np.float32]:
    """One checked token matrix (t, dim) float32, C-contiguous and writable, t >= 1.

    Raises InvalidVector for a wrong shape, no token, a dtype that is not real, NaN or infinity.
    """
    matrix = _as_rows(tokens, dim, name)
    if not len(matrix):
        raise InvalidVector(f"{name} hold no token: send at least one", field=name, value=matrix.shape)
    return matrix


def as_token_block(
    tokens: ArrayLike, ends: ArrayLike, dim: int, name: str = "tokens"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A checked ragged block: tokens (t, dim) float32 and ends (n,) int64, matrix i in rows ends[i - 1] .. ends[i].

    Raises InvalidVector where `as_token_matrix` would for one of the matrices, or where `ends` does not split the rows.
    """
    matrix = _as_rows(tokens, dim, name)
    given = np.asarray(ends)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InvalidVector(
            f"ends of {name} must be a list of integers, not {given.dtype} of shape {given.shape}",
            field="ends",
            value=given.shape,
        )
    stops = given.astype(np.int64)
    counts = np.diff(stops, prepend=0)
    if int(counts.sum()) != len(matrix):
        raise InvalidVector(
            f"the last of ends must be the number of rows, {len(matrix)}", field="ends", limit=len(matrix)
        )
    if len(counts) and counts.min() < 1:
        point = int(np.argmin(counts))
        raise InvalidVector(f"matrix {point} of {name} holds no token: send at least one", field=name, value=point)
    return matrix, stops


def quantise_tokens(
    tokens: NDArray[np.float32], ends: NDArray[np.int64], scale: float | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (t, dim) int8 and scales (n,) float32 of checked float32 tokens; the scale of zeros or of no token is 1.

    With a `scale` all points have that one, and what is beyond 127 of it is cut.
    """
    from vicinal.kernels.maxsim_rows import quantise_rows

    codes = np.empty(tokens.shape, np.int8)
    scales = np.ones(len(ends), np.float32)
    given = owned(tokens, np.float32), owned(ends, np.int64)
    quantise_rows(*given, np.float32(scale or 0), codes, scales)
    return codes, scales


def dequantise_tokens(
    codes: NDArray[np.int8], ends: NDArray[np.int64], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The values (t, dim) float32 that codes stand for: scale * code, rounded once."""
    per_token = np.repeat(scales, np.diff(ends, prepend=0))
    return codes.astype(np.float32) * per_token[:, None]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view, so that mapped and own arrays share one compiled kernel."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


def owned(array: Any, dtype: type[D]) -> NDArray[D]:
    """The array as kernels want what they do not map: of this dtype, C-contiguous and writable; itself where it is."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:  # ten times sooner than `require`
        return array
    return np.require(array, dtype, ["C", "W"])


def no_tokens(dim: int) -> TokenRows:
    """Rows of no point."""
    return TokenRows(np.empty((0, dim), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))


def _as_rows(tokens: Any, dim: int, name: str) -> NDArray[np.float32]:
    """`tokens` as finite float32 rows (t, dim), C-contiguous and writable; InvalidVector otherwise."""
    try:
        array = np.asarray(tokens)
    except (ValueError, TypeError) as error:
        raise InvalidVector(f"{name} are not a matrix of numbers: {error}", field=name) from error
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidVector(
            f"{name} must have shape (t, {dim}), not {array.shape}", field=name, value=array.shape, limit=dim
        )
    if array.dtype.kind not in "fiu":
        raise InvalidVector(f"{name} must hold real numbers, not {array.dtype}", field=name, value=str(array.dtype))
    with np.errstate(over="ignore"):
        matrix = np.require(array, np.float32, ["C", "W"])
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidVector(
            f"token {row} of {name} holds NaN or infinity (as float32)", field=name, value=row, limit="finite"
        )
    return matrix
