"""Requests of the native routes: which keys, which types. Vectors, filters and payloads pass untouched.

Bounds and meanings are the engine's to check, so that the library and the service refuse the same things with
the same words. The classes also make the schema of /openapi.json.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from vicinal.errors import InvalidArgument, InvalidFilter, InvalidId, InvalidPayload, InvalidVector

__all__ = [
    "Backup",
    "Compact",
    "Count",
    "Create",
    "Delete",
    "DeletePayload",
    "Facet",
    "Flush",
    "Get",
    "Insert",
    "Query",
    "QueryMulti",
    "Restore",
    "Scroll",
    "SetPayload",
    "Verify",
    "VerifyAll",
    "parse",
]

_BLOCK: Final = {
    "type": "object",
    "description": "Little-endian rows in C order, |u1 also for packed bits; `base64` in JSON, `data` in msgpack.",
    "required": ["dtype", "shape"],
    "properties": {
        "dtype": {"enum": ["<f4", "<f2", "|i1", "|u1", "|b1"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        "base64": {"type": "string", "contentEncoding": "base64"},
        "ends": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "several token matrices in one",
        },
    },
}
_NUMBERS: Final = {"type": "array", "items": {"type": "number"}}
_ROWS: Final = {"type": "array", "items": _NUMBERS}
_ID: Final = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}]}
_ID_BLOCK: Final = {
    "type": "object",
    "required": ["dtype", "shape"],
    "properties": {
        "dtype": {"const": "<u8"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "base64": {"type": "string", "contentEncoding": "base64"},
    },
}

Vector = Annotated[Any, WithJsonSchema({"anyOf": [_NUMBERS, _BLOCK]})]
Matrix = Annotated[Any, WithJsonSchema({"anyOf": [_ROWS, _BLOCK]})]
Vectors = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [_ROWS, {"type": "array", "items": _ROWS}, _BLOCK, {"type": "object"}],
            "description": "matrix, token matrices, or a map of field names to these",
        }
    ),
]
Id = Annotated[Any, WithJsonSchema(_ID)]
Ids = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "array", "items": _ID}, _ID_BLOCK]})]
Filter = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string"}]})]
Filters = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string"}, {"type": "array", "items": {}}]}),
]
Payloads = Annotated[Any, WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "null"}]}})]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class Create(_Request):
    """One unnamed dense field by `dim`, or named fields by `vectors`."""

    dim: int | None = None
    metric: str | None = None
    vectors: dict[str, dict[str, Any]] | None = None
    M: int | None = None
    ef_construction: int | None = None
    dtype: str | None = None
    codec: str | None = None
    layout: str | None = None
    search_dims: int | None = None
    share: float | None = None


class Insert(_Request):
    """Points to insert or replace; row i of `vectors` and `payloads` belongs to `ids[i]`."""

    ids: Ids
    vectors: Vectors
    payloads: Payloads = None


class Delete(_Request):
    """Points to delete: `ids` or `filter`, exactly one of them."""

    ids: Ids = None
    filter: Filter = None


class SetPayload(_Request):
    """Keys to set in the payloads of the points of `ids` or `filter`, exactly one of them."""

    payload: Annotated[Any, WithJsonSchema({"type": "object"})]
    ids: Ids = None
    filter: Filter = None


class DeletePayload(_Request):
    """Keys to remove from the payloads of the points of `ids` or `filter`, exactly one of them."""

    keys: Annotated[Any, WithJsonSchema({"type": "array", "items": {"type": "string"}})]
    ids: Ids = None
    filter: Filter = None


class Query(_Request):
    """The k points nearest to `vector`, or to each row of `vectors`."""

    vector: Vector = None
    vectors: Matrix = None
    k: int = 10
    filter: Filters = None
    using: str | None = None
    ef: int | None = None
    recall_target: float | None = None
    exact: bool = False
    explain: bool = False
    with_payload: bool = True
    with_vectors: bool = False


class QueryMulti(_Request):
    """The k points of largest MaxSim with a matrix of query tokens."""

    tokens: Matrix
    k: int = 10
    filter: Filter = None
    using: str | None = None
    candidates: int | None = None
    rerank: Literal["int8", "float32", "none"] | None = None
    carve: float | None = None
    exact: bool = False
    explain: bool = False
    with_payload: bool = True
    with_vectors: bool = False
    with_token_scores: bool = False


class Get(_Request):
    """Points by id."""

    ids: Ids
    with_payload: bool = True
    with_vectors: bool = False


class Scroll(_Request):
    """A page of points in a stable order, from `offset` on."""

    filter: Filter = None
    limit: int = 100
    offset: Id = None
    with_payload: bool = True
    with_vectors: bool = False


class Count(_Request):
    """How many points match."""

    filter: Filter = None


class Facet(_Request):
    """The commonest values of a key among points that match."""

    key: str
    filter: Filter = None
    limit: int = 10


class Flush(_Request):
    """Wait until every committed point is in the graph, `timeout` seconds at most."""

    timeout: Annotated[float, Field(ge=0, le=86_400)] | None = None


class Compact(_Request):
    """Rewrite the collection without its dead slots."""


class Verify(_Request):
    """Check the collection in depth."""


class VerifyAll(_Request):
    """Check `collections` in depth, all by default."""

    collections: list[str] | None = None


class Backup(_Request):
    """Back `collections` up, all by default."""

    collections: list[str] | None = None


class Restore(_Request):
    """Restore `collections`, all by default; a map gives each another name."""

    collections: list[str] | dict[str, str] | None = None


M = TypeVar("M", bound=_Request)

_ERRORS: Final[dict[str, type[InvalidArgument]]] = {
    "vector": InvalidVector,
    "vectors": InvalidVector,
    "tokens": InvalidVector,
    "ids": InvalidId,
    "offset": InvalidId,
    "payload": InvalidPayload,
    "payloads": InvalidPayload,
    "filter": InvalidFilter,
}


def parse(model: type[M], tree: dict[str, Any]) -> M:
    """A request from its map; keys that are null count as absent. InvalidArgument names the first culprit."""
    given = {key: value for key, value in tree.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    known = sorted(model.model_fields)
    if first["type"] == "extra_forbidden":
        raise InvalidArgument(f"there is no key {name!r} here; there are {known}", field=name, limit=known)
    if first["type"] == "missing":
        raise _ERRORS.get(name, InvalidArgument)(f"{name} is missing", field=name)
    raise InvalidArgument(f"{name}: {first['msg']}", field=name, value=first["input"])
