"""Parquet files: payload columns, with an optional id column and an optional vector column.

Read through pyarrow, the extra `arrow`, a row group at a time.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidPayload, InvalidVector, VicinalError
from vicinal.io.jsonl import taken_ids
from vicinal.io.source import Batch, checked_file, row_ids, vector_matrix
from vicinal.types import Payload

__all__ = ["ParquetSource", "json_value"]


class ParquetSource:
    """The rows of a `.parquet` file.

    `id_column` and `vector_column` name the columns that hold ids and vectors (lists of numbers); both
    leave the payload. Dates and times become ISO 8601 text, decimals numbers, NaN null. Raises
    InvalidArgument when pyarrow is missing, the file is not parquet, or a named column does not exist.
    """

    def __init__(self, path: Path, *, id_column: str | None = None, vector_column: str | None = None) -> None:
        self._file = _opened(checked_file(path))
        self._path = path
        self._id_column = self._known(id_column)
        self._vector_column = self._known(vector_column)
        self.names_ids = id_column is not None
        self.total: int = self._file.metadata.num_rows
        self.dim = self._first_dim()

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield exactly `rows` rows at a time, and the rest at the end; InvalidArgument where they cannot be read."""
        batches = self._batches(rows)
        while True:
            with _reading(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _batches(self, rows: int) -> Iterator[Batch]:
        start = 0
        for table in self._tables(rows):
            columns = [name for name in table.column_names if name != self._vector_column]
            payloads = [_json_row(row) for row in table.select(columns).to_pylist()]
            ids = taken_ids(payloads, self._id_column, start) if self._id_column else None
            vectors = self._vectors(table, start) if self._vector_column else None
            yield Batch(start, ids or row_ids(start, start + len(payloads)), vectors, payloads)
            start += len(payloads)

    def _tables(self, rows: int) -> Iterator[Any]:
        """Regroup pyarrow's batches, which end with each row group, into tables of `rows` rows."""
        arrow = importlib.import_module("pyarrow")
        waiting: list[Any] = []
        count = 0
        for part in self._file.iter_batches(batch_size=rows):
            waiting.append(part)
            count += part.num_rows
            if count >= rows:
                table = arrow.Table.from_batches(waiting)
                yield table.slice(0, rows)
                waiting = table.slice(rows).to_batches()
                count -= rows
        if count:
            yield arrow.Table.from_batches(waiting)

    def _vectors(self, table: Any, start: int) -> NDArray[Any]:
        """Return the vector column as (n, dim), through its flat buffer where all rows are equally long."""
        column = table.column(self._vector_column).combine_chunks()
        try:
            flat = np.asarray(column.flatten())
            lengths = np.asarray(column.value_lengths())
        except (AttributeError, TypeError, ValueError) as cause:
            raise InvalidVector(
                f"column {self._vector_column!r} of {self._path} holds {column.type}, and vectors are lists of numbers",
                field="vector_column",
                value=self._vector_column,
            ) from cause
        even = not column.null_count and len(set(lengths.tolist())) == 1 and flat.dtype.kind in "fiu"
        if not even:
            return vector_matrix(column.to_pylist(), str(self._vector_column), start)
        matrix = flat.reshape(table.num_rows, -1)
        return matrix if matrix.dtype.name in ("float16", "float32", "uint8", "int8") else matrix.astype(np.float32)

    def _known(self, column: str | None) -> str | None:
        names = self._file.schema_arrow.names
        if column is not None and column not in names:
            raise InvalidArgument(
                f"{self._path} has no column {column!r}; its columns are {', '.join(names)}",
                field="column",
                value=column,
            )
        return column

    def _first_dim(self) -> int | None:
        first = next(self.batches(1), None) if self._vector_column else None
        return None if first is None or first.vectors is None else int(first.vectors.shape[1])


def _opened(path: Path) -> Any:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as cause:
        raise InvalidArgument(
            f"reading {path} needs pyarrow: pip install 'vicinal[arrow]'", field="path", value=str(path)
        ) from cause
    with _reading(path):
        return parquet.ParquetFile(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """InvalidArgument where pyarrow, or Python making values of what it read, finds a file to be damaged."""
    arrow = importlib.import_module("pyarrow")
    try:
        yield
    except VicinalError:
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as cause:
        raise InvalidArgument(f"{path} cannot be read as parquet ({cause})", field="path", value=str(path)) from cause


def _json_row(row: dict[str, Any]) -> Payload:
    return {key: json_value(value) for key, value in row.items()}


def json_value(value: Any) -> Any:
    """Return a parquet value as JSON has it; raise InvalidPayload for one that JSON cannot hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    raise InvalidPayload(
        f"a payload column holds {type(value).__name__}, which JSON has not: leave it out or convert it",
        field="payload",
        value=value,
    )
