"""One chart per kind of filter: a panel per cell with every engine's recall against QPS."""

from __future__ import annotations

from typing import Any

from bench import results
from bench.charts import plain_numbers, recall_axis
from bench.fanns.cells import KINDS
from bench.fanns.engines import ENGINES, METHODS, OURS, RIVALS
from bench.metrics import pareto

__all__ = ["draw"]

_ACROSS = 3  # panels in a row
_HIGHEST, _LOWEST = 0.9995, 0.85


def draw(answer: dict[str, Any]) -> None:
    """Draw every kind that was measured, as `fanns-<data set>.<kind>.png`."""
    for kind, words in KINDS.items():
        cells = {name: one["engines"] for name, one in answer["cells"].items() if one["kind"] == kind}
        if cells:
            _kind(answer, kind, words, cells)


def _kind(answer: dict[str, Any], kind: str, words: str, cells: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    down = -(-len(cells) // _ACROSS)
    figure, axes = plt.subplots(down, _ACROSS, figsize=(13, 3.4 * down + 1.6), squeeze=False)
    for panel, (name, engines) in zip(axes.flat, cells.items(), strict=False):
        _panel(panel, name, engines)
    for panel in axes.flat[len(cells) :]:
        panel.set_axis_off()
    shown = {
        label: line
        for panel in axes.flat[: len(cells)]
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    names = [name for name in ENGINES if name in shown]
    title = f"{words}: recall@{answer['k']} against queries per second, one thread, the filter evaluated in the call"
    where = f"{answer['dataset']} · {answer['machine']['family_model']}; large marks: the fastest at .95, in rounds"
    figure.suptitle(f"{title}\n{where}", fontsize=10)
    figure.legend([shown[name] for name in names], names, loc="lower center", ncols=7, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.8 / (3.4 * down + 1.6), 1, 1))
    figure.savefig(results.path(answer, f"{kind}.png"), dpi=110)
    plt.close(figure)


def _panel(panel: Any, name: str, engines: dict[str, Any]) -> None:
    selectivity = next((e["fastest"]["selectivity"] for e in engines.values() if "fastest" in e), None)
    for engine, told in engines.items():
        style = _style(engine)
        front = pareto([(point["recall"], 1 / point["seconds"]) for point in told.get("points", ())])
        points = [(min(share, _HIGHEST), qps) for share, qps in front if share >= _LOWEST]
        if points:
            panel.plot(*zip(*points, strict=True), markersize=3, label=engine, **style)
        if "fastest" in told:
            best = told["fastest"]
            panel.plot([min(best["recall"], _HIGHEST)], [best["qps"]], markersize=8, **{**style, "alpha": 1})
    recall_axis(panel)
    panel.set_yscale("log")
    plain_numbers(panel.yaxis, minor=True)
    panel.tick_params(labelsize=7, which="both")
    panel.grid(visible=True, alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    share = "" if selectivity is None else f" ({selectivity:.2g} of rows)"
    panel.set_title(f"{name}{share}", fontsize=9)


def _style(name: str) -> dict[str, Any]:
    """Ours black and grey, methods dashed in colours of their own, rivals thin from blue to pink."""
    import matplotlib as mpl

    if name in OURS:
        at = list(OURS).index(name)
        return {"color": ("black", "dimgrey", "darkgrey", "silver")[at], "linewidth": 2.4, "marker": "o", "zorder": 9}
    if name in METHODS:
        at = list(METHODS).index(name)
        colour = mpl.colormaps["tab10"](at % 10)
        return {"color": colour, "linewidth": 1.4, "linestyle": "dashed", "marker": "v^<>sDpPX*d"[at], "zorder": 5}
    at = list(RIVALS).index(name)
    colour = mpl.colormaps["winter" if at % 2 else "cool"](at / len(RIVALS))
    return {"color": colour, "linewidth": 1.2, "marker": "sD^v<>pPX*dhH"[at], "alpha": 0.8}
