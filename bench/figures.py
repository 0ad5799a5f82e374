"""Every figure that is claimed, by the command that measures it: `python -m bench.figures [NAME ...]`.

It goes on where it was broken off, leaves out what was measured already with the same code on the same processor, and
writes the report at the end. `--list` prints the commands.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import takewhile

from bench import metrics, report, run
from bench.results import RESULTS

__all__ = ["FIGURES", "main"]

PIXELS, TEXT, WORDS, PATCHES = "fashion-mnist-784", "arxiv-minilm-384", "glove-6b-50", "patches-128"
SINGLE = "--ours vicinal vicinal-index --rivals all"
ALL = "--ours vicinal-index --rivals all"
LEADERS = "hnswlib faiss-hnsw faiss-ivfpqfs symqg lorann scann pyglass kannolo svs-lvq"
FEW = f"--ours vicinal vicinal-index --rivals {LEADERS}"
RESIDENT = "--ours vicinal vicinal-mapped vicinal-opened vicinal-index --rivals all"

FIGURES = {
    "speed-784": f"recall_qps --dataset {PIXELS} {SINGLE}",
    "speed-384": f"recall_qps --dataset {TEXT} {SINGLE}",
    "speed-50": f"recall_qps --dataset {WORDS} {FEW}",
    "speed-128": f"recall_qps --dataset {PATCHES} {FEW}",
    "filtered-784": f"filtered_scans --dataset {PIXELS} --rivals faiss --queries 300",
    "filtered-384": f"filtered_scans --dataset {TEXT} --rivals faiss --queries 300",
    "fanns-784": f"fanns --dataset {PIXELS} --queries 1000",
    "fanns-384": f"fanns --dataset {TEXT} --queries 1000",
    "batch-784": f"batch --dataset {PIXELS} {ALL}",
    "batch-384": f"batch --dataset {TEXT} {ALL}",
    "build-784": f"build --dataset {PIXELS} --rivals all",
    "build-384": f"build --dataset {TEXT} --rivals all",
    "build-50": f"build --dataset {WORDS} --rivals {LEADERS}",
    "memory-784": f"memory --dataset {PIXELS} {RESIDENT}",
    "memory-384": f"memory --dataset {TEXT} {RESIDENT}",
    "compression-784": f"compression --dataset {PIXELS}",
    "compression-384": f"compression --dataset {TEXT}",
    "compression-50": f"compression --dataset {WORDS}",
    "growth": f"scaling --dataset {WORDS}",
    "reach-784": f"reach --dataset {PIXELS}",
    "reach-384": f"reach --dataset {TEXT}",
    "reach-50": f"reach --dataset {WORDS}",
    "reach-128": f"reach --dataset {PATCHES}",
    "reach-copies": "reach --dataset copies-32",
    "reach-islands": "reach --dataset islands-64",
    "overhead": f"overhead --dataset {TEXT}",
    "insert": f"insert --dataset {TEXT}",
    "cold-start": f"cold_start --dataset {PIXELS} {ALL}",
    "start": "start",
    "ingest": f"ingest --dataset {PIXELS}",
}


def main(words: list[str] | None = None) -> int:
    """Run the named figures, or all; the exit status is that of the first run that did not end."""
    usage = "python -m bench.figures [NAME ...] [--list] [--again] [options of bench.run]"
    parser = argparse.ArgumentParser(usage=usage, description=__doc__, allow_abbrev=False)
    parser.add_argument("--list", action="store_true", help="print names and commands")
    parser.add_argument("--again", action="store_true", help="measure again what was measured with this code")
    words = sys.argv[1:] if words is None else words
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    options, passed = parser.parse_known_args(words[len(names) :])
    unknown = sorted(set(names) - set(FIGURES))
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}: see --list")
    if options.list:
        for name, command in FIGURES.items():
            print(f"{name:14} python -m bench.run {command}")
        return 0
    for name in names or FIGURES:
        if not options.again and _measured(FIGURES[name]):
            print(f"{name}: measured already", flush=True)
            continue
        print(f"{name}: {FIGURES[name]}", flush=True)
        status = run.main([*FIGURES[name].split(), *passed])
        if status:
            return status
    return report.main()


def _measured(command: str) -> bool:
    """Whether a result of this command, with this code, on this processor, is there."""
    suite, *words = command.split()
    parts = [suite, *words[words.index("--dataset") + 1 :][:1]] if "--dataset" in words else [suite]
    place = RESULTS / f"{'-'.join(parts)}.json"
    if not place.exists():
        return False
    known, now = json.loads(place.read_text())["machine"], metrics.machine()
    return all(known.get(key) == now[key] for key in ("code", "processor", "family_model"))


if __name__ == "__main__":
    sys.exit(main())
