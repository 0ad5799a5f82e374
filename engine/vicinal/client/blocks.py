"""Vectors, ids and answers as the wire has them: little-endian blocks in msgpack, see docs/http.md.

Nothing here does input or output, and nothing makes a Python object per number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.batch import as_ids
from vicinal.casting import as_array
from vicinal.errors import InvalidVector
from vicinal.types import PointId

__all__ = [
    "Field",
    "Ragged",
    "VectorColumns",
    "array_of",
    "columns_of",
    "cut_columns",
    "pack_array",
    "pack_columns",
    "pack_ids",
    "row_count",
    "row_nbytes",
    "unpack_array",
    "unpack_vector",
]


class Ragged(NamedTuple):
    """Token matrices of many points: tokens (t, dim), those of row i being offsets[i]..offsets[i + 1]."""

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]


_AS_THEY_ARE = ("<f2", "|i1", "|u1", "|b1")
Field = NDArray[Any] | Ragged
VectorColumns = Field | dict[str, Field]


def array_of(value: Any, name: str = "vector") -> NDArray[Any]:
    """Return numbers in any usual container as an array, without copying where that is possible.

    Takes numpy arrays, lists, Arrow lists, anything with `__array__`, and DLPack. Raises InvalidVector
    for the rest.
    """
    made = as_array(value, name)
    if made.dtype.kind not in "fiub":  # only a field of bits takes booleans, which the server knows
        raise InvalidVector(
            f"{name} must hold real numbers, not {made.dtype}", field=name, value=made.dtype, limit="float32"
        )
    return made


def columns_of(vectors: Any) -> VectorColumns:
    """Sort what `upsert` accepts into dense matrices and ragged token matrices.

    (n, d) arrays and lists of n vectors are dense; lists of (t, d) matrices, (n, t, d) arrays and
    (tokens, ends) pairs, with or without a leading 0, are multi-vectors; a dict names the fields.
    """
    if isinstance(vectors, Mapping):
        return {str(name): _field_of(value, f"vectors[{name!r}]") for name, value in vectors.items()}
    return _field_of(vectors, "vectors")


def _field_of(value: Any, name: str) -> Field:
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[1]) == 1 and np.ndim(value[0]) == 2:
        return _ragged(array_of(value[0], name), array_of(value[1], name), name)
    if isinstance(value, Sequence) and len(value) and _is_matrix(value[0]):
        return _joined_matrices([array_of(matrix, name) for matrix in value], name)
    block = array_of(value, name)
    if block.ndim == 3:
        count, tokens, dim = block.shape
        return Ragged(block.reshape(-1, dim), np.arange(count + 1, dtype=np.int64) * tokens)
    if block.ndim != 2:
        raise InvalidVector(
            f"{name} has shape {block.shape}: give (n, dim), or a list of (t, dim) for a multi-vector field",
            field=name,
            value=str(block.shape),
        )
    return block


def _ragged(tokens: NDArray[Any], ends: NDArray[Any], name: str) -> Ragged:
    offsets = ends if len(ends) and ends[0] == 0 else np.concatenate([np.zeros(1, np.int64), ends])
    if ends.dtype.kind not in "iu" or offsets[-1] != len(tokens) or np.any(np.diff(offsets.astype(np.int64)) < 1):
        raise InvalidVector(
            f"the ends of {name} must rise to {len(tokens)}, the number of tokens, one at least per point",
            field=name,
            limit=len(tokens),
        )
    return Ragged(tokens, offsets.astype(np.int64))


def _is_matrix(value: Any) -> bool:
    """Whether the first row of a list is itself a matrix, looking at no more than its first element."""
    if hasattr(value, "ndim"):
        return bool(value.ndim == 2)
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and np.ndim(value[0]) == 1


def _joined_matrices(matrices: list[NDArray[Any]], name: str) -> Ragged:
    width = matrices[0].shape[-1]
    for row, matrix in enumerate(matrices):
        if matrix.ndim != 2 or matrix.shape[1] != width:
            raise InvalidVector(
                f"{name}[{row}] has shape {matrix.shape}: every matrix is (tokens, {width}) here",
                field=name,
                value=str(matrix.shape),
            )
    offsets = np.zeros(len(matrices) + 1, np.int64)
    np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
    return Ragged(np.concatenate(matrices), offsets)


def row_count(columns: VectorColumns) -> int:
    """Return the number of points in the columns; raise InvalidVector when the fields disagree."""
    fields = columns.values() if isinstance(columns, dict) else [columns]
    counts = {len(field.offsets) - 1 if isinstance(field, Ragged) else len(field) for field in fields}
    if len(counts) != 1:
        raise InvalidVector(
            f"the fields hold different numbers of points ({sorted(counts)}): give each as many as ids",
            field="vectors",
            value=sorted(counts),
        )
    return counts.pop()


def row_nbytes(columns: VectorColumns) -> float:
    """Return the mean size of one point's vectors on the wire, in bytes."""
    fields = columns.values() if isinstance(columns, dict) else [columns]
    arrays = [field.tokens if isinstance(field, Ragged) else field for field in fields]
    total = sum(array.nbytes if array.dtype.str in _AS_THEY_ARE else 4 * array.size for array in arrays)
    return total / max(row_count(columns), 1)


def cut_columns(columns: VectorColumns, start: int, stop: int) -> VectorColumns:
    """Return rows [start, stop) without copying them."""
    if isinstance(columns, dict):
        return {name: _cut_field(field, start, stop) for name, field in columns.items()}
    return _cut_field(columns, start, stop)


def _cut_field(field: Field, start: int, stop: int) -> Field:
    if not isinstance(field, Ragged):
        return field[start:stop]
    first, last = int(field.offsets[start]), int(field.offsets[stop])
    return Ragged(field.tokens[first:last], field.offsets[start : stop + 1] - first)


def pack_array(values: NDArray[Any]) -> dict[str, Any]:
    """Return a block, little-endian, C order: float16, int8, uint8 and booleans as they are, all else as float32."""
    dtype = values.dtype.str if values.dtype.str in _AS_THEY_ARE else "<f4"
    with np.errstate(over="ignore"):  # too large becomes infinity, which the server refuses by name
        block = np.ascontiguousarray(values, dtype)
    return {"dtype": dtype, "shape": list(block.shape), "data": block.data.cast("B") if block.size else b""}


def pack_columns(columns: VectorColumns) -> dict[str, Any]:
    """Return `vectors` of an insert: one block, or a map of fields to blocks."""
    if isinstance(columns, dict):
        return {name: _pack_field(field) for name, field in columns.items()}
    return _pack_field(columns)


def _pack_field(field: Field) -> dict[str, Any]:
    if not isinstance(field, Ragged):
        return pack_array(field)
    return {**pack_array(field.tokens), "ends": field.offsets[1:].tolist()}


def pack_ids(ids: Any) -> dict[str, Any] | list[PointId]:
    """Return ids as a block where all are integers, as a list otherwise.

    Raises InvalidId for anything but unsigned 64-bit integers, strings and UUIDs.
    """
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind == "u":
        return _id_block(ids)
    taken = as_ids(ids)
    if taken and all(isinstance(value, int) for value in taken):
        return _id_block(np.array(taken, np.uint64))
    return taken


def _id_block(ids: NDArray[Any]) -> dict[str, Any]:
    block = np.ascontiguousarray(ids, "<u8")
    return {"dtype": "<u8", "shape": [len(block)], "data": block.tobytes()}


def unpack_array(block: Any) -> NDArray[Any]:
    """Return the array of a block; it is read-only and shares the answer's memory."""
    values = np.frombuffer(block["data"], np.dtype(block["dtype"]))
    return values.reshape(block["shape"])


def unpack_vector(value: Any) -> Any:
    """Return the vector of a point: an array, a dict of field to array, or None."""
    if not isinstance(value, Mapping):
        return None if value is None else np.array(value, np.float32)
    if isinstance(value.get("dtype"), str):
        return unpack_array(value)
    return {name: unpack_vector(block) for name, block in value.items()}
