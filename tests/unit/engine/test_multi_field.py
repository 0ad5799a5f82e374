"""A multi-vector field of a collection, larger than what is compared exactly: candidates, filters, restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import maxsim, unit_rows

from vicinal.database import Database
from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded
from vicinal.limits import QUERY_TOKENS_MAX
from vicinal.schema import Multi

POINTS, DIM = 1_500, 32
FIELDS = [
    Multi(DIM),
    Multi(DIM, store="float32"),
    Multi(DIM, store="float16"),
    Multi(DIM, store="bit", originals=True),
    Multi(DIM, scale=1 / 127),
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
        one, two = (made.query_multi(queries[0], 10) for _ in range(2))
        assert (one.ids, one.scores.tobytes()) == (two.ids, two.scores.tobytes())
        kept = {p.id: p.vector["t"] for p in made.get(one.ids, with_vectors=True)}
        assert np.allclose(one.scores, [maxsim(queries[0], kept[i]) for i in one.ids], rtol=1e-5, atol=0)


def test_points_after_the_last_pass_are_found_at_once() -> None:
    with Database(":memory:") as database:
        made = _filled(database, FIELDS[0])
        assert made.flush(60)
        made._generation.indexer.close()  # nothing is indexed from here on
        made.upsert([9_000], [MATRICES[7][:6] * 2])
        hits = made.query_multi(MATRICES[7][:6], 3, explain=True)
        assert hits.ids[0] == 9_000
        assert hits.explain["candidates"] == 501
        made.delete([9_000, 7])
        assert not {7, 9_000} & set(made.query_multi(MATRICES[7][:6], 10).ids)


@pytest.mark.parametrize("spec", [FIELDS[0], FIELDS[3], FIELDS[5], FIELDS[6]], ids=lambda s: f"{s.store}-{s.proxy}")
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


@pytest.mark.parametrize(
    "spec",
    [Multi(DIM), Multi(DIM, store="bit"), Multi(DIM, pooling=3, originals=True), Multi(DIM, store="float16")],
    ids=["int8", "bit", "originals", "float16"],
)
def test_scores_are_made_of_token_scores(spec: Multi) -> None:
    query = MATRICES[3][:6]
    with Database(":memory:") as database:
        made = _filled(database, spec)
        hits = made.query_multi(query, 5, with_token_scores=True)
        assert hits.token_scores is not None
        for hit, products in zip(hits, hits.token_scores, strict=True):
            tokens = len(MATRICES[int(hit.id)])
            assert products.shape == (6, tokens if spec.pooling == 1 or spec.originals else products.shape[1])
            assert products.max(axis=1).sum() == pytest.approx(hit.score, rel=1e-5)
        assert made.query_multi(query, 5).token_scores is None
        assert made.query_multi(query, 5, filter="part = 9", with_token_scores=True).token_scores == []


def test_info_tells_bytes() -> None:
    with Database(":memory:") as database:
        made = _filled(database, FIELDS[0])
        assert made.flush(60)
        told = made.info().fields["t"]
        tokens = sum(map(len, MATRICES))
        assert told["tokens"] == told["tokens_sent"] == tokens
        assert told["memory_bytes"] >= tokens * DIM + told["proxy_bytes"]
        assert told["bytes_per_token"] == pytest.approx(told["memory_bytes"] / tokens, abs=0.1)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 150), ({"store": "bit"}, 40), ({"pooling": 8}, 40)],
)
def test_bytes_of_64_tokens_of_128_dimensions(options: Any, most: int) -> None:
    """The memory of stored tokens and of encodings of one bit, by token as sent."""
    rng = np.random.default_rng(3)
    block, ends = unit_rows(rng, 1_500 * 64, 128), np.arange(1, 1_501) * 64
    with Database(":memory:") as database:
        made = database.create_collection("c", vectors={"t": Multi(128, proxy="fde", **options)})
        made.upsert(range(1_500), (block, ends))
        assert made.flush(60)
        told = made.info().fields["t"]
        assert told["tokens_sent"] == 1_500 * 64
        kept = 1 + 63 // options.get("pooling", 1)
        assert told["tokens"] == 1_500 * kept
        assert told["proxy_bytes"] >= 1_500 * 1_280
        row = 17 if options.get("store") == "bit" else 128
        assert kept * row / 64 + 20 <= told["bytes_per_token"] <= most
        assert told["fill_empty_chosen"] in (True, False)
        hits = made.query_multi(block[64 * 7 : 64 * 7 + 20], 5)
        assert hits.ids[0] == 7


@pytest.mark.parametrize("store", ["int8", "bit", "float16"])
@pytest.mark.parametrize("pooling", [1, 3])
def test_tokens_as_sent_come_back_and_settle(store: Any, pooling: int, tmp_path: Path) -> None:
    spec = Multi(DIM, store=store, pooling=pooling, originals=True)
    for opening in range(2):
        with Database(tmp_path) as database:
            if not opening:
                made = _filled(database, spec)
                made.upsert([10_000], [MATRICES[3] * 2])
                made.delete([1])
            made = database.collection("c")
            assert made.flush(60)
            told = made.info().fields["t"]
            assert told["tokens_sent"] == sum(map(len, MATRICES)) + len(MATRICES[3])
            assert (told["tokens"] < told["tokens_sent"]) == (pooling > 1)
            for point in (0, 7, POINTS - 1):
                assert np.array_equal(made.get([point], with_vectors=True)[0].vector["t"], MATRICES[point])
            query = MATRICES[500][:6]
            exact = made.query_multi(query, 10, exact=True)
            assert exact.ids == [i for i in _truth(query, 12) if i != 1][:10]
            hits = made.query_multi(query, 10)
            assert hits.ids[0] == 500
            sent = {**dict(enumerate(MATRICES)), 10_000: MATRICES[3] * 2}
            assert np.allclose(hits.scores, [maxsim(query, sent[int(i)]) for i in hits.ids], atol=1e-5)
            assert made.query_multi(MATRICES[3][:6], 1).ids == [10_000]


def test_bits_come_back_in_their_own_space() -> None:
    with Database(":memory:") as database:
        made = _filled(database, Multi(DIM, store="bit"))
        for point in (0, 900):
            back = made.get([point], with_vectors=True)[0].vector["t"]
            assert back.shape == MATRICES[point].shape
            cosines = (back * MATRICES[point]).sum(axis=1) / np.linalg.norm(back, axis=1)
            assert cosines.min() > 0.4  # 128 bits of what were 32 numbers
            hits = made.query_multi(MATRICES[point][:6], 3, exact=True)
            assert np.allclose(hits.scores[:1], [maxsim(MATRICES[point][:6], back)], atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"store": "bit"}, {"store": "float16"}, {"proxy": "fde"}], ids=str)
def test_two_searches_give_identical_bytes(options: Any) -> None:
    with Database(":memory:") as database:
        made = _filled(database, Multi(DIM, **options))
        assert made.flush(60)
        for query in (MATRICES[4], MATRICES[900][:3]):
            for words in ({}, {"exact": True}, {"filter": "part = 1"}, {"carve": 0.7}):
                one, two = (made.query_multi(query, 20, **words) for _ in range(2))
                assert (one.ids, one.scores.tobytes()) == (two.ids, two.scores.tobytes())


def test_a_carved_query_finds_nearly_the_same() -> None:
    query = np.repeat(MATRICES[40][:6], 3, axis=0)
    with Database(":memory:") as database:
        made = _filled(database, FIELDS[0])
        assert made.flush(60)
        whole, carved = made.query_multi(query, 10), made.query_multi(query, 10, carve=0.7, explain=True)
        assert carved.ids[0] == whole.ids[0] == 40
        assert carved.scores[0] == whole.scores[0]
        assert carved.explain is not None
        assert carved.explain["settled"] == 18
        assert len(set(whole.ids) & set(carved.ids)) >= 8
        for wrong in ("x", True, float("nan")):
            with pytest.raises(InvalidArgument, match="carve"):
                made.query_multi(query, 10, carve=wrong)
        with pytest.raises(LimitExceeded, match="tokens"):
            made.query_multi(np.ones((QUERY_TOKENS_MAX + 1, DIM), np.float32))


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
    [
        ({"proxy": "plaid"}, "proxy"),
        ({"proxy_bits": 2}, "proxy_bits"),
        ({"proxy_bits": True}, "proxy_bits"),
        ({"store": "int4"}, "store"),
        ({"pooling": 0}, "pooling"),
        ({"pooling": True}, "pooling"),
        ({"originals": 1}, "originals"),
        ({"fill_empty": "maybe"}, "fill_empty"),
        ({"fill_empty": 1}, "fill_empty"),
        ({"scale": 0}, "scale"),
        ({"scale": "x"}, "scale"),
        ({"scale": True}, "scale"),
        ({"scale": 1.0, "store": "bit"}, "scale"),
    ],
)
def test_bad_declarations(options: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Multi(8, **options)


@pytest.mark.parametrize(("options", "value"), [({"store": "float16"}, 7e4), ({"scale": 1 / 127}, 1.01)])
def test_numbers_that_rows_cannot_hold_are_refused(options: Any, value: float) -> None:
    with Database(":memory:") as database:
        made = database.create_collection("c", vectors={"t": Multi(4, **options)})
        matrices = [np.ones((3, 4), np.float32) for _ in range(5)]
        made.upsert(range(5), matrices)
        matrices[2][1, 3] = -value
        with pytest.raises(InvalidVector, match="point 2 of t"):
            made.upsert(range(5), matrices)
        assert np.array_equal(made.get([2], with_vectors=True)[0].vector["t"], np.ones((3, 4)))
