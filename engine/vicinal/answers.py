"""From slots and distances to what users see: scores, vectors, and the description of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vicinal.schema import Dense, Schema
from vicinal.types import Bits, Metric
from vicinal.view import DenseView, MultiView, View

if TYPE_CHECKING:
    from vicinal.index.field_index import Searcher

__all__ = ["fields_of", "scores_of", "vectors_of"]


def scores_of(metric: Metric, distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores as Qdrant's: cosine and dot larger is nearer, l2 is the Euclidean distance, of bits the distance."""
    if metric.of_bits:
        return distances
    if metric is Metric.L2:
        roots: NDArray[np.float32] = np.sqrt(distances)
        return roots
    if metric is Metric.DOT:
        return -distances
    cosines: NDArray[np.float32] = np.clip(np.float32(1) - distances, np.float32(-1), np.float32(1))
    return cosines


def _has(present: Bits | None, slot: int) -> bool:
    return present is None or bool((int(present[slot >> 6]) >> (slot & 63)) & 1)


def _vector(field: DenseView | MultiView, slot: int) -> NDArray[Any] | None:
    if not _has(field.present, slot):
        return None
    if isinstance(field, DenseView):
        row: NDArray[Any] = field.rows.vectors[slot].copy()
        return row
    tokens, ends, scales = field.tokens
    start = int(ends[slot - 1]) if slot else 0
    matrix: NDArray[np.float32] = tokens[start : int(ends[slot])].astype(np.float32) * scales[slot]
    return matrix


def vectors_of(schema: Schema, view: View, slots: NDArray[Any]) -> list[Any]:
    """What is stored: an array for an unnamed field, else a dict of the fields each point has."""
    if list(schema.fields) == [""]:
        return [_vector(view.fields[""], s) for s in slots.tolist()]
    rows = []
    for s in slots.tolist():
        named = {name: _vector(field, s) for name, field in view.fields.items()}
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


def fields_of(schema: Schema, view: View) -> tuple[Mapping[str, Mapping[str, Any]], int]:
    """Each field's declaration and state, and the bytes all of them hold in memory or mapped."""
    described: dict[str, Mapping[str, Any]] = {}
    total = 0
    for name, spec in schema.fields.items():
        field = view.fields[name]
        rows = field.rows if isinstance(field, DenseView) else field.proxies
        width = rows.vectors.shape[1] * rows.vectors.itemsize if rows.vectors.ndim == 2 else 0
        used = view.n * width + rows.inv_norms.nbytes
        if not isinstance(field, DenseView):
            used += int(field.tokens.ends[view.n - 1]) * field.tokens.tokens.strides[0] if view.n else 0
        if field.graph is not None:
            used += field.graph.nbytes
        total += used
        state: dict[str, Any] = {"indexed": field.indexed, "tail": view.n - field.indexed, "memory_bytes": used}
        if isinstance(spec, Dense):
            state |= {"row_bytes": spec.row_bytes, "codec": _codec(spec, field.graph)}
            state["layout"] = _layout(spec, field.graph)
        described[name] = {"kind": "dense" if isinstance(spec, Dense) else "multi", **asdict(spec), **state}
    return described, total
