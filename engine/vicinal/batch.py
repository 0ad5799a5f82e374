"""From what a caller sends to what the writer stores: everything is checked here, once, before any write."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal import limits
from vicinal.casting import as_matrix, as_rows, as_tokens, check_vectors, inverse_norms, inverse_norms_of
from vicinal.errors import InvalidArgument, InvalidId, InvalidPayload, InvalidVector, LimitExceeded
from vicinal.multivector.pooling import pool_tokens
from vicinal.schema import Dense, Multi, Schema
from vicinal.types import Metric, PointId

__all__ = ["Batch", "DensePart", "MultiPart", "as_ids", "encode_payload", "make_batch"]

_HALF_MAX: Final = float(np.finfo(np.float16).max)


class DensePart(NamedTuple):
    """One dense field of a batch: vectors (n, columns) as stored, inv_norms (n,) float32 (empty unless cosine)."""

    vectors: NDArray[Any]
    inv_norms: NDArray[np.float32]


class MultiPart(NamedTuple):
    """One multi-vector field of a batch: tokens (t, dim) float32 to store, point i owns rows ends[i-1]..ends[i].

    `sent` (n,) is how many were sent of each, `originals` those themselves where the field keeps them.
    """

    tokens: NDArray[np.float32]
    ends: NDArray[np.int64]
    sent: NDArray[np.int64]
    originals: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked points, ready to be written. `parts` has one entry per vector field that was sent."""

    ids: list[PointId]
    payloads: list[bytes | None]
    parts: dict[str, DensePart | MultiPart] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of vectors and payloads, for group limits."""
        vectors = sum(p[0].nbytes for p in self.parts.values())
        vectors += sum(
            p.originals.nbytes for p in self.parts.values() if isinstance(p, MultiPart) and p.originals is not None
        )
        return vectors + sum(len(p) for p in self.payloads if p)


def make_batch(schema: Schema, ids: Any, vectors: Any, payloads: Any) -> Batch:
    """Check one `upsert` call against the schema; raises a typed error that names the culprit."""
    known = as_ids(ids)
    if not known:
        raise InvalidArgument("the batch is empty: send at least one point", field="ids")
    if len(known) > limits.BATCH_POINTS_MAX:
        raise LimitExceeded(
            f"a batch holds at most {limits.BATCH_POINTS_MAX} points: send several",
            field="ids",
            value=len(known),
            limit=limits.BATCH_POINTS_MAX,
        )
    _refuse_twice(known)
    by_field = vectors if isinstance(vectors, Mapping) else {_only(schema): vectors}
    parts: dict[str, DensePart | MultiPart] = {}
    for name, value in by_field.items():
        spec = schema.fields.get(name)
        if spec is None:
            raise InvalidVector(
                f"no vector field {name!r}; there are {sorted(schema.fields)}", field="vectors", value=name
            )
        parts[name] = _part(spec, name or "vectors", value, len(known))
    if not parts:
        raise InvalidVector("no vectors were sent", field="vectors")
    return Batch(known, _payloads(payloads, len(known)), parts)


def _only(schema: Schema) -> str:
    if len(schema.fields) != 1:
        names = sorted(schema.fields)
        raise InvalidVector(f"send vectors as a dict with some of the fields {names}", field="vectors", limit=names)
    return next(iter(schema.fields))


def _part(spec: Dense | Multi, name: str, value: Any, n: int) -> DensePart | MultiPart:
    part = _dense(spec, name, value) if isinstance(spec, Dense) else _multi(spec, name, value)
    rows = len(part[0]) if isinstance(part, DensePart) else len(part.ends)
    if rows != n:
        raise InvalidVector(f"{n} ids but {rows} vectors in {name}", field=name, value=rows, limit=n)
    return part


def _dense(spec: Dense, name: str, value: Any) -> DensePart:
    if spec.dtype != "float32":
        rows = as_rows(value, spec.dim, spec.dtype, name)
        unit = spec.metric is Metric.COSINE
        return DensePart(rows, inverse_norms_of(rows, name) if unit else np.empty(0, np.float32))
    matrix = as_matrix(value, spec.dim, name)
    squares = check_vectors(matrix, spec.metric, name)
    return DensePart(matrix, inverse_norms(squares) if spec.metric is Metric.COSINE else np.empty(0, np.float32))


def _multi(spec: Multi, name: str, value: Any) -> MultiPart:
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[1]) == 1:
        return _ragged(spec, name, value[0], value[1])
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise InvalidVector(
            f"{name} must be a list of (t, {spec.dim}) matrices or a pair (tokens, ends)",
            field=name,
            value=type(value),
        )
    matrices = [as_tokens(m, spec.dim, f"{name}[{i}]") for i, m in enumerate(value)]
    tokens = np.concatenate(matrices) if matrices else np.empty((0, spec.dim), np.float32)
    return _stored(spec, name, tokens, np.cumsum([len(m) for m in matrices], dtype=np.int64))


def _stored(spec: Multi, name: str, tokens: NDArray[np.float32], ends: NDArray[np.int64]) -> MultiPart:
    """What the field keeps of checked tokens; InvalidVector for numbers that its rows cannot hold."""
    pooled, stops = pool_tokens(tokens, ends, spec.pooling)
    most = 127.5 * spec.scale if spec.scale is not None else _HALF_MAX if spec.store == "float16" else np.inf
    beyond = np.flatnonzero(np.abs(pooled).max(axis=1, initial=0) > most)
    if len(beyond):
        point = int(np.searchsorted(stops, beyond[:1], side="right")[0])
        raise InvalidVector(
            f"point {point} of {name} holds a number beyond {most:g}, which {spec.store} tokens cannot: "
            f"send smaller ones, or declare another {'scale' if spec.scale is not None else 'store'}",
            field=name,
            value=point,
            limit=most,
        )
    return MultiPart(pooled, stops, np.diff(ends, prepend=0), tokens if spec.originals else None)


def _ragged(spec: Multi, name: str, tokens: Any, ends: Any) -> MultiPart:
    matrix = as_matrix(tokens, spec.dim, name)
    check_vectors(matrix, None, name)
    stops = np.asarray(ends)
    if stops.dtype.kind not in "iu" or not len(stops):
        raise InvalidVector(f"the ends of {name} must be whole numbers", field=name, value=stops.dtype)
    stops = stops.astype(np.int64)
    if len(stops) and stops[0] == 0 and stops[-1] == len(matrix):
        stops = stops[1:]  # offsets with a leading zero are as common as ends
    counts = np.diff(stops, prepend=0)
    if not len(stops) or stops[-1] != len(matrix) or (counts < 1).any():
        raise InvalidVector(
            f"the ends of {name} must rise to {len(matrix)}, at least one token a point", field=name, limit=len(matrix)
        )
    return _stored(spec, name, matrix, stops)


def as_ids(ids: Any) -> list[PointId]:
    """Checked ids as Python ints and strings; a UUID in any spelling becomes hyphenated lower case."""
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise InvalidId(f"ids must be one-dimensional, not {ids.shape}", field="ids", value=ids.shape)
        ids = ids.tolist()
    elif isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InvalidId("ids must be a list", field="ids", value=ids)
    return [_as_id(i) for i in ids]


def _as_id(value: Any) -> PointId:
    if type(value) is int and 0 <= value <= limits.ID_MAX:
        return value
    if isinstance(value, str):
        return _text_id(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, np.integer) and 0 <= int(value) <= limits.ID_MAX:
        return int(value)
    raise InvalidId(
        f"an id is a whole number from 0 to {limits.ID_MAX} or a string",
        field="ids",
        value=value,
        limit=limits.ID_MAX,
    )


def _text_id(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidId("a string id must be valid Unicode", field="ids", value=value) from None
    if not 1 <= size <= limits.ID_BYTES_MAX or "\0" in value:
        raise InvalidId(
            f"a string id has 1 to {limits.ID_BYTES_MAX} bytes and no NUL",
            field="ids",
            value=value,
            limit=limits.ID_BYTES_MAX,
        )
    if len(value) in (32, 36, 38, 45):  # the spellings of a UUID: plain, hyphenated, in braces, as a URN
        try:
            return str(uuid.UUID(value))
        except ValueError:
            return value
    return value


def _refuse_twice(ids: list[PointId]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[PointId] = set()
    for i in ids:
        if i in seen:
            raise InvalidId("an id occurs twice in the batch: send each point once", field="ids", value=i)
        seen.add(i)


def _payloads(payloads: Any, n: int) -> list[bytes | None]:
    if payloads is None:
        return [None] * n
    if isinstance(payloads, Mapping | str | bytes) or not isinstance(payloads, Iterable):
        raise InvalidPayload("payloads must be a list with one JSON object or None per id", field="payloads")
    rows = [encode_payload(p) for p in payloads]
    if len(rows) != n:
        raise InvalidPayload(f"{n} ids but {len(rows)} payloads", field="payloads", value=len(rows), limit=n)
    return rows


def _not_finite(value: Any) -> bool:
    """Whether numbers that JSON would write as null are somewhere inside."""
    if isinstance(value, Mapping):
        return any(map(_not_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_not_finite, value))
    if isinstance(value, np.ndarray | np.floating):
        return value.dtype.kind == "f" and not np.isfinite(value).all()
    return isinstance(value, float) and not math.isfinite(value)


def encode_payload(payload: Any) -> bytes | None:
    """One payload as JSON bytes; InvalidPayload when it is no JSON object or too large."""
    if payload is None:
        return None
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise InvalidPayload(
            f"a payload is a JSON object, not {type(payload).__name__}", field="payloads", value=payload
        )
    try:
        text = orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidPayload(f"a payload is not JSON: {error}", field="payloads") from error
    if b"null" in text and _not_finite(payload):
        raise InvalidPayload("a payload holds NaN or infinity, which JSON has not: send null", field="payloads")
    if len(text) > limits.PAYLOAD_BYTES_MAX:
        raise InvalidPayload(
            f"a payload has at most {limits.PAYLOAD_BYTES_MAX} bytes as JSON: keep documents elsewhere",
            field="payloads",
            value=len(text),
            limit=limits.PAYLOAD_BYTES_MAX,
        )
    return text
