"""What every reader of a file gives: batches of ids, vectors and payloads, with the number of rows known.

A reader is a `Source`. It holds a file open or mapped, never all of it in memory, and numbers rows from 0
where the file names no ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.types import Payload, PointId

__all__ = ["Batch", "Joined", "Source", "checked_file", "row_ids"]


class Batch(NamedTuple):
    """Rows [start, start + len(ids)) of a source.

    `ids` are as many as rows; `vectors` is (n, dim) in the file's dtype, or None where the file holds
    payloads only; `payloads` holds one JSON object per row, or is None where the file holds vectors only.
    """

    start: int
    ids: Sequence[PointId]
    vectors: NDArray[Any] | None
    payloads: list[Payload] | None


class Source(Protocol):
    """A file of rows."""

    @property
    def total(self) -> int:
        """Rows in the file."""
        ...

    @property
    def dim(self) -> int | None:
        """Length of the vectors, or None where the file holds none."""
        ...

    @property
    def names_ids(self) -> bool:
        """Whether the file itself says the ids; otherwise they are row numbers."""
        ...

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield the file in order, at most `rows` rows at a time."""
        ...


class Joined:
    """Vectors of one file beside payloads of another, row by row.

    Ids come from the payloads where those name them, otherwise from the vectors' file. Raises
    InvalidArgument when the files differ in length.
    """

    def __init__(self, vectors: Source, payloads: Source) -> None:
        if vectors.total != payloads.total:
            raise InvalidArgument(
                f"the payload file has {payloads.total} rows and the vectors have {vectors.total}:"
                " give files whose rows belong together",
                field="payload",
                value=payloads.total,
                limit=vectors.total,
            )
        self._vectors = vectors
        self._payloads = payloads
        self.total = vectors.total
        self.dim = vectors.dim
        self.names_ids = payloads.names_ids or vectors.names_ids

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield both files in step, at most `rows` rows at a time."""
        pairs = zip(self._vectors.batches(rows), self._payloads.batches(rows), strict=True)
        for left, right in pairs:
            ids = right.ids if self._payloads.names_ids else left.ids
            yield Batch(left.start, ids, left.vectors, right.payloads)


def checked_file(path: Path) -> Path:
    """Return `path` if it is a file that can be read; raise InvalidArgument otherwise."""
    if not path.is_file():
        raise InvalidArgument(f"{path} is not a file: give the path of one that exists", field="path", value=str(path))
    return path


def row_ids(start: int, stop: int) -> Sequence[PointId]:
    """Return the row numbers [start, stop) as ids."""
    return range(start, stop)


def vector_matrix(rows: Sequence[Any], column: str, start: int) -> NDArray[np.float32]:
    """Return lists of numbers as an (n, dim) float32 matrix.

    Raises InvalidVector naming the first row that is missing, not numeric or of another length.
    """
    wanted = len(rows[0]) if rows and isinstance(rows[0], list) else 0
    for offset, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != wanted or not row:
            raise InvalidVector(
                f"row {start + offset} of column {column!r} is not a list of {wanted or 'some'} numbers:"
                " every row needs a vector of the same length",
                field=column,
                value=row,
            )
    try:
        return np.array(rows, np.float32)
    except (TypeError, ValueError) as cause:
        raise InvalidVector(
            f"column {column!r} holds something other than numbers in rows {start}..{start + len(rows) - 1}: {cause}",
            field=column,
        ) from cause
