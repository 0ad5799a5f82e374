"""A multi-vector field of a collection, larger than what is compared exactly: candidates, filters, restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import maxsim, unit_rows

from vicinal.database import Database
from vicinal.errors import InvalidArgument
from vicinal.schema import Multi

POINTS, DIM = 1_500, 32
FIELDS = [
    Multi(DIM),
    Multi(DIM, store="float32"),
    Multi(DIM, proxy="lemur"),
    *(Multi(DIM, proxy="fde", proxy_bits=bits, repetitions=10, simhash_projections=4) for bits in (1, 4, 8, 32)),  # type: ignore[arg-type]
]


def _matrices(seed: int = 1) -> list[NDArray[np.float32]]:
    """Token matrices whose tokens lie near some directions, as real tokens do."""
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng, 300, DIM)
    matrices = []
    for count in rng.integers(6, 15, POINTS):
        tokens = directions[rng.integers(0, 300, count)] + 0.08 * rng.standard_normal((count, DIM))
        matrices.append((tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32))
    return matrices


MATRICES = _matrices()


def _filled(database: Any, spec: Multi) -> Any:
    made = database.create_collection("c", vectors={"t": spec})
    made.upsert(range(POINTS), MATRICES, [{"part": i % 3} for i in range(POINTS)])
    return made


def _truth(query: NDArray[np.float32], k: int, among: Any = range(POINTS)) -> list[int]:
    return sorted(among, key=lambda i: -maxsim(query, MATRICES[i]))[:k]


@pytest.mark.parametrize("spec", FIELDS, ids=lambda s: f"{s.store}-{s.proxy}-{s.proxy_bits}")
def test_candidates_hold_the_best(spec: Multi) -> None:
    queries = [MATRICES[i][:6] for i in (3, 500, 1_400)]
    with Database(":memory:") as database:
        made = _filled(database, spec)
        early = made.query_multi(queries[0], 10, explain=True)  # some or all of the points are not indexed yet
        assert len(early) == 10
        assert early.ids[0] == 3
        assert made.flush(60)
        for query in queries:
            hits = made.query_multi(query, 10, explain=True)
            assert not hits.explain["exact"]
            assert (hits.explain["candidates"], hits.explain["proxies_evaluated"]) == (500, POINTS)
            assert {"proxy_ms", "rerank_ms", "search_ms"} <= set(hits.explain)
            assert len(set(hits.ids) & set(_truth(query, 10))) >= (9 if spec.proxy == "centroids" else 7)
            even = made.query_multi(query, 10, filter="part in [0, 1]", candidates=100, explain=True)
            assert even.explain["cardinality"] == even.explain["proxies_evaluated"] == 1_000
            matching = [i for i in range(POINTS) if i % 3 < 2]
            assert set(even.ids) <= set(matching)
            if spec.proxy == "centroids":  # encodings of so few numbers find a few of the ten
                assert len(set(even.ids) & set(_truth(query, 10, matching))) >= 8
            few = made.query_multi(query, 10, filter="part = 2", explain=True)
            assert few.explain["exact"]
            assert few.ids == made.query_multi(query, 10, filter="part = 2", exact=True).ids
            assert len(made.query_multi(query, 600, filter="part in [0, 1]", candidates=10)) == 600
        again = made.query_multi(queries[0], 10)
        assert again.ids == made.query_multi(queries[0], 10).ids


def test_points_after_the_last_pass_are_found_at_once() -> None:
    with Database(":memory:") as database:
        made = _filled(database, FIELDS[0])
        assert made.flush(60)
        made._indexer.close()  # nothing is indexed from here on
        made.upsert([9_000], [MATRICES[7][:6] * 2])
        hits = made.query_multi(MATRICES[7][:6], 3, explain=True)
        assert hits.ids[0] == 9_000
        assert hits.explain["candidates"] == 501
        made.delete([9_000, 7])
        assert not {7, 9_000} & set(made.query_multi(MATRICES[7][:6], 10).ids)


@pytest.mark.parametrize("spec", [FIELDS[0], FIELDS[2], FIELDS[3]], ids=lambda s: s.proxy)
def test_a_restart_takes_the_snapshot(spec: Multi, tmp_path: Path) -> None:
    query = MATRICES[40][:6]
    with Database(tmp_path) as database:
        made = _filled(database, spec)
        assert made.flush(60)
        before = made.query_multi(query, 10)
    with Database(tmp_path, read_only=True) as database:  # which indexes nothing
        made = database.collection("c")
        hits = made.query_multi(query, 10, explain=True)
        assert hits.explain is not None
        assert hits.explain["proxies_evaluated"] == POINTS
        assert (hits.ids, hits.scores.tolist()) == (before.ids, before.scores.tolist())
    for path in tmp_path.rglob("*.snapshot"):
        path.write_bytes(path.read_bytes()[:-30])
    with Database(tmp_path) as database:
        made = database.collection("c")
        assert made.query_multi(query, 10).ids[0] == 40
        assert made.flush(60)
        assert made.query_multi(query, 10).ids == before.ids


def test_info_tells_bytes() -> None:
    with Database(":memory:") as database:
        made = _filled(database, FIELDS[0])
        assert made.flush(60)
        told = made.info().fields["t"]
        tokens = sum(map(len, MATRICES))
        assert told["tokens"] == tokens
        assert told["memory_bytes"] >= tokens * DIM + told["proxy_bytes"]
        assert told["bytes_per_token"] == pytest.approx(told["memory_bytes"] / tokens, abs=0.1)


def test_narrow_tokens() -> None:
    rng = np.random.default_rng(1)
    matrices = [unit_rows(rng, 5, 2) for _ in range(700)]
    with Database(":memory:") as database:
        made = database.create_collection("c", vectors={"t": Multi(2)})
        made.upsert(range(700), matrices)
        assert made.flush(60)
        assert len(made.query_multi(matrices[3], 10)) == 10


@pytest.mark.parametrize(
    ("options", "name"),
    [({"proxy": "plaid"}, "proxy"), ({"proxy_bits": 2}, "proxy_bits"), ({"proxy_bits": True}, "proxy_bits")],
)
def test_bad_declarations(options: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Multi(8, **options)
