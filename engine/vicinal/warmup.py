"""Compile every kernel the engine may need and see that its answers are right on this processor.

First the kernels one by one (`kernels.warmup`), then what is made of them, through the same doors the engine uses:
coded graphs of each kind of code, built, searched, filtered and grown; token matrices encoded and compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vicinal.index.cells import CellsIndex
from vicinal.index.coded_batch import search_share
from vicinal.index.exact import exact_search, exact_search_list
from vicinal.index.field_index import CellsSearcher, CodedSearcher, FieldIndex, Searcher
from vicinal.index.layout import Layout
from vicinal.index.shared import SharedIndex
from vicinal.index.spaces import inverse_norms
from vicinal.kernels import warmup as kernels
from vicinal.kernels.bitset import slots_to_bits
from vicinal.kernels.warmup import KernelMismatch
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.pooling import pool_tokens
from vicinal.multivector.proxy_kinds import make_proxies
from vicinal.multivector.search import exact_maxsim, rerank, token_scores
from vicinal.multivector.stores import encode_tokens, plain_tokens, rotated, rotation
from vicinal.multivector.tokens import quantise_tokens
from vicinal.schema import Multi
from vicinal.types import Bits, HnswParams, Metric, Rows, TokenRows

__all__ = ["KernelMismatch", "warm"]

_ROWS, _LATER, _K = 2_000, 64, 10
_MANY = 8_300  # rows of which not all are compared with each other when a graph is built
_COPIES = 8  # rows that are there twice, and once more among the later ones
_RECALL = 0.8  # of a coded walk with a wide beam over a small graph: a broken kernel finds next to nothing
_Floats = NDArray[np.float32]


def _wrong(what: str) -> KernelMismatch:
    return KernelMismatch(f"{what} disagrees with a scan: do not use this build on this processor")


def _points(dim: int, rank: int, rows: int | None = None) -> _Floats:
    """Rows that spread over `rank` of `dim` dimensions: what decides which code a graph gets."""
    rows = _ROWS if rows is None else rows
    rng = np.random.default_rng(dim)
    spread = rng.standard_normal((rows + _LATER, rank)).astype(np.float32)
    points: _Floats = spread @ rng.standard_normal((rank, dim)).astype(np.float32)
    points[rows - _COPIES : rows] = points[rows : rows + _COPIES] = points[:_COPIES]
    return points


def _check(what: str, graph: Searcher, metric: Metric, rows: Rows, allowed: Bits | None) -> None:
    """Search for stored rows and compare with exact answers."""
    hits = 0
    for query in rows.vectors[:20]:
        found, _ = graph.search(query, _K, 200, rows=rows, limit=graph.n, allowed=allowed)
        expected, _ = exact_search(metric, rows, query, _K, start=0, stop=graph.n, allowed=allowed)
        hits += len(np.intersect1d(found, expected))
    if hits < _RECALL * 20 * _K:
        raise _wrong(f"{what} ({metric})")


def _coded(points: _Floats, metric: Metric) -> None:
    """Build a coded graph, search it with and without a filter, let it grow and search again."""
    index = FieldIndex(metric, points.shape[1], HnswParams(), coded_from=_ROWS)
    _grow(index, "the coded graph", metric, _rows(points, metric))


def _rows(vectors: NDArray[Any], metric: Metric) -> Rows:
    cosine = metric is Metric.COSINE
    return Rows(vectors, inverse_norms(vectors.astype(np.float32)) if cosine else np.empty(0, np.float32))


def _searched(index: FieldIndex | SharedIndex, what: str, metric: Metric, rows: Rows) -> Searcher:
    """Check searches of an index with and without a filter; give what answered."""
    graph = index.searcher()
    if graph is None:
        raise _wrong("building a graph")
    n = len(rows.vectors)
    for allowed in (None, slots_to_bits(np.arange(0, n, 2), n)):
        _check(what, graph, metric, rows, allowed)
    return graph


def _grow(index: FieldIndex, what: str, metric: Metric, rows: Rows) -> None:
    """Take rows in, search, take in the later ones, search again, and take some out."""
    n = len(rows.vectors)
    for stop in (n - _LATER, n - 1, n):  # many, few and one
        while index.n < stop:
            index.extend(rows, stop, lambda: False)
        graph = _searched(index, what, metric, rows)
    if isinstance(graph, CodedSearcher) and rows.vectors.dtype == np.float32:
        _check_batch(graph, rows)
    index.retire(rows, np.arange(index.n) % 20 == 0, lambda: False)


def _check_batch(graph: CodedSearcher, rows: Rows) -> None:
    """A batch has kernels of its own, and answers as single queries do."""
    shape = (20, _K)
    slots, distances, counts = np.zeros(shape, np.uint32), np.zeros(shape, np.float32), np.zeros(20, np.int64)
    search_share(
        *(graph.index, rows.vectors[:20], 200, 0, 20),
        rows=rows, limit=graph.n, allowed=None, slots=slots, distances=distances, counts=counts,
    )  # fmt: skip
    alone = [graph.search(query, _K, 200, rows=rows, limit=graph.n, allowed=None)[0] for query in rows.vectors[:20]]
    if not np.array_equal(slots, alone):
        raise _wrong("a batch on the coded graph")


def _coded_graphs() -> None:
    wide = _points(256, 256)
    for points, metric in (
        (_points(48, 48, _MANY), Metric.COSINE),  # bytes
        (_points(160, 40), Metric.L2),  # nibbles
        (wide, Metric.COSINE),  # signs
        (wide, Metric.DOT),
        (np.clip(np.rint(128 + 3 * wide), 0, 255), Metric.L2),  # whole numbers
    ):
        _coded(points, metric)


def _cells() -> None:
    """Make cells of each kind of code, scan them with and without a filter, let them grow and scan again."""
    vectors = _points(48, 48)
    rows = Rows(vectors, np.empty(0, np.float32))
    half = slots_to_bits(np.arange(0, len(vectors), 2), len(vectors))
    for codec in ("bytes", "nibbles", "signs"):
        index = CellsIndex.build(rows, _ROWS, Metric.L2, codec=codec)
        if index is None:
            raise _wrong("making cells")
        for stop in (_ROWS, len(vectors)):
            if stop > index.n:
                index.append(rows, index.n, stop)
            graph = CellsSearcher(index, index.n, Layout("cells", "warmup"))
            for allowed in (None, half):
                _check("a scan of cells", graph, Metric.L2, rows, allowed)


_PROXY_BITS: tuple[Literal[1, 4, 8], ...] = (1, 4, 8)


def _tokens() -> None:
    """Compare token matrices by every scorer, and encode them in both modes."""
    rng = np.random.default_rng(1)
    ends = np.arange(1, 41, dtype=np.int64) * 7
    values = rng.standard_normal((280, 32)).astype(np.float32)
    query = rng.standard_normal((5, 32)).astype(np.float32)
    codes, scales = quantise_tokens(values, ends)
    slots = np.arange(40, dtype=np.uint32)
    best = (query @ values.T).reshape(5, 40, 7).max(axis=2).sum(axis=0).argmax()
    stored = TokenRows(values, ends, np.ones(40, np.float32))
    coded = TokenRows(codes, ends, scales)
    answers = [exact_maxsim(query, rows, 3, slots) for rows in (stored, coded)]
    answers += [rerank(query, coded, slots, 3, "int8"), rerank(query, coded, slots, 3, "none")]
    answers += [rerank(query, coded, slots, 3, "int8", 0.99), rerank(query, coded, slots, 3, "float32")]
    token_scores(query, coded, 0)
    exact_maxsim(np.zeros_like(query), coded, 3, slots)  # no point stands out: all are settled
    if any(found[0][0] != best for found in answers):
        raise _wrong("MaxSim")
    _stores(values, ends, query, int(best))
    for spec in (Multi(32), *(Multi(32, proxy="fde", proxy_bits=bits) for bits in _PROXY_BITS)):
        proxies = make_proxies(spec)
        proxies.extend(coded, 40)
        picture = proxies.picture()
        if picture is None or best not in picture.nearest(query, 20, range(40))[0]:
            raise _wrong(f"proxies of kind {spec.proxy}")
    for encoder in (FixedDimensionalEncoder(32), FixedDimensionalEncoder(32, mode="paper", final_dimension=64)):
        documents, asked = encoder.encode_documents(values, ends), encoder.encode_query(query)
        if not (np.isfinite(documents).all() and documents.any() and asked.any()):
            raise KernelMismatch("fixed-dimensional encodings are not finite")


def _stores(values: NDArray[np.float32], ends: NDArray[np.int64], query: NDArray[np.float32], best: int) -> None:
    """Compare tokens stored otherwise, and pool some."""
    signs = rotation(32, 1)
    for store, asked, tokens in (
        ("float16", query, values),
        ("bit", rotated(signs, query), rotated(signs, values)),
    ):
        stored, scales = encode_tokens(store, tokens, ends)
        rows = TokenRows(stored, ends, scales)
        plain_tokens(rows.tokens[:3])
        if best not in exact_maxsim(asked, rows, 8, range(40)).slots:
            raise _wrong(f"MaxSim of {store} tokens")
    if len(pool_tokens(values, ends, 2)[0]) != 40 * (1 + 3):
        raise _wrong("pooling of tokens")


def _other_dtypes() -> None:
    """Fields that do not hold float32, walked on what they hold."""
    for dtype in (np.float16, np.int8, np.uint8):
        vectors = np.abs(_points(64, 64)) if dtype is np.uint8 else _points(64, 64)
        stored = vectors.astype(dtype)
        for metric in (Metric.L2, Metric.DOT, Metric.COSINE):
            _grow(FieldIndex(metric, 64, HnswParams()), f"a walk on {stored.dtype}", metric, _rows(stored, metric))


def _coded_dtypes() -> None:
    for dtype in (np.float16, np.int8, np.uint8):
        vectors = np.abs(_points(64, 64)) if dtype is np.uint8 else _points(64, 64)
        rows = _rows(vectors.astype(dtype), Metric.COSINE)
        index = FieldIndex(Metric.COSINE, 64, HnswParams(), coded_from=_ROWS)
        _grow(index, f"the coded graph over {rows.vectors.dtype}", Metric.COSINE, rows)


def _other_metrics() -> None:
    """Bits, and what is computed by a function of two vectors."""
    bits = np.packbits(_points(256, 256) > 0, axis=1)
    for metric in (Metric.HAMMING, Metric.JACCARD):
        rows = _rows(bits, metric)
        _grow(FieldIndex(metric, bits.shape[1], HnswParams()), f"a walk under {metric}", metric, rows)
        exact_search_list(metric, rows, bits[0], _K, np.arange(0, _ROWS, 2, dtype=np.uint32))
    places = np.random.default_rng(1).uniform(-80, 80, (_ROWS + _LATER, 2)).astype(np.float32)
    for metric, vectors in ((Metric.L1, _points(16, 16)), (Metric.HAVERSINE, places)):
        dim = vectors.shape[1]
        _grow(FieldIndex(metric, dim, HnswParams()), f"a walk under {metric}", metric, _rows(vectors, metric))


def _shared_rows() -> None:
    """Let near-copies share nodes, search with and without a filter, and go on from what was saved."""
    points = _points(24, 24)
    points[1::2] = points[: len(points) - 1 : 2] * np.float32(1.001)
    rows, n = _rows(points, Metric.L2), len(points)
    for share in (0.0, 0.05):
        index = SharedIndex(FieldIndex(Metric.L2, 24, HnswParams()), Metric.L2, 24, points.dtype, share)
        while index.n < n - _LATER:
            index.extend(rows, n - _LATER, lambda: False)
        saved = b"".join(index.chunks())
        index = SharedIndex(FieldIndex(Metric.L2, 24, HnswParams()), Metric.L2, 24, points.dtype, share)
        index.decode(saved, rows, n - _LATER)
        while index.n < n:
            index.extend(rows, n, lambda: False)
        _searched(index, "a search of shared nodes", Metric.L2, rows)


_MORE_JOBS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("other dtypes", _other_dtypes),
    ("other metrics", _other_metrics),
    ("coded graphs of other dtypes", _coded_dtypes),
    ("shared rows", _shared_rows),
)
_JOBS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("coded graphs", _coded_graphs),
    ("cells", _cells),
    ("token matrices", _tokens),
)
# for a second process, in an order that finds compiled what both need: half of the time when all is compiled
_BESIDE = ("other dtypes", "other metrics", "cells", "coded graphs of other dtypes")


def warm(report: Callable[[str, float], None] | None = None, *, everything: bool = False) -> dict[str, float]:
    """Compile what float32 fields need, or load it from the cache; returns seconds by part.

    report: called with a part's name and seconds as each is done. everything: also what fields of other dtypes and
    metrics need, which otherwise is compiled when such a field is first used; on two cores or more a second process
    takes half of that. Raises KernelMismatch when an answer is wrong.
    """
    tell = report if report is not None else lambda *_: None
    jobs = dict(_JOBS + _MORE_JOBS if everything else _JOBS)
    beside = [name for name in _BESIDE if name in jobs] if everything and (os.cpu_count() or 1) > 1 else []
    with _second(beside) as answers:
        seconds = kernels.warm(report)
        for name in [name for name in jobs if name not in beside]:
            seconds[name] = _timed(jobs[name])
            tell(name, seconds[name])
        for line in answers:
            told = json.loads(line)
            if "wrong" in told:
                raise KernelMismatch(told["wrong"])
            seconds |= told
            tell(*next(iter(told.items())))
    if missing := [name for name in beside if name not in seconds]:
        raise RuntimeError(f"compiling ended early, before {missing[0]}: is there enough memory?")
    return seconds


@contextlib.contextmanager
def _second(names: Sequence[str]) -> Iterator[Iterable[str]]:
    """A process that runs these parts meanwhile; gives its answers, one line of JSON each."""
    if not names:
        yield ()
        return
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    call = [sys.executable, "-m", "vicinal.warmup", *names]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment) as child:  # noqa: S603
        assert child.stdout is not None
        try:
            yield child.stdout
        except BaseException:
            child.kill()
            raise


def _timed(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main(names: Sequence[str]) -> None:
    """Run some parts for another process: writes a line of JSON as each is done."""
    jobs = dict(_JOBS + _MORE_JOBS)
    for name in names:
        try:
            told: dict[str, Any] = {name: _timed(jobs[name])}
        except KernelMismatch as mismatch:
            told = {"wrong": str(mismatch)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
