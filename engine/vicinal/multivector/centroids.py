"""Candidates for MaxSim by centroids: each token is the number of its nearest centroid, two bytes.

A point's approximate score puts centroids in the place of its tokens: the first stage of PLAID (Santhanam et al.,
"PLAID: An Efficient Engine for Late Interaction Retrieval", CIKM 2022). Departures: no inverted lists and no pruning
of centroids, every point is scored (`kernels.centroids`, some 20 ns a point); numbers a point repeats are kept once;
centroids are spherical k-means over a seeded sample of int8 tokens, drawn again when the field has grown fourfold.

The same points give the same numbers on any machine: products are integers, sums are taken in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData
from vicinal.multivector.coded_query import carve_query, code_query
from vicinal.multivector.proxies import Near, ProxyIndex, with_room
from vicinal.multivector.stores import WIDTH_MIN, plain_tokens, widened
from vicinal.multivector.tokens import no_tokens, owned, quantise_tokens
from vicinal.packing import pack, unpack
from vicinal.types import TokenRows

__all__ = [
    "CENTROIDS_MAX",
    "CENTROIDS_MIN",
    "CentroidIndex",
    "CentroidPicture",
    "Centroids",
    "fit_centroids",
    "make_centroids",
]

CENTROIDS_MIN: Final = 64
CENTROIDS_MAX: Final = 8192  # a query's table of 32 tokens then takes 256 KiB and stays in the second-level cache
_SPREAD = 32  # centroids by the square root of the tokens: twice PLAID's, for a third fewer candidates
_PER_CENTROID = 20  # sampled tokens
_ROUNDS = 4
_NARROW: Final = 16  # query tokens whose products take one register
_NEAR: Final = 0.9  # cosine from which tokens of a longer query are one here: no fewer of the best were found
_MAGIC: Final = b"VICCENTR"
_FORMAT: Final = 1
_WHAT: Final = "snapshot of centroid numbers"


class Centroids(NamedTuple):
    """Fitted centroids: centroid c is factors[c] * codes[c].

    `codes` (K, dim) int8: unit directions at one scale; `factors` (K,) float32: that scale times their tokens' mean
    length. `biases` (K,) int32: -128 times the sums of codes, for the kernels. `mean` (dim,) float32 is the average of
    all, `longest` the length of the longest.
    """

    codes: NDArray[np.int8]
    factors: NDArray[np.float32]
    biases: NDArray[np.int32]
    mean: NDArray[np.float32]
    longest: float

    @property
    def memory_bytes(self) -> int:
        """Bytes of them all."""
        return self.codes.nbytes + self.factors.nbytes + self.biases.nbytes + self.mean.nbytes


class CentroidPicture(NamedTuple):
    """What readers see: the centroid numbers of slots 0 .. n - 1, `codes` ends[s - 1] .. ends[s] of slot s."""

    centroids: Centroids
    codes: NDArray[np.uint16]
    ends: NDArray[np.int64]
    n: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of numbers and centroids; room behind the last is not touched yet."""
        used = int(self.ends[self.n - 1]) if self.n else 0
        return self.centroids.memory_bytes + self.codes[:used].nbytes + self.ends[: self.n].nbytes

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Nothing is chosen by measuring."""
        return {}

    def nearest(self, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range) -> Near:
        """The `count` best of `slots` by approximate MaxSim; points without tokens are left out."""
        from vicinal.kernels.centroids import choose, scan

        listed = owned(slots, np.uint32)
        assert not len(listed) or int(listed.max()) < self.n, "a slot that has no numbers yet"
        if len(query) > _NARROW:
            query = carve_query(query, _NEAR, cosines=True)
        query = owned(widened(query), np.float32)
        table, step, offset = _query_table(self.centroids, query)
        sums = np.empty(len(listed), np.int32)
        scan(self.codes, self.ends, listed, table, sums)
        positions = np.empty(min(count, len(listed)), np.int64)
        if len(positions):
            positions = positions[: choose(sums, 255 * len(query), len(positions), positions)]
        sums = sums[positions]
        order = np.argsort(-sums, kind="stable")
        return listed[positions[order]], (sums[order] * step + offset).astype(np.float32)


class CentroidIndex(ProxyIndex[CentroidPicture]):
    """The centroid numbers of one multi-vector field."""

    def __init__(self, dim: int, seed: int = 42) -> None:
        super().__init__()
        self._dim, self._seed = dim, seed

    def _fit(self, rows: TokenRows, stop: int) -> CentroidPicture:
        if stop and rows.ends[stop - 1]:
            centroids = fit_centroids(rows, stop, self._seed)
        else:
            shape = CENTROIDS_MIN, max(self._dim, WIDTH_MIN)
            centroids = make_centroids(np.zeros(shape, np.int8), np.zeros(CENTROIDS_MIN, np.float32))
        return CentroidPicture(centroids, np.empty(0, np.uint16), np.empty(0, np.int64), 0)

    def _add(self, picture: CentroidPicture, rows: TokenRows, stop: int) -> CentroidPicture:
        from vicinal.kernels.centroids import assign, unique_codes

        first = picture.n
        start = int(rows.ends[first - 1]) if first else 0
        counts = np.diff(rows.ends[first:stop], prepend=start)
        tokens = _directions(rows.tokens[start : start + int(counts.sum())])
        numbers = np.empty(len(tokens), np.uint16)
        assign(tokens, 0, len(tokens), picture.centroids.codes, numbers)
        used = int(picture.ends[first - 1]) if first else 0
        codes, ends = with_room(picture.codes, used, used + len(tokens)), with_room(picture.ends, first, stop)
        unique_codes(numbers, counts, codes, ends[first:stop], used)
        return CentroidPicture(picture.centroids, codes, ends, stop)

    def encode(self) -> bytes:
        """The centroids, the numbers and where each point's end."""
        picture = self._picture or self._fit(no_tokens(self._dim), 0)
        ends, fitted = picture.ends[: picture.n], picture.centroids
        numbers = picture.codes[: ends[-1] if len(ends) else 0]
        arrays: list[NDArray[Any]] = [fitted.codes, fitted.factors, ends, numbers]
        return pack(_MAGIC, _FORMAT, {"fitted_tokens": self._fitted_tokens}, arrays)

    def decode(self, buffer: memoryview | bytes, rows: TokenRows, slots: int) -> None:
        """Take numbers of at most `slots` slots."""
        about, arrays = unpack(buffer, _MAGIC, _FORMAT, _WHAT)
        try:
            directions, factors, ends, codes = arrays if len(arrays) > 3 else _of_vectors(*arrays)
            fitted = int(about["fitted_tokens"])
            _check_centroids(directions, factors, max(self._dim, WIDTH_MIN))
            _check_numbers(len(directions), ends, codes, rows.ends[:slots])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"{_WHAT}: {error}; it will be made again", field=_WHAT) from error
        self._fitted_tokens = fitted
        self._picture = CentroidPicture(
            make_centroids(directions.copy(), factors.copy()), codes.copy(), ends.copy(), len(ends)
        )


def _of_vectors(vectors: NDArray[Any], ends: NDArray[Any], codes: NDArray[Any]) -> list[NDArray[Any]]:
    """What snapshots hold, from an early one that holds centroids as float32; ValueError where that cannot be."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(f"centroids {vectors.shape}")
    directions, scale = _coded(_unit(vectors.astype(np.float64)))
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return [directions, (lengths * scale).astype(np.float32), ends, codes]


def _check_centroids(codes: NDArray[Any], factors: NDArray[Any], width: int) -> None:
    """ValueError unless these can be centroids."""
    count = len(codes)
    whole = CENTROIDS_MIN <= count <= CENTROIDS_MAX and count % 32 == 0
    if not whole or codes.shape != (count, width) or codes.dtype != np.int8 or int(codes.min()) < -127:
        raise ValueError(f"centroids {codes.shape}")
    if factors.shape != (count,) or factors.dtype != np.float32 or not np.isfinite(factors).all():
        raise ValueError(f"factors of centroids {factors.shape}")


def _check_numbers(count: int, ends: NDArray[Any], codes: NDArray[Any], stored: NDArray[np.int64]) -> None:
    """ValueError unless every point has numbers of the centroids, at most one for each stored token."""
    if ends.dtype != np.int64 or ends.ndim != 1 or codes.dtype != np.uint16 or codes.ndim != 1:
        raise ValueError("numbers of another type")
    if len(ends) > len(stored):
        raise ValueError(f"{len(ends)} slots of {len(stored)}")
    own, tokens = np.diff(ends, prepend=0), np.diff(stored[: len(ends)], prepend=0)
    if ((own < 0) | (own > tokens) | ((own > 0) != (tokens > 0))).any() or len(codes) != (ends[-1] if len(ends) else 0):
        raise ValueError("numbers that do not go with the stored tokens")
    if len(codes) and int(codes.max()) >= count:
        raise ValueError("a number of no centroid")


def fit_centroids(rows: TokenRows, stop: int, seed: int) -> Centroids:
    """Centroids of the tokens, at least one, of slots 0 .. stop - 1: spherical k-means over a seeded sample."""
    from vicinal.kernels.centroids import add_members, assign

    tokens = int(rows.ends[stop - 1])
    wanted = 2 ** math.ceil(math.log2(_SPREAD * math.sqrt(tokens)))
    count = min(max(wanted, CENTROIDS_MIN), CENTROIDS_MAX)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(tokens, min(tokens, _PER_CENTROID * count), replace=False))
    sample = _directions(rows.tokens[chosen])
    start = rng.choice(len(sample), count, replace=len(sample) < count)
    directions = _unit(sample[start].astype(np.float64))
    numbers = np.empty(len(sample), np.uint16)
    for _ in range(_ROUNDS):
        assign(sample, 0, len(sample), _coded(directions)[0], numbers)
        sums, members = np.zeros(directions.shape), np.zeros(count, np.int64)
        add_members(sample, numbers, sums, members)
        directions = np.where(members[:, None] > 0, _unit(sums), directions)
    lengths, (codes, scale) = _lengths(rows, stop, chosen), _coded(directions)
    assign(sample, 0, len(sample), codes, numbers)
    members = np.bincount(numbers, minlength=count)
    mean = np.bincount(numbers, lengths, count) / np.maximum(members, 1)
    mean[members == 0] = lengths.mean()
    return make_centroids(codes, (mean * scale).astype(np.float32))


def make_centroids(codes: NDArray[np.int8], factors: NDArray[np.float32]) -> Centroids:
    """Centroids from codes (K, dim) and factors (K,)."""
    wide = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide)) * factors
    mean = np.einsum("i,ij->j", factors, wide, dtype=np.float64) / len(codes)
    biases = -128 * codes.sum(axis=1, dtype=np.int32)
    return Centroids(codes, factors, biases, mean.astype(np.float32), float(lengths.max()))


def _query_table(centroids: Centroids, query: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """A line of bytes per centroid, one byte per query token, with the step and offset of their sums."""
    from vicinal.kernels.centroids import make_table

    coded = code_query(query)
    vectors = len(coded.bias)
    width = 16 * vectors if vectors <= 2 else -(-vectors // 4) * 64
    table = (np.empty if width == 16 * vectors else np.zeros)((len(centroids.codes), width), np.uint8)
    return table, *make_table(query, coded.lanes, coded.steps, coded.lengths, *centroids, table)


def _directions(tokens: NDArray[Any]) -> NDArray[np.int8]:
    """int8 codes of tokens (t, dim), each with a scale of its own where they are float32; writable."""
    tokens = widened(plain_tokens(tokens))
    if tokens.dtype == np.int8:
        return np.array(tokens, np.int8)
    return quantise_tokens(tokens, np.arange(1, len(tokens) + 1, dtype=np.int64))[0]


def _lengths(rows: TokenRows, stop: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lengths (len(chosen),) of stored tokens of slots 0 .. stop - 1; what `ends` holds beyond them is not sorted."""
    plain = plain_tokens(rows.tokens[chosen])
    some = plain.astype(np.float64)
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", some, some))
    if plain.dtype == np.int8:
        lengths *= rows.scales[np.searchsorted(rows.ends[:stop], chosen, side="right")]
    return lengths


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors brought to length one; zeros stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-30)[:, None]
    return unit


def _coded(directions: NDArray[np.float64]) -> tuple[NDArray[np.int8], float]:
    """Directions (K, dim) in int8 with one scale for all, and the scale."""
    most = max(float(np.abs(directions).max()), 1e-30)
    return np.rint(directions * (127 / most)).astype(np.int8), most / 127
