"""`vicinal query` and `vicinal info`: ask a data directory, or a server, from the command line."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicinal.cli.kernels import announce_compilation
from vicinal.cli.output import ApiKeyFile, JsonFlag, print_json, read_key, size_text
from vicinal.errors import InvalidArgument, InvalidFilter

if TYPE_CHECKING:
    from vicinal.client import RemoteDatabase
    from vicinal.database import Database
    from vicinal.types import CollectionInfo, Hits

__all__ = ["info", "query"]

_PAYLOAD_SHOWN = 160

Directory = Annotated[str, typer.Argument(metavar="DIR", help="A data directory, or a server's http address.")]
Name = Annotated[str | None, typer.Option(help="The collection; may be left out when there is one.")]


def query(
    directory: Directory,
    npy: Annotated[Path, typer.Option(help="Query vectors: a .npy file, one row each.")],
    k: Annotated[int, typer.Option("-k", "--k", help="Results per query.")] = 10,
    name: Name = None,
    filter: Annotated[
        str | None, typer.Option(help="An expression (year >= 2020 and topic in ('cs.LG')) or a JSON tree.")
    ] = None,
    using: Annotated[str | None, typer.Option(help="The vector field, where there are several.")] = None,
    ef: Annotated[int | None, typer.Option(help="Beam width: larger is slower and more accurate.")] = None,
    recall_target: Annotated[
        float | None, typer.Option(help="Share of the true nearest to find, 0 to 1; instead of --ef.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every matching point.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the search was done.")] = False,
    api_key_file: ApiKeyFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the nearest points to the vectors of a file."""
    from vicinal.io.npy import read_matrix

    vectors = read_matrix(npy)
    options: dict[str, Any] = {"filter": _filter_of(filter), "using": using, "ef": ef, "recall_target": recall_target}
    results: list[dict[str, Any]] = []
    with _opened(directory, api_key_file) as database:
        collection = database.collection(_chosen(database, name))
        if not directory.startswith("http"):
            announce_compilation()
        for row, vector in enumerate(vectors):
            began = time.perf_counter()
            hits = collection.query(vector, k, exact=exact, explain=explain, **options)
            seconds = time.perf_counter() - began
            results.append({"seconds": seconds, **_hits_json(hits)})
            if not as_json:
                _print_hits(row, hits, seconds)
    if as_json:
        print_json({"queries": results})


def info(directory: Directory, name: Name = None, api_key_file: ApiKeyFile = None, as_json: JsonFlag = False) -> None:
    """Show the collections of a directory: points, fields, what is indexed, sizes."""
    with _opened(directory, api_key_file) as database:
        names = database.list_collections() if name is None else [name]
        found = [database.collection(each).info() for each in names]
    if as_json:
        print_json({"collections": [dataclasses.asdict(entry) for entry in found]})
        return
    for entry in found:
        _print_info(entry)
    if not found:
        sys.stdout.write("no collections\n")


def _opened(directory: str, api_key_file: str | None) -> Database | RemoteDatabase:
    import vicinal

    return vicinal.connect(directory, api_key=read_key(api_key_file), read_only=True)


def _chosen(database: Database | RemoteDatabase, name: str | None) -> str:
    """Return the named collection, or the only one there is."""
    if name is not None:
        return name
    names = database.list_collections()
    if len(names) != 1:
        raise InvalidArgument(
            f"there are {len(names)} collections ({', '.join(names)}): choose one with --name", field="name"
        )
    return names[0]


def _filter_of(text: str | None) -> Any:
    """Return a filter as the engine takes it: a tree where the text is a JSON object, else the text."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as cause:
        raise InvalidFilter(f"--filter is not JSON: {cause}", field="filter", value=text) from cause


def _hits_json(hits: Hits) -> dict[str, Any]:
    rows = [{"id": hit.id, "score": hit.score, "payload": hit.payload} for hit in hits]
    return {"hits": rows, "complete": hits.complete, "explain": hits.explain}


def _print_hits(row: int, hits: Hits, seconds: float) -> None:
    import orjson

    lines = [f"query {row}: {len(hits)} hits in {1000 * seconds:.2f} ms"]
    for rank, hit in enumerate(hits, 1):
        payload = "" if hit.payload is None else orjson.dumps(hit.payload).decode()
        shown = payload if len(payload) <= _PAYLOAD_SHOWN else payload[:_PAYLOAD_SHOWN] + "…"
        lines.append(f"{rank:4}  {hit.score:10.5f}  {hit.id}  {shown}".rstrip())
    if hits.explain is not None:
        lines += [f"      {key}: {value}" for key, value in hits.explain.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _print_info(entry: CollectionInfo) -> None:
    sizes = f"{size_text(entry.disk_bytes)} on disk, {size_text(entry.memory_bytes)} in memory"
    lines = [
        f"{entry.name}: {entry.points:,} points, {entry.indexed:,} rows in the graph, {entry.tail:,} in the tail",
        f"  {sizes}, commit {entry.seq}",
    ]
    for field, state in entry.fields.items():
        told = ", ".join(f"{key} {value}" for key, value in state.items())
        lines.append(f"  {field or '(unnamed field)'}: {told}")
    sys.stdout.write("\n".join(lines) + "\n")
