"""ScaNN: tree, 4-bit anisotropic codes in registers, exact re-order."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

from scann.scann_ops.py import scann_ops_pybind as scann

from bench.rivals.base import Floats, Rival, unit

_TRAINING = 250_000


class Scann(Rival):
    """A setting is (leaves searched, rows re-ordered); the anisotropic loss serves inner products only."""

    package = "scann"
    settings = tuple(
        product((2, 4, 6, 9, 13, 20, 30, 45, 70, 100, 150, 220), (20, 40, 60, 100, 150, 250, 400, 800, 1200))
    )

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        n = len(rows)
        leaves = 250 if n < 80_000 else 500 if n < 250_000 else 1000
        builder = scann.builder(rows, 10, "squared_l2" if space == "l2" else "dot_product")
        builder = builder.tree(num_leaves=leaves, num_leaves_to_search=20, training_sample_size=min(n, _TRAINING))
        threshold = float("nan") if space == "l2" else 0.2
        builder = builder.score_ah(2, anisotropic_quantization_threshold=threshold).reorder(100)
        builder.set_n_training_threads(threads)
        self.index = builder.build()

    def save(self, folder: Path) -> None:
        self.index.serialize(str(folder))

    def open(self, folder: Path, base: Floats, metric: str) -> None:
        del base, metric
        named = folder / "scann_assets.pbtxt"  # which holds the folder where it was saved
        here = re.sub(r'(asset_path: ")[^"]*/', lambda found: f"{found[1]}{folder.resolve()}/", named.read_text())
        named.write_text(here)
        self.index = scann.load_searcher(str(folder))

    def query(self, vector: Floats, k: int) -> Any:
        leaves, reordered = self.setting
        return self.index.search(vector, k, leaves_to_search=leaves, pre_reorder_num_neighbors=reordered)[0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        self.index.set_num_threads(threads)
        leaves, reordered = self.setting
        return self.index.search_batched_parallel(
            queries, k, leaves_to_search=leaves, pre_reorder_num_neighbors=reordered
        )[0]
