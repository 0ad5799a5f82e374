"""A thread's scratch memory for the coded walk, borrowed per call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.index.coded_arrays import DEGREE, address, aligned

__all__ = ["Scratch"]

_GUARD = 8  # keys before a pool's first entry
_LINE_BYTES = 256  # a query as code lines, at most four


class Scratch:
    """Scratch memory for one walk at a time; holds room for `pool` estimates, `results` results, `slots` bits."""

    def __init__(self, padded: int, projected: int, cells: int, *, pool: int, results: int, slots: int) -> None:
        from vicinal.kernels.lines import WORK_BYTES
        from vicinal.kernels.walk_fields import Work

        self.pool, self.results = pool, results
        words = (slots + 511) // 512 * 8
        self.room = words * 64
        wide = max(padded, projected, 64)
        keys = _GUARD + results + _GUARD
        listed = (pool + 4) * DEGREE + 2 * DEGREE  # every pop and the entry list at most DEGREE slots
        arrays: dict[str, NDArray[np.generic]] = {
            "vector": aligned((wide,), np.float32),
            "centred": aligned((wide,), np.float32),
            "bytes": aligned((wide,), np.int8),
            "projected": aligned((wide,), np.float32),
            "dots": aligned((wide,), np.int32),
            "lines": aligned((_LINE_BYTES,), np.uint8),
            "scores": aligned((cells,), np.float32),
            "pool": aligned((_GUARD + pool + _GUARD,), np.int64),
            "results": aligned((keys,), np.int64),
            "settled": aligned((keys,), np.int64),
            "estimates": aligned((DEGREE,), np.float32),
            "lane_work": aligned((WORK_BYTES,), np.uint8),
            "listed": aligned((listed,), np.uint32),
            "chosen": aligned((results,), np.uint32),
            "seen": aligned((words,), np.int64),
            "hops": aligned((2,), np.int64),
        }
        self._arrays = arrays
        places = {name: address(array) for name, array in arrays.items()}
        for name in ("pool", "results", "settled"):
            places[name] += 8 * _GUARD
        fields = Work(**places, pool_room=pool, results_room=results, listed_room=listed, seen_words=words)
        self.table = np.array(fields, np.int64)
        self.at = address(self.table)
        self.hops: NDArray[np.int64] = arrays["hops"]  # type: ignore[assignment]
