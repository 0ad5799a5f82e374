"""PyNNDescent (numba, as we are): 30 neighbours, its own pruning.

It can only be kept as pickle, so it is built anew.
"""

from __future__ import annotations

from typing import Any

import numba
import pynndescent

from bench.rivals.base import Floats, Rival, unit


class PyNNDescent(Rival):
    """pynndescent.NNDescent; a setting is epsilon."""

    package = "pynndescent"
    settings = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4)

    def build(self, base: Floats, metric: str, threads: int) -> None:
        rows, space = unit(base, metric)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        self.index = pynndescent.NNDescent(
            rows,
            n_neighbors=30,
            metric="euclidean" if space == "l2" else "dot",
            low_memory=True,
            n_jobs=threads,
            random_state=1,
            compressed=False,
        )
        self.index.prepare()
        numba.set_num_threads(1)

    def query(self, vector: Floats, k: int) -> Any:
        return self.index.query(vector[None], k=k, epsilon=self.setting)[0][0]

    def query_batch(self, queries: Floats, k: int, threads: int) -> Any:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return self.index.query(queries, k=k, epsilon=self.setting)[0]
