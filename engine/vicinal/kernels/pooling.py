"""Ward's clusters of a few hundred rows, from all their squared distances.

Ward, "Hierarchical grouping to optimize an objective function" (1963), by Murtagh's chain of nearest neighbours (1983):
two clusters that are each other's nearest are merged, in any order, and the merges sorted by height are the tree. The
same clusters as scipy's `linkage(rows, "ward")` cut into as many, unless heights are equal.
"""

from __future__ import annotations

import numpy as np

from vicinal.kernels import njit

__all__ = ["ward_labels"]


@njit
def _nearest(squares, sizes, row, nearest):
    """The cluster nearest to `row`; `nearest` (or -1) stays unless another is nearer."""
    least = squares[row, nearest] if nearest >= 0 else np.inf
    for i in range(sizes.shape[0]):
        if sizes[i] > 0 and i != row and squares[row, i] < least:
            least, nearest = squares[row, i], i
    return nearest


@njit
def _merge(squares, sizes, kept, gone):
    """Make two clusters one, and its squared distances by Lance and Williams' rule."""
    a, b, apart = sizes[kept], sizes[gone], squares[kept, gone]
    sizes[kept], sizes[gone] = a + b, 0
    for i in range(sizes.shape[0]):
        if sizes[i] > 0 and i != kept:
            c = sizes[i]
            square = ((a + c) * squares[kept, i] + (b + c) * squares[gone, i] - c * apart) / (a + b + c)
            squares[kept, i] = squares[i, kept] = square


@njit
def ward_labels(squares, count):
    """Numbers 0 .. count - 1 of clusters of n >= count rows, by their first rows; spoils `squares` (n, n) float64."""
    n = squares.shape[0]
    sizes, chain = np.ones(n, np.int64), np.empty(n, np.int64)
    pairs, heights = np.empty((n, 2), np.int64), np.empty(n - 1, np.float64)
    length = 0
    for merge in range(n - 1):
        if not length:
            chain[0] = np.argmax(sizes > 0)
            length = 1
        while True:
            row = chain[length - 1]
            before = chain[length - 2] if length > 1 else -1
            nearest = _nearest(squares, sizes, row, before)
            if nearest == before:
                break
            chain[length] = nearest
            length += 1
        length -= 2
        kept, gone = min(row, before), max(row, before)
        pairs[merge, 0], pairs[merge, 1], heights[merge] = kept, gone, squares[kept, gone]
        _merge(squares, sizes, kept, gone)
    return _cut(pairs, np.argsort(heights, kind="mergesort")[: n - count])


@njit
def _cut(pairs, merges):
    """The labels after some of the merges."""
    n = pairs.shape[0]
    parents = np.arange(n)
    for merge in merges:
        roots = pairs[merge].copy()
        for side in range(2):
            while parents[roots[side]] != roots[side]:
                roots[side] = parents[roots[side]]
        parents[max(roots[0], roots[1])] = min(roots[0], roots[1])
    labels, used = np.empty(n, np.int64), 0
    for i in range(n):  # the root of a cluster is its first row
        if parents[i] == i:
            labels[i] = used
            used += 1
        else:
            labels[i] = labels[parents[i]]
    return labels
