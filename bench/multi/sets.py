"""Data sets of token matrices, with exact MaxSim and human judgements where there are some.

Real ones lie in the data folder; `mv-100k` is made by its script `make_mv100k.py`, once, under `bench/.cache/sets`
(ten minutes). `name@documents` is the same set cut to its first documents.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.datasets import CACHE, DatasetMissing, data_root

__all__ = ["MULTI_SETS", "MultiSet", "load", "prepare"]

MULTI_SETS = {
    "mv-lotte500": "mv-lotte500-colbertv2",
    "mv-cranfield": "mv-cranfield",
    "mv-cacm": "mv-cacm",
    "mv-100k": "",
}
DEPTH = 100
_PART = 2_000  # documents compared at once


class MultiSet(NamedTuple):
    """Tokens (t, d) int8, multiples of 1/127, mapped; document i in rows ends[i - 1] .. ends[i].

    Queries are matrices (m, d) float32; truth (q, 100): the documents of largest MaxSim. `judged` gives each query's
    grades by document; none where there are no judgements.
    """

    tokens: NDArray[np.int8]
    ends: NDArray[np.int64]
    queries: list[NDArray[np.float32]]
    truth: NDArray[np.int64]
    judged: list[dict[int, int]]

    def floats(self, first: int, stop: int) -> NDArray[np.float32]:
        """Tokens of documents first .. stop - 1."""
        start = int(self.ends[first - 1]) if first else 0
        return np.asarray(self.tokens[start : int(self.ends[stop - 1])], np.float32) / np.float32(127)

    def matrices(self) -> list[NDArray[np.float32]]:
        """Every document's tokens."""
        return [self.floats(i, i + 1) for i in range(len(self.ends))]


def prepare(name: str) -> None:
    """Make what is not there yet; DatasetMissing without sources."""
    folder = CACHE / name
    if (folder / "truth.npy").exists():
        return
    whole, _, count = name.partition("@")
    if count:
        prepare(whole)
        data = load(whole)
        stop = int(count)
        tokens, ends = data.tokens[: data.ends[stop - 1]], data.ends[:stop]
        queries = data.queries
        judged = [{d: g for d, g in grades.items() if d < stop} for grades in data.judged]
    else:
        tokens, ends, queries, judged = _read(whole)
    data = MultiSet(tokens, ends, queries, np.empty(0, np.int64), judged)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "ends.npy", ends)
    np.save(folder / "queries.npy", np.concatenate(queries))
    np.save(folder / "query_ends.npy", np.cumsum([len(query) for query in queries]))
    (folder / "judged.json").write_text(json.dumps(judged))
    np.save(folder / "truth.npy", _truth(data))


def load(name: str) -> MultiSet:
    """Map a prepared set."""
    folder = CACHE / name
    tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
    ends, queries, query_ends, truth = (
        np.load(folder / f"{part}.npy", allow_pickle=False) for part in ("ends", "queries", "query_ends", "truth")
    )
    judged = [{int(d): g for d, g in one.items()} for one in json.loads((folder / "judged.json").read_text())]
    return MultiSet(np.asarray(tokens), ends, np.split(queries, query_ends[:-1]), truth, judged)


def _read(name: str) -> tuple[Any, Any, list[NDArray[np.float32]], list[dict[int, int]]]:
    """Tokens, ends, unit queries and judgements of a source."""
    if name == "mv-100k":
        arrays: Any = np.load(_made(), allow_pickle=False)
        judged: list[dict[int, int]] = []
    else:
        folder = data_root() / MULTI_SETS[name]
        if not folder.is_dir():
            raise DatasetMissing(f"{MULTI_SETS[name]} is not in the data folder")
        arrays = np.load(folder / f"{MULTI_SETS[name]}.npz", allow_pickle=False)
        judged = _judged(folder)
    queries = np.split(arrays["qtokens"].astype(np.float32), arrays["qoffsets"][1:-1])
    queries = [query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-9) for query in queries]
    return arrays["tokens"], arrays["offsets"][1:].astype(np.int64), queries, judged


def _judged(folder: Path) -> list[dict[int, int]]:
    """Grades by document number, for each query in the order of its file."""
    ids = [
        [str(json.loads(line)["id"]) for line in (folder / part).read_text().splitlines() if line.strip()]
        for part in ("queries.jsonl", "docs.jsonl")
    ]
    documents = {name: number for number, name in enumerate(ids[1])}
    grades: dict[str, dict[int, int]] = {query: {} for query in ids[0]}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if document in documents and query in grades:
            grades[query][documents[document]] = int(float(grade))
    return [grades[query] for query in ids[0]]


def _made() -> Path:
    place = CACHE / "mv-100k.npz"
    script = data_root() / "make_mv100k.py"
    if not place.exists():
        if not script.exists():
            raise DatasetMissing("make_mv100k.py is not in the data folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(".new.npz")
        subprocess.run([sys.executable, str(script), str(fresh)], check=True)
        fresh.replace(place)
    return place


def _truth(data: MultiSet) -> NDArray[np.int64]:
    """Documents of the largest exact MaxSim, by float32 products of numpy."""
    scores = np.empty((len(data.queries), len(data.ends)), np.float32)
    for low in range(0, len(data.ends), _PART):
        high = min(low + _PART, len(data.ends))
        block = data.floats(low, high)
        starts = np.concatenate(([0], data.ends[low : high - 1])) if not low else data.ends[low - 1 : high - 1]
        starts = starts - starts[0]
        for i, query in enumerate(data.queries):
            scores[i, low:high] = np.maximum.reduceat(block @ query.T, starts, axis=0).sum(axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
