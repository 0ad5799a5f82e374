"""What each method of the client sends and how it reads the answer, without doing any input or output.

A `Call` is one request and the decoder of its answer. The sync and the async client send the same calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vicinal.client.blocks import (
    array_of,
    columns_of,
    pack_array,
    pack_columns,
    pack_ids,
    unpack_array,
    unpack_vector,
)
from vicinal.errors import InvalidArgument, InvalidPayload
from vicinal.schema import Dense, Multi, check_name
from vicinal.types import BackupInfo, CollectionInfo, Hit, Hits, Point, PointId, Rerank, VerifyReport

__all__ = ["Call", "CollectionCalls", "DatabaseCalls"]

T = TypeVar("T")
Filter = Mapping[str, Any] | str | None

_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request.

    `body` is a map of msgpack values, or None for a request without one. `repeatable` says that sending
    it twice leaves the same state and gives the same kind of answer. `seconds` bounds the wait for an
    answer; None waits as long as it takes.
    """

    method: str
    path: str
    decode: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    seconds: float | None = _SECONDS


class DatabaseCalls:
    """The requests of a database."""

    def create_collection(
        self,
        /,
        name: str,
        *,
        dim: int | None = None,
        metric: str = "cosine",
        vectors: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Call[CollectionInfo]:
        """Create a collection: one unnamed dense field by `dim` and `metric`, or named `vectors`."""
        declared = None if vectors is None else {key: _declaration(field) for key, field in vectors.items()}
        described = _present(dim=dim, metric=None if declared else metric, vectors=declared)
        return Call("PUT", _path(name), _info, described | options, repeatable=False)

    def collection(self, name: str) -> Call[CollectionInfo]:
        """Ask for a collection's state."""
        return Call("GET", _path(name), _info)

    def list_collections(self) -> Call[list[str]]:
        """Ask for the names of all collections."""
        return Call("GET", "/v1/collections", lambda answer: list(answer["collections"]))

    def drop_collection(self, name: str) -> Call[None]:
        """Remove a collection and its files."""
        return Call("DELETE", _path(name), lambda _: None, repeatable=False)

    def verify(self, names: Sequence[str] | None = None) -> Call[list[VerifyReport]]:
        """Check collections in depth, all by default; see `Database.verify`."""

        def reports(answer: Mapping[str, Any]) -> list[VerifyReport]:
            return [_report(each) for each in answer["reports"]]

        return Call("POST", "/v1/verify", reports, _present(collections=names), seconds=None)

    def backup(self, path: str, names: Sequence[str] | None = None) -> Call[BackupInfo]:
        """Write collections, all by default, into a new archive in the server's folder; see `Database.backup`.

        path: the archive's name there, of letters, digits, - and _; no request leads anywhere else.
        """

        def told(answer: Mapping[str, Any]) -> BackupInfo:
            return BackupInfo(answer["name"], answer["bytes"], dict(answer["collections"]))

        return Call("PUT", _archive(path), told, _present(collections=names), repeatable=False, seconds=None)

    def restore(self, path: str, names: Sequence[str] | Mapping[str, str] | None = None) -> Call[list[str]]:
        """Add the collections of an archive in the server's folder, those named or all; see `Database.restore`."""
        body = _present(collections=names if names is None or isinstance(names, Mapping) else list(names))
        where = _archive(path) + "/restore"
        return Call("POST", where, lambda answer: list(answer["restored"]), body, repeatable=False, seconds=None)

    def list_backups(self) -> Call[dict[str, int]]:
        """Ask for the archives in the server's folder: bytes by name."""
        return Call("GET", "/v1/backups", lambda answer: {each["name"]: each["bytes"] for each in answer["backups"]})

    def drop_backup(self, path: str) -> Call[None]:
        """Remove an archive from the server's folder."""
        return Call("DELETE", _archive(path), lambda _: None, repeatable=False)


class CollectionCalls:
    """The requests of one collection."""

    def __init__(self, name: str) -> None:
        self.name = name

    def upsert(self, ids: Any, vectors: Any, payloads: Iterable[Mapping[str, Any] | None] | None = None) -> Call[int]:
        """Insert points, or replace those whose ids exist; returns the commit number once durable."""
        rows = None if payloads is None else _rows(payloads)
        body = {"ids": pack_ids(ids), "vectors": pack_columns(columns_of(vectors)), "payloads": rows}
        return self._post("insert", lambda answer: int(answer["seq"]), body)

    def delete(self, ids: Any = None, filter: Filter = None) -> Call[int]:
        """Delete points by ids or by filter; returns how many existed."""
        return self._post("delete", lambda answer: int(answer["deleted"]), _chosen(ids, filter))

    def set_payload(self, payload: Mapping[str, Any], ids: Any = None, filter: Filter = None) -> Call[int]:
        """Set these keys in the payloads of points, keeping their other keys; returns how many points."""
        return self._post("set_payload", _changed, {"payload": payload} | _chosen(ids, filter))

    def delete_payload(self, keys: Iterable[str], ids: Any = None, filter: Filter = None) -> Call[int]:
        """Remove these keys from the payloads of points; returns how many points were chosen."""
        names = keys if isinstance(keys, str) else list(keys)  # a lone text is refused by the engine
        return self._post("delete_payload", _changed, {"keys": names} | _chosen(ids, filter))

    def get(self, ids: Any, with_payload: bool = True, with_vectors: bool = False) -> Call[list[Point]]:
        """Fetch points by id, in the order asked; missing ids are left out."""
        body = {"ids": pack_ids(ids), "with_payload": with_payload, "with_vectors": with_vectors}
        return self._post("get", lambda answer: [_point(row) for row in answer["points"]], body)

    def scroll(
        self,
        filter: Filter = None,
        limit: int = 100,
        offset: PointId | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> Call[tuple[list[Point], PointId | None]]:
        """Fetch a page of points; returns them and the offset of the next page, None at the end."""
        body = {"limit": limit, "with_payload": with_payload, "with_vectors": with_vectors}
        return self._post("scroll", _page, body | _present(filter=filter, offset=offset))

    def count(self, filter: Filter = None) -> Call[int]:
        """Count points that match."""
        return self._post("count", lambda answer: int(answer["count"]), _present(filter=filter))

    def facet(self, key: str, filter: Filter = None, limit: int = 10) -> Call[list[tuple[bool | int | str, int]]]:
        """Count the commonest values of a key among points that match; see `Collection.facet`."""
        return self._post("facet", _facets, {"key": key, "limit": limit} | _present(filter=filter))

    def info(self) -> Call[CollectionInfo]:
        """Ask for the collection's state: points, tail, bytes, fields."""
        return Call("GET", _path(self.name), _info)

    def flush(self, timeout: float | None = None) -> Call[bool]:
        """Wait until the graphs hold everything committed so far; False after `timeout` seconds."""
        seconds = None if timeout is None else timeout + _SECONDS
        return self._post("flush", lambda answer: bool(answer["flushed"]), _present(timeout=timeout), seconds=seconds)

    def compact(self) -> Call[int]:
        """Rewrite the collection without its dead slots; returns how many there were."""
        return self._post("compact", lambda answer: int(answer["freed"]), {}, seconds=None)

    def verify(self) -> Call[VerifyReport]:
        """Check everything in depth; see `Collection.verify`."""
        return self._post("verify", _report, {}, seconds=None)

    def query(
        self,
        vector: Any,
        k: int = 10,
        *,
        filter: Filter = None,
        using: str | None = None,
        ef: int | None = None,
        recall_target: float | None = None,
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> Call[Hits]:
        """Search with one vector; see `Collection.query`."""
        body = {"vector": pack_array(array_of(vector)), "k": k, "exact": exact, "explain": explain}
        wanted = {"with_payload": with_payload, "with_vectors": with_vectors}
        options = _present(filter=filter, using=using, ef=ef, recall_target=recall_target)
        return self._post("query", _hits, body | wanted | options)

    def query_batch(
        self,
        vectors: Any,
        k: int = 10,
        *,
        filter: Filter | Sequence[Filter] = None,
        using: str | None = None,
        ef: int | None = None,
        recall_target: float | None = None,
        exact: bool = False,
    ) -> Call[tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int64]]]:
        """Search with many vectors; ids (n, k), scores (n, k), counts (n,), as `Collection.query_batch`."""
        filters = filter if filter is None or isinstance(filter, str | Mapping) else list(filter)
        body = {"vectors": pack_array(array_of(vectors, "vectors")), "k": k, "exact": exact}
        options = _present(filter=filters, using=using, ef=ef, recall_target=recall_target)
        return self._post("query", _batch, body | options)

    def query_multi(
        self,
        tokens: Any,
        k: int = 10,
        *,
        filter: Filter = None,
        using: str | None = None,
        candidates: int | None = None,
        rerank: Rerank = "int8",
        carve: float | None = None,
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
        with_token_scores: bool = False,
    ) -> Call[Hits]:
        """Search with a matrix of token vectors by MaxSim; see `Collection.query_multi`."""
        body = {"tokens": pack_array(array_of(tokens, "tokens")), "k": k, "exact": exact, "explain": explain}
        wanted = {"with_payload": with_payload, "with_vectors": with_vectors}
        wanted["with_token_scores"] = with_token_scores
        chosen = _present(filter=filter, using=using, candidates=candidates, rerank=rerank, carve=carve)
        return self._post("query_multi", _hits, body | wanted | chosen)

    def _post(
        self,
        action: str,
        decode: Callable[[Any], T],
        body: Mapping[str, Any],
        seconds: float | None = _SECONDS,
    ) -> Call[T]:
        return Call("POST", f"{_path(self.name)}/{action}", decode, body, seconds=seconds)


def _path(name: str) -> str:
    """Return a collection's path; the name is checked here, since it becomes part of an address."""
    return f"/v1/collections/{check_name(name, 'name')}"


def _archive(name: str) -> str:
    return f"/v1/backups/{check_name(name, 'path')}"


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _chosen(ids: Any, filter: Filter) -> dict[str, Any]:
    if (ids is None) == (filter is None):
        raise InvalidArgument("give ids or a filter, exactly one of them", field="ids")
    return _present(ids=None if ids is None else pack_ids(ids), filter=filter)


def _facets(answer: Mapping[str, Any]) -> list[tuple[bool | int | str, int]]:
    return [(row["value"], int(row["count"])) for row in answer["facets"]]


def _changed(answer: Mapping[str, Any]) -> int:
    return int(answer["changed"])


def _rows(payloads: Any) -> list[Any]:
    if isinstance(payloads, Mapping | str | bytes) or not isinstance(payloads, Iterable):
        raise InvalidPayload("payloads must be a list with one JSON object or None per id", field="payloads")
    return list(payloads)


def _declaration(field: Any) -> Any:
    """Return the wire form of `Dense(...)` or `Multi(...)`; a dict is already one."""
    if not isinstance(field, Dense | Multi):
        return field
    return {"kind": type(field).__name__.lower(), **_present(**dataclasses.asdict(field))}


def _info(answer: Mapping[str, Any]) -> CollectionInfo:
    known = {entry.name for entry in dataclasses.fields(CollectionInfo)}
    return CollectionInfo(**{key: value for key, value in answer.items() if key in known})


def _report(answer: Mapping[str, Any]) -> VerifyReport:
    return VerifyReport(**{**answer, "problems": tuple(answer["problems"])})


def _point(row: Mapping[str, Any]) -> Point:
    return Point(row["id"], row.get("payload"), unpack_vector(row.get("vector")))


def _page(answer: Mapping[str, Any]) -> tuple[list[Point], PointId | None]:
    return [_point(row) for row in answer["points"]], answer["next_offset"]


def _hits(answer: Mapping[str, Any]) -> Hits:
    hits = (
        Hit(row["id"], row["score"], row.get("payload"), unpack_vector(row.get("vector"))) for row in answer["hits"]
    )
    scores = [unpack_vector(row["token_scores"]) for row in answer["hits"] if "token_scores" in row]
    options = {"complete": answer["complete"], "explain": answer.get("explain")}
    return Hits.of(hits, **options, token_scores=scores if len(scores) == len(answer["hits"]) else None)


def _batch(answer: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int64]]:
    scores = unpack_array(answer["scores"])
    counts = np.array(answer["counts"], np.int64)
    if isinstance(answer["ids"], Mapping):
        return unpack_array(answer["ids"]), scores, counts
    ids = np.full(scores.shape, None, object)
    for row, found in enumerate(answer["ids"]):
        ids[row, : len(found)] = found
    return ids, scores, counts
