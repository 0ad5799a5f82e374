"""From any array-like to finite float32 rows: the one place where vectors are cast and checked.

Vectors may be numpy arrays, nested lists, Arrow fixed-size lists, or anything with `__array__` or DLPack.
They are cast to float32 first and checked after: 1e39 is a finite number in JSON and infinite in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.errors import InvalidVector, LimitExceeded
from vicinal.types import Metric

__all__ = ["as_array", "as_matrix", "as_query", "as_tokens", "check_finite", "inverse_norms"]

# squared lengths between these keep their precision in float32
_TINY, _HUGE = 1e-30, 1e30


def inverse_norms(
    matrix: NDArray[np.float32], squares: NDArray[np.float32], name: str = "vector"
) -> NDArray[np.float32]:
    """1 / |x| per row (n,) float32; InvalidVector when a row has length zero."""
    inv: NDArray[np.float32]
    if np.all((squares > _TINY) & (squares < _HUGE)):
        inv = (1.0 / np.sqrt(squares)).astype(np.float32)
        return inv
    # squares of very short or long rows leave float32's range
    exact = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    if not exact.all():
        row = int(np.argmin(exact))
        raise InvalidVector(
            f"row {row} of {name} has length zero, which has no direction under cosine: leave the point out "
            "or use l2 or dot",
            field=name,
            value=row,
        )
    with np.errstate(over="ignore"):
        inv = (1.0 / exact).astype(np.float32)
    return np.minimum(inv, np.float32(np.finfo(np.float32).max))


def check_finite(matrix: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Squared lengths (n,) float32 of finite rows; InvalidVector names the first row with NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares: NDArray[np.float32] = np.einsum("ij,ij->i", matrix, matrix)
    if not np.isfinite(squares).all():  # a long finite row may overflow its square: look again, exactly
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidVector(
                f"row {row} of {name} holds NaN or infinity (as float32)",
                field=name,
                value=row,
                limit="finite",
            )
    return squares


def as_matrix(value: Any, dim: int, name: str = "vectors") -> NDArray[np.float32]:
    """Rows (n, dim) float32, C-contiguous, from any array-like; InvalidVector otherwise."""
    array = as_array(value, name)
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidVector(
            f"{name} must have shape (n, {dim}), not {array.shape}", field=name, value=array.shape, limit=dim
        )
    return _as_float32(array, name)


def as_query(value: Any, dim: int, metric: Metric, name: str = "vector") -> NDArray[np.float32]:
    """One checked query vector (dim,) float32."""
    array = as_array(value, name)
    if array.shape != (dim,):
        raise InvalidVector(
            f"{name} must have {dim} numbers, not shape {array.shape}",
            field=name,
            value=array.shape,
            limit=dim,
        )
    query = _as_float32(array, name)
    if not _TINY < query.dot(query) < _HUGE:  # else it is finite and has a direction, whatever the metric
        squares = check_finite(query[None], name)
        if metric is Metric.COSINE:
            inverse_norms(query[None], squares, name)
    return query


def as_tokens(value: Any, dim: int, name: str = "tokens") -> NDArray[np.float32]:
    """One checked token matrix (t, dim) float32 with t >= 1."""
    matrix = as_matrix(value, dim, name)
    if not len(matrix):
        raise InvalidVector(f"{name} is an empty matrix: send at least one token", field=name, value=matrix.shape)
    if len(matrix) > limits.TOKENS_MAX:
        raise LimitExceeded(f"{name} has too many tokens", field=name, value=len(matrix), limit=limits.TOKENS_MAX)
    check_finite(matrix, name)
    return matrix


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Whatever holds numbers as an array, without copying where that is possible; InvalidVector otherwise."""
    try:
        if type(value).__module__.partition(".")[0] == "pyarrow":
            return _from_arrow(value)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise InvalidVector(f"{name} is not a rectangle of numbers: {error}", field=name) from error


def _from_arrow(value: Any) -> NDArray[Any]:
    """An Arrow (chunked) fixed-size list as a matrix without a copy where Arrow allows it."""
    chunk = value.combine_chunks() if hasattr(value, "combine_chunks") else value
    if chunk.null_count:
        raise ValueError("it holds nulls")
    flat = chunk.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(chunk), -1)


def _as_float32(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    if array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    if array.dtype.kind not in "fiu":
        raise InvalidVector(
            f"{name} must hold real numbers, not {array.dtype}",
            field=name,
            value=array.dtype,
            limit="float32",
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)
