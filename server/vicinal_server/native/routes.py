"""The native API, /v1: each route decodes its body, makes one call to the engine and encodes the answer."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from vicinal.errors import InvalidArgument, InvalidId
from vicinal_server.native import models
from vicinal_server.native.answers import batch_tree, hits_tree, point_tree
from vicinal_server.native.body import read_map
from vicinal_server.native.codec import answer, as_block, as_vectors, wants_msgpack
from vicinal_server.native.schemas import described
from vicinal_server.service import Service

__all__ = ["COLLECTION", "parsed", "replied", "router", "service_of"]

router: Final = APIRouter()
COLLECTION: Final = "/v1/collections/{c}"


def service_of(request: Request) -> Service:
    """What requests share."""
    service: Service = request.app.state.service
    return service


async def parsed(request: Request, model: type[models.M]) -> models.M:
    """The request's body, checked."""
    return models.parse(model, await read_map(request, service_of(request)))


def replied(request: Request, tree: dict[str, Any], status: int = 200) -> Response:
    """An answer in the form that the client accepts."""
    return answer(tree, packed=wants_msgpack(request.headers.get("accept")), status=status)


def _ids(value: Any) -> Any:
    ids = as_block(value, "ids", ("<u8",))
    if not isinstance(ids, list | np.ndarray):  # the engine takes any iterable, and a map is one
        raise InvalidId("ids must be a list or a block", field="ids", value=type(ids).__name__)
    return ids


def _query_array(value: Any, field: str) -> Any:
    """An array kernels may take: theirs are compiled for writable memory, a received block is not."""
    array = as_block(value, field)
    return array.copy() if isinstance(array, np.ndarray) else array


@router.get("/v1/collections", **described("list the collections", answer="CollectionList"))
async def list_collections(request: Request) -> Response:
    """Names of all collections."""
    service = service_of(request)
    names = await service.read(lambda: sorted(service.database.list_collections()))
    return replied(request, {"collections": names})


@router.put(COLLECTION, **described("create a collection", models.Create, "Info", status=201))
async def create(request: Request, c: str) -> Response:
    """Create a collection; 409 when it exists."""
    service, body = service_of(request), await parsed(request, models.Create)
    options = body.model_dump(exclude_none=True)

    def call() -> dict[str, Any]:
        return asdict(service.database.create_collection(c, **options).info())

    return replied(request, await service.write(call), 201)


@router.get(COLLECTION, **described("describe a collection", answer="Info"))
async def info(request: Request, c: str) -> Response:
    """Counts and state of a collection."""
    service = service_of(request)
    return replied(request, await service.read(lambda: asdict(service.database.collection(c).info())))


@router.delete(COLLECTION, **described("drop a collection", answer="Dropped"))
async def drop(request: Request, c: str) -> Response:
    """Drop a collection and its files."""
    service = service_of(request)
    await service.write(lambda: service.database.drop_collection(c))
    return replied(request, {"dropped": c})


@router.post(COLLECTION + "/insert", **described("insert or replace points", models.Insert, "Accepted"))
async def insert(request: Request, c: str) -> Response:
    """Insert or replace points; answered when they are durable and visible."""
    service, body = service_of(request), await parsed(request, models.Insert)
    ids, vectors = _ids(body.ids), as_vectors(body.vectors)
    seq = await service.write(lambda: service.database.collection(c).upsert(ids, vectors, body.payloads))
    return replied(request, {"accepted": len(ids), "seq": seq})


@router.post(COLLECTION + "/delete", **described("delete points", models.Delete, "Deleted"))
async def delete(request: Request, c: str) -> Response:
    """Delete points by id or by filter."""
    service, body = service_of(request), await parsed(request, models.Delete)
    chosen = _chosen(body)
    n = await service.write(lambda: service.database.collection(c).delete(**chosen))
    return replied(request, {"deleted": n})


def _chosen(body: models.Delete | models.SetPayload | models.DeletePayload) -> dict[str, Any]:
    if (body.ids is None) == (body.filter is None):
        raise InvalidArgument("send ids or filter, exactly one of them", field="ids")
    return {"ids": None if body.ids is None else _ids(body.ids), "filter": body.filter}


@router.post(COLLECTION + "/set_payload", **described("set keys of payloads", models.SetPayload, "Changed"))
async def set_payload(request: Request, c: str) -> Response:
    """Set keys in the payloads of points, keeping their other keys."""
    service, body = service_of(request), await parsed(request, models.SetPayload)
    chosen = _chosen(body)
    n = await service.write(lambda: service.database.collection(c).set_payload(body.payload, **chosen))
    return replied(request, {"changed": n})


@router.post(COLLECTION + "/delete_payload", **described("remove keys of payloads", models.DeletePayload, "Changed"))
async def delete_payload(request: Request, c: str) -> Response:
    """Remove keys from the payloads of points."""
    service, body = service_of(request), await parsed(request, models.DeletePayload)
    chosen = _chosen(body)
    n = await service.write(lambda: service.database.collection(c).delete_payload(body.keys, **chosen))
    return replied(request, {"changed": n})


@router.post(COLLECTION + "/query", **described("search by vector", models.Query, "QueryAnswer"))
async def query(request: Request, c: str) -> Response:
    """The nearest points to one vector, or to each of several."""
    service, body = service_of(request), await parsed(request, models.Query)
    if (body.vector is None) == (body.vectors is None):
        raise InvalidArgument("send vector or vectors, exactly one of them", field="vector")
    call = _one_query if body.vectors is None else _batch_query
    return replied(request, await service.read(call, service, c, body))


def _one_query(service: Service, c: str, body: models.Query) -> dict[str, Any]:
    vector = _query_array(body.vector, "vector")
    started = time.perf_counter()
    hits = service.database.collection(c).query(
        vector,
        body.k,
        filter=body.filter,
        using=body.using,
        ef=body.ef,
        recall_target=body.recall_target,
        exact=body.exact,
        explain=body.explain,
        with_payload=body.with_payload,
        with_vectors=body.with_vectors,
    )
    return hits_tree(hits, time.perf_counter() - started)


def _batch_query(service: Service, c: str, body: models.Query) -> dict[str, Any]:
    for option in ("explain", "with_vectors"):
        if getattr(body, option):
            raise InvalidArgument(f"a batch answers ids and scores only: leave out {option}", field=option)
    vectors: NDArray[np.float32] = _query_array(body.vectors, "vectors")
    started = time.perf_counter()
    ids, scores, counts = service.database.collection(c).query_batch(
        vectors,
        body.k,
        filter=body.filter,
        using=body.using,
        ef=body.ef,
        recall_target=body.recall_target,
        exact=body.exact,
    )
    return batch_tree(ids, scores, counts, time.perf_counter() - started)


@router.post(COLLECTION + "/query_multi", **described("search by token vectors", models.QueryMulti, "Hits"))
async def query_multi(request: Request, c: str) -> Response:
    """The points of largest MaxSim."""
    service, body = service_of(request), await parsed(request, models.QueryMulti)
    options = body.model_dump(exclude={"tokens", "k"}, exclude_none=True)

    def call() -> dict[str, Any]:
        tokens = _query_array(body.tokens, "tokens")
        started = time.perf_counter()
        hits = service.database.collection(c).query_multi(tokens, body.k, **options)
        return hits_tree(hits, time.perf_counter() - started)

    return replied(request, await service.read(call))


@router.post(COLLECTION + "/get", **described("look points up", models.Get, "Points"))
async def get(request: Request, c: str) -> Response:
    """Points by id; missing ids are left out."""
    service, body = service_of(request), await parsed(request, models.Get)
    ids = _ids(body.ids)

    def call() -> dict[str, Any]:
        found = service.database.collection(c).get(ids, with_payload=body.with_payload, with_vectors=body.with_vectors)
        return {"points": [point_tree(p) for p in found]}

    return replied(request, await service.read(call))


@router.post(COLLECTION + "/scroll", **described("page through points", models.Scroll, "Page"))
async def scroll(request: Request, c: str) -> Response:
    """A page of points, and where the next one starts."""
    service, body = service_of(request), await parsed(request, models.Scroll)

    def call() -> dict[str, Any]:
        points, following = service.database.collection(c).scroll(
            body.filter,
            body.limit,
            body.offset,
            with_payload=body.with_payload,
            with_vectors=body.with_vectors,
        )
        return {"points": [point_tree(p) for p in points], "next_offset": following}

    return replied(request, await service.read(call))


@router.post(COLLECTION + "/count", **described("count points", models.Count, "Counted"))
async def count(request: Request, c: str) -> Response:
    """How many points match a filter, exactly."""
    service, body = service_of(request), await parsed(request, models.Count)
    n = await service.read(lambda: service.database.collection(c).count(body.filter))
    return replied(request, {"count": n})


@router.post(COLLECTION + "/facet", **described("count values of a key", models.Facet, "Facets"))
async def facet(request: Request, c: str) -> Response:
    """The commonest values of a key among matching points."""
    service, body = service_of(request), await parsed(request, models.Facet)
    found = await service.read(lambda: service.database.collection(c).facet(body.key, body.filter, body.limit))
    return replied(request, {"facets": [{"value": value, "count": n} for value, n in found]})


@router.post(COLLECTION + "/flush", **described("wait for the graph", models.Flush, "Flushed"))
async def flush(request: Request, c: str) -> Response:
    """Wait until every committed point is in the graph."""
    service, asked = service_of(request), await parsed(request, models.Flush)

    def call() -> dict[str, Any]:
        collection = service.database.collection(c)
        flushed = collection.flush(asked.timeout)
        return {**asdict(collection.info()), "flushed": flushed}

    return replied(request, await service.wait(call))
