"""Recall on distinct ids, speed at a recall, and what machine a figure belongs to."""

from __future__ import annotations

import hashlib
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

__all__ = ["RECALLS", "at_recall", "at_recalls", "code", "front", "machine", "pareto", "quartiles", "ratios", "recall"]

RECALLS = (0.90, 0.95, 0.99)


def recall(found: Sequence[Any], truth: NDArray[np.int64], k: int) -> float:
    """Mean share of the true k nearest among the distinct ids of each answer's first k."""
    hits = 0
    for row, best in zip(found, truth, strict=True):
        hits += len(set(np.asarray(row)[:k].tolist()) & set(best[:k].tolist()))
    return hits / (k * len(truth))


def front(tried: Sequence[dict[str, Any]], between: tuple[float, float]) -> list[Any]:
    """Settings that no other one beats in recall and time, from the last below `between` to the first above it."""
    kept: list[dict[str, Any]] = []
    for point in sorted(tried, key=lambda point: (point["seconds"], -point["recall"])):
        if not kept or point["recall"] > kept[-1]["recall"]:
            kept.append(point)
    shares = [point["recall"] for point in kept]
    first = max((i for i, share in enumerate(shares) if share < between[0]), default=0)
    last = min((i for i, share in enumerate(shares) if share >= between[1]), default=len(kept) - 1)
    return [point["setting"] for point in kept[first : last + 1]]


def at_recall(points: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """QPS at exactly `wanted` recall on the Pareto front of (recall, qps) points, log-interpolated.

    None when no setting reaches it; the fastest setting when all exceed it.
    """
    best = pareto(points)
    for (low, fast), (high, slow) in pairwise(best):
        if low <= wanted <= high:
            t = (wanted - low) / (high - low)
            return float(np.exp(np.log(fast) * (1 - t) + np.log(slow) * t))
    if best and wanted <= best[0][0]:
        return best[0][1]
    return None


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (recall, qps) points that no other one beats in both, by recall."""
    best: list[tuple[float, float]] = []
    for share, qps in sorted(points, reverse=True):  # a slower setting of lower recall says nothing
        if not best or qps > best[-1][1]:
            best.append((share, qps))
    return best[::-1]


def at_recalls(points: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """QPS at each of RECALLS, from points with `recall` and `qps`."""
    curve = [(point["recall"], point["qps"]) for point in points]
    return {str(wanted): at_recall(curve, wanted) for wanted in RECALLS}


def ratios(engines: dict[str, Any], ours: Sequence[str]) -> dict[str, Any]:
    """Per recall: every engine's QPS in hnswlib's, and ours in that of the fastest engine that is not ours.

    Ratios are of medians; the quartiles are those of the ratio within each round, whose engines ran side by side.
    """
    answer: dict[str, Any] = {}
    for wanted in map(str, RECALLS):
        qps = {name: result["qps_at"][wanted] for name, result in engines.items() if "qps_at" in result}
        qps = {name: value for name, value in qps.items() if value}
        rivals = {name: value for name, value in qps.items() if name not in ours}
        best = max(rivals, key=lambda name: rivals[name], default=None)
        facts: dict[str, Any] = {"to_hnswlib": {}, "fastest_rival": best, "to_fastest_rival": {}}
        for key, base, named in (("to_hnswlib", "hnswlib", qps), ("to_fastest_rival", best, set(qps) & set(ours))):
            for name in (name for name in qps if name in named and base in qps):
                facts[key][name] = round(qps[name] / qps[str(base)], 3)
                spread = _spread(engines[name], engines[str(base)], wanted)
                if spread:
                    facts.setdefault(f"{key}_quartiles", {})[name] = spread
        answer[wanted] = facts
    return answer


def _spread(engine: dict[str, Any], base: dict[str, Any], wanted: str) -> list[float]:
    """First and third quartile of the ratio within rounds; empty where single rounds were not kept."""
    rounds = [result.get("qps_at_rounds", {}).get(wanted, []) for result in (engine, base)]
    within = [a / b for a, b in zip(*rounds, strict=False) if a and b]
    if not within:
        return []
    low, _, high = quartiles(within)
    return [round(low, 3), round(high, 3)]


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
        "code": code(),
    }


def code() -> str:
    """SHA-256 of what is measured and of what measures: commits do not tell changes that are not committed."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted([*(root / "engine").rglob("*.py"), *(root / "bench").rglob("*.py")]):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _family_model() -> str:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return f"{fields.get('vendor_id', '?')} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
