"""Candidates for MaxSim by centroids: each token is the number of its nearest centroid, two bytes.

A point's approximate score puts centroids in the place of its tokens: the first stage of PLAID (Santhanam et al.,
"PLAID: An Efficient Engine for Late Interaction Retrieval", CIKM 2022). Departures: no inverted lists and no pruning
of centroids, every point is scored (`kernels.centroids`, some 20 ns a point); numbers a point repeats are kept once;
centroids are spherical k-means over a seeded sample of int8 tokens, drawn again when the field has grown fourfold.

The same points give the same numbers on any machine: products are integers, sums are taken in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.tokens import quantise_tokens
from vicinal.types import TokenRows

__all__ = [
    "CENTROIDS_MAX",
    "CENTROIDS_MIN",
    "CentroidIndex",
    "CentroidPicture",
    "Centroids",
    "fit_centroids",
    "make_centroids",
    "search_centroids",
]

CENTROIDS_MIN: Final = 64
CENTROIDS_MAX: Final = 4096  # a query's table of 32 tokens then takes 128 KiB and stays in the second-level cache
_PER_CENTROID = 20  # sampled tokens
_ROUNDS = 4
_GROWN = 4  # refit when the tokens are so many times those of the last fit
_CHUNK = 256  # points between looks at `cancel`


class Centroids(NamedTuple):
    """Fitted centroids. `vectors` (K, dim) float32: unit directions times their tokens' mean length.

    `lanes` and `bias`: the directions in int8, packed for assignment; `panels`: the vectors, packed for queries.
    """

    vectors: NDArray[np.float32]
    lanes: NDArray[np.int8]
    bias: NDArray[np.int32]
    panels: NDArray[np.float32]


class CentroidPicture(NamedTuple):
    """What readers see: the centroid numbers of slots 0 .. n - 1, `codes` ends[s - 1] .. ends[s] of slot s."""

    centroids: Centroids
    codes: NDArray[np.uint16]
    ends: NDArray[np.int64]
    n: int


class CentroidIndex:
    """The centroid numbers of one multi-vector field; written by one thread, read through pictures.

    Derived data: it can be built again from the stored tokens. `dim` must be at least 4.
    """

    def __init__(self, dim: int, seed: int = 42) -> None:
        assert dim >= 4, "tokens of fewer dimensions are compared exactly"
        self._dim, self._seed = dim, seed
        self._fitted_tokens = 0
        self._picture: CentroidPicture | None = None

    @property
    def n(self) -> int:
        """Watermark: slots 0 .. n - 1 have numbers."""
        return 0 if self._picture is None else self._picture.n

    @property
    def fitted_tokens(self) -> int:
        """How many tokens the field held when its centroids were drawn."""
        return self._fitted_tokens

    @property
    def memory_bytes(self) -> int:
        """Bytes of numbers and centroids."""
        if self._picture is None:
            return 0
        picture = self._picture
        return int(sum(a.nbytes for a in (*picture.centroids, picture.codes, picture.ends)))

    def picture(self) -> CentroidPicture | None:
        """The state for readers: later changes do not touch it. None before the first points."""
        return self._picture

    def extend(self, rows: TokenRows, stop: int, cancel: Callable[[], bool] | None = None) -> None:
        """Number the tokens of slots n .. stop - 1; of all slots when the centroids are drawn again.

        Stops early when `cancel` says so, between chunks: what is done so far is kept, except of a refit.
        """
        tokens = int(rows.ends[stop - 1]) if stop else 0
        if not tokens:
            return
        if self._picture is None or tokens >= _GROWN * self._fitted_tokens:
            fresh = CentroidPicture(
                fit_centroids(rows, tokens, self._dim, self._seed), np.empty(0, np.uint16), np.empty(0, np.int64), 0
            )
            while fresh.n < stop:
                if cancel is not None and cancel():
                    return
                fresh = _number(fresh, rows, min(fresh.n + _CHUNK, stop))
            self._fitted_tokens, self._picture = tokens, fresh
        while self._picture.n < stop and not (cancel is not None and cancel()):
            self._picture = _number(self._picture, rows, min(self._picture.n + _CHUNK, stop))


def fit_centroids(rows: TokenRows, tokens: int, dim: int, seed: int) -> Centroids:
    """Centroids of the first `tokens` stored tokens: spherical k-means over a seeded sample."""
    from vicinal.kernels.centroids import add_members, assign

    wanted = 2 ** math.ceil(math.log2(16 * math.sqrt(tokens)))
    count = min(max(wanted, CENTROIDS_MIN), CENTROIDS_MAX)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(tokens, min(tokens, _PER_CENTROID * count), replace=False))
    sample = _directions(rows.tokens[chosen])
    start = rng.choice(len(sample), count, replace=len(sample) < count)
    directions = _unit(sample[start].astype(np.float64))
    numbers = np.empty(len(sample), np.uint16)
    for _ in range(_ROUNDS):
        assign(sample, 0, len(sample), *_pack(directions), numbers)
        sums, members = np.zeros((count, dim)), np.zeros(count, np.int64)
        add_members(sample, numbers, sums, members)
        directions = np.where(members[:, None] > 0, _unit(sums), directions)
    lengths = _lengths(rows, chosen)
    assign(sample, 0, len(sample), *_pack(directions), numbers)
    members = np.bincount(numbers, minlength=count)
    mean = np.bincount(numbers, lengths, count) / np.maximum(members, 1)
    mean[members == 0] = lengths.mean()
    return make_centroids((directions * mean[:, None]).astype(np.float32))


def make_centroids(vectors: NDArray[np.float32]) -> Centroids:
    """Pack centroid vectors (K, dim) for assignment and for queries."""
    from vicinal.kernels.fde import pack_panels

    lanes, bias = _pack(_unit(vectors.astype(np.float64)))
    return Centroids(vectors, lanes, bias, pack_panels(np.ascontiguousarray(vectors.T)))


def search_centroids(
    picture: CentroidPicture, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """The `count` best of `slots`, each below `picture.n`, by approximate MaxSim: slots and scores, best first.

    `query` (m, dim) float32, checked. Ties by the order of `slots`; points without tokens are left out.
    """
    from vicinal.kernels.centroids import choose, scan

    listed = np.require(slots, np.uint32, ["C", "W"])
    assert not len(listed) or int(listed.max()) < picture.n, "a slot that has no numbers yet"
    table, step, offset = _query_table(picture.centroids, query)
    sums = np.empty(len(listed), np.int32)
    scan(picture.codes, picture.ends, listed, table, sums)
    positions = np.empty(min(count, len(listed)), np.int64)
    if len(positions):
        positions = positions[: choose(sums, 255 * len(query), len(positions), positions)]
    positions = positions[np.argsort(-sums[positions], kind="stable")]
    return listed[positions], (sums[positions] * step + offset).astype(np.float32)


def _query_table(centroids: Centroids, query: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """A line of bytes per centroid, one byte per query token, with the step and offset of their sums."""
    from vicinal.kernels.centroids import make_table
    from vicinal.kernels.fde import PANEL, product

    m, count = len(query), len(centroids.vectors)
    products = np.empty((m + 8, centroids.panels.shape[0] * PANEL), np.float32)
    product(np.require(query, np.float32, ["C", "W"]), 0, m, centroids.panels, products)
    width = 16 if m <= 16 else 32 if m <= 32 else -(-m // 64) * 64
    table = np.zeros((count, width), np.uint8)
    step, offset = make_table(products, m, count, table)
    return table, float(step), float(offset)


def _number(picture: CentroidPicture, rows: TokenRows, stop: int) -> CentroidPicture:
    """The picture with slots picture.n .. stop - 1 added, in the same arrays while they have room."""
    from vicinal.kernels.centroids import assign, unique_codes

    first = picture.n
    start = int(rows.ends[first - 1]) if first else 0
    counts = np.diff(rows.ends[first:stop], prepend=start)
    tokens = _directions(rows.tokens[start : start + int(counts.sum())])
    numbers = np.empty(len(tokens), np.uint16)
    centroids = picture.centroids
    assign(tokens, 0, len(tokens), centroids.lanes, centroids.bias, numbers)
    used = int(picture.ends[first - 1]) if first else 0
    codes, ends = _room(picture.codes, used, used + len(tokens)), _room(picture.ends, first, stop)
    unique_codes(numbers, counts, codes, ends[first:stop], used)
    return CentroidPicture(centroids, codes, ends, stop)


def _room(array: NDArray[Any], used: int, wanted: int) -> NDArray[Any]:
    """The array, or a larger one with its first `used` entries: readers keep the old one."""
    if wanted <= len(array):
        return array
    larger = np.zeros(max(wanted, len(array) + len(array) // 4), array.dtype)
    larger[:used] = array[:used]
    return larger


def _directions(tokens: NDArray[Any]) -> NDArray[np.int8]:
    """int8 codes of tokens (t, dim), each with a scale of its own where they are float32; writable."""
    if tokens.dtype == np.int8:
        return np.array(tokens, np.int8)
    return quantise_tokens(tokens, np.arange(1, len(tokens) + 1, dtype=np.int64))[0]


def _lengths(rows: TokenRows, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lengths (len(chosen),) of stored tokens."""
    some = rows.tokens[chosen].astype(np.float64)
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", some, some))
    if rows.tokens.dtype == np.int8:
        lengths *= rows.scales[np.searchsorted(rows.ends, chosen, side="right")]
    return lengths


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors brought to length one; zeros stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-30)[:, None]
    return unit


def _pack(directions: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Directions (K, dim) in int8 with one scale for all, as `pack_codes` packs them; K is a multiple of 32."""
    from vicinal.kernels.maxsim import pack_codes

    most = max(float(np.abs(directions).max()), 1e-30)
    return pack_codes(np.rint(directions * (127 / most)).astype(np.int8))
