"""What users do with every kind of field, as a program: `python -m tests.support.everyday`.

Rows are just enough for graphs to be built in bulk, of which not all are compared with each other.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vicinal

N = 10_500
RNG = np.random.default_rng(0)


def points(n: int, dim: int, rank: int | None = None) -> NDArray[np.float32]:
    """Normal rows, of a low rank where one is given."""
    if rank is None:
        return RNG.standard_normal((n, dim), np.float32)
    return RNG.standard_normal((n, rank), np.float32) @ RNG.standard_normal((rank, dim), np.float32)


def whole(dtype: str, low: int = 0) -> NDArray[Any]:
    """Whole numbers of bytes."""
    return RNG.integers(low, 127, (N, 96)).astype(dtype)


def use(rows: NDArray[Any], later: int = 600, **spec: Any) -> None:
    """Build, search, filter, batch, insert, delete, and open again."""
    n, query = len(rows), rows[5].copy()
    query.flags.writeable = False  # as the service reads it
    with tempfile.TemporaryDirectory() as folder:
        with vicinal.connect(folder) as database:
            made = database.create_collection("c", **{"dim": rows.shape[1], **spec})
            made.upsert(range(n), rows, [{"n": i, "s": f"x{i % 7}", "t": [i % 3, i % 5]} for i in range(n)])
            made.flush()
            for options in ({}, {"exact": True}, {"ef": 300}, {"recall_target": 0.9}):
                made.query(query, 10, **options)
            for text in ("n < 100", "s = 'x1'", f"n < {n // 2}", "t = 2 and not n > 500"):
                made.query(query, 10, filter=text)
            for filters in (None, "n < 500", [f"n < {100 * (i + 1)}" for i in range(40)]):
                made.query_batch(rows[:40], 10, filter=filters)
            for first, count in ((n, later), (n, 3), (n + later, 3)):
                made.upsert(range(first, first + count), rows[:count])
                made.query(query, 10)
                made.flush()
            for stop in (n // 10, n // 2):
                made.delete(filter=f"n < {stop}")
                made.flush()
                made.query(query, 10)
        with vicinal.connect(folder, read_only=True) as database:
            database.collection("c").query(query, 10)


def use_tokens() -> None:
    """Multi-vectors beside a dense field."""
    with vicinal.connect(":memory:") as database:
        fields = {"tokens": vicinal.Multi(32), "title": vicinal.Dense(64)}
        made = database.create_collection("m", vectors=fields)
        matrices = [points(5 + i % 4, 32) for i in range(2000)]
        made.upsert(range(2000), {"tokens": matrices, "title": points(2000, 64)}, [{"n": i} for i in range(2000)])
        made.flush()
        for options in ({}, {"filter": "n < 500", "rerank": "float32"}, {"rerank": "none"}, {"exact": True}):
            made.query_multi(matrices[3], 10, using="tokens", **options)
        made.delete(filter="n < 300")
        made.flush()


def use_index(space: str, dim: int) -> None:
    """`vicinal.Index` and `BFIndex`."""
    rows = points(N, dim)
    index = vicinal.Index(space, dim)
    index.init_index(N + 1000)
    index.add_items(rows)
    for filter_ in (None, lambda label: label % 2 == 0):
        index.knn_query(rows[:50], 10, filter=filter_)
    index.add_items(rows[:100], np.arange(N, N + 100))
    for label in range(20):
        index.mark_deleted(label)
    index.compact()
    index.knn_query(rows[:1], 10)
    exact = vicinal.BFIndex(space, dim)
    exact.init_index(N)
    exact.add_items(rows)
    exact.knn_query(rows[:3], 5)


def main() -> None:
    """All of it."""
    for metric in ("cosine", "dot", "l2"):
        use(points(N, 256), metric=metric)
        use(points(1500, 32), 100, metric=metric)
    use(points(N, 120, 40), metric="l2")
    use(points(N, 48), metric="l2")
    use(np.repeat(points(500, 64), N // 500, 0), metric="l2")
    use((100 * points(200, 64)[np.arange(N) % 200] + points(N, 64)).astype(np.float32), metric="l2")
    use(points(N, 96), metric="cosine", layout="cells")
    use(points(N, 64), metric="cosine", codec="none")
    use(points(N, 128), metric="cosine", search_dims=64)
    use(whole("float32"), metric="l2")
    for dtype, metric in (("uint8", "l2"), ("int8", "dot"), ("float16", "cosine")):
        use(whole(dtype), metric=metric, dtype=dtype)
    for metric in ("hamming", "jaccard"):
        use(whole("int8") > 60, metric=metric, dtype="bit")
    use(points(3000, 16), 100, metric="l1")
    use(RNG.uniform(-80, 80, (3000, 2)).astype(np.float32), 100, metric="haversine")
    use_tokens()
    for space, dim in (("l2", 96), ("cosine", 300), ("ip", 300)):
        use_index(space, dim)


if __name__ == "__main__":
    main()
