"""Fields of every dtype: what may be sent, what is kept, and that answers are those of numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.dtypes_oracle import PAIRS, distances, some_rows

import vicinal
from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded, VicinalError
from vicinal.schema import Dense, from_mapping
from vicinal.types import Metric

DIM = 40


def scores(metric: Metric, found: Any) -> Any:
    if metric is Metric.L2:
        return np.sqrt(found)
    return {Metric.DOT: -found, Metric.COSINE: 1 - found}.get(metric, found)


def made(database: Any, dtype: str, metric: Metric, dim: int = DIM, **options: Any) -> Any:
    return database.create_collection("c", dim=dim, metric=metric.value, dtype=dtype, **options)


@pytest.mark.parametrize(("dtype", "metric"), PAIRS)
def test_round_trip_answers_and_reopening(dtype: str, metric: Metric, tmp_path: Path) -> None:
    sent = some_rows(dtype, 300, DIM)
    true = distances(metric, sent, sent[7])
    expected = np.sort(true)[:10]
    with vicinal.connect(tmp_path) as database:
        collection = made(database, dtype, metric)
        collection.upsert(range(300), sent)
        collection.delete([250])
        true[250] = np.inf
        expected = np.sort(true)[:10]
        for flushed in (False, True):
            if flushed:
                collection.flush()
            hits = collection.query(sent[7], 10)
            np.testing.assert_allclose(hits.scores, scores(metric, expected), rtol=1e-4, atol=2e-3)
            np.testing.assert_allclose(scores(metric, true[hits.ids]), hits.scores, rtol=1e-4, atol=2e-3)
        ids, _, counts = collection.query_batch(sent[:3], 5, filter=None)
        assert counts.tolist() == [5, 5, 5]
        assert ids[2].tolist() == list(collection.query(sent[2], 5).ids)
    with vicinal.connect(tmp_path) as database:
        collection = database.collection("c")
        kept = collection.get([3], with_vectors=True)[0].vector
        stored = np.packbits(sent[3]) if dtype == "bit" else sent[3]
        assert kept.dtype == stored.dtype
        np.testing.assert_array_equal(kept, stored)
        again = collection.query(sent[7], 10, with_vectors=True)
        assert list(again.ids) == list(hits.ids)
        assert again[0].vector.dtype == stored.dtype
        field = collection.info().fields[""]
        assert field["row_bytes"] == stored.nbytes
        assert (tmp_path / "collections").is_dir()
    (file,) = tmp_path.rglob("vectors-1.vec")
    assert stored_rows_of(file, sent, dtype)


def stored_rows_of(file: Path, sent: Any, dtype: str) -> bool:
    """Whether the file holds the rows as they were sent, and not a wider form of them."""
    rows = np.packbits(sent, axis=1) if dtype == "bit" else sent
    return bool(rows.tobytes() in file.read_bytes())


QUICK = [("float16", Metric.COSINE), ("int8", Metric.DOT), ("uint8", Metric.L2), *PAIRS[-2:]]


@pytest.mark.parametrize(
    ("dtype", "metric"), [pytest.param(*p, marks=[] if p in QUICK else pytest.mark.full) for p in PAIRS]
)
def test_large_collections_find_what_a_scan_finds(dtype: str, metric: Metric) -> None:
    sent = some_rows(dtype, 10_600, 64, seed=1)
    queries = some_rows(dtype, 30, 64, seed=2)
    with vicinal.connect(":memory:") as database:
        collection = made(database, dtype, metric, 64)
        collection.upsert(range(10_300), sent[:10_300])
        collection.flush()
        collection.upsert(range(10_300, 10_600), sent[10_300:])  # these are inserted into the graph that was built
        collection.flush()
        field = collection.info().fields[""]
        assert field["indexed"] == 10_600
        assert field["codec"]["chosen"] in (("none",) if dtype == "bit" else ("int4", "rabitq"))
        hits = 0
        for query in queries:
            exact = collection.query(query, 10, exact=True)
            true = np.sort(distances(metric, sent, query))[:10]
            np.testing.assert_allclose(exact.scores, scores(metric, true), rtol=1e-3, atol=2e-3)
            found = collection.query(query, 10)
            assert len(found) == 10
            worst = exact.scores[-1]
            nearer = found.scores >= worst - 1e-5 if metric in (Metric.DOT, Metric.COSINE) else found.scores <= worst
            hits += int(nearer.sum())  # of equal distances any is right
        assert hits >= 0.95 * 300


@pytest.mark.parametrize("codec", ["none", "int8", "int4", "rabitq"])
def test_the_codec_asked_for_is_taken_and_told(codec: str, tmp_path: Path) -> None:
    sent = some_rows("float32", 10_100, 48)
    with vicinal.connect(tmp_path) as database:
        collection = made(database, "float32", Metric.L2, 48, codec=codec)
        collection.upsert(range(len(sent)), sent)
        collection.flush()
        told = collection.info().fields[""]["codec"]
        assert (told["asked"], told["chosen"]) == (codec, codec)
        assert "asked for" in told["why"] or codec == "int8"
        assert told["bytes_per_vector"] > 128
        answers = [list(collection.query(q, 10).ids) for q in sent[:20]]
        assert all(ids[0] == i for i, ids in enumerate(answers))
    with vicinal.connect(tmp_path) as database:
        collection = database.collection("c")
        assert collection.info().fields[""]["codec"]["chosen"] == codec
        assert [list(collection.query(q, 10).ids) for q in sent[:20]] == answers


def test_a_small_collection_says_why_it_has_no_codes() -> None:
    with vicinal.connect(":memory:") as database:
        collection = made(database, "int8", Metric.L2)
        assert collection.info().fields[""]["codec"]["chosen"] is None
        collection.upsert([1], np.ones((1, DIM), np.int8))
        collection.flush()
        told = collection.info().fields[""]["codec"]
        assert told["chosen"] == "none"
        assert "10000 rows" in told["why"]


@pytest.mark.parametrize(
    ("dtype", "sent", "kept"),
    [
        ("int8", [[1.0, -128.0] * 20], np.int8),
        ("uint8", [[0, 255] * 20], np.uint8),
        ("uint8", np.full((1, DIM), 7, np.int64), np.uint8),
        ("float16", [[0.1] * DIM], np.float16),
        ("float16", np.full((1, DIM), 65504, np.float64), np.float16),
        ("bit", [[1, 0] * 20], np.uint8),
        ("bit", [[True, False] * 20], np.uint8),
        ("bit", [[1.0, 0.0] * 20], np.uint8),
        ("bit", [[0, 255, 3, 4, 5]], np.uint8),
    ],
)
def test_numbers_of_any_type_that_fit_are_taken(dtype: str, sent: Any, kept: Any) -> None:
    with vicinal.connect(":memory:") as database:
        collection = made(database, dtype, Metric.HAMMING if dtype == "bit" else Metric.L2)
        collection.upsert([1], sent)
        vector = collection.get([1], with_vectors=True)[0].vector
        assert vector.dtype == kept
        whole = np.asarray(sent)[0]
        expected = np.packbits(whole.astype(bool)) if dtype == "bit" and len(whole) == DIM else whole.astype(kept)
        np.testing.assert_array_equal(vector, expected)
        assert collection.query(sent[0], 1).scores.tolist() == [0.0]


def rows_with(value: Any, like: Any = 0) -> list[list[Any]]:
    rows = [[like] * DIM for _ in range(3)]
    rows[1][5] = value
    return rows


@pytest.mark.parametrize(
    ("dtype", "sent", "words"),
    [
        ("int8", rows_with(128), "row 1 of vectors holds 128.*-128 to 127"),
        ("int8", rows_with(-129), "-129"),
        ("int8", rows_with(0.5), "row 1 of vectors holds 0.5.*whole"),
        ("int8", rows_with(float("nan")), "nan"),
        ("uint8", rows_with(-1), "holds -1.*0 to 255"),
        ("uint8", rows_with(256.0), "holds 256.0"),
        ("uint8", rows_with(float("inf")), "inf"),
        ("uint8", rows_with(2**63), "holds 9.2"),
        ("float16", rows_with(65520), "row 1 of vectors holds 65520.*65504"),
        ("float16", rows_with(float("nan")), "nan"),
        ("float16", rows_with("a"), "real numbers"),
        ("int8", [[True] * DIM], "real numbers, not bool"),
        ("int8", [[1] * (DIM - 1)], "shape"),
        ("int8", [1] * DIM, "shape"),
        ("bit", rows_with(2), "holds 2.*0 or 1"),
        ("bit", rows_with(0.5), "0.5"),
        ("bit", [[256, 0, 0, 0, 0]], "holds 256"),
        ("bit", [[1] * (DIM - 8)], "packed bytes \\(n, 5\\) or bits \\(n, 40\\)"),
        ("bit", rows_with("1"), "real numbers"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(dtype: str, sent: Any, words: str) -> None:
    with vicinal.connect(":memory:") as database:
        collection = made(database, dtype, Metric.HAMMING if dtype == "bit" else Metric.L2)
        with pytest.raises(InvalidVector, match=words) as caught:
            collection.upsert(range(len(sent)), sent)
        assert caught.value.field == "vectors"
        assert len(collection) == 0
        query = sent[1] if len(sent) == 3 else sent[0]
        with pytest.raises(InvalidVector):
            collection.query(query)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8"])
def test_zero_has_no_direction_in_any_dtype(dtype: str) -> None:
    rows = np.ones((9000, DIM), dtype)
    rows[8500] = 0
    with vicinal.connect(":memory:") as database:
        collection = made(database, dtype, Metric.COSINE)
        with pytest.raises(InvalidVector, match="row 8500 of vectors has length zero"):
            collection.upsert(range(len(rows)), rows)
        with pytest.raises(InvalidVector, match="length zero"):
            collection.query(rows[8500])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dim": 8, "dtype": "float64"}, InvalidArgument),
        ({"dim": 8, "dtype": ["int8"]}, InvalidArgument),
        ({"dim": 8, "dtype": "bit"}, InvalidArgument),
        ({"dim": 8, "metric": "hamming"}, InvalidArgument),
        ({"dim": 8, "metric": "jaccard", "dtype": "uint8"}, InvalidArgument),
        ({"dim": 9, "metric": "hamming", "dtype": "bit"}, InvalidArgument),
        ({"dim": 8, "metric": "hamming", "dtype": "bit", "codec": "rabitq"}, InvalidArgument),
        ({"dim": 8, "codec": "pq"}, InvalidArgument),
        ({"dim": 57, "codec": "int8"}, LimitExceeded),
    ],
)
def test_fields_that_cannot_be(options: dict[str, Any], error: type[VicinalError]) -> None:
    with pytest.raises(error) as caught:
        from_mapping(options)
    assert caught.value.field


def test_catalogues_from_before_codecs_open() -> None:
    assert from_mapping({"kind": "dense", "dim": 4, "metric": "l2", "dtype": "float32", "M": 16}) == Dense(4, Metric.L2)


def test_a_damaged_row_is_found(tmp_path: Path) -> None:
    with vicinal.connect(tmp_path) as database:
        made(database, "int8", Metric.L2).upsert(range(50), some_rows("int8", 50, DIM))
    (file,) = tmp_path.rglob("vectors-1.vec")
    content = bytearray(file.read_bytes())
    content[content.index(some_rows("int8", 50, DIM)[20].tobytes()) + 3] ^= 1
    file.write_bytes(content)
    with vicinal.connect(tmp_path) as database, pytest.raises(VicinalError, match="vectors-1"):
        database.collection("c")


def leading(n: int, dim: int, seed: int) -> Any:
    """Rows whose first dimensions carry most, as Matryoshka embeddings."""
    spread = 1 / (1 + np.arange(dim) / 6)
    return (np.random.default_rng(seed).standard_normal((n, dim)) * spread).astype(np.float32)


@pytest.mark.parametrize(("dtype", "metric"), [("float32", Metric.COSINE), ("float16", Metric.L2)])
def test_leading_dimensions_find_and_all_dimensions_settle(dtype: str, metric: Metric, tmp_path: Path) -> None:
    sent = leading(10_150, 96, 3).astype(dtype)
    queries = leading(30, 96, 4).astype(dtype)
    with vicinal.connect(tmp_path) as database:
        collection = made(database, dtype, metric, 96, search_dims=48)
        collection.upsert(range(10_100), sent[:10_100])
        collection.flush()
        collection.upsert(range(10_100, 10_150), sent[10_100:])
        collection.flush()
        hits = 0
        for query in queries:
            exact, found = collection.query(query, 10, exact=True), collection.query(query, 10)
            shared = dict(zip(exact.ids, exact.scores, strict=True))
            np.testing.assert_allclose(
                [s for i, s in zip(found.ids, found.scores, strict=True) if i in shared],
                [shared[i] for i in found.ids if i in shared],
                rtol=1e-5,
            )
            hits += len(set(found.ids) & set(exact.ids))
        assert hits >= 0.9 * 300
        field = collection.info().fields[""]
        assert field["search_dims"] == 48
        assert "48 dimensions" in field["codec"]["why"]
        answers = [list(collection.query(q, 10).ids) for q in queries]
    with vicinal.connect(tmp_path) as database:
        collection = database.collection("c")
        assert [list(collection.query(q, 10).ids) for q in queries] == answers
        kept = collection.query(np.concatenate([np.zeros(48), np.ones(48)]).astype(dtype), 10)
        assert len(kept) == 10, "nothing to go by in the leading dimensions: a scan answers"


@pytest.mark.parametrize("bad", [0, 97, 1.5, "8"])
def test_search_dims_are_some_of_the_dimensions(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="search_dims"):
        Dense(96, search_dims=bad)
    with pytest.raises(InvalidArgument, match="whole"):
        Dense(96, metric=Metric.HAMMING, dtype="bit", search_dims=8)
    assert Dense(1024, codec="int8", search_dims=56).walked == 56
    assert from_mapping({"dim": 8}) == Dense(8), "as catalogues before this option say"
