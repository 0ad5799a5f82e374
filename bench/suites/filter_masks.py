"""Filters over a million slots, no vectors: how long the estimate of the matches takes, and their bitmap.

One process, one thread. Each round asks every filter several times and keeps the median; no bitmap is kept between
calls, and the parsed tree is given, as a text that came before is. The columns are sorted, as they are after a load.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench import metrics
from bench.kept import Kept
from bench.locks import Turns
from vicinal.filter import Columns, Filter, cardinality, count_bits, evaluate, parse_filter
from vicinal.types import PointId

__all__ = ["run"]

SLOTS = 1_000_000
BLOCK = 50_000
REPEATS = 15
SEED = 1
FILTERS = {
    "keyword, frequent": "topic = 'k1'",
    "keyword, rare": "topic = 'k150'",
    "three keywords": "topic in ('k1', 'k2', 'k150')",
    "boolean": "open = true",
    "integer, 50 %": "number between 200000 and 700000",
    "integer, 1 %": "number between 200000 and 210000",
    "a thousand integers": f"number in ({', '.join(map(str, range(0, 1_000_000, 1_000)))})",
    "year": "year = 2000",
    "years": "year >= 2010",
    "float": "price < 20",
    "datetime": "day between '2010-01-01' and '2015-05-05'",
    "element of a list": "tags = 't5'",
    "one of three elements": "tags in ('t5', 't6', 't7')",
    "radius of 50 km": "geo_radius(at, (10, 50), 50000)",
    "radius of 5,000 km": "geo_radius(at, (10, 50), 5000000)",
    "box": "geo_bounding_box(at, (-20, 60), (100, -10))",
    "missing key": "absent is empty",
    "NOT keyword": "not topic = 'k1'",
    "keyword AND integers": "topic = 'k1' and number between 200000 and 700000",
    "keyword AND years": "topic = 'k3' and year >= 2010",
    "integers AND floats": "number between 200000 and 210000 and price < 20",
    "element AND datetimes": "tags = 't5' and day > '2010-01-01'",
    "integers AND NOT element": "number < 500000 and not tags = 't5'",
    "keyword OR integers": "topic = 'k1' or number < 100000",
    "radius of 5,000 km AND keyword": "geo_radius(at, (10, 50), 5000000) and topic = 'k1'",
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds by filter."""
    columns, built = _columns()
    trees = {name: _tree(text) for name, text in FILTERS.items()}
    kept = Kept(options)
    found: dict[str, dict[str, Any]] = {name: {"filter": text} for name, text in FILTERS.items()}
    runs: dict[str, dict[str, list[float]]] = {name: {"estimate": [], "bitmap": []} for name in FILTERS}
    with Turns(options.lock, options.hold) as turns:
        for _ in range(options.rounds):
            turns.take()
            for name, tree in trees.items():
                runs[name]["estimate"].append(_median(partial(cardinality, tree, columns, SLOTS)))
                runs[name]["bitmap"].append(_median(partial(evaluate, tree, columns, _no_ids, SLOTS)))
    for name, tree in trees.items():
        found[name] |= {f"{what}_us": metrics.quartiles(seconds) for what, seconds in runs[name].items()}
        found[name]["matches"] = count_bits(evaluate(tree, columns, _no_ids, SLOTS))
        found[name]["estimated"] = cardinality(tree, columns, SLOTS)._asdict()
        print(name, {key: round(found[name][key][1], 1) for key in ("estimate_us", "bitmap_us")}, flush=True)
    kept.done()
    return {
        "suite": options.suite,
        "slots": SLOTS,
        "rounds": options.rounds,
        "seed": SEED,
        "build_seconds": built,
        "column_bytes": columns.memory_bytes,
        "filters": found,
        "machine": kept.machine,
    }


def _tree(text: str) -> Filter:
    tree = parse_filter(text)
    assert tree is not None  # only None gives None
    return tree


def _no_ids(ids: Sequence[PointId]) -> NDArray[np.uint32]:
    del ids  # no filter here is about ids
    return np.zeros(0, np.uint32)


def _median(ask: Callable[[], object]) -> float:
    """Microseconds of a call, after one that warms up."""
    ask()
    seconds = []
    for _ in range(REPEATS):
        started = perf_counter()
        ask()
        seconds.append(perf_counter() - started)
    return float(np.median(seconds)) * 1e6


def _columns() -> tuple[Columns, float]:
    """Columns of made payloads, sorted, and the seconds that taking them in took."""
    columns, seconds, rng = Columns(), 0.0, np.random.default_rng(SEED)
    for _ in range(0, SLOTS, BLOCK):
        payloads = _payloads(rng)
        started = perf_counter()
        columns.extend(payloads)
        seconds += perf_counter() - started
    started = perf_counter()
    columns.seal()
    return columns, seconds + perf_counter() - started


def _payloads(rng: np.random.Generator) -> list[bytes]:
    topics, numbers = np.minimum(rng.zipf(1.3, BLOCK), 200).tolist(), rng.integers(0, 1_000_000, BLOCK).tolist()
    years, prices = rng.integers(1990, 2025, BLOCK).tolist(), rng.lognormal(3, 1, BLOCK).tolist()
    lengths, tags = rng.integers(0, 5, BLOCK).tolist(), rng.integers(0, 60, (BLOCK, 5)).tolist()
    lons, lats = rng.uniform(-180, 180, BLOCK).tolist(), np.degrees(np.arcsin(rng.uniform(-1, 1, BLOCK))).tolist()
    days = (np.datetime64("2004-01-01") + rng.integers(0, 7_300, BLOCK)).astype(str).tolist()
    return [
        orjson.dumps(
            {
                "topic": f"k{topics[i]}",
                "number": numbers[i],
                "year": years[i],
                "price": prices[i],
                "tags": [f"t{tag}" for tag in tags[i][: lengths[i]]],
                "at": {"lon": lons[i], "lat": lats[i]},
                "day": days[i],
                "open": numbers[i] % 2 == 1,
            }
        )
        for i in range(BLOCK)
    ]
