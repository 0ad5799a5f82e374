"""Arguments of an `Index` as checked arrays, and its errors.

Errors are ours and hnswlib's at once: code that caught hnswlib's RuntimeError goes on working.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.casting import as_matrix, as_metric, check_vectors, inverse_norms
from vicinal.errors import InvalidArgument, InvalidVector, NotFound, UnknownMetric
from vicinal.types import Metric

__all__ = [
    "SPACES",
    "LabelNotFound",
    "Refused",
    "RefusedVector",
    "as_labels",
    "as_rows",
    "as_vectors",
    "metric_of",
    "unknown_label",
]

SPACES = {"l2": Metric.L2, "ip": Metric.DOT, "cosine": Metric.COSINE}
_LABEL_END = float(1 << 64)


class Refused(InvalidArgument, RuntimeError):
    """An argument or a call that an index refuses; hnswlib raises RuntimeError there."""


class RefusedVector(InvalidVector, RuntimeError):
    """Vectors of a wrong shape; hnswlib raises RuntimeError there."""


class LabelNotFound(NotFound, RuntimeError):
    """No point has this label, or it is marked as deleted; hnswlib raises RuntimeError there."""


def unknown_label(label: int) -> LabelNotFound:
    """The error that no point has this label."""
    return LabelNotFound(f"Label not found: {label}", field="label", value=label)


def metric_of(space: str) -> Metric:
    """The metric of a space's name: hnswlib's l2, ip and cosine, l1, haversine, or a registered name; else Refused."""
    found = SPACES.get(space)
    if found is None and space != Metric.DOT:
        with contextlib.suppress(UnknownMetric):
            found = as_metric(space)
    if found is None or found.of_bits:  # an Index holds float32 rows
        raise Refused(
            "Space name must be one of l2, ip, or cosine, l1, haversine, or a metric given to vicinal.register_metric",
            field="space",
            value=space,
            limit=list(SPACES),
        )
    return found


def as_rows(data: Any, dim: int, name: str = "data") -> NDArray[np.float32]:
    """Rows (n, dim) float32 of one vector (dim,) or a matrix; RefusedVector for another shape."""
    array = data if isinstance(data, np.ndarray) else np.asarray(data)
    if array.ndim == 1 and len(array):
        array = array[None]
    if array.ndim != 2 or array.shape[1] != dim:
        raise RefusedVector(
            f"{name} must have shape ({dim},) or (n, {dim}), not {np.shape(data)}: wrong dimensionality of the vectors",
            field=name,
            value=np.shape(data),
            limit=dim,
        )
    return as_matrix(array, dim, name)


def as_vectors(data: Any, dim: int, metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Finite rows (n, dim) and, under cosine, 1 / |x| of each (otherwise an empty array).

    InvalidVector names the first row that the metric cannot compare (`casting.check_vectors`).
    """
    rows = as_rows(data, dim)
    squares = check_vectors(rows, metric, "data")
    return rows, inverse_norms(squares) if metric is Metric.COSINE else np.empty(0, np.float32)


def as_labels(ids: Any, name: str = "ids") -> NDArray[np.uint64]:
    """Labels as a flat uint64 array from whole numbers of 0 to 2**64 - 1 in any array-like; Refused otherwise."""
    given = ids if isinstance(ids, np.ndarray) else list(ids) if isinstance(ids, set | frozenset | range) else ids
    try:
        array = np.asarray(given)
        if array.dtype.kind in "fO" and array is not given:  # big and small integers together look like floats
            array = _exact(given, array)
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_labels(name, ids) from error
    flat: NDArray[Any] = array.ravel()
    if flat.dtype.kind == "f" or not flat.size:
        if not ((flat >= 0) & (flat < _LABEL_END) & (np.floor(flat) == flat)).all():
            raise _not_labels(name, ids)
    elif flat.dtype.kind not in "iu" or (flat.dtype.kind == "i" and int(flat.min()) < 0):
        raise _not_labels(name, ids)
    return flat.astype(np.uint64, copy=False)


def _exact(given: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Python integers without a detour through floats; whatever else is left as it was."""
    cells = np.asarray(given, object)
    whole = all(isinstance(cell, int | np.integer) and not isinstance(cell, bool) for cell in cells.ravel())
    return cells.astype(np.uint64) if whole else array


def _not_labels(name: str, ids: Any) -> Refused:
    return Refused(f"{name} must be whole numbers from 0 to 2**64 - 1", field=name, value=ids, limit="uint64")
