"""Build rivals' indexes ahead of the clock: `python -m bench.indexes --dataset NAME --rivals NAME ...`.

Suites of search open what is there; what an engine took to build is timed by the `build` suite alone. Those whose
indexes cannot be saved say so and are built in each run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import datasets
from bench.engine import EngineFailed, saved
from bench.rivals import FOREIGN

__all__ = ["main"]


def main(words: list[str] | None = None) -> int:
    """Build what is missing, one fresh process each."""
    parser = argparse.ArgumentParser(prog="python -m bench.indexes", description=__doc__)
    parser.add_argument("--dataset", nargs="+", required=True)
    parser.add_argument("--rivals", nargs="+", default=["all"], choices=["all", *FOREIGN])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lock", nargs="+", type=Path, default=[], help="lock files, see bench.locks")
    options = parser.parse_args(words)
    rivals = FOREIGN if options.rivals == ["all"] else options.rivals
    for dataset in options.dataset:
        datasets.prepare(dataset)
        asked = argparse.Namespace(dataset=dataset, queries=1, k=1, threads=options.threads, lock=options.lock)
        for name in rivals:
            try:
                print(f"{dataset}, {name}: {saved(name, asked)[1]['seconds']:.0f} s", flush=True)
            except EngineFailed as reason:
                print(f"{dataset}, {name}: {reason}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
