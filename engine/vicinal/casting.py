"""From any array-like to finite rows of a field's dtype: the one place where vectors are cast and checked.

Vectors may be numpy arrays, nested lists, Arrow fixed-size lists, or anything with `__array__` or DLPack.
Floats are cast first and checked after: 1e39 is a finite number in JSON and infinite in float32. Whole numbers and
bits are checked first: a cast would wrap or round what does not fit.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded, UnknownMetric
from vicinal.types import Metric

__all__ = [
    "LONGEST",
    "SHORTEST",
    "as_array",
    "as_matrix",
    "as_metric",
    "as_query",
    "as_rows",
    "as_tokens",
    "check_count",
    "check_dim",
    "check_vectors",
    "inverse_norms",
    "inverse_norms_of",
    "sure_squares",
]

_BLOCK_ROWS = 8_192  # rows widened at a time

# Lengths outside these have squares, or products of inverses, that leave float32's range
LONGEST: Final = 2.0**62
SHORTEST: Final = 2.0**-62
_BUILT_IN: Final = frozenset(Metric)
_LATITUDE, _LONGITUDE = 90, 180  # degrees, either way


def as_metric(name: Any) -> Metric:
    """The metric of that name; UnknownMetric when it is neither built in nor registered."""
    try:
        return Metric(name)
    except ValueError:
        pass
    known = [m.value for m in Metric]
    if isinstance(name, str) and re.fullmatch(limits.NAME_PATTERN, name):
        raise UnknownMetric(
            f"metric {name!r} is none of {known}; if it is a function of yours, call "
            f'vicinal.register_metric("{name}", function) before',
            field="metric",
            value=name,
            limit=known,
        )
    raise UnknownMetric(f"metric must be one of {known} or a registered name", field="metric", value=name, limit=known)


def check_dim(metric: Metric, dim: int) -> None:
    """Refuse a dimension that the metric does not compare."""
    if metric is Metric.HAVERSINE and dim != 2:
        raise InvalidArgument("haversine compares (latitude, longitude): dim is 2", field="dim", value=dim, limit=2)


def sure_squares(metric: Metric) -> tuple[float, float]:
    """Squared lengths strictly between these need no look at the numbers."""
    if metric is Metric.HAVERSINE:
        return np.inf, np.inf
    return SHORTEST**2 if metric is Metric.COSINE else -1.0, LONGEST**2 if metric in _BUILT_IN else np.inf


def inverse_norms(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / |x| (n,) float32 from the squared lengths of checked rows, 0 for a row of zeros."""
    inv = np.zeros(len(squares), np.float32)
    return np.divide(np.float32(1), np.sqrt(squares), out=inv, where=squares > 0)


def check_vectors(matrix: NDArray[np.float32], metric: Metric | None, name: str, first: int = 0) -> NDArray[np.float32]:
    """Squared lengths (n,) float32 of rows that the metric can compare; InvalidVector names the first other one.

    Refused are NaN and infinity, lengths above 2**62 (whose distances overflow; not asked under functions of the
    user and tokens, metric None), under cosine lengths below 2**-62, under haversine degrees out of range.
    first: the number of matrix[0].
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        squares: NDArray[np.float32] = np.einsum("ij,ij->i", matrix, matrix)
    if metric is not None and len(squares):
        least, most = sure_squares(metric)
        if least < squares.min() and squares.max() < most:  # NaN is neither
            return squares
    if not np.isfinite(squares).all():  # a long finite row may overflow its square: look again, exactly
        _refuse_row(~np.isfinite(matrix).all(axis=1), first, name, "holds NaN or infinity (as float32)", "finite")
    if metric in _BUILT_IN and not (squares <= LONGEST**2).all():
        _refuse_row(
            squares > LONGEST**2, first, name, "is too long for float32 arithmetic: scale the data", "length 2**62"
        )
    if metric is Metric.COSINE and not (squares >= SHORTEST**2).all():
        _refuse_row(
            squares < SHORTEST**2,
            first,
            name,
            "has length zero (or below 2**-62), which has no direction under cosine: leave the point out "
            "or use l2 or dot",
            "length 2**-62",
        )
    if metric is Metric.HAVERSINE:
        bad = (np.abs(matrix) > (_LATITUDE, _LONGITUDE)).any(axis=1)
        _refuse_row(bad, first, name, "is no latitude of -90 to 90 and longitude of -180 to 180 degrees", "degrees")
    return squares


def _refuse_row(bad: Any, first: int, name: str, why: str, limit: str) -> None:
    """Raise InvalidVector for the first bad row, if there is one."""
    if bad.any():
        row = first + int(np.argmax(bad))
        raise InvalidVector(f"row {row} of {name} {why}", field=name, value=row, limit=limit)


def inverse_norms_of(matrix: NDArray[Any], name: str = "vectors") -> NDArray[np.float32]:
    """1 / |x| per row of any real dtype, checked as under cosine, without a float32 copy of the whole."""
    out = np.empty(len(matrix), np.float32)
    for first in range(0, len(matrix), _BLOCK_ROWS):
        block = matrix[first : first + _BLOCK_ROWS].astype(np.float32)
        out[first : first + len(block)] = inverse_norms(check_vectors(block, Metric.COSINE, name, first))
    return out


def as_rows(value: Any, dim: int, dtype: str, name: str = "vectors") -> NDArray[Any]:
    """Rows as a field of `dim` numbers of `dtype` stores them, C-contiguous; InvalidVector for what does not fit.

    float32 may still hold NaN (`check_vectors`); float16 is finite; int8 and uint8 take whole numbers of any type.
    Bits are (n, dim / 8) packed bytes, or (n, dim) of True and False or 1 and 0.
    """
    if dtype == "float32":
        return as_matrix(value, dim, name)
    array = as_array(value, name)
    if dtype == "bit":
        return _as_bits(array, dim, name)
    _check_shape(array, dim, name)
    if dtype == "float16":
        return _as_float16(array, name)
    return _as_whole(array, np.dtype(dtype), name)


def _as_bits(array: NDArray[Any], dim: int, name: str) -> NDArray[np.uint8]:
    if array.ndim != 2 or array.shape[1] not in (dim // 8, dim):
        raise InvalidVector(
            f"{name} must be packed bytes (n, {dim // 8}) or bits (n, {dim}), not {array.shape}",
            field=name,
            value=array.shape,
            limit=dim,
        )
    if array.shape[1] == dim // 8:
        packed: NDArray[np.uint8] = _as_whole(array, np.dtype(np.uint8), name)
        return packed
    if array.dtype != np.bool_:
        _check_real(array, name, "bit")
        _refuse(array, (array != 0) & (array != 1), name, "0 or 1")
    return np.packbits(array.astype(np.bool_), axis=1)


def _as_float16(array: NDArray[Any], name: str) -> NDArray[np.float16]:
    _check_real(array, name, "float16")
    if array.dtype == np.float16 and array.flags.c_contiguous:
        rows = array
    else:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(array, np.float16)
    if not np.isfinite(rows).all():
        _refuse(array, ~np.isfinite(rows), name, "finite and within 65504")
    return rows


def _as_whole(array: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    _check_real(array, name, dtype.name)
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    bad = ~((array >= least) & (array <= most))  # NaN compares false
    if array.dtype.kind == "f":
        bad |= array != np.rint(array)
    _refuse(array, bad, name, f"a whole number from {least} to {most}")
    return np.ascontiguousarray(array, dtype)


def _refuse(array: NDArray[Any], bad: NDArray[np.bool_], name: str, limit: str) -> None:
    """Name the first value that does not fit, if there is one."""
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        value = array[row, int(np.argmax(bad[row]))].item()
        raise InvalidVector(
            f"row {row} of {name} holds {value}, and this field's numbers are {limit}",
            field=name,
            value=value,
            limit=limit,
        )


def _check_shape(array: NDArray[Any], dim: int, name: str) -> None:
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidVector(
            f"{name} must have shape (n, {dim}), not {array.shape}", field=name, value=array.shape, limit=dim
        )


def _check_real(array: NDArray[Any], name: str, wanted: str) -> None:
    if array.dtype.kind not in "fiu":
        raise InvalidVector(
            f"{name} must hold real numbers, not {array.dtype}", field=name, value=array.dtype, limit=wanted
        )


def as_matrix(value: Any, dim: int, name: str = "vectors") -> NDArray[np.float32]:
    """Rows (n, dim) float32, C-contiguous, from any array-like; InvalidVector otherwise."""
    array = as_array(value, name)
    _check_shape(array, dim, name)
    return _as_float32(array, name)


def as_query(value: Any, dim: int, metric: Metric, name: str = "vector", dtype: str = "float32") -> NDArray[Any]:
    """One checked query vector as a row of `dtype`: (dim,), or (dim / 8,) of bits."""
    array = as_array(value, name)
    if dtype != "float32":
        row = as_rows(array[None], dim, dtype, name)
        if metric is Metric.COSINE:
            inverse_norms_of(row, name)
        return cast(NDArray[Any], row[0])
    if array.shape != (dim,):
        raise InvalidVector(
            f"{name} must have {dim} numbers, not shape {array.shape}",
            field=name,
            value=array.shape,
            limit=dim,
        )
    query = _as_float32(array, name)
    least, most = sure_squares(metric)
    if not least < np.vdot(query, query) < most:
        check_vectors(query[None], metric, name)
    return query


def as_tokens(value: Any, dim: int, name: str = "tokens") -> NDArray[np.float32]:
    """One checked token matrix (t, dim) float32 with t >= 1."""
    matrix = as_matrix(value, dim, name)
    if not len(matrix):
        raise InvalidVector(f"{name} is an empty matrix: send at least one token", field=name, value=matrix.shape)
    if not math.isfinite(np.vdot(matrix, matrix)):  # which may overflow
        check_vectors(matrix, None, name)
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
    _check_real(array, name, "float32")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def check_count(name: str, value: Any, high: int, low: int = 1) -> int:
    """A whole number from low to high, else a typed error naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InvalidArgument(f"{name} must be a whole number from {low} to {high}", field=name, value=value)
    if value > high:
        raise LimitExceeded(f"{name} may be at most {high}", field=name, value=value, limit=high)
    return int(value)
