"""Run one suite and keep its raw result: `python -m bench.run recall_qps --dataset fashion-mnist-784`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from bench import report
from bench.datasets import DATASETS, DatasetMissing
from bench.rivals import RIVALS

SUITES = ("recall_qps", "ingest", "start")


def main() -> int:
    """Parse the command line, run, save; a missing data set skips with its reason."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--dataset", default="fashion-mnist-784", choices=sorted(DATASETS))
    parser.add_argument("--rivals", nargs="*", default=["hnswlib"], choices=sorted(RIVALS))
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds after one that warms up")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1, help="threads for building")
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    try:
        answer = import_module(f"bench.suites.{options.suite}").run(options)
    except DatasetMissing as reason:
        print(f"skipped: {reason}")
        return 0
    print(f"wrote {report.save(answer)}")
    for name, ratio in answer.get("ratio_to_hnswlib", {}).items():
        print(f"{name}: x hnswlib {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
