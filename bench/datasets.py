"""Real data sets with exact answers, checked by SHA-256 before use.

The folder is `VICINAL_DATA`, else `../shared/data` beside the project. Rows are put in a seeded order, because some
sets lie in time order, which no index should profit from.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATASETS", "Dataset", "DatasetMissing", "data_root", "load"]

ORDER_SEED = 5
CHECKSUMS = {
    "fashion-mnist-784/fashion-mnist-784.npz": "b5f1ab8c7c1e868b4ae9a4003583532d5d76123420f79d0119961cb224d1ea52",
    "arxiv-minilm-384/base.npy": "307fc6a465745f32ddaed01b08b7ceb2d9cb93961f830f4d1a9dcb4b9f325f55",
    "arxiv-minilm-384/queries.npy": "1ba29e97216592b601316b64fde78cfd0b336a839777571f6ff92085b8d9e8d0",
    "arxiv-minilm-384/gt_ids.npy": "098feb317558e5a07216ad69089c28dfb429fa27c2210a97ad8250c8a5e414ae",
}


class DatasetMissing(RuntimeError):
    """The data set is not on this machine; the suite skips."""


@dataclass(frozen=True)
class Dataset:
    """base (n, d) and queries (m, d) float32; truth (m, 100): the exact nearest rows, nearest first."""

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


def _checked(name: str) -> Path:
    path = data_root() / name
    if not path.exists():
        raise DatasetMissing(f"{name} is not in the data folder")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != CHECKSUMS[name]:
        raise RuntimeError(f"{name} has SHA-256 {digest}, not {CHECKSUMS[name]}")
    return path


def _shuffled(dataset: Dataset) -> Dataset:
    order = np.random.default_rng(ORDER_SEED).permutation(len(dataset.base))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    base = np.ascontiguousarray(dataset.base[order])
    return Dataset(dataset.name, dataset.metric, base, dataset.queries, place[dataset.truth])


def _fashion() -> Dataset:
    arrays = np.load(_checked("fashion-mnist-784/fashion-mnist-784.npz"), allow_pickle=False)
    base, queries = arrays["base"].astype(np.float32), arrays["queries"].astype(np.float32)
    return Dataset("fashion-mnist-784", "l2", base, queries, arrays["gt_ids"].astype(np.int64))


def _arxiv() -> Dataset:
    def part(name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(_checked(f"arxiv-minilm-384/{name}.npy"), allow_pickle=False)
        return array

    base, queries = part("base").astype(np.float32), part("queries").astype(np.float32)
    return Dataset("arxiv-minilm-384", "cosine", base, queries, part("gt_ids").astype(np.int64))


DATASETS = {"fashion-mnist-784": _fashion, "arxiv-minilm-384": _arxiv}


def load(name: str) -> Dataset:
    """The named data set, rows in a seeded order; DatasetMissing when its files are not here."""
    return _shuffled(DATASETS[name]())
