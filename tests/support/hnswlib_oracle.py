"""Files as hnswlib 0.8.0 writes them, made field by field, so that a test can make any field wrong."""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["brute_file", "hnsw_file"]


def hnsw_file(vectors, labels, *, width=4, deleted=(), upper=None, **wrong) -> bytearray:
    """An Index: each element links to its successors on a ring; `upper` maps an element to lists of links by level.

    `wrong` replaces fields of the header, and links of level 0 by `links={element: [...]}`.
    """
    n, dim = vectors.shape
    upper = {0: [[1]], 1: [[0]]} if upper is None else upper
    element = 4 + 8 * width + 4 * dim + 8
    head = {
        "offset": 0,
        "max_elements": n + 3,
        "n": n,
        "element": element,
        "label_at": element - 8,
        "vector_at": 4 + 8 * width,
        "top": max((len(lists) for lists in upper.values()), default=0),
        "entry": next(iter(upper), 0),
        "maxM": width,
        "maxM0": 2 * width,
        "M": width,
        "factor": 1 / np.log(width),
        "ef_construction": 50,
    }
    replaced = wrong.pop("links", {})
    head |= wrong
    out = bytearray(struct.pack("<QQQQQQiIQQQdQ", *head.values()))
    for slot in range(n):
        links = replaced.get(slot, [(slot + step) % n for step in range(1, 1 + min(2 * width, n - 1))])
        out += struct.pack("<HBB", len(links), int(slot in deleted), 0)
        out += np.array((links + [0] * 2 * width)[: 2 * width], "<u4").tobytes()
        out += np.asarray(vectors[slot], "<f4").tobytes() + struct.pack("<Q", int(labels[slot]))
    for slot in range(n):
        lists = upper.get(slot, [])
        out += struct.pack("<I", len(lists) * (4 * width + 4))
        for links in lists:
            out += struct.pack("<I", len(links)) + np.array((links + [0] * width)[:width], "<u4").tobytes()
    return out


def brute_file(vectors, labels, max_elements: int) -> bytearray:
    """A BFIndex with room for max_elements, all of which it writes."""
    n, dim = vectors.shape
    out = bytearray(struct.pack("<QQQ", max_elements, 4 * dim + 8, n))
    for slot in range(n):
        out += np.asarray(vectors[slot], "<f4").tobytes() + struct.pack("<Q", int(labels[slot]))
    return out + bytes((max_elements - n) * (4 * dim + 8))
