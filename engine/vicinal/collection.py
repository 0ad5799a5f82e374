"""Collection: the one orchestrator. It checks what callers send, asks the writer or the planner, and answers.

Thread safety: every method may be called from any thread. Readers work on the View that was newest when the call
began and never wait for writers. A write that has returned is durable and is seen by every later call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal import limits
from vicinal.answers import fields_of, scores_of, vectors_of
from vicinal.batch import as_ids, make_batch
from vicinal.casting import as_query, as_rows, as_tokens, check_finite
from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.indexer import Indexer
from vicinal.maintenance import Opened, save_snapshot
from vicinal.matching import Matcher
from vicinal.multi_search import MultiRequest, search_multi
from vicinal.payloads import Change, removing, setting
from vicinal.planner import Found, Target, default_ef, plan_search, search
from vicinal.schema import Dense, Multi, Schema
from vicinal.types import CollectionInfo, Hits, Payload, Point, PointId, Rerank
from vicinal.view import DenseView, MultiView, View, slots_from_bits
from vicinal.writer import Delete, Rewrite, Upsert, Writer

__all__ = ["Collection"]

FilterLike = Mapping[str, Any] | str | Any | None
_Resolve = Callable[[View], Sequence[PointId]]


def check_count(name: str, value: Any, high: int, low: int = 1) -> int:
    """A whole number from low to high, else a typed error naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InvalidArgument(f"{name} must be a whole number from {low} to {high}", field=name, value=value)
    if value > high:
        raise LimitExceeded(f"{name} may be at most {high}", field=name, value=value, limit=high)
    return int(value)


class Collection:
    """Points (id, vectors, payload) under one name. Made by `Database`, not by hand."""

    def __init__(self, name: str, opened: Opened, *, read_only: bool = False) -> None:
        self.name = name
        self._opened = opened
        self._matcher = Matcher(opened.catalog)
        self._writer = Writer(opened.catalog, opened.fields, opened.view, opened.dead, read_only=read_only)
        save = None if read_only or opened.directory is None else self._save
        self._indexer = Indexer(self._writer, opened.fields, save, self._matcher.keep_up)

    def __repr__(self) -> str:
        view = self._view
        return f"Collection({self.name!r}, {view.alive} points, fields {sorted(self.schema.fields)})"

    def __len__(self) -> int:
        return self._view.alive

    @property
    def schema(self) -> Schema:
        """The vector fields."""
        return self._opened.schema

    @property
    def _view(self) -> View:
        return self._writer.view

    def _save(self, field: str, graph: bytes, covered: int) -> None:
        save_snapshot(self._opened, field, graph, covered)

    # -- writing --------------------------------------------------------------------------------------------

    def upsert(self, ids: Any, vectors: Any, payloads: Iterable[Mapping[str, Any] | None] | None = None) -> int:
        """Insert points, or replace those whose id exists; returns the commit number once durable.

        ids: n whole numbers below 2**64 or strings. vectors: (n, dim) array-like for the only dense field (of the
        field's dtype, or of numbers that fit it; bits packed as `numpy.packbits` does, or 0 and 1); for a
        multi-vector field a list of (t, dim) matrices or a pair (tokens, ends); for named fields a dict of those.
        payloads: n JSON objects or None. All of the batch is written, or none of it.
        """
        batch = make_batch(self.schema, ids, vectors, payloads)
        self._indexer.wait_room()
        return self._writer.submit(Upsert(batch)).result()

    def delete(self, ids: Any = None, filter: FilterLike = None) -> int:
        """Delete points by id or by filter; returns how many there were, once durable."""
        known, resolve = self._chosen(ids, filter)
        return self._writer.submit(Delete(known, resolve)).result()

    def set_payload(self, payload: Mapping[str, Any], ids: Any = None, filter: FilterLike = None) -> int:
        """Set these keys in the payloads of points, keeping their other keys; returns how many points, once durable.

        Vectors stay where they are. Give either ids or a filter.
        """
        return self._rewrite(setting(payload), ids, filter)

    def delete_payload(self, keys: Iterable[str], ids: Any = None, filter: FilterLike = None) -> int:
        """Remove these keys from the payloads of points; returns how many points were chosen, once durable."""
        return self._rewrite(removing(keys), ids, filter)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the graphs hold everything committed so far; False after `timeout` seconds."""
        return self._indexer.wait_empty(timeout)

    def close(self) -> None:
        """Finish queued writes, stop the indexer, save snapshots, close the files."""
        self._writer.close()
        self._indexer.close()
        for field in self._opened.fields.values():
            for file in field.files.values():
                file.close()
        self._opened.catalog.close()

    # -- reading --------------------------------------------------------------------------------------------

    def query(
        self,
        vector: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        using: str | None = None,
        ef: int | None = None,
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> Hits:
        """The k nearest points to `vector` (dim,), best first: always min(k, matches) of them.

        filter: a `must/should/must_not` tree or an expression. ef: beam width of the graph search, larger is more
        accurate. exact: compare with every matching point. Scores: cosine and dot larger is nearer; l2 (the
        Euclidean distance), hamming and jaccard smaller is nearer.
        """
        name = self.schema.resolve(using, Dense)
        spec = self.schema.fields[name]
        assert isinstance(spec, Dense), "resolve returns a dense field"
        query = as_query(vector, spec.dim, spec.metric, dtype=spec.dtype)
        k, ef = self._bounds(k, ef)
        view = self._view
        target = self._target(view, name, spec, filter)
        plan = plan_search(target, k, ef, exact)
        found = search(target, query, k, plan)
        told = {**plan.explain(), "seq": view.seq} if explain else None
        return self._hits(view, found, scores_of(spec.metric, found.distances), with_payload, with_vectors, told)

    def query_batch(
        self,
        vectors: Any,
        k: int = 10,
        *,
        filter: FilterLike | Sequence[FilterLike] = None,
        using: str | None = None,
        ef: int | None = None,
        exact: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int64]]:
        """Many queries at once: ids (n, k), scores (n, k) float32, counts (n,) int64.

        Row i holds counts[i] results; ids beyond are 2**64 - 1 (or None when any id is a string) and scores NaN.
        filter: one for all, or a list with one per row.
        """
        name = self.schema.resolve(using, Dense)
        spec = self.schema.fields[name]
        assert isinstance(spec, Dense), "resolve returns a dense field"
        queries = as_rows(vectors, spec.dim, spec.dtype)
        check_count("the number of queries", len(queries), limits.QUERY_BATCH_MAX)
        if spec.dtype == "float32":
            check_finite(queries, "vectors")
        k, ef = self._bounds(k, ef)
        filters = self._filters(filter, len(queries))
        view = self._view
        targets: dict[int, Target] = {}
        ids: NDArray[Any] = np.full((len(queries), k), limits.ID_MAX, np.uint64)
        if view.ids.texts:
            ids = np.full((len(queries), k), None, object)
        scores = np.full((len(queries), k), np.nan, np.float32)
        counts = np.zeros(len(queries), np.int64)
        for row, (query, one) in enumerate(zip(queries, filters, strict=True)):
            target = targets.get(id(one)) or targets.setdefault(id(one), self._target(view, name, spec, one))
            found = search(
                target, as_query(query, spec.dim, spec.metric, dtype=spec.dtype), k, plan_search(target, k, ef, exact)
            )
            m = counts[row] = len(found.slots)
            ids[row, :m] = view.ids.at(found.slots) if view.ids.texts else view.ids.numbers[found.slots]
            scores[row, :m] = scores_of(spec.metric, found.distances)
        return ids, scores, counts

    def query_multi(
        self,
        tokens: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        using: str | None = None,
        candidates: int | None = None,
        rerank: Rerank = "int8",
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> Hits:
        """The k points with the largest MaxSim to the query's token matrix (t, dim), best first.

        Candidates come from fixed dimensional encodings (MUVERA) and are re-ranked by exact MaxSim; candidates:
        how many, default max(200, 20 * k). exact: MaxSim against every matching point.
        """
        name = self.schema.resolve(using, Multi)
        spec = self.schema.fields[name]
        assert isinstance(spec, Multi), "resolve returns a multi field"
        query = as_tokens(tokens, spec.dim)
        k = check_count("k", k, limits.K_MAX)
        if rerank not in ("int8", "float32", "none"):
            raise InvalidArgument("rerank must be int8, float32 or none", field="rerank", value=rerank)
        wanted = (
            max(200, 20 * k) if candidates is None else check_count("candidates", candidates, limits.CANDIDATES_MAX)
        )
        view = self._view
        field = view.fields[name]
        assert isinstance(field, MultiView), "the view follows the schema"
        allowed = view.allowed(field.present, self._matcher.bits(filter, view))
        request = MultiRequest(query, k, max(wanted, k), rerank, exact)
        found, told = search_multi(field, view.n, allowed, request)
        shown = {**told, "seq": view.seq} if explain else None
        return self._hits(view, found, found.distances, with_payload, with_vectors, shown)

    def get(self, ids: Any, with_payload: bool = True, with_vectors: bool = False) -> list[Point]:
        """The points with these ids, in the order asked; missing ids are left out."""
        view = self._view
        known = as_ids(ids)
        found = self._opened.catalog.slots_at(known, view.seq)
        slots = np.array([s for s in found if s is not None], np.int64)
        return self._points(view, slots, with_payload, with_vectors)

    def scroll(
        self,
        filter: FilterLike = None,
        limit: int = 100,
        offset: PointId | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> tuple[list[Point], PointId | None]:
        """Points that match, by id (numbers before strings), and the id to continue from, or None at the end.

        offset: the first id to return, as given back by the call before.
        """
        limit = check_count("limit", limit, limits.SCROLL_MAX)
        if offset is not None:
            offset = as_ids([offset])[0]
        view = self._view
        slots, rest = self._page(view, filter, limit, offset)
        return self._points(view, slots, with_payload, with_vectors), rest

    def count(self, filter: FilterLike = None) -> int:
        """How many points match, exactly."""
        view = self._view
        if filter is None:
            return view.alive
        return len(self._matching(view, filter))

    def info(self) -> CollectionInfo:
        """Sizes, fields and state, of one commit."""
        view = self._view
        indexed = min(f.indexed for f in view.fields.values())
        catalog = self._opened.catalog
        files = [file for field in self._opened.fields.values() for file in field.files.values()]
        fields, memory = fields_of(self.schema, view)
        return CollectionInfo(
            name=self.name,
            points=view.alive,
            seq=view.seq,
            slots=view.n,
            indexed=indexed,
            tail=view.n - indexed,
            disk_bytes=catalog.disk_bytes + sum(f.disk_bytes for f in files),
            memory_bytes=memory + self._matcher.memory_bytes,
            read_only=self._writer.read_only,
            fields=fields,
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _rewrite(self, change: Change, ids: Any, filter: FilterLike) -> int:
        known, resolve = self._chosen(ids, filter)
        return self._writer.submit(Rewrite(change, known, resolve)).result()

    def _chosen(self, ids: Any, filter: FilterLike) -> tuple[Sequence[PointId], _Resolve | None]:
        """The points that a write names: their ids, or what picks them from the View it is applied to."""
        if (ids is None) == (filter is None):
            raise InvalidArgument("give either ids or a filter", field="ids")
        if ids is not None:
            return as_ids(ids), None
        self._matcher.bits(filter, self._view)  # a bad filter fails here, before it is queued
        return (), lambda view: self._matching_ids(view, filter)

    def _bounds(self, k: Any, ef: Any) -> tuple[int, int]:
        k = check_count("k", k, limits.K_MAX)
        return k, default_ef(k) if ef is None else max(check_count("ef", ef, limits.EF_MAX), 1)

    def _filters(self, filter: Any, n: int) -> list[Any]:
        if isinstance(filter, str | Mapping) or not isinstance(filter, Sequence):
            return [filter] * n
        if len(filter) != n:
            raise InvalidArgument(f"{n} queries but {len(filter)} filters", field="filter", value=len(filter), limit=n)
        return list(filter)

    def _target(self, view: View, name: str, spec: Dense, filter: FilterLike) -> Target:
        field = view.fields[name]
        assert isinstance(field, DenseView), "the view follows the schema"
        allowed = view.allowed(field.present, self._matcher.bits(filter, view))
        return Target(spec.metric, field.rows, field.graph, field.indexed, view.n, allowed)

    def _matching(self, view: View, filter: FilterLike) -> NDArray[np.uint32]:
        allowed = view.allowed(None, self._matcher.bits(filter, view))
        return np.arange(view.n, dtype=np.uint32) if allowed is None else slots_from_bits(allowed, view.n)

    def _matching_ids(self, view: View, filter: FilterLike) -> list[PointId]:
        return view.ids.at(self._matching(view, filter))

    def _page(
        self, view: View, filter: FilterLike, limit: int, offset: PointId | None
    ) -> tuple[NDArray[np.int64], PointId | None]:
        slots = self._matching(view, filter).astype(np.int64)
        order = [(isinstance(i, str), i, s) for i, s in zip(view.ids.at(slots), slots.tolist(), strict=True)]
        if offset is not None:
            order = [entry for entry in order if entry[:2] >= (isinstance(offset, str), offset)]
        order.sort(key=lambda entry: entry[:2])
        rest = order[limit][1] if len(order) > limit else None
        return np.array([entry[2] for entry in order[:limit]], np.int64), rest

    def _payloads(self, view: View, slots: NDArray[Any]) -> list[Payload | None]:
        texts = self._opened.catalog.payloads(slots.tolist(), view.seq)
        return [None if text is None else orjson.loads(text) for text in texts]

    def _points(self, view: View, slots: NDArray[Any], with_payload: bool, with_vectors: bool) -> list[Point]:
        ids = view.ids.at(slots)
        payloads = self._payloads(view, slots) if with_payload else [None] * len(ids)
        vectors = vectors_of(self.schema, view, slots) if with_vectors else [None] * len(ids)
        return [Point(*row) for row in zip(ids, payloads, vectors, strict=True)]

    def _hits(
        self,
        view: View,
        found: Found,
        scores: NDArray[np.float32],
        with_payload: bool,
        with_vectors: bool,
        explain: Mapping[str, Any] | None,
    ) -> Hits:
        return Hits(
            view.ids.at(found.slots),
            scores,
            self._payloads(view, found.slots) if with_payload else None,
            vectors_of(self.schema, view, found.slots) if with_vectors else None,
            explain=explain,
        )
