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
LEADERS = "hnswlib faiss-hnsw faiss-ivfpqfs symqg lorann scann pyglass kannolo svs-lvq"
SINGLE = f"--ours vicinal vicinal-index --rivals {LEADERS} kannolo-rabitq svs-leanvec pyvsag"
FEW = f"--ours vicinal vicinal-index --rivals {LEADERS}"
EVERY = "--ours vicinal vicinal-index --rivals all"
BATCH = f"--ours vicinal-index --rivals {LEADERS} usearch"
BUILD = "--ours vicinal vicinal-cells --rivals hnswlib"
RESIDENT = f"--ours vicinal vicinal-mapped vicinal-opened vicinal-index --rivals {LEADERS} usearch voyager"
START = "--ours vicinal-index --rivals hnswlib faiss-hnsw usearch voyager symqg lorann scann kannolo svs-lvq"

FIGURES = {
    "speed-384": f"recall_qps --dataset {TEXT} {SINGLE}",
    "speed-784": f"recall_qps --dataset {PIXELS} {SINGLE}",
    "speed-50": f"recall_qps --dataset {WORDS}@100000 {FEW}",
    "speed-128": f"recall_qps --dataset {PATCHES}@100000 {FEW}",
    "batch-384": f"batch --dataset {TEXT} {BATCH}",
    "batch-784": f"batch --dataset {PIXELS} {BATCH}",
    "build-384": f"build --dataset {TEXT} {BUILD} symqg lorann scann faiss-ivfpqfs",
    "build-784": f"build --dataset {PIXELS} {BUILD} symqg lorann scann faiss-ivfpqfs",
    "build-50": f"build --dataset {WORDS} {BUILD} lorann",
    "memory-384": f"memory --dataset {TEXT} {RESIDENT}",
    "memory-784": f"memory --dataset {PIXELS} {RESIDENT}",
    "overhead": f"overhead --dataset {TEXT}",
    "insert": f"insert --dataset {TEXT}",
    "growth": f"scaling --dataset {WORDS}",
    "reach-384": f"reach --dataset {TEXT}",
    "reach-784": f"reach --dataset {PIXELS}",
    "reach-50": f"reach --dataset {WORDS}",
    "reach-128": f"reach --dataset {PATCHES}",
    "reach-copies": "reach --dataset copies-32",
    "reach-islands": "reach --dataset islands-64",
    "start": "start",
    "cold-start": f"cold_start --dataset {PIXELS} {START}",
    "compression-384": f"compression --dataset {TEXT}",
    "compression-784": f"compression --dataset {PIXELS}",
    "compression-50": f"compression --dataset {WORDS}",
    "ingest": f"ingest --dataset {PIXELS}",
    "filtered-784": f"filtered_scans --dataset {PIXELS} --rivals faiss --queries 300",
    "filtered-384": f"filtered_scans --dataset {TEXT} --rivals faiss --queries 300",
    "fanns-784": f"fanns --dataset {PIXELS} --queries 1000",
    "fanns-384": f"fanns --dataset {TEXT} --queries 1000",
}
SAME_ENGINES = ("recall_qps", "batch", "build", "memory", "cold_start")  # which answer for each engine asked for
WHOLE = {  # every engine there is, every row: only by name
    "speed-384-all": f"recall_qps --dataset {TEXT} {EVERY}",
    "speed-784-all": f"recall_qps --dataset {PIXELS} {EVERY}",
    "speed-50-all": f"recall_qps --dataset {WORDS} {FEW}",
    "speed-128-all": f"recall_qps --dataset {PATCHES} {FEW}",
    "batch-384-all": f"batch --dataset {TEXT} {EVERY}",
    "batch-784-all": f"batch --dataset {PIXELS} {EVERY}",
    "build-384-all": f"build --dataset {TEXT} --ours vicinal vicinal-cells --rivals all",
    "build-784-all": f"build --dataset {PIXELS} --ours vicinal vicinal-cells --rivals all",
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
    known = FIGURES | WHOLE
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}: see --list")
    if options.list:
        for name, command in known.items():
            print(f"{name:14} python -m bench.run {command}")
        return 0
    for name in names or FIGURES:
        if not options.again and _measured(known[name]):
            print(f"{name}: measured already", flush=True)
            continue
        print(f"{name}: {known[name]}", flush=True)
        status = run.main([*known[name].split(), *passed])
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
    result = json.loads(place.read_text())
    known, now = result["machine"], metrics.machine()
    asked = run.options_of([suite, *words])
    if "--rivals" in words and suite in SAME_ENGINES and not {*asked.ours, *asked.rivals} <= set(result["engines"]):
        return False
    return all(known.get(key) == now[key] for key in ("code", "processor", "family_model"))


if __name__ == "__main__":
    sys.exit(main())
