"""Cutting a large upload into requests of a good size; shared by the sync and the async client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Final, Literal, NamedTuple

import msgpack

from vicinal.client.blocks import columns_of, cut_columns, row_count, row_nbytes
from vicinal.client.calls import Call, CollectionCalls
from vicinal.errors import InvalidArgument, InvalidId, InvalidPayload
from vicinal.limits import BATCH_POINTS_MAX
from vicinal.types import Payload

__all__ = ["Part", "cut_upload"]

_SMALLEST: Final = 2 << 20  # bytes; smaller requests spend their time on round trips
_LARGEST: Final = 8 << 20  # larger ones gain nothing and lose more when one fails
_SAMPLED: Final = 64
_WORKERS_MAX: Final = 64  # as many connections as the client keeps


class Part(NamedTuple):
    """Rows [start, stop) of an upload as one call."""

    start: int
    stop: int
    call: Call[int]

    @property
    def failed(self) -> str:
        """What to say beside the error when this part is the first to fail."""
        return f"rows before {self.start} are stored; rows {self.start}..{self.stop - 1} failed"


def cut_upload(
    calls: CollectionCalls,
    ids: Any,
    vectors: Any,
    payloads: Sequence[Payload | None] | None,
    batch: int | Literal["auto"],
    workers: int,
) -> tuple[int, Iterator[Part]]:
    """Return the number of rows and the upload's parts in order.

    `auto` begins with requests of about 2 MB and doubles to 8 MB, so that progress shows early. Raises
    a typed error when ids, vectors and payloads differ in number, before anything is sent.
    """
    if not isinstance(workers, int) or not 1 <= workers <= _WORKERS_MAX:
        raise InvalidArgument(f"workers is 1..{_WORKERS_MAX}", field="workers", value=workers, limit=_WORKERS_MAX)
    columns = columns_of(vectors)
    total = row_count(columns)
    _check_counts(total, ids, payloads)
    sizes = _sizes(row_nbytes(columns) + _payload_nbytes(payloads), batch)

    def parts() -> Iterator[Part]:
        start = 0
        while start < total:
            stop = min(start + next(sizes), total)
            cut = None if payloads is None else payloads[start:stop]
            yield Part(start, stop, calls.upsert(ids[start:stop], cut_columns(columns, start, stop), cut))
            start = stop

    return total, parts()


def _check_counts(total: int, ids: Any, payloads: Sequence[Payload | None] | None) -> None:
    if not hasattr(ids, "__getitem__") or isinstance(ids, str | bytes):
        raise InvalidId("ids must be a list or an array", field="ids", value=ids)
    if len(ids) != total:
        raise InvalidArgument(f"{len(ids)} ids but {total} vectors", field="ids", value=len(ids), limit=total)
    if payloads is not None and len(payloads) != total:
        raise InvalidPayload(
            f"{total} ids but {len(payloads)} payloads", field="payloads", value=len(payloads), limit=total
        )


def _payload_nbytes(payloads: Sequence[Payload | None] | None) -> float:
    """Return the mean size of a payload, from a few spread over the whole."""
    if not payloads:
        return 1.0
    few = payloads[:: max(len(payloads) // _SAMPLED, 1)]
    return len(msgpack.packb(list(few), default=str)) / len(few)


def _sizes(row_bytes: float, batch: int | Literal["auto"]) -> Iterator[int]:
    """Return the rows of each part, without end."""
    if batch == "auto":
        return _growing(row_bytes)
    if not isinstance(batch, int) or not 1 <= batch <= BATCH_POINTS_MAX:
        raise InvalidArgument(
            f"batch is 'auto' or 1..{BATCH_POINTS_MAX} rows",
            field="batch",
            value=batch,
            limit=BATCH_POINTS_MAX,
        )
    return repeat(batch)


def _growing(row_bytes: float) -> Iterator[int]:
    target = _SMALLEST
    while True:
        yield min(max(int(target / row_bytes), 1), BATCH_POINTS_MAX)
        target = min(2 * target, _LARGEST)
