"""LEMUR proxies, without training: a point's MaxSim as a linear function of random features of the query's tokens.

Jaasaari, Hyvonen, Roos, "LEMUR: Learned Multi-Vector Retrieval" (2026), in its form with random features: psi(x) is the
GELU of a normalised random projection of a token, and a point's vector w solves the ridge regression of its best
products with a sample of tokens, max_p <x, p>, on psi(x). Then sum over the query of psi(x), times w, estimates MaxSim.
Departures: products of the regression are those of int8 codes; the sample is drawn from the stored tokens, and from the
tokens of queries seen since the last fit where there are enough of them, as those are what will be asked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData
from vicinal.multivector import coded_vectors
from vicinal.multivector.coded_query import code_query
from vicinal.multivector.coded_vectors import CodedVectors
from vicinal.multivector.proxies import Near, ProxyIndex
from vicinal.multivector.stores import plain_tokens, raw_tokens, widened
from vicinal.multivector.tokens import dequantise_tokens, no_tokens, quantise_tokens
from vicinal.packing import pack, unpack
from vicinal.types import TokenRows

__all__ = ["FEATURES", "Features", "LemurIndex", "LemurPicture", "QueryTokens", "fit_features"]

FEATURES: Final = 1_024
_SAMPLE: Final = 4 * FEATURES  # tokens of the regression
_QUERY_TOKENS: Final = 2_000  # fewer are not enough to fit to
_RIDGE: Final = 0.01
_PART: Final = 256  # points whose regression is solved at once
_MAGIC: Final = b"VICLEMUR"
_FORMAT: Final = 1
_WHAT: Final = "snapshot of LEMUR proxies"


class Features(NamedTuple):
    """What was fitted: `weights` (dim, FEATURES), the `sample` (s, dim), its `solution` (FEATURES, s) and the mean."""

    weights: NDArray[np.float32]
    sample: NDArray[np.float32]
    solution: NDArray[np.float32]
    mean: float  # best product of a token of the sample with a point

    def of(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (m, FEATURES) of tokens (m, dim)."""
        return _features(tokens, self.weights)


class QueryTokens:
    """A seeded reservoir of the tokens of queries: any thread may offer, the writer takes."""

    def __init__(self, dim: int, seed: int) -> None:
        self._lock = threading.Lock()
        self._rng = np.random.default_rng(seed)
        self._kept = np.zeros((_SAMPLE, dim), np.float32)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, _SAMPLE)

    def offer(self, query: NDArray[np.float32]) -> None:
        """Keep some of a query's tokens (m, dim)."""
        if not self._lock.acquire(blocking=False):
            return  # no query waits for the sample: tokens of the other one are as good
        try:
            seen = np.arange(self._seen, self._seen + len(query))
            places = np.where(seen < _SAMPLE, seen, self._rng.integers(seen + 1))
            kept = places < _SAMPLE
            self._kept[places[kept]] = query[kept]
            self._seen += len(query)
        finally:
            self._lock.release()

    def tokens(self) -> NDArray[np.float32]:
        """What is kept, (s, dim)."""
        with self._lock:
            return self._kept[: len(self)].copy()


class LemurPicture(NamedTuple):
    """Points' vectors and the features of queries."""

    features: Features
    codes: CodedVectors
    asked: QueryTokens

    @property
    def n(self) -> int:
        """Slots that have a vector."""
        return self.codes.n

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes and features."""
        return self.codes.memory_bytes + sum(part.nbytes for part in self.features[:3])

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Nothing is chosen by measuring."""
        return {}

    def nearest(self, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range) -> Near:
        """The `count` best of `slots` by the regression's MaxSim."""
        self.asked.offer(query)
        found, scores = coded_vectors.nearest(self.codes, self.features.of(query).sum(axis=0), count, slots)
        return found, scores + np.float32(self.features.mean * len(query))


class LemurIndex(ProxyIndex[LemurPicture]):
    """The LEMUR proxies of one multi-vector field, at so many bits a component."""

    def __init__(self, dim: int, bits: int, seed: int) -> None:
        super().__init__()
        self._dim, self._bits, self._seed = dim, bits, seed
        self._asked = QueryTokens(dim, seed)
        self._fitted_to_queries = False

    def _stale(self, tokens: int) -> bool:
        enough = not self._fitted_to_queries and len(self._asked) >= _QUERY_TOKENS
        return enough or super()._stale(tokens)

    def _fit(self, rows: TokenRows, stop: int) -> LemurPicture:
        asked = self._asked.tokens()
        self._fitted_to_queries = len(asked) >= _QUERY_TOKENS
        stored = _some_tokens(rows, stop, _SAMPLE - len(asked) if self._fitted_to_queries else _SAMPLE, self._seed)
        sample = np.vstack([stored, asked]) if self._fitted_to_queries else stored
        features = fit_features(sample, self._dim, self._seed)
        return LemurPicture(features, coded_vectors.empty(FEATURES, self._bits, self._seed), self._asked)

    def _add(self, picture: LemurPicture, rows: TokenRows, stop: int) -> LemurPicture:
        features, codes, asked = picture
        best = _best_products(rows, codes.n, stop, features.sample)
        empty = ~np.isfinite(best).all(axis=1)
        best[empty] = features.mean
        if not codes.n and not empty.all():
            features = features._replace(mean=float(best[~empty].mean()))
        vectors = (best - np.float32(features.mean)) @ features.solution.T
        return LemurPicture(features, coded_vectors.append(codes, np.require(vectors, np.float32, ["C"])), asked)

    def encode(self) -> bytes:
        """The codes and the sample; the rest is drawn or solved again."""
        picture = self._picture or self._fit(no_tokens(self._dim), 0)
        (_, sample, _, mean), codes = picture.features, picture.codes
        about = {**self._about(), "mean": mean, "tokens": self._fitted_tokens, "queries": self._fitted_to_queries}
        return pack(_MAGIC, _FORMAT, about, [sample, codes.lines[: codes.n], codes.factors[: codes.n]])

    def _about(self) -> dict[str, Any]:
        return {"dim": self._dim, "bits": self._bits, "seed": self._seed, "features": FEATURES}

    def decode(self, buffer: memoryview | bytes, rows: TokenRows, slots: int) -> None:  # noqa: ARG002 - not compared
        """Take codes of at most `slots` slots."""
        about, arrays = unpack(buffer, _MAGIC, _FORMAT, _WHAT)
        try:
            sample, lines, factors = arrays
            codes = coded_vectors.restored(FEATURES, self._bits, self._seed, lines, factors)
            self._check(about, sample, codes.n, slots)
            features = fit_features(sample.copy(), self._dim, self._seed)._replace(mean=float(about["mean"]))
            tokens, queries = int(about["tokens"]), bool(about["queries"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"{_WHAT}: {error}; it will be made again", field=_WHAT) from error
        self._fitted_tokens, self._fitted_to_queries = tokens, queries
        self._picture = LemurPicture(features, codes, self._asked)

    def _check(self, about: Any, sample: NDArray[Any], n: int, slots: int) -> None:
        """ValueError unless a snapshot is of such proxies and of these points."""
        if {name: about[name] for name in self._about()} != self._about():
            raise ValueError("made with other options")
        if sample.dtype != np.float32 or sample.shape[1:] != (self._dim,) or len(sample) > _SAMPLE:
            raise ValueError(f"a sample of {sample.shape}")
        if n > slots or not np.isfinite(sample).all() or not np.isfinite(float(about["mean"])):
            raise ValueError(f"{n} slots of {slots}")


def fit_features(sample: NDArray[np.float32], dim: int, seed: int) -> Features:
    """Features and the ridge regression's solution for a sample (s, dim) of tokens."""
    weights = np.random.default_rng(seed).standard_normal((dim, FEATURES)).astype(np.float32)
    z = _features(sample, weights).astype(np.float64)
    gram = z.T @ z
    gram[np.diag_indices(FEATURES)] += _RIDGE * max(len(sample), 1)
    return Features(weights, sample, np.linalg.solve(gram, z.T).astype(np.float32), 0.0)


def _features(tokens: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """GELU of the projected tokens, each row brought to mean 0 and spread 1."""
    x = tokens @ weights
    x -= x.mean(axis=1, keepdims=True)
    x /= np.maximum(x.std(axis=1, keepdims=True), 1e-12)
    gelu: NDArray[np.float32] = 0.5 * x * (1 + np.tanh(np.float32(0.7978846) * (x + np.float32(0.044715) * x**3)))
    return gelu


def _some_tokens(rows: TokenRows, stop: int, count: int, seed: int) -> NDArray[np.float32]:
    """At most `count` stored tokens (s, dim) of slots 0 .. stop - 1, as float32."""
    tokens = int(rows.ends[stop - 1]) if stop else 0
    chosen = np.sort(np.random.default_rng(seed).choice(tokens, min(tokens, count), replace=False))
    owners = np.searchsorted(rows.ends[:stop], chosen, side="right")
    return dequantise_tokens(plain_tokens(rows.tokens[chosen]), np.arange(1, len(chosen) + 1), rows.scales[owners])


def _best_products(rows: TokenRows, first: int, stop: int, sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each point's best product with every token of the sample (stop - first, s); -inf for a point without tokens."""
    from vicinal.kernels.maxsim import code_maxima

    out = np.empty((stop - first, len(sample)), np.float32)
    start = int(rows.ends[first - 1]) if first else 0
    tokens, ends = plain_tokens(rows.tokens[start : int(rows.ends[stop - 1])]), rows.ends[first:stop] - start
    units = rows.scales[first:stop]
    if tokens.dtype != np.int8:
        tokens, units = quantise_tokens(tokens, ends)
    raw = raw_tokens(TokenRows(widened(tokens), ends, units))
    code_maxima(*raw, np.arange(stop - first, dtype=np.uint32), *code_query(widened(sample))[:3], out)
    return out
