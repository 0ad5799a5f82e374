"""Compile every kernel the engine may need and see that its answers are right on this processor.

First the kernels one by one (`kernels.warmup`), then what is made of them, through the same doors the engine uses:
coded graphs of each kind of code, built, searched, filtered and grown; token matrices encoded and compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.index.cells import CellsIndex
from vicinal.index.coded_batch import search_share
from vicinal.index.exact import exact_search
from vicinal.index.field_index import CellsSearcher, CodedSearcher, FieldIndex, Searcher
from vicinal.index.layout import Layout
from vicinal.index.spaces import inverse_norms
from vicinal.kernels import warmup as kernels
from vicinal.kernels.bitset import slots_to_bits
from vicinal.kernels.warmup import KernelMismatch
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.search import exact_maxsim, rerank, token_scores
from vicinal.multivector.tokens import quantise_tokens
from vicinal.types import Bits, HnswParams, Metric, Rows, TokenRows

__all__ = ["KernelMismatch", "warm"]

_ROWS, _LATER, _K = 2_000, 64, 10
_RECALL = 0.8  # of a coded walk with a wide beam over a small graph: a broken kernel finds next to nothing
_Floats = NDArray[np.float32]


def _wrong(what: str) -> KernelMismatch:
    return KernelMismatch(f"{what} disagrees with a scan: do not use this build on this processor")


def _points(dim: int, rank: int) -> _Floats:
    """Rows that spread over `rank` of `dim` dimensions: what decides which code a graph gets."""
    rng = np.random.default_rng(dim)
    return rng.standard_normal((_ROWS + _LATER, rank)).astype(np.float32) @ rng.standard_normal((rank, dim)).astype(
        np.float32
    )


def _check(what: str, graph: Searcher, metric: Metric, rows: Rows, allowed: Bits | None) -> None:
    """Search for stored rows and compare with exact answers."""
    hits = 0
    for query in rows.vectors[:20]:
        found, _ = graph.search(query, _K, 200, rows=rows, limit=graph.n, allowed=allowed)
        expected, _ = exact_search(metric, rows, query, _K, start=0, stop=graph.n, allowed=allowed)
        hits += len(np.intersect1d(found, expected))
    if hits < _RECALL * 20 * _K:
        raise _wrong(f"{what} ({metric})")


def _coded(dim: int, rank: int, metric: Metric) -> None:
    """Build a coded graph, search it with and without a filter, let it grow and search again."""
    index = FieldIndex(metric, dim, HnswParams(), coded_from=_ROWS)
    _grow(index, "the coded graph", metric, _rows(_points(dim, rank), metric))


def _rows(vectors: NDArray[Any], metric: Metric) -> Rows:
    cosine = metric is Metric.COSINE
    return Rows(vectors, inverse_norms(vectors.astype(np.float32)) if cosine else np.empty(0, np.float32))


def _grow(index: FieldIndex, what: str, metric: Metric, rows: Rows) -> None:
    """Take rows in, search, take in the later ones, search again, and take some out."""
    n = len(rows.vectors)
    half = slots_to_bits(np.arange(0, n, 2), n)
    for stop in (n - _LATER, n):
        while index.n < stop:
            index.extend(rows, stop, lambda: False)
        graph = index.searcher()
        if graph is None:
            raise _wrong("building a graph")
        for allowed in (None, half):
            _check(what, graph, metric, rows, allowed)
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
    for dim, rank, metric in (
        (48, 48, Metric.COSINE),  # bytes
        (160, 40, Metric.L2),  # nibbles
        (256, 256, Metric.COSINE),  # signs
        (256, 256, Metric.DOT),
    ):
        _coded(dim, rank, metric)


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
    token_scores(query, coded, 0)
    if any(found[0][0] != best for found in answers):
        raise _wrong("MaxSim")
    for encoder in (FixedDimensionalEncoder(32), FixedDimensionalEncoder(32, mode="paper", final_dimension=64)):
        documents, asked = encoder.encode_documents(values, ends), encoder.encode_query(query)
        if not (np.isfinite(documents).all() and documents.any() and asked.any()):
            raise KernelMismatch("fixed-dimensional encodings are not finite")


def _other_dtypes() -> None:
    """Fields that do not hold float32: walked on what they hold while small, on codes when large."""
    for dtype in (np.float16, np.int8, np.uint8):
        vectors = np.abs(_points(64, 64)) if dtype is np.uint8 else _points(64, 64)
        stored = vectors.astype(dtype)
        for metric in (Metric.L2, Metric.DOT, Metric.COSINE):
            _grow(FieldIndex(metric, 64, HnswParams()), f"a walk on {stored.dtype}", metric, _rows(stored, metric))
        index = FieldIndex(Metric.COSINE, 64, HnswParams(), coded_from=_ROWS)
        _grow(index, f"the coded graph over {stored.dtype}", Metric.COSINE, _rows(stored, Metric.COSINE))


def _other_metrics() -> None:
    """Bits, and what is computed by a function of two vectors."""
    bits = np.packbits(_points(256, 256) > 0, axis=1)
    for metric in (Metric.HAMMING, Metric.JACCARD):
        _grow(FieldIndex(metric, bits.shape[1], HnswParams()), f"a walk under {metric}", metric, _rows(bits, metric))
    places = np.random.default_rng(1).uniform(-80, 80, (_ROWS + _LATER, 2)).astype(np.float32)
    for metric, vectors in ((Metric.L1, _points(16, 16)), (Metric.HAVERSINE, places)):
        dim = vectors.shape[1]
        _grow(FieldIndex(metric, dim, HnswParams()), f"a walk under {metric}", metric, _rows(vectors, metric))


_MORE_JOBS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("other dtypes", _other_dtypes),
    ("other metrics", _other_metrics),
)
_JOBS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("coded graphs", _coded_graphs),
    ("cells", _cells),
    ("token matrices", _tokens),
)


def warm(report: Callable[[str, float], None] | None = None, *, everything: bool = False) -> dict[str, float]:
    """Compile what float32 fields need, or load it from the cache; returns seconds by part, in order.

    report: called with a part's name and seconds as each is done. everything: also what fields of other dtypes and
    metrics need, which otherwise is compiled when such a field is first used. Raises KernelMismatch when an answer
    is wrong.
    """
    seconds = kernels.warm(report)
    for name, run in _JOBS + _MORE_JOBS if everything else _JOBS:
        began = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - began
        if report is not None:
            report(name, seconds[name])
    return seconds
