"""Charts drawn from results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import results
from bench.rivals import OURS

__all__ = ["recall_chart", "scaling_chart"]


@contextmanager
def _axes(answer: dict[str, Any]) -> Iterator[Any]:
    """Axes of a new figure, saved beside the result's JSON."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    yield axes
    axes.set_title(f"{answer['dataset']} on {answer['machine']['family_model']}", fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(results.path(answer, "png"), dpi=130)
    plt.close(figure)


def recall_chart(answer: dict[str, Any]) -> None:
    """Recall against QPS on a log axis, one line per engine; ours black."""
    with _axes(answer) as axes:
        for name, result in answer["engines"].items():
            points = sorted((p["recall"], p["qps"]) for p in result.get("points", []))
            if not points:
                continue
            style = {"linewidth": 2.6, "color": "black", "zorder": 9} if name == "vicinal" else {"linewidth": 1.2}
            if name in OURS[1:]:
                style = {"linewidth": 1.6, "color": "grey"}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, **style)
        axes.set_yscale("log")
        axes.set_xlim(left=0.85, right=1.001)
        axes.set_xlabel(f"recall@{answer['k']}")
        calls = "one query per call" if answer["threads"] == 1 else "batch call"
        axes.set_ylabel(f"queries per second, threads: {answer['threads']}, {calls}")


def scaling_chart(answer: dict[str, Any]) -> None:
    """Distances per query against n, one line per engine."""
    with _axes(answer) as axes:
        for name, points in answer["engines"].items():
            known = [(p["n"], p["distances"]) for p in points if p["distances"]]
            axes.plot(*zip(*known, strict=True), marker="o", label=name)
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("rows")
        axes.set_ylabel(f"rows compared per query at recall {answer['recall']}")
