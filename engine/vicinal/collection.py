"""Collection: the one orchestrator. It checks what callers send, asks the writer or the planner, and answers.

Thread safety: every method may be called from any thread. Readers work on the View that was newest when the call
began and never wait for writers. A write that has returned is durable and is seen by every later call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.answers import batch_of, fields_of
from vicinal.batch import as_ids, make_batch
from vicinal.bits import all_bits
from vicinal.casting import as_rows, as_tokens, check_count, check_vectors, inverse_norms_of
from vicinal.errors import InvalidArgument
from vicinal.faceting import Facet, facet_path, facets
from vicinal.generation import FilterLike, Generation, Home
from vicinal.maintenance import Opened
from vicinal.multi_search import MultiRequest, check_carve, default_candidates, search_multi, token_scores_of
from vicinal.payloads import Change, removing, setting
from vicinal.schema import Multi, Schema
from vicinal.searching import answer_all
from vicinal.succession import Succession
from vicinal.types import CollectionInfo, Hits, Metric, Point, PointId, Rerank, VerifyReport
from vicinal.verification import verify
from vicinal.view import MultiView, View
from vicinal.writer import Delete, Rewrite, Upsert

__all__ = ["Collection"]

_Resolve = Callable[[View], Sequence[PointId]]


class Collection:
    """Points (id, vectors, payload) under one name. Made by `Database`, not by hand."""

    def __init__(self, name: str, opened: Opened, home: Home, *, read_only: bool = False) -> None:
        self.name = name
        self._generations = Succession(name, opened, home, read_only=read_only)

    def __repr__(self) -> str:
        view = self._view
        return f"Collection({self.name!r}, {view.alive} points, fields {sorted(self.schema.fields)})"

    def __len__(self) -> int:
        return self._view.alive

    @property
    def schema(self) -> Schema:
        """The vector fields."""
        return self._generation.opened.schema

    @property
    def _generation(self) -> Generation:
        """What a call works on; it takes it once, as compaction may exchange it."""
        return self._generations.current

    @property
    def _view(self) -> View:
        return self._generation.view

    # -- writing --------------------------------------------------------------------------------------------

    def upsert(self, ids: Any, vectors: Any, payloads: Iterable[Mapping[str, Any] | None] | None = None) -> int:
        """Insert points, or replace those whose id exists; returns the commit number once durable.

        ids: n whole numbers below 2**64 or strings. vectors: (n, dim) array-like for the only dense field (of the
        field's dtype, or of numbers that fit it; bits packed as `numpy.packbits` does, or 0 and 1); for a
        multi-vector field a list of (t, dim) matrices or a pair (tokens, ends); for named fields a dict of those.
        payloads: n JSON objects or None. All of the batch is written, or none of it. StorageFull when disk or memory
        would not do: reads go on, and so do writes once there is room.
        """
        batch = make_batch(self.schema, ids, vectors, payloads)
        self._generations.require_room(len(batch.ids), batch.nbytes)
        self._generation.indexer.wait_room()
        return self._generations.submit(Upsert(batch)).result()

    def delete(self, ids: Any = None, filter: FilterLike = None) -> int:
        """Delete points by id or by filter; returns how many there were, once durable."""
        known, resolve = self._chosen(ids, filter)
        return self._generations.submit(Delete(known, resolve)).result()

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
        until = None if timeout is None else monotonic() + timeout
        while True:
            generation = self._generation
            left = None if until is None else max(0.0, until - monotonic())
            if generation.indexer.wait_empty(left):
                return True
            if generation is self._generation:  # else its indexer stopped when another took its place
                return False

    def compact(self) -> int:
        """Rewrite the collection without its dead slots and give their space back; returns how many there were.

        It runs by itself when more than a quarter of the slots are dead. Reads and writes go on meanwhile; a second
        copy takes disk and memory until it is done. StorageFull, and everything is as before, when there is no room.
        """
        return self._generations.compact()

    def verify(self) -> VerifyReport:
        """Check everything in depth: the catalogue, all checksums, snapshots, what must hold of the indexes.

        Reads go on; writes wait for a moment, the indexer until its indexes have been looked at.
        """
        return verify(self.name, self._generation)

    def close(self) -> None:
        """Finish queued writes, stop the indexer, save snapshots, close the files."""
        self._generations.close()

    # -- reading --------------------------------------------------------------------------------------------

    def query(
        self,
        vector: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        using: str | None = None,
        ef: int | None = None,
        recall_target: float | None = None,
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> Hits:
        """The k nearest points to `vector` (dim,), best first: always min(k, matches) of them.

        filter: a `must/should/must_not` tree or an expression. ef: beam width of the graph search, larger is more
        accurate, max(128, 2 k) when not given; or recall_target, 0 to 1: the least effort that reached this share of
        the true nearest when the graph was built (`explain` tells what was measured and, under a filter, the
        `recall_estimate` that exact checks of such queries gave). exact: compare with every matching point. Scores:
        cosine and dot larger is nearer; l2 (the Euclidean distance) and every other metric smaller is nearer.
        """
        generation = self._generations.current
        view = generation.writer.view
        ready = generation.planned.ready(view, k, filter, using, ef, recall_target, exact, explain)
        query = ready.checked(vector)
        started = perf_counter() if explain else 0.0
        if explain and ready.answer.told is not None:
            (slots, distances), more = ready.answer.told(query)
        else:
            (slots, distances), more = ready.answer.one(query), {}
        if ready.sampled is not None:
            ready.sampled(query, distances)
        plan = ready.plan if explain else None
        told = None if plan is None else {**plan.explain(perf_counter() - started), **more, "seq": view.seq}
        scores = ready.to_scores(distances)
        if not (with_payload or with_vectors):
            return Hits(view.ids.at(slots), scores, explain=told)
        return generation.hits(view, slots, scores, with_payload, with_vectors, told)

    def query_batch(
        self,
        vectors: Any,
        k: int = 10,
        *,
        filter: FilterLike | Sequence[FilterLike] = None,
        using: str | None = None,
        ef: int | None = None,
        recall_target: float | None = None,
        exact: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int64]]:
        """Many queries at once, over all cores: ids (n, k), scores (n, k) float32, counts (n,) int64.

        Row i holds counts[i] results; ids beyond are 2**64 - 1 (or None when any id is a string) and scores NaN.
        filter: one for all, or a list with one per row; equivalent ones are evaluated once. The answers are those of
        `query`.
        """
        spec = self.schema.dense(using)[1]
        queries = as_rows(vectors, spec.dim, spec.dtype)
        check_count("the number of queries", len(queries), limits.QUERY_BATCH_MAX)

        def check() -> None:
            if spec.dtype == "float32":
                check_vectors(queries, spec.metric, "vectors")
            elif spec.metric is Metric.COSINE:
                inverse_norms_of(queries)

        generation = self._generation
        view = generation.view
        filters = self._filters(filter, len(queries))
        answers = generation.planned.answers(view, k, filters, using, ef, recall_target, exact)
        return batch_of(view, spec.metric, answer_all(queries, int(k), answers, os.cpu_count() or 1, check))

    def query_multi(
        self,
        tokens: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        using: str | None = None,
        candidates: int | None = None,
        rerank: Rerank = "int8",
        carve: float | None = None,
        exact: bool = False,
        explain: bool = False,
        with_payload: bool = True,
        with_vectors: bool = False,
        with_token_scores: bool = False,
    ) -> Hits:
        """The k points with the largest MaxSim to the query's token matrix (t, dim), best first.

        Candidates come from the field's proxies and are re-ranked by exact MaxSim; candidates: how many, default
        max(500, 20 * k). carve: order candidates by a shorter query, whose tokens with inner products of at least this
        are one; .7 suits unit tokens. exact: MaxSim against every matching point. with_token_scores:
        `Hits.token_scores` tells the products (t, tokens of the point) that each score is made of.
        """
        name = self.schema.resolve(using, Multi)
        spec = self.schema.fields[name]
        assert isinstance(spec, Multi), "resolve returns a multi field"
        query = as_tokens(tokens, spec.dim)
        check_count("tokens", len(query), limits.QUERY_TOKENS_MAX)
        k = check_count("k", k, limits.K_MAX)
        if rerank not in ("int8", "float32", "none"):
            raise InvalidArgument("rerank must be int8, float32 or none", field="rerank", value=rerank)
        wanted = default_candidates(k)
        if candidates is not None:
            wanted = check_count("candidates", candidates, limits.CANDIDATES_MAX)
        generation = self._generation
        view = generation.view
        field = view.fields[name]
        assert isinstance(field, MultiView), "the view follows the schema"
        allowed = view.allowed(field.present, generation.matcher.bits(filter, view))
        request = MultiRequest(query, k, max(wanted, k), rerank, exact, check_carve(carve))
        found, told = search_multi(field, view.n, allowed, request)
        shown = {**told, "seq": view.seq} if explain else None
        hits = generation.hits(view, found.slots, found.distances, with_payload, with_vectors, shown)
        if with_token_scores:
            hits.token_scores = token_scores_of(field, query, found.slots)
        return hits

    def get(self, ids: Any, with_payload: bool = True, with_vectors: bool = False) -> list[Point]:
        """The points with these ids, in the order asked; missing ids are left out."""
        generation = self._generation
        view = generation.view
        known = as_ids(ids)
        found = generation.opened.catalog.slots_at(known, view.seq)
        slots = np.array([s for s in found if s is not None], np.int64)
        return generation.points(view, slots, with_payload, with_vectors)

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
        generation = self._generation
        view = generation.view
        slots, rest = generation.page(view, filter, limit, offset)
        return generation.points(view, slots, with_payload, with_vectors), rest

    def count(self, filter: FilterLike = None) -> int:
        """How many points match, exactly."""
        generation = self._generation
        view = generation.view
        if filter is None:
            return view.alive
        return len(generation.matching(view, filter))

    def facet(self, key: str, filter: FilterLike = None, limit: int = 10) -> list[Facet]:
        """The commonest values of a key among matching points, each with the number of points that have it, exactly.

        Strings, integers and booleans count, in a list each once for its point. Most points first; among equals false,
        true, integers, strings, each ascending.
        """
        path, limit = facet_path(key), check_count("limit", limit, limits.FACET_MAX)
        generation = self._generation
        view, matcher = generation.view, generation.matcher
        allowed = view.allowed(None, matcher.bits(filter, view))
        return facets(matcher, path, all_bits(view.n) if allowed is None else allowed, view, limit)

    def info(self) -> CollectionInfo:
        """Sizes, fields and state, of one commit."""
        generation = self._generation
        view, matcher, opened = generation.view, generation.matcher, generation.opened
        indexed = min(f.indexed for f in view.fields.values())
        files = [file for field in opened.fields.values() for file in field.files.values()]
        fields, memory = fields_of(self.schema, view)
        return CollectionInfo(
            name=self.name,
            points=view.alive,
            seq=view.seq,
            slots=view.n,
            indexed=indexed,
            tail=view.n - indexed,
            disk_bytes=opened.catalog.disk_bytes + sum(f.disk_bytes for f in files),
            memory_bytes=memory + matcher.memory_bytes,
            read_only=generation.writer.read_only,
            fields=fields,
            columns=matcher.bytes_by_key,
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _rewrite(self, change: Change, ids: Any, filter: FilterLike) -> int:
        known, resolve = self._chosen(ids, filter)
        self._generations.require_room(max(len(known), 1), 0)
        return self._generations.submit(Rewrite(change, known, resolve)).result()

    def _chosen(self, ids: Any, filter: FilterLike) -> tuple[Sequence[PointId], _Resolve | None]:
        """The points that a write names: their ids, or what picks them from the View it is applied to."""
        if (ids is None) == (filter is None):
            raise InvalidArgument("give either ids or a filter", field="ids")
        if ids is not None:
            return as_ids(ids), None
        generation = self._generation
        generation.matcher.bits(filter, generation.view)  # a bad filter fails here, before it is queued

        def resolve(view: View) -> list[PointId]:  # by whichever generation's writer comes to it
            return view.ids.at(self._generation.matching(view, filter))

        return (), resolve

    def _filters(self, filter: Any, n: int) -> list[Any]:
        """One filter for all rows, or one for each."""
        if isinstance(filter, str | Mapping) or not isinstance(filter, Sequence):
            return [filter]
        if len(filter) != n:
            raise InvalidArgument(f"{n} queries but {len(filter)} filters", field="filter", value=len(filter), limit=n)
        return list(filter)
