"""Shapes that kernels rely on without looking: of rows, and of a code that was read from a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from vicinal.codecs.choice import Choice
from vicinal.codecs.frame import Frame, lines_of
from vicinal.codecs.levels import BYTE_DIMS, NIBBLE_DIMS, ByteCodec, NibbleCodec
from vicinal.codecs.lines import ENTRIES, Codec, QueryArrays
from vicinal.codecs.signs import SIGN_BITS, SignCodec
from vicinal.errors import InvalidVector
from vicinal.index.spaces import VECTOR_DTYPES
from vicinal.types import Metric, Rows

__all__ = ["require_fitting", "require_rows"]

_GROUP = 64  # outputs of a projection, and cells, that are scored at a time
_SIGN_STEP = 128


def require_rows(rows: Rows, n: int, metric: Metric) -> None:
    """Refuse rows that kernels cannot read by address."""
    vectors, inv_norms = rows
    if vectors.dtype not in VECTOR_DTYPES or vectors.ndim != 2 or vectors.strides[1] != vectors.itemsize:
        known = [str(dtype) for dtype in VECTOR_DTYPES]
        raise InvalidVector("vectors are a (capacity, dim) array of whole rows", field="rows", limit=known)
    if len(vectors) < n or (metric is Metric.COSINE and len(inv_norms) < len(vectors)):
        raise InvalidVector(f"rows hold at least {n} vectors and, under cosine, their norms", field="rows", limit=n)


def require_fitting(choice: Choice, metric: Metric, dim: int, n: int) -> None:
    """ValueError unless frame, cells and code fit each other, rows of `dim` dimensions and `n` slots."""
    frame, cells, nodes, query = choice.frame, choice.cells, choice.cell_nodes, choice.codec.query
    padded, count = lines_of(dim), len(nodes)
    if (frame.metric, frame.dim, frame.padded) != (metric, dim, padded) or not frame.scale > 0:
        raise ValueError(f"a frame of {frame.dim} dimensions under {frame.metric}")
    for array in (frame.shift, frame.query_shift, frame.centre):
        _require(array, np.float32, (padded,))
    if not 0 < len(cells.centres) <= count or count % _GROUP or int(nodes.max()) >= n:
        raise ValueError(f"{len(cells.centres)} cells in {count} places")
    _require(nodes, np.uint32, (count, ENTRIES))
    _require(cells.centres, np.float32, (len(cells.centres), dim))
    _require(cells.squares, np.float32, (len(cells.centres),))
    _require(cells.norms, np.float32, (count,))
    _require(cells.sums, np.float32, (count,))
    _require(cells.table, np.uint8, (count // _GROUP, padded // 4, _GROUP, 4))
    if not all(np.isfinite((frame.scale, cells.step, cells.zero))):
        raise ValueError("a scale is not finite")
    if query.narrow is not None:
        _require(query.narrow, np.uint8, (count // _GROUP, query.outputs // 4, _GROUP, 4))
        _require(query.narrow_norms, np.float32, (count,))
    _require_code(choice.codec, frame, len(cells.centres))


def _require_code(codec: Codec, frame: Frame, cells: int) -> None:
    """ValueError unless a code's arrays have the shapes that encoding and walking read."""
    query = codec.query
    _require_projection(query, frame.padded)
    if isinstance(codec, SignCodec):
        bits = query.projected
        if bits % _SIGN_STEP or not 0 < bits <= SIGN_BITS or (codec.basis is None) != (query.projection is None):
            raise ValueError(f"signs of {bits} bits")
        _require(query.signs, np.float32, (2, bits))
        _require(codec.centres, np.float32, (cells, bits))
        if codec.basis is not None:
            _require(codec.basis, np.float32, (frame.dim, query.outputs))
        elif frame.padded > bits:
            raise ValueError(f"{frame.padded} dimensions in {bits} bits")
    elif isinstance(codec, NibbleCodec):
        if not query.projected == query.outputs == 2 * _GROUP or codec.basis.shape[1] > NIBBLE_DIMS:
            raise ValueError(f"nibbles of {query.projected} places")
        _require(codec.basis, np.float32, (frame.dim, codec.basis.shape[1]))
    elif not isinstance(codec, ByteCodec) or frame.dim > BYTE_DIMS:
        raise ValueError(f"{codec.name} of {frame.dim} dimensions")


def _require_projection(query: QueryArrays, padded: int) -> None:
    """ValueError unless a projection, if there is one, fits rows of `padded` bytes and the code space."""
    if query.projection is not None:
        if not 0 < query.outputs <= query.projected:
            raise ValueError(f"a projection to {query.outputs} of {query.projected} dimensions")
        _require(query.projection, np.uint8, (query.outputs // _GROUP, padded // 4, _GROUP, 4))
        for array in (query.projection_scale, query.projection_shift, query.projection_shift_whole):
            _require(array, np.float32, (query.outputs,))


def _require(array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = (array.dtype, array.shape) if isinstance(array, np.ndarray) else type(array)
        raise ValueError(f"an array is {found}, not {np.dtype(dtype)} {shape}")
