"""What must hold of every graph, and how well it finds what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.index.graph import GraphPicture
from vicinal.index.hnsw import search_graph
from vicinal.index.structure import in_degrees, removed_slots, structure_problems
from vicinal.kernels.reach import flood
from vicinal.types import Metric, Rows

__all__ = ["GraphReport", "check_graph", "self_recall", "unreachable"]


class GraphReport(NamedTuple):
    """The state of a graph: `problems` says in words what does not hold, empty when all is well."""

    problems: list[str]
    unreachable: int
    links_mean: float


def unreachable(picture: GraphPicture) -> NDArray[np.uint32]:
    """Slots below n, not taken out, that no path of level-0 links from the entry point reaches, ascending."""
    n = picture.n
    marks = np.zeros(n, np.uint8)
    if picture.entry >= 0:
        parents, queue = np.empty((2, n), np.uint32)
        flood(picture.arrays.graph()._replace(capacity=n), picture.entry, marks, parents, queue)
    return np.flatnonzero((marks == 0) & ~removed_slots(picture)).astype(np.uint32)


def _repeated(picture: GraphPicture) -> Iterator[str]:
    """Rows of level 0 that hold a slot twice."""
    rows = np.sort(picture.arrays.links[: picture.n, : 2 * picture.arrays.M], axis=1)
    twice = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] != np.uint32(0xFFFFFFFF))
    for slot in np.flatnonzero(twice.any(axis=1))[:3]:
        yield f"slot {slot} links to the same slot twice"


def check_graph(picture: GraphPicture) -> GraphReport:
    """Check links, levels and reachability; does not read vectors."""
    problems = [*structure_problems(picture), *_repeated(picture)]
    if problems:
        return GraphReport(problems, 0, 0.0)
    stranded = unreachable(picture)
    if len(stranded):
        problems.append(f"{len(stranded)} slots cannot be reached from the entry point, the first is {stranded[0]}")
    mean = float(in_degrees(picture).sum() / picture.n) if picture.n else 0.0
    return GraphReport(problems, len(stranded), mean)


def self_recall(picture: GraphPicture, metric: Metric, rows: Rows, slots: NDArray[np.uint32], ef: int = 64) -> float:
    """Share of the slots whose own vector, searched for, brings them or an equally near slot first.

    Under `dot` a longer vector may rightly win: there a slot counts when nothing further than itself comes first.
    """
    hits = 0
    for slot in slots:
        query = rows.vectors[slot]
        _, found = search_graph(picture, metric, rows, query, 1, ef, limit=picture.n)
        own = _own_distance(metric, query)
        hits += bool(len(found)) and bool(found[0] <= own + 1e-5 * max(1.0, abs(own)))
    return hits / max(len(slots), 1)


def _own_distance(metric: Metric, query: NDArray[Any]) -> float:
    query = query.astype(np.float32)
    return -float(query @ query) if metric is Metric.DOT else 0.0
