"""MUVERA as others ship it: float32 encodings in HNSW, candidates re-ranked by float32 MaxSim.

Google's own encoder (`muvfde`), (20, 5, 16) with filling, as published; hnswlib by inner product; products of a query
and all candidates' tokens in one call of BLAS. Google's encoder takes 9 ms a document: some documents are encoded by it
and timed, all by our encoder, which gives the same numbers; it is looked at that it does. Queries are encoded by
Google's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from bench.multi.base import Floats, MultiEngine
from bench.multi.sets import MultiSet
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.random_streams import gaussians

__all__ = ["MuveraHnswlib", "apart_from_google"]

_SHAPE = 20, 5, 16
_PART = 1_000  # documents encoded before they are added
_SAVED = 10_000  # documents added before the index is saved, from where a build that was broken off goes on
_SAMPLE = 50  # documents encoded by Google's encoder
_BOUNDARY = 1e-6  # products with a hyperplane that are nearer to zero may have either sign
_SAME = 0.9  # share of them that must have the same encoding: where a sign hangs on rounding a bucket may differ


class MuveraHnswlib(MultiEngine):
    """muvfde, hnswlib (M = 16, ef_construction = 200; ef = candidates) and numpy."""

    package = "muvfde"

    def build(self, data: MultiSet, folder: Path) -> None:
        """Encode and insert all documents, or open what is there."""
        import hnswlib

        self.tokens, self.ends = data.floats(0, len(data.ends)), data.ends
        self.starts = np.concatenate(([0], data.ends[:-1]))
        self.encode_query = _encoder(average=False)
        self.spent: dict[str, Any] = {}
        self.index = hnswlib.Index("ip", len(self.encode_query(self.tokens[:1])))
        if (folder / "facts.json").exists():
            self.index.load_index(str(folder / "index"), max_elements=len(data.ends))
            self.spent = dict(json.loads((folder / "facts.json").read_text()))
        else:
            self.index.init_index(len(data.ends), M=16, ef_construction=200, random_seed=7)
            self.spent = {"encode_seconds": self._encode_seconds(), "insert_seconds": 0.0}
        encoder = FixedDimensionalEncoder(data.tokens.shape[1], *_SHAPE)
        for low in range(self.index.get_current_count(), len(data.ends), _PART):
            stop = min(low + _PART, len(data.ends))
            start = self.starts[low]
            encoded = encoder.encode_documents(self.tokens[start : self.ends[stop - 1]], self.ends[low:stop] - start)
            started = process_time()
            self.index.add_items(encoded, np.arange(low, stop), num_threads=os.cpu_count() or 1)
            self.spent["insert_seconds"] += process_time() - started
            if stop % _SAVED == 0 or stop == len(data.ends):
                self._save(folder)

    def _encode_seconds(self) -> float:
        """What encoding all documents takes, by a sample; ValueError if our encoder gives other numbers."""
        encode, encoder = _encoder(average=True), FixedDimensionalEncoder(self.tokens.shape[1], *_SHAPE)
        sample = np.linspace(0, len(self.ends) - 1, min(_SAMPLE, len(self.ends)), dtype=np.int64)
        matrices = [self.tokens[self.starts[i] : self.ends[i]] for i in sample]
        started = process_time()
        encoded = [encode(matrix) for matrix in matrices]
        spent = process_time() - started
        same = [np.abs(encoder.encode_document(m) - e).max() < 1e-5 for m, e in zip(matrices, encoded, strict=True)]
        if np.mean(same) < _SAME:
            raise ValueError("the two encoders differ")
        return spent / len(sample) * len(self.ends)

    def _save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.index.save_index(str(folder / "index.new"))
        (folder / "index.new").replace(folder / "index")
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
        """Seconds of one core for encoding and inserting, which takes all cores there are."""
        return self.spent


def _encoder(average: bool) -> Any:
    return _googles(FixedDimensionalEncoder(1, *_SHAPE), average)


def _googles(like: FixedDimensionalEncoder, average: bool) -> Any:
    """Google's encoder with the parameters of one of ours, whose `dim` it does not need to know."""
    import muvfde

    config = muvfde.fixed_dimensional_encoding_config()  # its setters return changed copies
    config = config.set_num_repetitions(like.repetitions).set_num_simhash_projections(like.simhash_projections)
    config = config.set_seed(like.seed)
    if like.projection_dimension is not None:
        config = config.set_projection_type(muvfde.projection_type.AMS_SKETCH)
        config = config.set_projection_dimension(like.projection_dimension)
    if like.final_dimension is not None:
        config = config.set_final_projection_dimension(like.final_dimension)
    if average:
        config = config.set_encoding_type(muvfde.encoding_type.AVERAGE).enable_fill_empty(like.fill_empty)
    return lambda tokens: muvfde.generate_fixed_dimensional_encoding(np.ascontiguousarray(tokens), config)


def apart_from_google(configurations: int = 200) -> float:
    """The largest difference of our encodings from Google's, over random parameters and tokens.

    Left out are tokens that lie on a boundary of buckets, where rounding decides.
    """
    rng, most, compared = np.random.default_rng(5), 0.0, 0
    while compared < configurations:
        width = None if rng.random() < 0.3 else int(rng.integers(1, 40))
        final = int(rng.integers(1, 1500)) if rng.random() < 0.3 else None
        shape = int(rng.integers(2, 160)), int(rng.integers(1, 8)), int(rng.integers(0, 7)), width
        ours = FixedDimensionalEncoder(*shape, bool(rng.integers(2)), final, int(rng.integers(0, 1 << 31)))
        tokens = rng.standard_normal((int(rng.integers(1, 120)), ours.dim)).astype(np.float32)
        tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
        if _nearest_boundary(ours, tokens) < _BOUNDARY:
            continue
        average = bool(rng.integers(2))
        own = ours.encode_document(tokens) if average else ours.encode_query(tokens)
        most = max(most, float(np.abs(own - _googles(ours, average)(tokens)).max()))
        compared += 1
    return most


def _nearest_boundary(encoder: FixedDimensionalEncoder, tokens: Floats) -> float:
    """The smallest product of a token with a hyperplane."""
    shape = encoder.dim, encoder.simhash_projections
    planes = [gaussians(encoder.seed + repetition, *shape) for repetition in range(encoder.repetitions)]
    return min((float(np.abs(tokens @ plane).min()) for plane in planes if plane.size), default=np.inf)
