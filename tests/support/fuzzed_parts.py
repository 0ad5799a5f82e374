"""Snapshots and what else is in memory as bytes, to be damaged: seeds, and what reads a mutant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import orjson

from vicinal import packing
from vicinal.batch import MultiPart
from vicinal.bits import bits_from_mask
from vicinal.filter import column_snapshot
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import evaluate
from vicinal.filter.parse import parse_filter
from vicinal.index import field_index
from vicinal.index.field_index import FieldIndex
from vicinal.index.shared import SharedIndex
from vicinal.multi_field import MultiField, token_files
from vicinal.multivector.proxy_kinds import make_proxies
from vicinal.planner import Target, plan_search
from vicinal.schema import Multi
from vicinal.searching import prepare
from vicinal.storage.vectors import RowFile
from vicinal.types import HnswParams, Metric, Rows, TokenRows

__all__ = [
    "Seeded",
    "cells",
    "centroids",
    "coded",
    "columns",
    "ends",
    "fde",
    "filtered",
    "filtered_cells",
    "graph",
    "ignore",
    "lemur",
    "packed",
    "shared",
    "shared_coded",
    "some_tokens",
]

Seeded = tuple[list[bytes], Callable[[bytes], None]]  # seeds, what to do with a mutant


def _index(layout: str, coded_from: int | None, share: float | None = None, *, filters: bool = False) -> Seeded:
    rng = np.random.default_rng(0)
    made_rows = rng.standard_normal((700, 24)).astype(np.float32)
    if share is not None:
        made_rows[400:] = made_rows[:300] + np.float32(0.001)
    rows = Rows(made_rows, np.empty(0, np.float32))
    patch = mock.patch.object(field_index, "CELLS_FROM_ROWS", 300)
    masks = [bits_from_mask(rng.random(700) < part) for part in (0.02, 0.3, 0.9)]

    def made() -> FieldIndex | SharedIndex:
        with patch:
            index = FieldIndex(Metric.L2, 24, HnswParams(), coded_from=coded_from, layout=layout, filters=filters)
        return index if share is None else SharedIndex(index, Metric.L2, 24, np.dtype(np.float32), share)

    index = made()
    while index.n < 700:
        index.extend(rows, 700, lambda: False)

    def use(content: bytes) -> None:
        again = made()
        again.decode(content, rows, 700)
        searcher = again.searcher()
        if searcher is not None:
            searcher.search(rows.vectors[3], 10, 64, rows=rows, limit=700, allowed=None)
            for allowed in masks if filters else ():
                target = Target(Metric.L2, rows, searcher, searcher.n, 700, allowed, narrowed=True)
                prepare(target, 10, plan_search(target, 10, 64, exact=False)).one(rows.vectors[3])
        again.extend(rows, 700, lambda: False)
        while again.retire(rows, np.arange(700) % 3 == 0, lambda: False):
            pass

    if filters:
        while index.retire(rows, None, lambda: False):
            pass
    return [b"".join(index.chunks())], use


def graph() -> Seeded:
    return _index("graph", None)


def coded() -> Seeded:
    return _index("graph", 500)


def cells() -> Seeded:
    return _index("cells", 500)


def filtered() -> Seeded:
    return _index("graph", 500, filters=True)


def filtered_cells() -> Seeded:
    return _index("cells", 500, filters=True)


def shared() -> Seeded:
    return _index("graph", None, 0.1)


def shared_coded() -> Seeded:
    return _index("graph", 300, 0.1)


def _proxies(spec: Multi) -> Seeded:
    tokens, ends = some_tokens(3)
    rows = TokenRows(tokens, ends, np.ones(len(ends), np.float32))
    index = make_proxies(spec)
    while index.n < len(ends):
        index.extend(rows, len(ends))

    def use(content: bytes) -> None:
        again = make_proxies(spec)
        again.decode(content, rows, len(ends))
        picture = again.picture()
        if picture is not None:
            picture.nearest(tokens[:4], 10, range(picture.n))
        again.extend(rows, len(ends))

    return [index.encode()], use


def centroids() -> Seeded:
    return _proxies(Multi(16, store="float32", proxy="centroids"))


def fde() -> Seeded:
    small: dict[str, Any] = {"repetitions": 3, "simhash_projections": 2, "projection_dimension": None}
    return _proxies(Multi(16, store="float32", proxy="fde", **small))


def lemur() -> Seeded:
    return _proxies(Multi(16, store="float32", proxy="lemur"))


def some_tokens(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, 6, 60)).astype(np.int64)
    return rng.standard_normal((int(ends[-1]), 16)).astype(np.float32), ends


def ends() -> Seeded:
    """The `.off` file: where each point's tokens end."""
    tokens, ends = some_tokens(1)
    spec = Multi(16, store="float32")

    def made() -> tuple[MultiField, RowFile, RowFile]:
        files = {name: RowFile.in_memory(width) for name, width in token_files("t", spec).items()}
        token_file, ends_file = files.values()
        return MultiField("t", spec, files), token_file, ends_file

    written, _, record_file = made()
    written.append(MultiPart(tokens, ends, np.diff(ends, prepend=0)), 0, len(ends))
    width = record_file.row_bytes

    def use(content: bytes) -> None:
        field, token_file, ends_file = made()
        token_file.append(np.ascontiguousarray(tokens).view(np.uint8))
        n = len(content) // width
        ends_file.append(np.frombuffer(content[: n * width], np.uint8).reshape(n, width).copy())
        field.load(n, np.ones(n, np.bool_))
        field.extend_index(n, lambda: False, None)

    return [record_file.matrix(np.uint8, (width,))[: len(ends)].tobytes()], use


def columns() -> Seeded:
    columns = Columns()
    payloads = [{"n": i % 7, "t": "ab"[i % 2], "x": i / 3, "tags": ["a", i % 3], "b": i % 2 == 0} for i in range(200)]
    columns.extend([orjson.dumps(p) for p in payloads])
    pieces = column_snapshot.encode(columns, 5, np.zeros(0, np.uint32))
    whole = b"".join(np.asarray(p).tobytes() if not isinstance(p, bytes) else p for p in pieces)
    filters = [parse_filter(f) for f in ("n = 3 or t = 'a'", "x > 5 and not b = true", "tags = 'a'")]

    def use(content: bytes) -> None:
        loaded = column_snapshot.decode(memoryview(content))
        for tree in filters:
            assert tree is not None
            evaluate(tree, loaded.columns, lambda _: np.zeros(0, np.uint32), loaded.columns.n)

    return [whole], use


def packed() -> Seeded:
    whole = packing.pack(b"VICTESTS", 1, {"a": 1}, [np.arange(30, dtype=np.float32).reshape(5, 6), np.arange(7)])
    return [whole], lambda content: ignore(packing.unpack(content, b"VICTESTS", 1, "it"))


def ignore(*_: Any) -> None:
    """The decoder is done."""
