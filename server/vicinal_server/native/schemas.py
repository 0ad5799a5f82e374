"""What /openapi.json says of the native routes: decoded by hand, so described by hand."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vicinal_server.native import models
from vicinal_server.native.codec import JSON, MSGPACK

__all__ = ["components", "described"]

_REF: Final = "#/components/schemas/"
_REQUESTS: Final[tuple[type[BaseModel], ...]] = (
    models.Create,
    models.Insert,
    models.Delete,
    models.SetPayload,
    models.DeletePayload,
    models.Query,
    models.QueryMulti,
    models.Get,
    models.Scroll,
    models.Count,
    models.Facet,
    models.Flush,
    models.Compact,
    models.Verify,
    models.VerifyAll,
    models.Backup,
    models.Restore,
)


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_INT: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_ANY: Final[dict[str, Any]] = {}
_MAP: Final = {"type": "object"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_ID: Final = {"anyOf": [_INT, _TEXT]}
_VECTOR: Final = {"description": "list in JSON, block in msgpack, a map of these where fields are named"}
_PAYLOAD: Final = {"anyOf": [_MAP, {"type": "null"}]}
_POINT: Final = _object({"id": _ID, "payload": _PAYLOAD}, vector=_VECTOR)
_HIT: Final = _object({"id": _ID, "score": _NUMBER}, payload=_MAP, vector=_VECTOR)
_HITS: Final = _object({"hits": _list(_HIT), "complete": {"type": "boolean"}, "seconds": _NUMBER}, explain=_MAP)
_BATCH: Final = _object(
    {"ids": _list(_list(_ID)), "scores": _list(_list(_NUMBER)), "counts": _list(_INT), "seconds": _NUMBER}
)
_INFO: Final = {
    "name": _TEXT,
    **dict.fromkeys(("points", "seq", "slots", "indexed", "tail", "disk_bytes", "memory_bytes"), _INT),
    "read_only": {"type": "boolean"},
    "fields": _MAP,
    "columns": _MAP,
}

_REPORT: Final = _object(
    {"name": _TEXT, "problems": _list(_TEXT), **dict.fromkeys(("seq", "points", "slots", "bytes"), _INT)}
)

_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Accepted": _object({"accepted": _INT, "seq": _INT}),
    "BackedUp": _object({"name": _TEXT, "bytes": _INT, "collections": _MAP}),
    "Backups": _object({"backups": _list(_object({"name": _TEXT, "bytes": _INT}))}),
    "CollectionList": _object({"collections": _list(_TEXT)}),
    "Compacted": _object({"freed": _INT}),
    "Counted": _object({"count": _INT}),
    "Changed": _object({"changed": _INT}),
    "Deleted": _object({"deleted": _INT}),
    "Facets": _object(
        {"facets": _list(_object({"value": {"anyOf": [{"type": "boolean"}, _INT, _TEXT]}, "count": _INT}))}
    ),
    "Dropped": _object({"dropped": _TEXT}),
    "Error": _object(
        {
            "error": _object(
                {
                    "code": _TEXT,
                    "message": _TEXT,
                    "field": _MAYBE_TEXT,
                    "value": _MAYBE_TEXT,
                    "limit": _ANY,
                    "request_id": _TEXT,
                }
            )
        }
    ),
    "Hits": _HITS,
    "Flushed": _object({**_INFO, "flushed": {"type": "boolean"}}),
    "Info": _object(_INFO),
    "Page": _object({"points": _list(_POINT), "next_offset": {"anyOf": [_ID, {"type": "null"}]}}),
    "Points": _object({"points": _list(_POINT)}),
    "Removed": _object({"removed": _TEXT}),
    "Report": _REPORT,
    "Reports": _object({"reports": _list(_REPORT)}),
    "Restored": _object({"restored": _list(_TEXT)}),
    "QueryAnswer": {"anyOf": [_HITS, _BATCH]},
}


def components() -> dict[str, Any]:
    """Every schema the routes refer to, by name."""
    _, made = models_json_schema([(m, "validation") for m in _REQUESTS], ref_template=_REF + "{model}")
    return {**made["$defs"], **_ANSWERS}


def _content(name: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": _REF + name}}
    return {JSON: schema, MSGPACK: schema}


def described(summary: str, body: type[BaseModel] | None = None, answer: str = "", status: int = 200) -> dict[str, Any]:
    """Keyword arguments for a route: its summary, its request body, its answers."""
    error = {"description": "refused, see docs/http.md", "content": {JSON: _content("Error")[JSON]}}
    extra: dict[str, Any] = {
        "responses": {
            str(status): {"description": "done", "content": _content(answer)},
            "4XX": error,
            "5XX": error,
        }
    }
    if body is not None:
        extra["requestBody"] = {"content": _content(body.__name__), "required": True}
    return {"summary": summary, "openapi_extra": extra, "status_code": status}
