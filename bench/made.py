"""Seeded data sets made here: two that nothing was tuned on, two that break graphs, two for tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "copies", "islands", "mixture", "near_copies", "patches", "sample"]

PATCH_ROWS = 200_000
PATCH = 16  # pixels on a side: 4 x 4 fields of 8 directions make 128 dimensions
LEAST_LENGTH = 100.0  # of a histogram: patches with less have no structure
_BLOCK = 4000


class Parts(NamedTuple):
    """A metric, base rows and queries, not yet in order."""

    metric: str
    base: NDArray[Any]
    queries: NDArray[Any]


def patches(pixels: NDArray[np.uint8], query_pixels: NDArray[np.uint8], seed: int = 1) -> Parts:
    """Histograms of gradients (after Lowe's SIFT) of random 16 x 16 patches of 28 x 28 images: 200,000 x 128, l2.

    Whole numbers 0 .. 255 as SIFT's are. Queries are patches of other images. Patches without any structure are
    left out.
    """
    rng = np.random.default_rng(seed)
    base = np.concatenate([_descriptors(pixels, rng) for _ in range(5)])
    return Parts("l2", base[rng.permutation(len(base))[:PATCH_ROWS]], _descriptors(query_pixels, rng))


def _descriptors(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One patch per image at a random place; flat ones are dropped."""
    made = []
    for first in range(0, len(pixels), _BLOCK):
        images = pixels[first : first + _BLOCK].reshape(-1, 28, 28).astype(np.float32)
        slopes: Any = np.gradient(images, axis=(1, 2))  # two arrays, whatever its type says
        places = rng.integers(0, 28 - PATCH + 1, (2, len(images)))
        cut = places[:, :, None] + np.arange(PATCH)
        at = np.arange(len(images))[:, None, None], cut[0][:, :, None], cut[1][:, None, :]
        made.append(_histograms(slopes[0][at], slopes[1][at]))
    return np.concatenate(made)


def _histograms(down: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Directions in 8 bins with linear weights, summed over 4 x 4 fields, clipped at 0.2 of the length."""
    length = np.hypot(down, right)
    turn = np.arctan2(down, right) / (2 * np.pi) * 8 % 8
    low = np.floor(turn).astype(np.int64) % 8
    share = turn - np.floor(turn)
    bins = np.zeros((*length.shape, 8), np.float32)
    np.put_along_axis(bins, low[..., None], (length * (1 - share))[..., None], axis=-1)
    np.put_along_axis(bins, ((low + 1) % 8)[..., None], (length * share)[..., None], axis=-1)
    field = PATCH // 4
    sums = bins.reshape(len(bins), 4, field, 4, field, 8).sum(axis=(2, 4)).reshape(len(bins), -1)
    norms = np.linalg.norm(sums, axis=1)
    kept = norms > LEAST_LENGTH
    sums = sums[kept] / norms[kept, None]
    clipped = np.minimum(sums, 0.2)
    clipped /= np.linalg.norm(clipped, axis=1, keepdims=True)
    whole: NDArray[np.uint8] = np.minimum(clipped * 512, 255).astype(np.uint8)
    return whole


def mixture(rows: int = 100_000, count: int = 300, dim: int = 96, seed: int = 5) -> Parts:
    """Gaussians of unlike weight, width and rank, which overlap, a third of the queries beside them: 100,000 x 96.

    Weights fall as 1 / rank, widths differ fourfold, each has 6 to 30 directions of its own and noise in all.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, count + 1)
    centres = rng.standard_normal((count, dim)).astype(np.float32)
    widths = rng.uniform(0.5, 2.0, count).astype(np.float32)
    ranks = rng.integers(6, 31, count)

    def drawn(names: NDArray[np.int64]) -> NDArray[np.float32]:
        made = np.empty((len(names), dim), np.float32)
        for name in np.unique(names).tolist():
            own = np.random.default_rng((seed, name)).standard_normal((int(ranks[name]), dim)).astype(np.float32)
            at = np.flatnonzero(names == name)
            inside = rng.standard_normal((len(at), len(own))).astype(np.float32) @ own / np.sqrt(len(own))
            noise = 0.2 * rng.standard_normal((len(at), dim)).astype(np.float32)
            made[at] = centres[name] + widths[name] * (inside + noise)
        return made

    base = drawn(rng.choice(count, rows, p=weights / weights.sum()))
    asked = drawn(rng.choice(count, 2000, p=weights / weights.sum()))
    asked[::3] += 0.5 * rng.standard_normal((len(asked[::3]), dim)).astype(np.float32)
    return Parts("l2", base, asked)


def islands(count: int = 200, size: int = 500, dim: int = 64, seed: int = 2) -> Parts:
    """Tight clusters far apart, and queries half-way between two of them: 100,000 x 64, l2."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, dim)) * 10
    base = np.repeat(centres, size, axis=0) + rng.standard_normal((count * size, dim)) * 0.1
    pairs = rng.integers(0, count, (2, 1000))
    between = (centres[pairs[0]] + centres[pairs[1]]) / 2 + rng.standard_normal((1000, dim)) * 0.1
    return Parts("l2", base, between)


def copies(distinct: int = 1000, times: int = 50, dim: int = 32, seed: int = 3) -> Parts:
    """Each of 1,000 vectors 50 times over: 50,000 x 32, l2. Answers are compared by distance."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((distinct, dim))
    return Parts("l2", np.repeat(rows, times, axis=0), rows + rng.standard_normal((distinct, dim)) * 0.2)


def near_copies(families: int = 20_000, times: int = 5, dim: int = 384, seed: int = 6) -> Parts:
    """Families of near-copies, as of text that is posted again: 20,000 x 5 rows of 384 dimensions, cosine.

    Centres have 48 dimensions that matter and noise in all; members lie .02 from theirs, so about .028 apart.
    """
    rng = np.random.default_rng(seed)
    asked = 2000
    wide = rng.standard_normal((families + asked, 48)) @ rng.standard_normal((48, dim)) / np.sqrt(48)
    centres = (wide + 0.3 * rng.standard_normal(wide.shape)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rows = np.repeat(centres[:families], times, axis=0)
    rows += rng.standard_normal(rows.shape, np.float32) * np.float32(0.02 / np.sqrt(dim))
    return Parts("cosine", rows, centres[families:])


def sample(metric: str, dim: int, rows: int = 2000, seed: int = 4) -> Parts:
    """A small set in 20 wide clusters, to see that an engine is called rightly."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    near = rng.integers(0, 20, rows + 200)
    made = (centres[near] + 0.5 * rng.standard_normal((rows + 200, dim))).astype(np.float32)
    return Parts(metric, made[:rows], made[rows:])
