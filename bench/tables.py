"""Tables made from results, one function per suite; every figure is read from the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.metrics import RECALLS

__all__ = [
    "Table",
    "build",
    "cold_start",
    "compression",
    "durability",
    "ingest",
    "insert",
    "memory",
    "multivector",
    "overhead",
    "reach",
    "recovery",
    "scaling",
    "speed",
    "start",
    "summary",
]

COLUMNS = tuple(map(str, RECALLS))


class Table(NamedTuple):
    """A head, rows of words, and notes that stand below."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _failures(engines: dict[str, Any]) -> list[str]:
    return [f"{name}: left out, {result['failed']}" for name, result in engines.items() if "failed" in result]


def _ran(engines: dict[str, Any]) -> dict[str, Any]:
    return {name: result for name, result in engines.items() if "failed" not in result}


def speed(answer: dict[str, Any]) -> Table:
    """QPS of every engine at each recall with its ratio to hnswlib, fastest at .95 first."""
    engines = _ran(answer["engines"])
    rows = []
    for name in sorted(engines, key=lambda name: -(engines[name]["qps_at"]["0.95"] or 0)):
        cells = [name]
        for column in COLUMNS:
            ratio = answer["ratios"][column]["to_hnswlib"].get(name)
            cells += [_number(engines[name]["qps_at"][column]), _number(ratio, 2)]
        rows.append(tuple(cells))
    head = ["engine"]
    for column in COLUMNS:
        head += [f"QPS at {column}", "x hnswlib"]
    return Table(tuple(head), rows, [_best(answer), *_failures(answer["engines"])])


def _ours(answer: dict[str, Any]) -> str:
    """The engine that stands for us: the index itself, or vicinal.Index, which has the batch call."""
    return "vicinal" if "points" in answer["engines"].get("vicinal", {}) else "vicinal-index"


def _best(answer: dict[str, Any]) -> str:
    words = []
    for column in COLUMNS:
        facts = answer["ratios"][column]
        ours = facts["to_fastest_rival"].get(_ours(answer))
        spread = facts.get("to_fastest_rival_quartiles", {}).get(_ours(answer))
        between = f" (quartiles {spread[0]:.2f} to {spread[1]:.2f})" if spread else ""
        words.append(f"{column}: {_number(ours, 2)} x {facts['fastest_rival']}{between}")
    return f"{_ours(answer)} in terms of the fastest rival at {'; '.join(words)}"


def summary(answers: Sequence[dict[str, Any]]) -> Table:
    """One row per data set: ours at each recall, in hnswlib's and in the fastest rival's."""
    rows = []
    for answer in answers:
        cells = [answer["dataset"]]
        for column in COLUMNS:
            facts, qps = answer["ratios"][column], answer["engines"][_ours(answer)]["qps_at"][column]
            to_hnswlib = _number(facts["to_hnswlib"].get(_ours(answer)), 1)
            to_best = _number(facts["to_fastest_rival"].get(_ours(answer)), 2)
            cells.append(f"{_number(qps)} ({to_hnswlib} x hnswlib, {to_best} x {facts['fastest_rival']})")
        rows.append(tuple(cells))
    return Table(("data set", *(f"recall {column}" for column in COLUMNS)), rows)


def build(answer: dict[str, Any]) -> Table:
    """Seconds on two threads, and on one where that was measured, with ratios to hnswlib; fastest first."""
    ratios = answer["ratio_to_hnswlib"]
    engines = _ran(answer["engines"])
    rows = [
        (
            name,
            *(
                cell
                for key in ("threads_2", "threads_1")
                for cell in (
                    _number(result.get(key, {}).get("seconds"), 2),
                    _number(ratios.get(name, {}).get(key), 3),
                )
            ),
        )
        for name, result in sorted(engines.items(), key=lambda item: item[1]["threads_2"]["seconds"])
    ]
    head = ("engine", "2 threads, s", "x hnswlib", "1 thread, s", "x hnswlib")
    return Table(head, rows, _failures(answer["engines"]))


def memory(answer: dict[str, Any]) -> Table:
    """MB by kind, and what all and the anonymous ones are in terms of all of hnswlib's."""
    ratios = answer["ratio_to_hnswlib"], answer.get("anonymous_to_hnswlib", {})
    rows = [
        (
            name,
            *(_number(result[part]) for part in ("all", "anonymous", "files")),
            *(_number(ratio.get(name), 2) for ratio in ratios),
        )
        for name, result in _ran(answer["engines"]).items()
    ]
    notes = [
        f"the vectors alone are {answer['vectors_mb']:,.0f} MB",
        "pages of mapped files go when others need the memory",
        *_failures(answer["engines"]),
    ]
    return Table(("engine", "MB", "anonymous", "mapped files", "x hnswlib", "anonymous alone"), rows, notes)


def compression(answer: dict[str, Any]) -> Table:
    """Bytes, recall, latency and build time of every dtype and code."""
    rows = [
        (
            name,
            told["codec"]["chosen"],
            _number(told["row_bytes"]),
            _number(told["codec"]["bytes_per_vector"]),
            _number(told["disk_mb"]),
            _number(told["ram_mb"]["all"]),
            _number(told["recall"], 3),
            _number(told["microseconds"][1], 1),
            _number(told["build_seconds"], 1),
        )
        for name, told in answer["engines"].items()
    ]
    head = ("dtype, codec", "code", "B a vector", "B links + code", "disk MB", "RAM MB", "recall@10", "µs", "build s")
    return Table(head, rows, [f"the vectors as float32 are {answer['vectors_mb']:,.0f} MB"])


def scaling(answer: dict[str, Any]) -> Table:
    """Distances per query and build time per row by n, and slopes."""
    rows = []
    for name, points in answer["engines"].items():
        for point in points:
            per_row = point["build_seconds"] / point["n"] * 1e6
            rows.append((name, _number(point["n"]), _number(point["distances"]), _number(per_row, 1)))
    slopes = [
        f"{name}: {slope['distances_per_doubling']:,.0f} more distances per doubling of n,"
        f" {slope['percent_per_doubling']:.0f} %"
        for name, slope in answer["slope"].items()
    ]
    return Table(("engine", "rows", f"distances at recall {answer['recall']}", "build, µs a row"), rows, slopes)


def reach(answer: dict[str, Any]) -> Table:
    """Give the highest recall of each engine, at which setting, with how many distances."""
    rows = []
    for name, result in answer["engines"].items():
        at = next(point for point in result["points"] if point["setting"] == result["at_setting"])
        rows.append((name, f"{result['highest_recall']:.4f}", str(result["at_setting"]), _number(at["distances"])))
    return Table(("engine", "highest recall", "at ef", "distances"), rows)


def cold_start(answer: dict[str, Any]) -> Table:
    """Median seconds in all, of opening, and of the first query."""
    rows = [
        (name, *(_number(result[part][1], 3) for part in ("seconds", "open", "first_query")))
        for name, result in _ran(answer["engines"]).items()
    ]
    return Table(("engine", "to first answer, s", "opening", "first query"), rows, _failures(answer["engines"]))


def overhead(answer: dict[str, Any]) -> Table:
    """Median microseconds of the kernel, of the API, and of what it adds, with quartiles."""
    rows = []
    for name, result in answer["engines"].items():
        low, added, high = result["added_us"]
        cells = (_number(result[part][1], 2) for part in ("kernel_us", "api_us"))
        rows.append((f"vicinal {name}", *cells, _number(added, 2), f"{low:.2f} to {high:.2f}"))
    return Table(("call", "kernel, µs", "call, µs", "added, µs", "quartiles"), rows, (f"ef {answer['ef']}",))


def insert(answer: dict[str, Any]) -> Table:
    """Median microseconds a row, one by one and in batches of 100, and recall after."""
    rows = [
        (
            name,
            *(_number(result[part][1]) for part in ("one_us", "batch_us")),
            f"{result['recall_after_at_ef_200']:.4f}",
        )
        for name, result in answer["engines"].items()
    ]
    head = ("engine", "one by one, µs a row", "batches of 100, µs a row", "recall after, ef 200")
    return Table(head, rows, (f"into {answer['built']:,} rows, one thread",))


def ingest(answer: dict[str, Any]) -> Table:
    """Points per second until acknowledged, one caller and two."""
    rows = [
        (f"{count} at once", _number(part["points_per_second"]), f"{part['recall_right_after']:.3f}")
        for count in (1, 2)
        for part in [answer[f"callers_{count}"]]
    ]
    return Table(("callers", "points per second, durable", "recall right after"), rows)


def durability(answer: dict[str, Any]) -> Table:
    """Points per second, bytes written and kept of each store by dimension; notes tell its mode."""
    rows, notes = [], []
    for dim, stores in answer["ingest"].items():
        notes += [f"{dim} dimensions: {note}" for note in _failures(stores)]
        for store, told in _ran(stores).items():
            raw = int(dim) * 4
            cells = (_number(told["points_per_second"][1]), _number(told["settled_seconds"][1], 2))
            kept = [f"{_number(told[key])} ({told[key] / raw:.2f})" for key in ("written_per_point", "disk_per_point")]
            rows.append((f"{store}, {dim} dimensions", *cells, *kept))
    for store, told in _ran(answer["ingest"]["128"]).items():
        notes.append(f"{store} {told['version']}: {told['mode']}")
    written = "bytes written a point (x its vector)"
    head = ("store", "points per second", "s until indexed", written, "bytes on disk a point (x)")
    return Table(head, rows, notes)


def recovery(answer: dict[str, Any]) -> Table:
    """Seconds from opening to the first answer by points, after a clean close and after a kill; closing; snapshots."""
    rows = []
    for points, told in answer["recovery"].items():
        times = [f"{told[f'{kind}_seconds'][1]:.2f} ({told[f'{kind}_p95']:.2f})" for kind in ("clean", "killed")]
        saved = f"{told['snapshot_seconds']:.2f} ({told['snapshot_bytes'] / int(points):,.0f})"
        cells = (times[0], times[1], f"{told['tail']:,.0f}", _number(told["close_seconds"], 3), saved)
        rows.append((f"{int(points):,} x 128", *cells))
    clean, killed = "first answer after a clean close, s (p95)", "after a kill, s (p95)"
    return Table(("points", clean, killed, "of them in no graph", "close, s", "graph saved, s (bytes a point)"), rows)


def start(answer: dict[str, Any]) -> Table:
    """Median seconds of import and of the first answer."""
    names = {
        "import_seconds": "import vicinal, beyond numpy",
        "first_answer_cached_seconds": "first answer of a fresh process, kernels cached",
        "first_answer_empty_cache_seconds": "the same with an empty cache",
        "coded_first_answer_cached_seconds": "from 20,000 points on codes, kernels cached",
        "coded_first_answer_empty_cache_seconds": "the same with an empty cache",
    }
    return Table(("start-up", "seconds"), [(words, _number(answer[key][1], 3)) for key, words in names.items()])


def multivector(answer: dict[str, Any]) -> Table:
    """QPS at recalls of exact MaxSim's top 10 and top 100, judges' measures, bytes and build time."""
    engines = _ran(answer["engines"])
    rows = []
    for name in sorted(engines, key=lambda name: -(engines[name]["top_10"]["qps_at"]["0.95"] or 0)):
        result = engines[name]
        qps = [result[depth]["qps_at"][recall] for depth in ("top_10", "top_100") for recall in ("0.9", "0.95")]
        last = result["top_100"]["points"][-1] if result["top_100"]["points"] else {}
        judged = [last.get("ndcg_10"), last.get("judged_recall")]
        cells = [_number(value) for value in qps] + [_number(value, 3) for value in judged]
        rows.append((name, *cells, _number(result["bytes_each_token"], 1), _number(result["build_seconds"], 1)))
    head = tuple(f"QPS, {recall} of top {depth}" for depth in (10, 100) for recall in (".90", ".95"))
    rest = ("nDCG@10", "recall@100 of judged", "bytes a token sent", "build, s")
    return Table(("engine", *head, *rest), rows, _failures(answer["engines"]))
