"""MUVERA as others ship it: float32 encodings in HNSW, candidates re-ranked by float32 MaxSim.

Google's own encoder (`muvfde`), (20, 5, 16) with filling, as published; hnswlib by inner product; products of a query
and all candidates' tokens in one call of BLAS.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.multi.base import Floats, MultiEngine
from bench.multi.sets import MultiSet

_SHAPE = 20, 5, 16
_PART = 1_000  # documents encoded before they are added


class MuveraHnswlib(MultiEngine):
    """muvfde, hnswlib (M = 16, ef_construction = 200; ef = candidates) and numpy."""

    package = "muvfde"

    def build(self, data: MultiSet, folder: Path) -> None:
        """Encode and insert all documents, or open what is there."""
        import hnswlib

        self.tokens, self.ends = data.floats(0, len(data.ends)), data.ends
        self.starts = np.concatenate(([0], data.ends[:-1]))
        self.encode_query, encode = _encoder(average=False), _encoder(average=True)
        width = len(self.encode_query(self.tokens[:1]))
        self.index = hnswlib.Index("ip", width)
        self.spent = {"encode_seconds": 0.0, "insert_seconds": 0.0}
        if (folder / "facts.json").exists():
            self.index.load_index(str(folder / "index"), max_elements=len(data.ends))
            self.spent = json.loads((folder / "facts.json").read_text())
            return
        self.index.init_index(len(data.ends), M=16, ef_construction=200, random_seed=7)
        for low in range(0, len(data.ends), _PART):
            stop = min(low + _PART, len(data.ends))
            started = perf_counter()
            encoded = np.stack([encode(self.tokens[self.starts[i] : self.ends[i]]) for i in range(low, stop)])
            done = perf_counter()
            self.index.add_items(encoded, np.arange(low, stop), num_threads=1)
            self.spent["encode_seconds"] += done - started
            self.spent["insert_seconds"] += perf_counter() - done
        folder.mkdir(parents=True, exist_ok=True)
        self.index.save_index(str(folder / "index"))
        (folder / "facts.json").write_text(json.dumps(self.spent))

    def set(self, setting: Any) -> None:
        """Candidates, which ef is too."""
        self.setting = setting
        self.index.set_ef(setting)

    def query(self, tokens: Floats, k: int) -> Any:
        """Search encodings, then compare tokens."""
        near = self.index.knn_query(self.encode_query(tokens)[None], self.setting, num_threads=1)[0][0].astype(np.int64)
        counts = self.ends[near] - self.starts[near]
        begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
        rows = np.repeat(self.starts[near] - begins, counts) + np.arange(int(counts.sum()))
        scores = np.maximum.reduceat(self.tokens[rows] @ tokens.T, begins, axis=0).sum(axis=1)
        return near[np.argsort(-scores)[:k]]

    def bytes_used(self) -> int:
        """Encodings with their links, and float32 tokens."""
        return int(self.index.index_file_size()) + self.tokens.nbytes

    def facts(self) -> dict[str, Any]:
        """Seconds of encoding and inserting."""
        return self.spent


def _encoder(average: bool) -> Any:
    import muvfde

    config = muvfde.fixed_dimensional_encoding_config()  # its setters return changed copies
    config = config.set_num_repetitions(_SHAPE[0]).set_num_simhash_projections(_SHAPE[1])
    config = config.set_seed(42).set_projection_type(muvfde.projection_type.AMS_SKETCH)
    config = config.set_projection_dimension(_SHAPE[2])
    if average:
        config = config.set_encoding_type(muvfde.encoding_type.AVERAGE).enable_fill_empty(True)
    return lambda tokens: muvfde.generate_fixed_dimensional_encoding(np.ascontiguousarray(tokens), config)
