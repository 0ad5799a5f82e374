"""Charts drawn from results, one PNG beside each JSON: ours black, hnswlib dark blue, the rest in fixed colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench import metrics, results
from bench.rivals import FOREIGN, OURS

__all__ = ["draw", "plain_numbers", "recall_axis"]

SUITES = {
    "recall_qps": "recall against speed, one query per call, one thread",
    "batch": "recall against speed, batch calls",
    "build": "seconds to build on two threads",
    "memory": "resident memory after all queries",
    "compression": "dtypes and codes: bytes, recall, latency",
    "scaling": "growth with the number of rows",
    "reach": "recall that is reached",
    "cold_start": "a fresh process to its first answer",
    "ingest": "durable upserts",
    "durability": "durable upserts beside other stores; a fresh process to its first answer, 128 dimensions",
    "multivector": "token matrices: recall of exact MaxSim's top 10 against speed, one thread; bytes a token",
    "start": "start-up",
}
LEAST_RECALL = 0.85
TICKS = (0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
HIGHEST = 0.9995  # where the recall axis ends: everything above is drawn there


def draw(answer: dict[str, Any]) -> None:
    """Draw a result's chart, if its suite has one."""
    drawers: dict[str, Callable[[dict[str, Any]], None]] = {
        "recall_qps": _curves,
        "batch": _curves,
        "fanns": _filtered,
        "build": _build,
        "memory": _memory,
        "compression": _compression,
        "scaling": _scaling,
        "reach": _reach,
        "cold_start": _cold_start,
        "ingest": _ingest,
        "durability": _durability,
        "start": _start,
        "multivector": _multivector,
    }
    if answer["suite"] in drawers:
        drawers[answer["suite"]](answer)


@contextmanager
def _figure(answer: dict[str, Any], height: float = 5.0, panels: int = 1) -> Iterator[Any]:
    """Axes of a new figure, saved beside the result's JSON."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, panels, figsize=(9, height), squeeze=False)
    yield axes[0] if panels > 1 else axes[0, 0]
    where = " · ".join(part for part in (answer.get("dataset"), answer["machine"]["family_model"]) if part)
    figure.suptitle(f"{SUITES[answer['suite']]}\n{where}", fontsize=10)
    for one in axes[0]:
        one.grid(visible=True, which="major", alpha=0.3)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(results.path(answer, "png"), dpi=130)
    plt.close(figure)


def _style(name: str) -> dict[str, Any]:
    """Line of an engine, the same in every chart."""
    import matplotlib as mpl

    if name in OURS:
        shade = ("black", "dimgrey", "grey", "darkgrey", "silver", "saddlebrown", "sienna", "peru")[OURS.index(name)]
        line = "solid" if name == OURS[0] else "dashed"
        return {"color": shade, "linewidth": 2.6, "zorder": 9, "marker": "o", "linestyle": line}
    if name == "hnswlib":
        return {"color": "navy", "linewidth": 2.2, "zorder": 8, "marker": "s"}
    others = [other for other in FOREIGN if other != "hnswlib"]
    at = others.index(name) if name in others else 0
    shades = [mpl.colormaps["tab20"](i) for i in (*range(14), *range(16, 20))]  # its greys look like ours
    shades += [mpl.colormaps["Dark2"](i) for i in range(7)]
    return {"color": shades[at % len(shades)], "linewidth": 1.2, "marker": "osv^D*Xp<>"[at % 10]}


def _curves(answer: dict[str, Any]) -> None:
    """Recall on an axis that stretches towards 1, QPS on a logarithmic one; the legend in order of speed at .95."""
    curves = {name: result for name, result in answer["engines"].items() if result.get("points")}
    names = sorted(curves, key=lambda name: -(curves[name]["qps_at"]["0.95"] or 0))
    with _figure(answer, height=6) as axes:
        for name in names:
            best = metrics.pareto([(p["recall"], p["qps"]) for p in curves[name]["points"]])
            points = [(min(share, HIGHEST), qps) for share, qps in best]
            axes.plot(*zip(*points, strict=True), markersize=4, label=name, **_style(name))
        recall_axis(axes)
        axes.set_yscale("log")
        plain_numbers(axes.yaxis, minor=True)
        axes.set_xlabel(f"recall@{answer['k']} (axis stretched towards 1)")
        threads = "one thread" if answer["threads"] == 1 else f"{answer['threads']} threads"
        axes.set_ylabel(f"queries per second, {threads}")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _multivector(answer: dict[str, Any]) -> None:
    """Recall against QPS, and QPS at recall .9 against bytes a token."""
    curves = {name: result for name, result in answer["engines"].items() if "failed" not in result}
    with _figure(answer, height=6, panels=2) as (left, right):
        for number, name in enumerate(curves):
            best = metrics.pareto([(p["recall"], p["qps"]) for p in curves[name]["top_10"]["points"]])
            style = {"color": f"C{number % 10}", "marker": "osv^D*Xp"[number // 10 + (0 if "vicinal" in name else 4)]}
            style["linestyle"] = "solid" if "vicinal" in name else "dashed"
            points = [(min(share, HIGHEST), qps) for share, qps in best]
            left.plot(*zip(*points, strict=True), markersize=4, label=name, **style)
            qps = curves[name]["top_10"]["qps_at"]["0.9"]
            if qps:
                right.plot([curves[name]["bytes_each_token"]], [qps], markersize=7, **style)
        left.set_xlabel("recall@10 of exact MaxSim")
        left.set_ylabel("queries per second, one thread")
        right.set_xlabel("bytes a token sent")
        right.set_ylabel("queries per second at recall .90")
        right.set_xscale("log")
        for axes in (left, right):
            axes.set_yscale("log")
            plain_numbers(axes.yaxis, minor=True)
        left.legend(frameon=False, fontsize=7)


def _filtered(answer: dict[str, Any]) -> None:
    from bench.fanns.charts import draw as draw_kinds

    draw_kinds(answer)


def recall_axis(axes: Any) -> None:
    """Equal steps for equal factors of the share that is missed."""
    import numpy as np

    axes.set_xscale(
        "function",
        functions=(lambda x: -np.log10(np.maximum(1.0005 - x, 1e-6)), lambda y: 1.0005 - 10.0 ** (-y)),
    )
    axes.set_xlim(LEAST_RECALL, HIGHEST + 0.0001)
    axes.set_xticks(TICKS, [f"{tick:g}".lstrip("0") for tick in TICKS])


def plain_numbers(axis: Any, *, minor: bool = False) -> None:
    """10k instead of a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    def words(value: float, _: int) -> str:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"

    axis.set_major_formatter(FuncFormatter(words))
    if minor:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(FuncFormatter(words))


def _bars(axes: Any, values: dict[str, float], unit: str, digits: int) -> None:
    """Horizontal bars, least on top, each with its figure."""
    names = sorted(values, key=lambda name: -values[name])
    colours = ["lightsteelblue" if name in FOREIGN else "black" for name in names]
    colours = ["navy" if name == "hnswlib" else colour for name, colour in zip(names, colours, strict=True)]
    bars = axes.barh(names, [values[name] for name in names], color=colours, height=0.7)
    axes.bar_label(bars, labels=[f"{values[name]:,.{digits}f}" for name in names], padding=3, fontsize=8)
    axes.set_xlabel(unit)
    plain_numbers(axes.xaxis)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")


def _ran(answer: dict[str, Any], key: Sequence[Any]) -> dict[str, float]:
    """One figure of each engine that did not fail, found under a path of keys."""
    values = {}
    for name, result in answer["engines"].items():
        if "failed" not in result:
            value: Any = result
            for part in key:
                value = value[part]
            values[name] = float(value)
    return values


def _height(values: dict[str, float]) -> float:
    return 1.6 + 0.3 * len(values)


def _build(answer: dict[str, Any]) -> None:
    values = _ran(answer, ("threads_2", "seconds"))
    with _figure(answer, _height(values)) as axes:
        _bars(axes, values, "seconds", digits=2)


def _memory(answer: dict[str, Any]) -> None:
    values = _ran(answer, ("all",))
    with _figure(answer, _height(values)) as axes:
        _bars(axes, values, "MB", digits=0)
        alone = f"the vectors alone: {answer['vectors_mb']:,.0f} MB"
        axes.axvline(answer["vectors_mb"], color="crimson", linestyle="--", linewidth=1, label=alone)
        axes.legend(frameon=False, fontsize=8, loc="upper right")


def _cold_start(answer: dict[str, Any]) -> None:
    values = _ran(answer, ("seconds", 1))
    with _figure(answer, _height(values)) as axes:
        _bars(axes, values, "seconds, median", digits=2)


def _compression(answer: dict[str, Any]) -> None:
    """Bytes a vector takes on disk and in memory on the left, latency against recall on the right."""
    options = answer["engines"]
    with _figure(answer, height=6, panels=2) as (left, right):
        for at, (name, told) in enumerate(options.items()):
            left.barh(at, told["ram_mb"]["all"], height=0.35, color="black")
            left.barh(at + 0.35, told["disk_mb"], height=0.35, color="silver")
            right.scatter(told["recall"], told["microseconds"][1], color="black", s=18)
            right.annotate(name, (told["recall"], told["microseconds"][1]), fontsize=7, xytext=(3, 3),
                           textcoords="offset points")  # fmt: skip
        left.set_yticks(range(len(options)), list(options), fontsize=8)
        left.invert_yaxis()
        left.set_xlabel("MB: resident after all queries (black), on disk (grey)")
        right.set_xlabel(f"recall@{answer['k']} at the default ef")
        right.set_ylabel("microseconds a query, median")


def _scaling(answer: dict[str, Any]) -> None:
    """Distances per query on the left, build time per row on the right, both against n."""
    with _figure(answer, panels=2) as (left, right):
        for name, points in answer["engines"].items():
            known = [(p["n"], p["distances"]) for p in points if p["distances"]]
            if known:
                left.plot(*zip(*known, strict=True), label=name, **_style(name))
            times = [(p["n"], 1e6 * p["build_seconds"] / p["n"]) for p in points]
            right.plot(*zip(*times, strict=True), label=name, **_style(name))
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            sizes = [point["n"] for point in answer["engines"]["vicinal"]]
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45, ha="right")
            axes.minorticks_off()
            axes.set_xlabel("rows")
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, fontsize=8)
        left.set_ylabel(f"rows compared per query at recall {answer['recall']}")
        right.set_ylabel("build time, µs a row")


def _reach(answer: dict[str, Any]) -> None:
    with _figure(answer) as axes:
        for name, result in answer["engines"].items():
            points = [(p["distances"], p["recall"]) for p in result["points"]]
            label = f"{name}: at most {result['highest_recall']:.4f}"
            axes.plot(*zip(*points, strict=True), label=label, **_style(name))
        axes.set_xscale("log")
        plain_numbers(axes.xaxis, minor=True)
        axes.set_xlabel("rows compared per query")
        axes.set_ylabel("recall@10, equally near rows count")
        axes.set_ylim(top=1.005)
        axes.legend(frameon=False, fontsize=8, loc="lower right")


def _ingest(answer: dict[str, Any]) -> None:
    rates = {f"callers: {count}": answer[f"callers_{count}"]["points_per_second"] for count in (1, 2)}
    with _figure(answer, 2.4) as axes:
        _bars(axes, rates, "points per second, acknowledged", digits=0)


def _durability(answer: dict[str, Any]) -> None:
    """Points per second by store and dimension on the left, recovery against points on the right."""
    import numpy as np

    stores = {name: told for name, told in answer["ingest"]["128"].items() if "mode" in told}
    colours = {"vicinal": "black", "lancedb": "lightsteelblue", "lancedb-synced": "steelblue"}
    with _figure(answer, height=5, panels=2) as (left, right):
        dims = list(answer["ingest"])
        width = 0.8 / len(stores)
        for number, name in enumerate(stores):
            rates = [answer["ingest"][dim][name]["points_per_second"][1] for dim in dims]
            places = np.arange(len(dims)) + width * (number - (len(stores) - 1) / 2)
            left.bar(places, rates, width * 0.9, label=name, color=colours.get(name, f"C{number}"))
        left.set_xticks(range(len(dims)), [f"{dim} dimensions" for dim in dims])
        left.set_ylabel("points per second, acknowledged")
        plain_numbers(left.yaxis)
        points = [int(count) for count in answer["recovery"]]
        for key, words, line in (("clean", "after a clean close", "solid"), ("killed", "after kill -9", "dashed")):
            times = [told[f"{key}_seconds"][1] for told in answer["recovery"].values()]
            right.plot(points, times, color="black", marker="o", linestyle=line, label=words)
        right.set_ylim(bottom=0)
        right.set_xlabel("points")
        right.set_ylabel("seconds, median")
        plain_numbers(right.xaxis)
        for axes in (left, right):
            axes.legend(frameon=False, fontsize=8)


def _start(answer: dict[str, Any]) -> None:
    names = {
        "import_seconds": "import",
        "first_answer_cached_seconds": "first answer, kernels cached",
        "first_answer_empty_cache_seconds": "first answer, empty cache",
        "coded_first_answer_cached_seconds": "20,000 points on codes, kernels cached",
        "coded_first_answer_empty_cache_seconds": "20,000 points on codes, empty cache",
    }
    with _figure(answer, 3.2) as axes:
        _bars(axes, {words: answer[key][1] for key, words in names.items()}, "seconds, median", digits=3)
