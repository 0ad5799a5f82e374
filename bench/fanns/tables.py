"""Tables of filtered search: every cell, and regret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.fanns.engines import METHODS, OURS, RIVALS
from bench.fanns.regret import BY_TEXT, PLANNER, best_of
from bench.tables import Table

__all__ = ["cells", "columns_cost", "masks", "scans", "summary"]

_SCAN_RIVAL = "faiss-ivfpqfs"


def masks(answer: dict[str, Any]) -> Table:
    """One row per filter: its matches, and median microseconds of their estimate and of their bitmap."""
    rows = [
        (name, f"{told['matches']:,}", f"{told['estimate_us'][1]:,.1f}", f"{told['bitmap_us'][1]:,.1f}")
        for name, told in answer["filters"].items()
    ]
    head = ("filter", "matches", "estimate, µs", "bitmap, µs")
    return Table(head, rows, (f"{answer['slots']:,} slots, {answer['column_bytes'] / 1e6:,.0f} MB of columns",))


def scans(answer: dict[str, Any]) -> Table:
    """One row per share and way at recall .95 with the bitmap given, and the ratio to the rival of its share."""
    rows = []
    for share, ways in answer["shares"].items():
        rival = ways.get(_SCAN_RIVAL, {}).get("qps")
        for name, told in sorted((way for way in ways.items() if way[1].get("qps")), key=lambda way: -way[1]["qps"]):
            ratio = f"{told['qps'] / rival:.2f}" if rival else "-"
            whose = name if name == _SCAN_RIVAL else f"vicinal {name}"
            rows.append((whose, f"{100 * float(share):g} %", f"{told['recall']:.3f}", f"{told['qps']:,.0f}", ratio))
    return Table(("way", "share of rows", "recall", "QPS", f"of {_SCAN_RIVAL}"), rows)


def columns_cost(answer: dict[str, Any]) -> Table:
    """Queries per second with and without payload columns, and the ratio within rounds."""
    low, middle, high = answer["ratio"]
    rows = [(name, f"{told['qps'][1]:,.0f}", "") for name, told in answer["engines"].items()]
    rows.append(("ratio, median of rounds", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"))
    return Table(("collection", "QPS", "quartiles"), rows, (f"ef {answer['ef']}, {answer['rounds']} rounds",))


def cells(answer: dict[str, Any]) -> Table:
    """One row per cell: ours with default settings and at recall .95, the best single method, the best rival."""
    rows = []
    for name, told in answer["cells"].items():
        engines, regret = told["engines"], answer["regret"]["cells"][name]
        ours = engines.get(PLANNER, {})
        row = [name, told["kind"], _selectivity(engines), _speed(ours.get("default")), _speed(ours.get("fastest"))]
        row.append(_speed(engines.get(BY_TEXT, {}).get("default")))
        for among, key in ((METHODS, "regret_fastest"), (RIVALS, "kernel_to_rival_fastest")):
            best = best_of(engines, among)
            row += ["-" if best is None else f"{best[1]:,.0f} {best[0]}", _ratio(regret.get(key))]
        row += [_ratio(regret.get("collection_to_rival_fastest")), _tail(ours)]
        rows.append(tuple(row))
    head = (
        "filter", "kind", "selectivity", "QPS (recall), default", "at .95", "collection, default", "best method",
        "regret", "best rival", "kernel / rival", "collection / rival", "queries below .8",
    )  # fmt: skip
    return Table(head, rows, _notes(answer))


def summary(answers: Sequence[dict[str, Any]]) -> Table:
    """One row per data set: regret, the least lead over the best rival, and the promises."""
    rows = []
    for answer in answers:
        regret = answer["regret"]
        told = regret["summary"]["fastest"] or regret["summary"]["default"]
        spread = "-" if told is None else f"{told['median']:.2f} / {told['p90']:.2f} / {told['max']:.2f}"
        leads = [_lead(regret["cells"], key) for key in ("kernel_to_rival_fastest", "collection_to_rival_fastest")]
        rows.append((f"{answer['dataset']}, {len(answer['cells'])} cells", spread, *leads, *_promises(answer)))
    head = (
        "data set", "regret: median / 90 % / max", "kernel / best rival: least, median", "collection / best rival",
        "least default recall", "most queries below .8, default", "full answers", "false positives",
    )  # fmt: skip
    return Table(head, rows)


def _speed(point: dict[str, Any] | None) -> str:
    return "-" if point is None else f"{point['qps']:,.0f} ({point['recall']:.3f})"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _tail(ours: dict[str, Any]) -> str:
    point = ours.get("default") or ours.get("fastest")
    return "-" if point is None else f"{100 * point['below_08']:.1f} %, {100 * point['at_0']:.1f} % at 0"


def _selectivity(engines: dict[str, Any]) -> str:
    known = [e[key]["selectivity"] for e in engines.values() for key in ("default", "fastest") if key in e]
    return f"{max(known):.2g}" if known else "-"


def _lead(told: dict[str, Any], key: str) -> str:
    values = sorted(one[key] for one in told.values() if key in one)
    return f"{values[0]:.2f}, {values[len(values) // 2]:.2f}" if values else "-"


def _promises(answer: dict[str, Any]) -> tuple[str, ...]:
    """Over every cell and each of ours, methods left out; the share below .8 where nothing was tuned to a recall."""
    points, untuned = (
        [
            engines[name][key]
            for engines in (told["engines"] for told in answer["cells"].values())
            for name in OURS
            for key in keys
            if key in engines.get(name, {})
        ]
        for keys in (("default", "fastest"), ("default",))
    )
    defaults = [
        told["engines"][PLANNER]["default"]["recall"]
        for told in answer["cells"].values()
        if "default" in told["engines"].get(PLANNER, {})
    ]
    if not points or not defaults:
        return ("-",) * 4
    return (
        f"{min(defaults):.3f}",
        f"{100 * max(point['below_08'] for point in untuned):.1f} %",
        f"{100 * min(point['full'] for point in points):.1f} %",
        str(sum(point["false_positives"] for point in points)),
    )


def _notes(answer: dict[str, Any]) -> list[str]:
    notes = [f"{answer['queries']} queries, medians of {answer['rounds']} rounds, the filter evaluated in every call"]
    for key, told in answer["regret"]["summary"].items():
        if told is not None:
            spread = f"median {told['median']:.2f}, 90 % {told['p90']:.2f}, max {told['max']:.2f}"
            notes.append(f"regret of the planner ({key} settings) over {told['cells']} cells: {spread}")
    built = {n: f for n, f in answer["engines"].items() if "failed" not in f}
    notes += [
        f"{name}: built in {facts['seconds']:,.1f} s on {facts['threads']} threads"
        + (f", {facts['bytes'] / 1e6:,.0f} MB" if facts.get("bytes") else "")
        for name, facts in built.items()
    ]
    return notes + [f"{n}: left out, {f['failed']}" for n, f in answer["engines"].items() if "failed" in f]
