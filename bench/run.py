"""Run one suite and keep its raw result: `python -m bench.run recall_qps --dataset fashion-mnist-784`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from bench import results
from bench.datasets import DATASETS, DatasetMissing
from bench.rivals import OURS, RIVALS

SUITES = ("recall_qps", "batch", "build", "memory", "scaling", "reach", "cold_start", "ingest", "start")


def _dataset(words: str) -> str:
    name, _, rows = words.partition("@")
    if name not in DATASETS or not (rows.isdecimal() or words == name):
        raise argparse.ArgumentTypeError(f"one of {', '.join(sorted(DATASETS))}, perhaps with @rows")
    return words


def main() -> int:
    """Parse the command line, run, save; a missing data set skips with its reason."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--dataset", default="fashion-mnist-784", type=_dataset, help="name, or name@rows")
    parser.add_argument("--ours", nargs="*", default=["vicinal"], choices=OURS)
    parser.add_argument("--rivals", nargs="*", default=["hnswlib"], choices=sorted(set(RIVALS) - set(OURS)))
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds after one that warms up")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2, help="threads for building and for batches")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--lock", type=Path, help="lock file held exclusively while something is timed")
    options = parser.parse_args()
    try:
        answer = import_module(f"bench.suites.{options.suite}").run(options)
    except DatasetMissing as reason:
        print(f"skipped: {reason}")
        return 0
    print(f"wrote {results.save(answer)}")
    for key in ("ratios", "ratio_to_hnswlib", "slope"):
        if key in answer:
            print(json.dumps(answer[key], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
