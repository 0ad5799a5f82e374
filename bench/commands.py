"""The command of every figure that is claimed, by name, and the file of its result."""

from __future__ import annotations

import json
from typing import Any

from bench.multi.goals import FIGURES as MULTI_FIGURES
from bench.results import RESULTS

__all__ = ["FIGURES", "WHOLE", "result_of"]

PIXELS, TEXT, WORDS, PATCHES = "fashion-mnist-784", "arxiv-minilm-384", "glove-6b-50", "patches-128"
MIXTURE = "mixture-96"
LEADERS = "hnswlib faiss-hnsw faiss-ivfpqfs symqg lorann scann pyglass kannolo svs-lvq"
SINGLE = f"--ours vicinal vicinal-index --rivals {LEADERS} kannolo-rabitq svs-leanvec pyvsag"
FEW = f"--ours vicinal vicinal-index --rivals {LEADERS}"
EVERY = "--ours vicinal vicinal-index --rivals all"
BATCH = f"--ours vicinal-index --rivals {LEADERS} usearch"
BUILD = "--ours vicinal vicinal-cells --rivals hnswlib"
RESIDENT = f"--ours vicinal vicinal-mapped vicinal-opened vicinal-index --rivals {LEADERS} usearch voyager"
START = "--ours vicinal-index --rivals hnswlib faiss-hnsw usearch voyager symqg lorann scann kannolo svs-lvq"

PLANNED = (
    "vicinal vicinal-collection vicinal-churned list cells sweep acorn-1 acorn-gamma filtered-vamana stitched-vamana "
    "ung serf irangegraph ivf2 hnswlib faiss-ivfpqfs faiss-flat numpy"
)

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
    "durability": "durability",
    "compression-copies": "compression --dataset near-copies-384",
    "ingest": f"ingest --dataset {PIXELS}",
    "filtered-784": f"filtered_scans --dataset {PIXELS} --rivals faiss --queries 300",
    "filtered-384": f"filtered_scans --dataset {TEXT} --rivals faiss --queries 300",
    "masks": "filter_masks",
    "columns": f"columns_cost --dataset {TEXT}",
    "fanns-784": f"fanns --dataset {PIXELS} --queries 1000",
    "fanns-384": f"fanns --dataset {TEXT} --queries 1000",
    "fanns-96": f"fanns --dataset {MIXTURE} --queries 1000 --engines {PLANNED}",
    **MULTI_FIGURES,
}
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


def result_of(name: str) -> dict[str, Any] | None:
    """The kept result of a figure's suite and data set, whichever engines it was asked for; None without one."""
    suite, *words = (FIGURES | WHOLE)[name].split()
    parts = [suite, *words[words.index("--dataset") + 1 :][:1]] if "--dataset" in words else [suite]
    place = RESULTS / f"{'-'.join(parts)}.json"
    found: dict[str, Any] | None = json.loads(place.read_text()) if place.exists() else None
    return found
