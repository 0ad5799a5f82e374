"""From slots and distances to what users see: scores, vectors, and the description of the fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.index.shared_search import SharedSearcher
from vicinal.limits import ID_MAX
from vicinal.multivector.stores import plain_tokens, unrotated
from vicinal.schema import Dense, Multi, Schema
from vicinal.searching import Batch
from vicinal.types import Bits, Metric
from vicinal.view import DenseView, MultiView, View

if TYPE_CHECKING:
    from vicinal.index.field_index import Searcher

__all__ = ["batch_of", "fields_of", "scores_of", "to_scores", "vectors_of"]

_ONE: Final = np.array(1, np.float32)  # an array: numpy takes longer to look at a scalar


def _as_they_are(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    return distances


def _roots(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(distances, distances)


def _products(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.negative(distances, distances)


def _cosines(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    np.subtract(_ONE, distances, distances)
    # ascending distances, unless there are many rows of them: only rounding leads beyond 1
    if distances.size and not (distances.ndim == 1 and distances.item(-1) >= -1.0 and distances.item(0) <= 1.0):
        np.clip(distances, -1, 1, out=distances)
    return distances


_Scoring = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_SCORES: Final[Mapping[Metric, _Scoring]] = {
    Metric.L2: _roots,
    Metric.DOT: _products,
    Metric.COSINE: _cosines,
}


def to_scores(metric: Metric) -> _Scoring:
    """What turns distances under a metric into scores, in place."""
    return _SCORES.get(metric, _as_they_are)


def scores_of(metric: Metric, distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn distances, ascending by row, into scores, in place.

    As Qdrant's: cosine and dot larger is nearer, l2 is the Euclidean distance, others are the distance.
    """
    return to_scores(metric)(distances)


def batch_of(view: View, metric: Metric, batch: Batch) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int64]]:
    """Ids, scores and counts of many queries; what is missing is 2**64 - 1, or None among string ids, and NaN."""
    slots, distances, counts = batch
    missing = np.arange(slots.shape[1]) >= counts[:, None]
    scores = scores_of(metric, distances)
    scores[missing] = np.nan
    if not view.n:
        return np.full(slots.shape, ID_MAX, np.uint64), scores, counts
    ids: NDArray[Any] = view.ids.numbers[slots.astype(np.intp)]
    if view.ids.texts:
        ids = np.array(view.ids.at(slots.ravel()), object).reshape(slots.shape)
    ids[missing] = None if view.ids.texts else ID_MAX
    return ids, scores, counts


def _has(present: Bits | None, slot: int) -> bool:
    return present is None or bool((int(present[slot >> 6]) >> (slot & 63)) & 1)


def _vector(spec: Dense | Multi, field: DenseView | MultiView, slot: int) -> NDArray[Any] | None:
    if not _has(field.present, slot):
        return None
    if isinstance(field, DenseView):
        row: NDArray[Any] = field.rows.vectors[slot].copy()
        return row
    tokens, ends, scales = field.tokens if field.originals is None else field.originals
    start = int(ends[slot - 1]) if slot else 0
    matrix: NDArray[np.float32] = plain_tokens(tokens[start : int(ends[slot])]).astype(np.float32) * scales[slot]
    if field.signs is None or field.originals is not None:
        return matrix
    assert isinstance(spec, Multi), "the view follows the schema"
    return unrotated(field.signs, matrix, spec.dim)


def vectors_of(schema: Schema, view: View, slots: NDArray[Any]) -> list[Any]:
    """What is stored: an array for an unnamed field, else a dict of the fields each point has."""
    if list(schema.fields) == [""]:
        return [_vector(schema.fields[""], view.fields[""], s) for s in slots.tolist()]
    rows = []
    for s in slots.tolist():
        named = {name: _vector(schema.fields[name], field, s) for name, field in view.fields.items()}
        rows.append({name: v for name, v in named.items() if v is not None})
    return rows


def _codec(spec: Dense, graph: Searcher | None) -> dict[str, Any]:
    """What a walk reads beside the stored vectors, and why; bytes are of links, codes and rows of bytes."""
    if graph is None:
        return {"asked": spec.codec, "chosen": None, "why": "no vector is in the graph yet", "bytes_per_vector": 0}
    each = round(graph.nbytes / max(graph.n, 1), 1)
    return {"asked": spec.codec, **graph.codec, "bytes_per_vector": each}


def _layout(spec: Dense, graph: Searcher | None) -> dict[str, str | None]:
    """Graph or cells, and why."""
    if graph is None:
        return {"asked": spec.layout, "chosen": None, "why": "no vector is in the graph yet"}
    return {"asked": spec.layout, **graph.placed._asdict()}


def _dense_state(spec: Dense, field: DenseView, n: int) -> tuple[int, dict[str, Any]]:
    """Bytes in memory or mapped, and what is told of a field of single vectors."""
    rows, graph = field.rows, field.graph
    used = n * rows.vectors.shape[1] * rows.vectors.itemsize + rows.inv_norms.nbytes + (graph.nbytes if graph else 0)
    told = {"row_bytes": spec.row_bytes, "codec": _codec(spec, graph), "layout": _layout(spec, graph)}
    if spec.share is not None:
        told["shared"] = (
            graph.shared if isinstance(graph, SharedSearcher) else {"rows": 0, "groups": 0, "bytes_saved": 0}
        )
    return used, told


def _multi_state(field: MultiView, n: int) -> tuple[int, dict[str, Any]]:
    """Bytes in memory or mapped, and what is told of a field of token matrices."""
    tokens = int(field.tokens.ends[n - 1]) if n else 0
    proxies = 0 if field.proxies is None else field.proxies.memory_bytes
    used = tokens * field.tokens.tokens.strides[0] + field.tokens.ends[:n].nbytes + field.tokens.scales[:n].nbytes
    used += proxies
    told: dict[str, Any] = {
        "tokens": tokens,
        "tokens_sent": field.sent,
        "proxy_bytes": proxies,
        "bytes_per_token": round(used / max(field.sent, 1), 1),
    }
    return used, told | dict({} if field.proxies is None else field.proxies.chosen)


def _state(spec: Dense | Multi, field: DenseView | MultiView, n: int) -> tuple[int, dict[str, Any]]:
    if isinstance(field, MultiView):
        return _multi_state(field, n)
    assert isinstance(spec, Dense), "the view follows the schema"
    return _dense_state(spec, field, n)


def fields_of(schema: Schema, view: View) -> tuple[Mapping[str, Mapping[str, Any]], int]:
    """Each field's declaration and state, and the bytes all of them hold in memory or mapped."""
    described: dict[str, Mapping[str, Any]] = {}
    total = 0
    for name, spec in schema.fields.items():
        field = view.fields[name]
        used, state = _state(spec, field, view.n)
        total += used
        state |= {"indexed": field.indexed, "tail": view.n - field.indexed, "memory_bytes": used}
        described[name] = {"kind": "dense" if isinstance(spec, Dense) else "multi", **asdict(spec), **state}
    return described, total
