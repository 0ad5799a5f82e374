"""What was asked of the engine, and what the kept results say, as one table for the report and docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.commands import result_of
from bench.fanns import goals as filtered
from bench.metrics import RECALLS
from bench.multi import goals as multi
from bench.tables import Table

__all__ = ["goals"]

Read = Callable[[dict[str, Any]], tuple[float, str]]

_UNSYNCED = ("lancedb",)  # stores that sync nothing of what they acknowledge


class _Goal(NamedTuple):
    """One figure: the name of its command, what it is, what was asked, and how it is read from a result."""

    figure: str
    what: str
    asked: str
    met: Callable[[float], bool]
    read: Read


def goals() -> Table:
    """Every figure with its command, asked and measured; '-' where no result is kept."""
    rows = []
    for goal in _all():
        answer = result_of(goal.figure)
        told, met = "-", "-"
        if answer is not None:
            try:
                value, told = goal.read(answer)
                met = "yes" if goal.met(value) else "no"
            except (KeyError, TypeError, ValueError):  # an engine that this result lacks
                pass
        rows.append((goal.what, goal.asked, told, met, f"`{goal.figure}`"))
    return Table(("what", "asked", "measured", "met", "figure"), rows)


def _most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def _least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


def _all() -> Iterator[_Goal]:
    yield from _speed()
    yield from _built()
    yield from _memory()
    yield from _durable()
    yield from _others()
    yield from _matrices()


def _matrices() -> Iterator[_Goal]:
    """Multi-vector search."""
    for figure, rival, least, name in (
        ("multi-100k", "muvera-hnswlib", 10, "MUVERA as published, 100,000 documents"),
        ("multi-100k", "fast-plaid", 5, "fast-plaid, 100,000 documents"),
        ("multi-lotte", "muvera-hnswlib", 10, "MUVERA as published, LoTTE"),
        ("multi-lotte", "fast-plaid", 5, "fast-plaid, LoTTE"),
    ):
        yield _Goal(figure, f"token matrices: QPS against {name}", f"{least} x", _least(least), multi.against(rival))
    name = "token matrices: top 10 of exact MaxSim"
    yield _Goal("multi-lotte", f"{name} with 25 candidates, LoTTE", "0.95", _least(0.95), multi.found_with(25))
    yield _Goal("multi-100k", f"{name}, .95 of it, 100,000 documents", "5 ms", _most(5), multi.milliseconds(0.95))
    for engine, most in (("vicinal", 150), ("vicinal-fde-1", 150), ("vicinal-bit", 40), ("vicinal-pooled", 40)):
        what = f"token matrices: bytes a token, {engine}"
        yield _Goal("multi-100k", what, f"{most} B", _most(most), multi.bytes_each(engine))
    for bits, loss in ((1, 0.04), (4, 0.005)):
        what = f"encodings of {bits} bit against float32, recall of 100 candidates lost"
        yield _Goal("multi-cranfield", what, f"{loss:g}", _most(loss), multi.lost(bits))
    apart = multi.fact("vicinal-fde-32", "apart_from_google", "{:.1e}")
    what = "encodings: largest difference from Google's, 200 configurations"
    yield _Goal("multi-lotte", what, "1e-5", _most(1e-5), apart)
    encode = multi.fact("vicinal-fde-1", "encode_ms", "{:.3f} ms")
    yield _Goal("multi-lotte", "encoding a document of 96 tokens", "0.2 ms", _most(0.2), encode)
    for key, limit, where in (("maxsim_cached_us", 2, "in cache"), ("maxsim_us", 3, "from memory")):
        what = f"int8 MaxSim of 32 x 80 tokens, {where}"
        yield _Goal("multi-lotte", what, f"{limit} µs", _most(limit), multi.fact("vicinal-exact", key, "{:.2f} µs"))


def _speed() -> Iterator[_Goal]:
    for suite, what in (("speed", "one thread"), ("batch", "batch, 2 threads")):
        for width in ("384", "784", "50", "128") if suite == "speed" else ("384", "784"):
            ours = "vicinal" if suite == "speed" else "vicinal-index"
            for recall in map(str, RECALLS):
                name = f"{what}, {width}-d, recall {recall}"
                read = _to_fastest(ours, recall)
                yield _Goal(f"{suite}-{width}", name, "2 x the fastest rival", _least(2), read)


def _built() -> Iterator[_Goal]:
    for width in ("384", "784", "50"):
        for ours, part in (("vicinal", 0.1), ("vicinal-cells", 0.04)):
            name = f"{'cells' if part < 0.1 else 'graph'} build, 2 threads, {width}-d"
            yield _Goal(f"build-{width}", name, f"{part} of hnswlib's time", _most(part), _build(ours))


def _memory() -> Iterator[_Goal]:
    for width in ("384", "784"):
        for ours, key, part, name in (
            ("vicinal-opened", "anonymous_to_hnswlib", 0.5, "RAM opened from disk, pages of files aside"),
            ("vicinal-opened", "ratio_to_hnswlib", 0.5, "RAM opened from disk, pages of files too"),
            ("vicinal-index", "anonymous_to_hnswlib", 0.7, "RAM of Index, pages of files aside"),
            ("vicinal", "ratio_to_hnswlib", 1.6, "RAM with float32 resident"),
        ):
            yield _Goal(f"memory-{width}", f"{name}, {width}-d", f"{part} of hnswlib", _most(part), _part(key, ours))


def _durable() -> Iterator[_Goal]:
    for key, most, name in (("clean", 2.0, "clean close"), ("killed", 3.0, "kill with a tail of 20,000")):
        what = f"first answer of 100,000 x 128 after a {name}"
        yield _Goal("durability", what, f"{most:g} s", _most(most), _recovered(key))
    for dim in ("128", "384", "1536"):
        for which, left_out in (("", ()), (" that syncs", _UNSYNCED)):
            what = f"durable ingest, {dim}-d"
            yield _Goal("durability", what, f"more than the fastest store{which}", _least(1), _ingested(dim, left_out))


def _others() -> Iterator[_Goal]:
    for name, most in (("Index.knn_query", 2.0), ("Collection.query", 6.0)):
        yield _Goal(
            "overhead", f"what {name} adds to the kernel", f"{most:g} µs", _most(most), _middle(name, "added_us")
        )
    yield _Goal("growth", "distances per doubling of n, ours and HNSW's", "no more than HNSW's", _most(0), _slopes)
    for figure in ("384", "784", "50", "128", "copies", "islands"):
        yield _Goal(f"reach-{figure}", f"recall reachable, {figure}", "0.995", _least(0.995), _highest)
    for key, most, name in (("one_us", 250.0, "one by one"), ("batch_us", 130.0, "in batches of 100")):
        yield _Goal("insert", f"additions {name}, a row", f"{most:g} µs", _most(most), _middle("vicinal-index", key))
    for key, most, name in (
        ("coded_first_answer_cached_seconds", 1.2, "first answer of a fresh process"),
        ("coded_first_answer_empty_cache_seconds", 15.0, "the same with an empty cache"),
        ("import_seconds", 0.2, "import vicinal, beyond numpy"),
    ):
        yield _Goal("start", name, f"{most:g} s", _most(most), _seconds(key))
    for key, most, name in (("estimate_us", 50.0, "estimate"), ("bitmap_us", 300.0, "bitmap")):
        yield _Goal("masks", f"{name} of two clauses over 1M slots", f"{most:g} µs", _most(most), _slowest(key))
    yield _Goal("columns", "QPS without a filter, columns present", "0.95 of that without", _least(0.95), _share)
    for width in ("384", "784", "50"):
        name = f"recall@10 that codec auto loses, {width}-d"
        yield _Goal(f"compression-{width}", name, "0.005", _most(0.005), _lost)
    for width in ("384", "784", "96"):
        for one in filtered.asked():
            met = _most(one.limit) if one.most else _least(one.limit)
            yield _Goal(f"fanns-{width}", f"filters, {width}-d: {one.what}", one.words, met, one.read)


def _slowest(key: str) -> Read:
    """The slowest conjunction of two, areas aside."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        asked = {name: told for name, told in answer["filters"].items() if "AND" in name and "radius" not in name}
        name, told = max(asked.items(), key=lambda item: float(item[1][key][1]))
        return told[key][1], f"{told[key][1]:.1f} µs ({name})"

    return read


def _to_fastest(ours: str, recall: str) -> Read:
    def read(answer: dict[str, Any]) -> tuple[float, str]:
        facts = answer["ratios"][recall]
        ratio = facts["to_fastest_rival"][ours]
        low, high = facts["to_fastest_rival_quartiles"][ours]
        return ratio, f"{ratio:.2f} x {facts['fastest_rival']} ({low:.2f} to {high:.2f})"

    return read


def _build(ours: str) -> Read:
    def read(answer: dict[str, Any]) -> tuple[float, str]:
        ratio = answer["ratio_to_hnswlib"][ours]["threads_2"]
        return ratio, f"{ratio:.3f} ({answer['engines'][ours]['threads_2']['seconds']:.2f} s)"

    return read


def _part(key: str, ours: str) -> Read:
    return lambda answer: (answer[key][ours], f"{answer[key][ours]:.2f}")


def _middle(engine: str, key: str) -> Read:
    def read(answer: dict[str, Any]) -> tuple[float, str]:
        low, middle, high = answer["engines"][engine][key]
        return middle, f"{middle:.2f} µs ({low:.2f} to {high:.2f})"

    return read


def _slopes(answer: dict[str, Any]) -> tuple[float, str]:
    """How far our slope lies above HNSW's."""
    ours, theirs = (answer["slope"][name]["distances_per_doubling"] for name in ("vicinal", "faiss-hnsw"))
    return ours - theirs, f"{ours:.0f} and {theirs:.0f}"


def _highest(answer: dict[str, Any]) -> tuple[float, str]:
    """The best of codes and, where a collection walks on floats, of its links."""
    best = {name: answer["engines"][name]["highest_recall"] for name in ("vicinal", "vicinal-links")}
    return max(best.values()), f"{best['vicinal']:.4f} on codes, {best['vicinal-links']:.4f} on floats"


def _share(answer: dict[str, Any]) -> tuple[float, str]:
    low, middle, high = answer["ratio"]
    return middle, f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _seconds(key: str) -> Read:
    return lambda answer: (answer[key][1], f"{answer[key][1]:.2f} s")


def _recovered(kind: str) -> Read:
    """Of the openings of the largest collection, that which 95 of 100 do not exceed."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        told = answer["recovery"]["100000"]
        slow = told[f"{kind}_p95"]
        return slow, f"{slow:.2f} s, p95 (median {told[f'{kind}_seconds'][1]:.2f})"

    return read


def _ingested(dim: str, left_out: tuple[str, ...]) -> Read:
    """Our points per second in terms of the fastest other store's, but for some."""

    def read(answer: dict[str, Any]) -> tuple[float, str]:
        stores = {name: told for name, told in answer["ingest"][dim].items() if "mode" in told and name not in left_out}
        rates = {name: told["points_per_second"][1] for name, told in stores.items()}
        ours = rates.pop("vicinal")
        best = max(rates, key=lambda name: rates[name])
        return ours / rates[best], f"{ours / rates[best]:.2f} x {best} ({ours:,.0f} points/s)"

    return read


def _lost(answer: dict[str, Any]) -> tuple[float, str]:
    lost = answer["engines"]["float32, auto"]["codec"]["recall_lost"]
    return lost, f"{lost:.4f}"
