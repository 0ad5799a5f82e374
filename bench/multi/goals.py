"""How figures of multi-vector search are read from kept results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FIGURES", "against", "bytes_each", "fact", "found_with", "lost", "milliseconds"]

Read = Callable[[dict[str, Any]], tuple[float, str]]

_FDE = "vicinal-fde-32 vicinal-fde-8 vicinal-fde-4 vicinal-fde-1"
_OURS = f"vicinal vicinal-bit vicinal-pooled vicinal-lemur vicinal-exact {_FDE}"
FIGURES = {
    "multi-lotte": f"multivector --dataset mv-lotte500 --ours {_OURS} --rivals all",
    "multi-cranfield": f"multivector --dataset mv-cranfield --ours {_OURS} --rivals all",
    "multi-cacm": f"multivector --dataset mv-cacm --ours {_OURS} --rivals all",
    "multi-100k": "multivector --dataset mv-100k --ours vicinal vicinal-bit vicinal-pooled vicinal-fde-1 "
    "--rivals muvera-hnswlib fast-plaid",
}


def found_with(candidates: int) -> Read:
    """The share of exact MaxSim's ten best that so many candidates hold."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        share = _with(answer, "vicinal", candidates)
        return share, f"{share:.3f}"

    return read


def milliseconds(recall: float) -> Read:
    """Time of the fastest setting of the default that reaches a recall@10."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        points = [p for p in answer["engines"]["vicinal"]["top_10"]["points"] if p["recall"] >= recall]
        if not points:
            raise KeyError(recall)
        best = max(points, key=lambda p: p["qps"])
        took = 1e3 / best["qps"]
        return took, f"{took:.2f} ms (recall {best['recall']:.3f}, {best['setting']} candidates)"

    return read


def against(rival: str, recalls: tuple[str, ...] = ("0.95", "0.9")) -> Read:
    """QPS over a rival's at the highest of the recalls that both reach."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        facts = answer["ratios"]["top_10"]["vicinal"][rival]
        recall = next(recall for recall in (*recalls, "") if not recall or recall in facts)
        (low, high), ratio = facts[recall]["quartiles"], facts[recall]["ratio"]
        return ratio, f"{ratio:.1f} x at recall {recall} ({low:.1f} to {high:.1f})"

    return read


def lost(bits: int) -> Read:
    """What codes lose of the float32 encodings' recall of the ten best in 100 candidates."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        whole, coded = (_with(answer, f"vicinal-fde-{b}", 100) for b in (32, bits))
        return whole - coded, f"{whole - coded:.4f} (of {whole:.3f})"

    return read


def bytes_each(engine: str) -> Read:
    """Bytes of memory for each token that was sent, as `info` tells."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        value = answer["engines"][engine]["bytes_per_token"]
        return value, f"{value:.1f} B"

    return read


def fact(engine: str, key: str, form: str) -> Read:
    """A figure beside the curves, written in this form."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        value = answer["engines"][engine][key]
        return value, form.format(value)

    return read


def _with(answer: dict[str, Any], engine: str, candidates: int) -> float:
    """recall@10 of one setting; the last one measured where fewer candidates were enough."""
    points = answer["engines"][engine]["top_10"]["points"]
    shares = [p["recall"] for p in points if p["setting"] <= candidates]
    return float(shares[-1])
