"""Exact answers of every cell, made once per data set and grid, and how an engine's answers are judged by them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import exact
from bench.datasets import CACHE, Dataset
from bench.fanns.cells import Cell
from bench.fanns.columns import Table, mask_of

__all__ = ["Truth", "exact_answers", "judged"]

_BLOCK = 100  # queries whose scores are held at once
_SPARE = 20  # candidates beyond k, ranked again in float64


class Truth(NamedTuple):
    """rows (m, k): the nearest that match, -1 where there are fewer; matches (m,)."""

    rows: NDArray[np.int64]
    matches: NDArray[np.int64]


def exact_answers(data: Dataset, table: Table, cells: Sequence[Cell], k: int) -> dict[str, Truth]:
    """The k nearest matching rows of each query in each cell; kept on disk."""
    said = hashlib.sha256(repr((cells, k, table.n)).encode()).hexdigest()[:16]
    place = CACHE / data.name / f"fanns-{said}.npz"
    if not place.exists():
        made = _made(data, table, cells, k)
        fresh = place.with_name(f"{place.stem}-fresh.npz")
        np.savez(fresh, **{f"{i}{part}": getattr(t, part) for i, t in enumerate(made) for part in Truth._fields})
        fresh.replace(place)
    with np.load(place, allow_pickle=False) as kept:
        return {c.name: Truth(*(kept[f"{i}{part}"] for part in Truth._fields)) for i, c in enumerate(cells)}


def _made(data: Dataset, table: Table, cells: Sequence[Cell], k: int) -> list[Truth]:
    count = len(cells[0].predicates)
    made = [Truth(np.full((count, k), -1, np.int64), np.zeros(count, np.int64)) for _ in cells]
    squares = np.einsum("ij,ij->i", data.base, data.base, dtype=np.float32) / 2 * (data.metric == "l2")
    for first in range(0, count, _BLOCK):
        block = np.asarray(data.queries[first : min(first + _BLOCK, count)])
        scores = squares - block @ data.base.T
        for cell, truth in zip(cells, made, strict=True):
            for i, query in enumerate(block):
                rows = np.flatnonzero(mask_of(cell.predicates[first + i], table))
                truth.matches[first + i] = len(rows)
                if len(rows) > k + _SPARE:
                    rows = rows[np.argpartition(scores[i, rows], k + _SPARE)[: k + _SPARE]]
                far = exact.distances(data.base[rows], query, data.metric)
                best = rows[np.argsort(far, kind="stable")[:k]]
                truth.rows[first + i, : len(best)] = best
    return made


def judged(found: Sequence[Any], cell: Cell, truth: Truth, table: Table) -> dict[str, Any]:
    """Recall and what else must hold: full answers, no false ones, no single query that fails."""
    k, shares, full, false = truth.rows.shape[1], [], 0, 0
    for i, answer in enumerate(found):
        rows = np.asarray(answer, np.int64).ravel()
        rows = np.unique(rows[rows >= 0])
        wanted = min(k, int(truth.matches[i]))
        full += len(rows) == wanted
        false += int((~mask_of(cell.predicates[i], table, rows)).sum())
        shares.append(len(np.intersect1d(rows, truth.rows[i, :wanted])) / wanted if wanted else float(not len(rows)))
    worst = np.array(shares)
    return {
        "queries": len(found),
        "recall": float(worst.mean()),
        "below_08": float((worst < 0.8).mean()),
        "at_0": float((worst == 0).mean()),
        "full": full / len(found),
        "false_positives": false,
        "selectivity": float(truth.matches[: len(found)].mean() / table.n),
    }
