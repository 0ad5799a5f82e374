"""One engine in its own process: builds, then answers rounds on request, one JSON line each.

Commands arrive on standard input: `build`, then `round` as often as wanted, then end of file.
"""

from __future__ import annotations

import json
import resource
import sys
from time import perf_counter, process_time
from typing import Any

import numpy as np

from bench import datasets, metrics
from bench.rivals import Rival, make


def build(rival: Rival, data: datasets.Dataset, threads: int) -> dict[str, Any]:
    """Index all rows and time it; numba's kernels are compiled (or loaded) on a few rows before."""
    make_small = make(sys.argv[1])
    make_small.build(data.base[:300], data.metric, threads)
    make_small.set(make_small.settings[0])
    make_small.query(data.queries[0], 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = perf_counter(), process_time()
    rival.build(data.base, data.metric, threads)
    seconds, cpu = perf_counter() - started, process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": cpu, "rss_growth_kb": after - before}


def sweep(rival: Rival, data: datasets.Dataset, k: int, keep: bool) -> list[dict[str, Any]]:
    """Every setting once over all queries: seconds per query, and recall when asked."""
    rows = []
    for setting in rival.settings:
        rival.set(setting)
        for query in data.queries[:20]:
            rival.query(query, k)
        started = perf_counter()
        found = [rival.query(query, k) for query in data.queries]
        seconds = (perf_counter() - started) / len(data.queries)
        row = {"setting": setting, "seconds": seconds}
        if keep:
            row["recall"] = metrics.recall([np.asarray(f).tolist() for f in found], data.truth, k)
        rows.append(row)
    return rows


def main() -> None:
    """Read commands until the parent closes the pipe."""
    name, dataset, queries, threads, k = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    whole = datasets.load(dataset)
    data = datasets.Dataset(whole.name, whole.metric, whole.base, whole.queries[:queries], whole.truth[:queries])
    rival = make(name)
    rounds = 0
    for line in sys.stdin:
        if line.strip() == "build":
            answer: Any = build(rival, data, threads)
        else:
            answer = sweep(rival, data, k, keep=rounds == 0)
            rounds += 1
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
