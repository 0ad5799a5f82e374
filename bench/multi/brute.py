"""Exact MaxSim in float32 by numpy: one product of the query with every token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.multi.base import Floats, MultiEngine
from bench.multi.sets import MultiSet

_TOKENS = 200_000  # compared at once


class Numpy(MultiEngine):
    """Everything by BLAS."""

    package = "numpy"

    def build(self, data: MultiSet, folder: Path) -> None:  # noqa: ARG002 - in memory
        """Widen the tokens."""
        self.tokens, self.ends = data.floats(0, len(data.ends)), data.ends
        self.starts = np.concatenate(([0], data.ends[:-1]))

    def settings(self, data: MultiSet, k: int) -> list[Any]:  # noqa: ARG002 - there is one
        """There is nothing to set."""
        return [0]

    def query(self, tokens: Floats, k: int) -> Any:
        """Compare all."""
        scores = np.empty(len(self.ends), np.float32)
        low = 0
        while low < len(self.ends):
            stop = max(int(np.searchsorted(self.ends, self.starts[low] + _TOKENS, side="right")), low + 1)
            block = self.tokens[self.starts[low] : self.ends[stop - 1]] @ tokens.T
            scores[low:stop] = np.maximum.reduceat(block, self.starts[low:stop] - self.starts[low], axis=0).sum(axis=1)
            low = stop
        best = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
        return best[np.argsort(-scores[best])]

    def bytes_used(self) -> int:
        """float32 tokens."""
        return self.tokens.nbytes
