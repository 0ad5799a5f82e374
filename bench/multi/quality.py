"""What judges say of answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["judged_recall", "ndcg"]


def ndcg(found: Sequence[Sequence[int]], judged: Sequence[Mapping[int, int]], k: int) -> float | None:
    """Mean nDCG@k with gains of 2^grade - 1 over queries that have a relevant document; None without such queries."""
    values = []
    for row, grades in zip(found, judged, strict=False):
        best = sorted((2**g - 1 for g in grades.values() if g > 0), reverse=True)[:k]
        if best:
            gains = [2 ** grades.get(int(d), 0) - 1 for d in list(row)[:k]]
            values.append(_discounted(gains) / _discounted(best))
    return sum(values) / len(values) if values else None


def judged_recall(found: Sequence[Sequence[int]], judged: Sequence[Mapping[int, int]], k: int) -> float | None:
    """Mean share of the relevant documents among the first k."""
    values = []
    for row, grades in zip(found, judged, strict=False):
        relevant = {d for d, g in grades.items() if g > 0}
        if relevant:
            values.append(len(relevant & {int(d) for d in list(row)[:k]}) / len(relevant))
    return sum(values) / len(values) if values else None


def _discounted(gains: Sequence[Any]) -> float:
    return float(sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)))
