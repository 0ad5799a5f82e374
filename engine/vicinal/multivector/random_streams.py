"""The random matrices of the fixed-dimensional encoder, each a pure function of (generator, seed).

Two generators, both spelled out so that another implementation can follow:

`google` reproduces what libstdc++ (GCC 11 or newer) draws for Google's encoder, google/graph-mining,
`sketching/point_cloud/fixed_dimensional_encoding.cc`: `std::mt19937` seeded with 32 bits,
`std::normal_distribution<float>` (Marsaglia's polar method), `std::uniform_int_distribution<int>` (Lemire's
multiply and shift) and `std::bernoulli_distribution(0.5)` (one 53-bit double made of two words).

`paper` is our own, version 1: word i of stream t is word i of Philox4x64-10 (Salmon et al., SC 2011) with key
(seed, t) and counter 0, as `numpy.random.Philox` emits it. Gaussians are Box-Muller pairs in float64 of the
words' upper 53 bits, u1 = (word + 1) / 2^53 and u2 = word / 2^53, cosine first, rounded once to float32; signs are
the words' top bits; an index in [0, width) is (upper 32 bits * width) >> 32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_sketch", "gaussians", "paper_count_sketch", "paper_gaussians", "paper_signs"]

_WORD = 1 << 32
_CHUNK = 1 << 15  # words looked at together, at most
_DRAW = 1 << 10  # words drawn together, at least


class _MersenneWords:
    """The 32-bit words of `std::mt19937(seed)`, in order, handed out in runs."""

    def __init__(self, seed: int) -> None:
        # numpy's legacy integer seeding is the reference init_genrand that std::mt19937 uses
        self._generator = np.random.RandomState(seed % _WORD)
        self._pending = np.empty(0, np.uint32)

    def peek(self, count: int) -> NDArray[np.uint32]:
        """The next `count` words, which stay unread."""
        missing = count - len(self._pending)
        if missing > 0:
            drawn = self._generator.randint(0, _WORD, max(missing, _DRAW), dtype=np.uint32)
            self._pending = np.concatenate([self._pending, drawn])
        return self._pending[:count]

    def skip(self, count: int) -> None:
        """Mark `count` words as read."""
        self._pending = self._pending[count:]


def gaussians(seed: int, rows: int, columns: int) -> NDArray[np.float32]:
    """The first rows * columns values of `std::normal_distribution<float>` over `std::mt19937(seed)`.

    Returns (rows, columns) float32, filled column by column.
    """
    wanted = rows * columns
    words = _MersenneWords(seed)
    drawn: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    have = 0
    while have < wanted:
        count = min(_CHUNK, 3 * (wanted - have) // 2 * 2 + 64)  # pi / 4 of all pairs lie inside
        values = _polar_pairs(words.peek(count))
        words.skip(count)
        drawn.append(values)
        have += len(values)
    return np.ascontiguousarray(np.concatenate(drawn)[:wanted].reshape(columns, rows).T)


def _polar_pairs(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Gaussians of an even number of words: each accepted pair (x, y) gives y * f, then the saved x * f."""
    unit = words.astype(np.float32) * np.float32(2.0**-32)
    unit = np.minimum(unit, np.nextafter(np.float32(1), np.float32(0)))
    pairs = (np.float32(2) * unit - np.float32(1)).reshape(-1, 2)
    radius = pairs[:, 0] * pairs[:, 0] + pairs[:, 1] * pairs[:, 1]
    inside = (radius <= 1) & (radius != 0)
    pairs, radius = pairs[inside], radius[inside]
    # a float32 logarithm rounded once, as the C library's; numpy's own float32 log may differ by one ulp
    logarithm = np.log(radius.astype(np.float64)).astype(np.float32)
    factor = np.sqrt(np.float32(-2) * logarithm / radius)
    values: NDArray[np.float32] = pairs[:, ::-1] * factor[:, None]
    return values.reshape(-1)


def count_sketch(seed: int, rows: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Google's AMS sketch: one column and one sign per row, drawn in turn from `std::mt19937(seed)`.

    Returns columns (rows,) in [0, width) and signs (rows,) of +1 or -1.
    """
    columns = np.empty(rows, np.int64)
    signs = np.empty(rows, np.float32)
    at = 0
    for column, sign in _google_draws(_MersenneWords(seed), rows, width):
        columns[at : at + len(column)] = column
        signs[at : at + len(sign)] = sign
        at += len(column)
    return columns, signs


def _google_draws(
    words: _MersenneWords, rows: int, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Runs of (column, sign) draws; a run ends where Lemire's method rejects a word."""
    rejected_below = np.uint64((_WORD - width) % width)
    left = rows
    while left:
        take = min(left, _CHUNK // 3)
        triples = words.peek(3 * take).reshape(take, 3).astype(np.uint64)
        product = triples[:, 0] * np.uint64(width)
        rejected = (product & np.uint64(_WORD - 1)) < rejected_below
        good = int(np.argmax(rejected)) if rejected.any() else take
        words.skip(3 * good + (good < take))
        left -= good
        heads = _canonical(triples[:good, 1], triples[:good, 2]) < 0.5
        yield (product[:good] >> np.uint64(32)).astype(np.int64), np.where(heads, 1, -1).astype(np.float32)


def _canonical(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.float64]:
    """`std::generate_canonical<double, 53>` of two words: (low + high * 2^32) / 2^64."""
    return (low.astype(np.float64) + high.astype(np.float64) * 2.0**32) / 2.0**64


def _paper_words(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """The first `count` words of one stream of the `paper` generator."""
    key = np.array([seed, stream], np.uint64)
    raw = np.random.Philox(key=key, counter=np.zeros(4, np.uint64)).random_raw(count)
    return np.asarray(raw, np.uint64)


def paper_gaussians(seed: int, stream: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Standard normal values (rows, columns) float32, row by row, of one stream of the `paper` generator."""
    wanted = rows * columns
    halves = (_paper_words(seed, stream, wanted + wanted % 2) >> np.uint64(11)).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((halves[0::2] + 1.0) / 2.0**53))
    angle = 2.0 * np.pi * halves[1::2] / 2.0**53
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)[:wanted].reshape(rows, columns).astype(np.float32)


def paper_signs(seed: int, stream: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Fair signs (rows, columns) of +1 and -1 in float32, row by row, of one stream of the `paper` generator."""
    words = _paper_words(seed, stream, rows * columns)
    return np.where(words >> np.uint64(63), 1, -1).astype(np.float32).reshape(rows, columns)


def paper_count_sketch(seed: int, stream: int, rows: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """One column in [0, width) and one sign per row: words 2i and 2i + 1 of one stream, `width` below 2^32."""
    words = _paper_words(seed, stream, 2 * rows).reshape(rows, 2)
    columns = ((words[:, 0] >> np.uint64(32)) * np.uint64(width)) >> np.uint64(32)
    signs = np.where(words[:, 1] >> np.uint64(63), 1, -1).astype(np.float32)
    return columns.astype(np.int64), signs
