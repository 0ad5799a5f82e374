"""JSON lines: one payload object per line, with an optional id and an optional vector among its keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from vicinal.errors import InvalidArgument, InvalidId
from vicinal.io.source import Batch, checked_file, row_ids, vector_matrix
from vicinal.types import Payload, PointId

__all__ = ["JsonlSource", "taken_ids"]


class JsonlSource:
    """The objects of a `.jsonl` file.

    `id_key` and `vector_key` name the keys that hold the id and the vector; both leave the payload. Empty
    lines are skipped. Raises InvalidArgument naming the line that is not a JSON object, and InvalidId or
    InvalidVector where a line lacks the key or its value does not fit.
    """

    def __init__(self, path: Path, *, id_key: str | None = None, vector_key: str | None = None) -> None:
        self._path = checked_file(path)
        self._id_key = id_key
        self._vector_key = vector_key
        self.names_ids = id_key is not None
        self.total = sum(1 for _ in self._lines())
        self.dim = self._first_dim()

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield the objects in order."""
        lines = self._lines()
        start = 0
        while taken := list(islice(lines, rows)):
            objects = [self._object(number, text) for number, text in taken]
            ids = taken_ids(objects, self._id_key, start) if self._id_key else None
            vectors = None
            if self._vector_key:
                vectors = vector_matrix([row.pop(self._vector_key, None) for row in objects], self._vector_key, start)
            yield Batch(start, ids or row_ids(start, start + len(objects)), vectors, objects)
            start += len(objects)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, text

    def _object(self, number: int, text: bytes) -> Payload:
        try:
            row: Any = orjson.loads(text)
        except orjson.JSONDecodeError as cause:
            raise self._broken(number, str(cause)) from cause
        if not isinstance(row, dict):
            raise self._broken(number, f"it holds {type(row).__name__}")
        return row

    def _broken(self, number: int, why: str) -> InvalidArgument:
        return InvalidArgument(
            f"{self._path} line {number} is not a JSON object ({why}): one object per line",
            field="path",
            value=number,
        )

    def _first_dim(self) -> int | None:
        first = next(self.batches(1), None) if self._vector_key else None
        return None if first is None or first.vectors is None else first.vectors.shape[1]


def taken_ids(rows: Sequence[Payload], key: str, start: int) -> list[PointId]:
    """Take the ids out of payload rows; raise InvalidId naming the row without one."""
    ids: list[PointId] = []
    for offset, row in enumerate(rows):
        value = row.pop(key, None)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InvalidId(
                f"row {start + offset} has no usable id in {key!r}: give each row a whole number or a string",
                field=key,
                value=value,
            )
        ids.append(value)
    return ids
