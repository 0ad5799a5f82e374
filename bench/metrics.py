"""Recall on distinct ids, speed at a recall, and what machine a figure belongs to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RECALLS", "at_recall", "at_recalls", "machine", "quartiles", "ratios", "recall"]

RECALLS = (0.90, 0.95, 0.99)


def recall(found: Sequence[Any], truth: NDArray[np.int64], k: int) -> float:
    """Mean share of the true k nearest among the distinct ids of each answer's first k."""
    hits = 0
    for row, best in zip(found, truth, strict=True):
        hits += len(set(np.asarray(row)[:k].tolist()) & set(best[:k].tolist()))
    return hits / (k * len(truth))


def at_recall(points: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """QPS at exactly `wanted` recall on the Pareto front of (recall, qps) points, log-interpolated.

    None when no setting reaches it; the fastest setting when all exceed it.
    """
    front: list[tuple[float, float]] = []
    for share, qps in sorted(points, reverse=True):  # a slower setting of lower recall says nothing
        if not front or qps > front[-1][1]:
            front.append((share, qps))
    front.reverse()
    for (low, fast), (high, slow) in pairwise(front):
        if low <= wanted <= high:
            t = (wanted - low) / (high - low)
            return float(np.exp(np.log(fast) * (1 - t) + np.log(slow) * t))
    if front and wanted < front[0][0]:
        return front[0][1]
    return None


def at_recalls(points: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """QPS at each of RECALLS, from points with `recall` and `qps`."""
    curve = [(point["recall"], point["qps"]) for point in points]
    return {str(wanted): at_recall(curve, wanted) for wanted in RECALLS}


def ratios(engines: dict[str, Any], ours: Sequence[str]) -> dict[str, Any]:
    """Per recall: every engine's QPS in hnswlib's, and ours in that of the fastest engine that is not ours."""
    answer: dict[str, Any] = {}
    for wanted in map(str, RECALLS):
        qps = {name: result["qps_at"][wanted] for name, result in engines.items() if "qps_at" in result}
        qps = {name: value for name, value in qps.items() if value}
        rivals = {name: value for name, value in qps.items() if name not in ours}
        best = max(rivals, key=lambda name: rivals[name], default=None)
        answer[wanted] = {
            "to_hnswlib": {name: round(v / qps["hnswlib"], 3) for name, v in qps.items() if "hnswlib" in qps},
            "fastest_rival": best,
            "to_fastest_rival": {name: round(qps[name] / rivals[best], 3) for name in qps if best and name in ours},
        }
    return answer


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def machine() -> dict[str, Any]:
    """Processor, cores, versions and commit, as they stand beside every raw result."""
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))
    ]
    flags = next((n for n in names if n.startswith("flags")), "").split()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    versions = {name: importlib.metadata.version(name) for name in ("vicinal", "numpy", "numba", "llvmlite")}
    return {
        "processor": next((n.partition(":")[2].strip() for n in names if n.startswith("model name")), "unknown"),
        "family_model": _family_model(),
        "avx512_vnni": "avx512_vnni" in flags,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit,
    }


def _family_model() -> str:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return f"{fields.get('vendor_id', '?')} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
