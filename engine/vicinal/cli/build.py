"""`vicinal build`: from files to a data directory holding one finished collection, without a server."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vicinal.cli.kernels import announce_compilation
from vicinal.cli.output import JsonFlag, print_json, size_text
from vicinal.errors import InvalidArgument

if TYPE_CHECKING:
    from vicinal.collection import Collection
    from vicinal.database import Database
    from vicinal.io import Batch, Source
    from vicinal.io.npy import Tokens

__all__ = ["BuildPlan", "build", "build_collection"]

DENSE_FIELD = "vector"
MULTI_FIELD = "tokens"
# the names of vicinal.types.Metric: importing that loads numpy, which `--help` can do without
MetricName = Literal["cosine", "dot", "l2", "hamming", "jaccard", "l1", "haversine"]
DtypeName = Literal["float32", "float16", "int8", "uint8", "bit"]
CodecName = Literal["auto", "none", "int8", "int4", "rabitq"]
LayoutName = Literal["auto", "graph", "cells"]
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 20_000
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What to build: rows of `source`, token matrices of the first rows or None, into one new collection."""

    name: str
    source: Source
    tokens: Tokens | None
    metric: MetricName
    M: int
    ef_construction: int
    dtype: DtypeName = "float32"
    codec: CodecName = "auto"
    layout: LayoutName = "auto"
    search_dims: int | None = None
    share: float | None = None
    shown: bool = True
    resume: bool = False

    @property
    def dim(self) -> int:
        """Numbers, or bits, of a dense vector; raises InvalidArgument when the source has none."""
        if self.source.dim is None:
            raise InvalidArgument(
                "the source holds payloads and no vectors: name its vector column with --vector-col,"
                " or give a .npy file as SRC and this one as --payload",
                field="source",
            )
        return self.source.dim * 8 if self.dtype == "bit" else self.source.dim


def build(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Vectors: npy, parquet, jsonl, fvecs, bvecs, ivecs.")],
    out: Annotated[Path, typer.Option(help="The data directory; made when missing.")],
    name: Annotated[str | None, typer.Option(help="The collection's name; the file's, by default.")] = None,
    metric: Annotated[MetricName, typer.Option(help="How vectors compare.")] = "cosine",
    payload: Annotated[Path | None, typer.Option(help="Payload rows: parquet or jsonl, one per vector.")] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Token matrices of the first rows: npz with `tokens` and `offsets`.")
    ] = None,
    ids_col: Annotated[str | None, typer.Option(help="Column or key that holds the ids; row numbers if not.")] = None,
    vector_col: Annotated[str, typer.Option(help="Column or key that holds the vectors.")] = "vector",
    M: Annotated[int, typer.Option("--M", help="Links per node of the graph.")] = 16,
    ef_construction: Annotated[int, typer.Option(help="Beam width while building.")] = 200,
    dtype: Annotated[DtypeName, typer.Option(help="How a vector is stored; bit: rows of packed bytes.")] = "float32",
    codec: Annotated[CodecName, typer.Option(help="What a large collection is walked on.")] = "auto",
    search_dims: Annotated[int | None, typer.Option(help="Leading dimensions to search on; settles on all.")] = None,
    share: Annotated[float | None, typer.Option(help="Near-copies so near share a node; 0: equal ones.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a build that was broken off.")] = False,
    layout: Annotated[
        LayoutName, typer.Option(help="Graph: fastest answers. Cells: built and grown faster, less memory.")
    ] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Build a collection from files: insert every row, then wait until the graph holds them all."""
    rows = _rows(source, payload, ids_col, vector_col)
    matrices = None if tokens is None else _tokens(tokens, rows.total)
    options = (metric, M, ef_construction, dtype, codec, layout, search_dims, share)
    plan = BuildPlan(name or source.stem, rows, matrices, *options, resume=resume)
    plan.dim  # noqa: B018  a source without vectors fails here, before the directory is made
    announce_compilation()
    from vicinal.database import Database

    with Database(out) as database:
        told = build_collection(database, plan)
    if as_json:
        print_json({"directory": str(out), **told})
        return
    sys.stdout.write(
        f"{told['collection']}: {told['points']:,} points in {out}, {size_text(told['disk_bytes'])},"
        f" {told['insert_seconds']:.1f} s to insert, {told['graph_seconds']:.1f} s to finish the graph\n"
    )


def build_collection(database: Database, plan: BuildPlan) -> dict[str, Any]:
    """Carry a plan out; returns counts and times.

    Leaves no collection behind when it fails; one that is interrupted or was resumed stays as far as it came.
    """
    began = time.perf_counter()
    collection = _found(database, plan) if plan.resume else None
    resumed = collection is not None
    collection = collection or _created(database, plan)
    try:
        _insert(collection, plan)
        inserted = time.perf_counter()
        _finish_graph(collection, plan.shown)
    except KeyboardInterrupt:
        raise
    except BaseException:
        if resumed:
            raise
        database.drop_collection(plan.name)
        raise
    finished = time.perf_counter()
    state = collection.info()
    return {
        "collection": plan.name,
        "points": state.points,
        "dim": plan.dim,
        "metric": plan.metric,
        "token_matrices": plan.tokens.total if plan.tokens else 0,
        "disk_bytes": state.disk_bytes,
        "insert_seconds": inserted - began,
        "graph_seconds": finished - inserted,
        "seconds": finished - began,
    }


def _rows(source: Path, payload: Path | None, ids_col: str | None, vector_col: str) -> Source:
    """Open SRC and, beside it, the payload file; ids come from whichever has named columns."""
    from vicinal.io import Joined, open_source

    tabular = source.suffix in (".parquet", ".jsonl")
    if ids_col is not None and not tabular and payload is None:
        raise InvalidArgument(
            f"--ids-col {ids_col}: {source.suffix} has no columns; give --payload a file that has this one",
            field="ids_col",
            value=ids_col,
        )
    vectors = open_source(
        source,
        id_column=ids_col if tabular and payload is None else None,
        vector_column=vector_col if tabular else None,
    )
    return vectors if payload is None else Joined(vectors, _payload_rows(payload, ids_col))


def _payload_rows(path: Path, ids_col: str | None) -> Source:
    from vicinal.io import open_source

    rows = open_source(path, id_column=ids_col)
    if rows.dim is not None:
        raise InvalidArgument(
            f"--payload {path} holds vectors: give a .parquet or .jsonl file", field="payload", value=str(path)
        )
    return rows


def _tokens(path: Path, total: int) -> Tokens:
    from vicinal.io.npy import read_tokens

    found = read_tokens(path)
    if found.total > total:
        raise InvalidArgument(
            f"{path} holds {found.total} token matrices for {total} rows: give one per row at most",
            field="tokens",
            value=found.total,
            limit=total,
        )
    return found


def _graph(plan: BuildPlan) -> dict[str, Any]:
    names = ("M", "ef_construction", "dtype", "codec", "layout", "search_dims", "share")
    return {name: getattr(plan, name) for name in names}


def _fields(plan: BuildPlan) -> dict[str, Any]:
    """The vector fields to make: one without a name, or two with."""
    from vicinal.schema import Dense, Multi
    from vicinal.types import Metric

    dense = Dense(plan.dim, Metric(plan.metric), **_graph(plan))
    if plan.tokens is None:
        return {"": dense}
    return {DENSE_FIELD: dense, MULTI_FIELD: Multi(plan.tokens.tokens.shape[1])}


def _created(database: Database, plan: BuildPlan) -> Collection:
    if plan.tokens is None:
        return database.create_collection(plan.name, dim=plan.dim, metric=plan.metric, **_graph(plan))
    return database.create_collection(plan.name, vectors=_fields(plan))


def _found(database: Database, plan: BuildPlan) -> Collection | None:
    """The collection that a build was broken off in, or None; InvalidArgument when it was another build."""
    from vicinal.errors import NotFound

    try:
        collection = database.collection(plan.name)
    except NotFound:
        return None
    if collection.schema.fields != _fields(plan):
        raise InvalidArgument(
            f"collection {plan.name!r} has other fields or options than this build: repeat its options, or give --name",
            field="resume",
            value=plan.name,
        )
    return collection


def _rest(collection: Collection, plan: BuildPlan, rows: int) -> Iterator[tuple[Any, Any, Any]]:
    """Yield what is left to upsert: every upsert was written whole or not at all, in the order of the source."""
    done, at = collection.info().slots, 0
    other = InvalidArgument(
        f"the {done} rows of collection {plan.name!r} are not the first of this source", field="resume", value=done
    )
    for batch in plan.source.batches(rows):
        for ids, vectors, payloads in _upserts(batch, plan.tokens):
            at += len(ids)
            if at - len(ids) >= done:
                yield ids, vectors, payloads
            elif at > done or (at == done and not collection.get([ids[-1]], with_payload=False)):
                raise other
    if at < done:
        raise other


def _insert(collection: Collection, plan: BuildPlan) -> None:
    from vicinal.client.progress import Progress

    rows = min(max(_BATCH_BYTES // (4 * plan.dim), 1), _BATCH_ROWS)
    with Progress("insert", plan.source.total, shown=plan.shown) as bar:
        bar.advance(collection.info().slots)
        for ids, vectors, payloads in _rest(collection, plan, rows):
            collection.upsert(ids, vectors, payloads)
            bar.advance(len(ids))


def _upserts(batch: Batch, tokens: Tokens | None) -> Iterator[tuple[Any, Any, Any]]:
    """Yield what to upsert: a batch is cut in two where the token matrices end within it."""
    if tokens is None:
        yield batch.ids, batch.vectors, batch.payloads
        return
    assert batch.vectors is not None, "a source with a dim yields vectors"
    cut = min(max(tokens.total - batch.start, 0), len(batch.ids))
    for first, last in ((0, cut), (cut, len(batch.ids))):
        if first == last:
            continue
        vectors: dict[str, Any] = {DENSE_FIELD: batch.vectors[first:last]}
        if last <= cut:
            matrices = tokens.rows(batch.start + first, batch.start + last)
            vectors[MULTI_FIELD] = (matrices.tokens, matrices.offsets[1:])
        yield batch.ids[first:last], vectors, None if batch.payloads is None else batch.payloads[first:last]


def _finish_graph(collection: Collection, shown: bool) -> None:
    """Wait until the tail is empty, showing how far the graph has come."""
    from vicinal.client.progress import Progress

    failures: list[BaseException] = []

    def flush() -> None:
        try:
            collection.flush()
        except BaseException as failure:  # noqa: BLE001  raised again below, in the caller's thread
            failures.append(failure)

    waiter = threading.Thread(target=flush, name="build-flush", daemon=True)
    state = collection.info()
    with Progress("graph", state.slots, shown=shown) as bar:
        waiter.start()
        while waiter.is_alive():
            bar.reach(collection.info().indexed)
            waiter.join(_POLL_SECONDS)
        bar.reach(collection.info().indexed)
    if failures:
        raise failures[0]
