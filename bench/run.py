"""Run one suite and keep its raw result: `python -m bench.run recall_qps --dataset fashion-mnist-784`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from bench import charts, results
from bench.datasets import DATASETS, DatasetMissing
from bench.engine import forget_ours
from bench.fanns.engines import ENGINES
from bench.kept import Unfinished
from bench.multi import OURS as MULTI_OURS
from bench.multi import RIVALS as MULTI_RIVALS
from bench.multi.sets import MULTI_SETS
from bench.rivals import FOREIGN, OURS

SUITES = (
    "recall_qps",
    "multivector",
    "filtered_scans",
    "filter_masks",
    "columns_cost",
    "fanns",
    "batch",
    "build",
    "memory",
    "compression",
    "scaling",
    "reach",
    "cold_start",
    "overhead",
    "insert",
    "ingest",
    "durability",
    "start",
)
UNFINISHED = 3  # exit status: run the same command again


def _dataset(words: str) -> str:
    name, _, rows = words.partition("@")
    if name not in {*DATASETS, *MULTI_SETS} or not (rows.isdecimal() or words == name):
        raise argparse.ArgumentTypeError(f"one of {', '.join(sorted({*DATASETS, *MULTI_SETS}))}, perhaps with @rows")
    return words


def main(words: list[str] | None = None) -> int:
    """Parse the command line and measure."""
    return measure(options_of(words))


def options_of(words: list[str] | None) -> argparse.Namespace:
    """What a command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--dataset", default="fashion-mnist-784", type=_dataset, help="name, or name@rows")
    parser.add_argument("--ours", nargs="*", default=["vicinal"], choices=[*OURS, *MULTI_OURS])
    parser.add_argument("--rivals", nargs="*", default=["hnswlib"], choices=["all", "faiss", *FOREIGN, *MULTI_RIVALS])
    parser.add_argument("--engines", nargs="*", default=[], choices=ENGINES, help="fanns only, else all")
    parser.add_argument("--cells", nargs="*", default=[], help="fanns only: names or kinds of filters, else all")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds after one that warms up")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2, help="threads for building and for batches")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--lock", nargs="+", type=Path, default=[], help="lock files, see bench.locks")
    parser.add_argument("--hold", type=float, default=200.0, help="seconds for which locks are held at a time")
    parser.add_argument("--seconds", type=float, help="stop after so long; the same command goes on")
    parser.add_argument("--fresh", action="store_true", help="begin anew instead of going on")
    options = parser.parse_args(words)
    everyone = MULTI_RIVALS if options.suite == "multivector" else FOREIGN
    options.rivals = list(everyone) if options.rivals == ["all"] else options.rivals
    return options


def measure(options: argparse.Namespace) -> int:
    """Run a suite, save its result and draw it; a missing data set skips with its reason."""
    try:
        answer = import_module(f"bench.suites.{options.suite}").run(options)
    except DatasetMissing as reason:
        print(f"skipped: {reason}")
        return 0
    except Unfinished as reason:
        print(f"unfinished, {reason}")
        return UNFINISHED
    finally:
        forget_ours()
    print(f"wrote {results.save(answer)}")
    charts.draw(answer)
    for key in ("ratios", "ratio_to_hnswlib", "anonymous_to_hnswlib", "slope", "regret"):
        if key in answer:
            print(json.dumps(answer[key], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
