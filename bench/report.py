"""Where results go, and the charts drawn from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["path", "recall_chart", "save"]

RESULTS = Path(__file__).parent / "results"


def path(answer: dict[str, Any], ending: str) -> Path:
    """File of a result: suite and data set, so that a new run replaces the old one in history."""
    name = "-".join(str(part) for part in (answer["suite"], answer.get("dataset")) if part)
    return RESULTS / f"{name}.{ending}"


def save(answer: dict[str, Any]) -> Path:
    """Write the raw result as JSON."""
    RESULTS.mkdir(exist_ok=True)
    place = path(answer, "json")
    place.write_text(json.dumps(answer, indent=1) + "\n")
    return place


def recall_chart(answer: dict[str, Any], place: Path) -> None:
    """Recall against QPS on a log axis, one line per engine."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, result in answer["engines"].items():
        points = sorted((p["recall"], p["qps"]) for p in result["points"])
        style = {"linewidth": 2.4, "color": "black"} if name == "vicinal" else {"linewidth": 1.3}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, **style)
    axes.set_yscale("log")
    axes.set_xlim(left=0.8, right=1.002)
    axes.set_xlabel(f"recall@{answer['k']}")
    axes.set_ylabel("queries per second, one thread")
    axes.set_title(f"{answer['dataset']} on {answer['machine']['family_model']}", fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(place, dpi=130)
    plt.close(figure)
