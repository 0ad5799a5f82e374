"""Vectors of every dtype over HTTP: they travel as what they are, and what does not fit is a typed 4xx."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from tests.api.test_client import both, server
from tests.support.dtypes_oracle import PAIRS, some_rows
from tests.support.served import Served

from vicinal.types import Metric

__all__ = ["both", "server"]

C = "/v1/collections/c"


def block(array: Any, **changes: Any) -> dict[str, Any]:
    text = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "base64": text, **changes}


@pytest.mark.parametrize(("dtype", "metric"), PAIRS)
def test_the_client_gives_back_what_it_was_given(dtype: str, metric: Metric, both: tuple[Any, Any]) -> None:
    sent = some_rows(dtype, 40, 16)
    answers = []
    for database in both:
        points = database.create_collection("c", dim=16, metric=metric.value, dtype=dtype)
        points.upsert(range(40), sent)
        hits = points.query(sent[7], 5, with_vectors=True)
        kept = points.get([3], with_vectors=True)[0].vector
        assert kept.dtype == hits[0].vector.dtype == (np.uint8 if dtype == "bit" else sent.dtype)
        np.testing.assert_array_equal(kept, np.packbits(sent[3]) if dtype == "bit" else sent[3])
        ids, scores, _ = points.query_batch(sent[:4], 3)
        field = points.info().fields[""]
        answers.append((list(hits.ids), hits.scores.tolist(), ids.tolist(), scores.tolist(), field["row_bytes"]))
    assert answers[0] == answers[1]


def test_json_lists_and_blocks_are_the_same(served: Served) -> None:
    made = {"dim": 16, "metric": "jaccard", "dtype": "bit", "codec": "none"}
    assert served.put(C, made).status_code == 201
    bits = some_rows("bit", 3, 16)
    packed = np.packbits(bits, axis=1)
    forms = [packed.tolist(), bits.astype(int).tolist(), bits.astype(float).tolist(), block(packed)]
    for form in forms:
        assert served.post(C + "/insert", {"ids": [0, 1, 2], "vectors": form}).status_code == 200
        found = served.post(C + "/get", {"ids": [0, 1, 2], "with_vectors": True}).json()["points"]
        assert [point["vector"] for point in found] == packed.tolist()
    for query in (bits[1].astype(int).tolist(), packed[1].tolist(), block(packed[1])):
        hit = served.post(C + "/query", {"vector": query, "k": 1}).json()["hits"][0]
        assert (hit["id"], hit["score"]) == (1, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 8, "dtype": "float64"},
        {"dim": 8, "dtype": "bit"},
        {"dim": 8, "metric": "hamming"},
        {"dim": 12, "metric": "hamming", "dtype": "bit"},
        {"dim": 8, "codec": "pq"},
        {"dim": 384, "codec": "int8"},
        {"dim": 8, "dtype": 1},
        {"vectors": {"a": {"dim": 8, "dtype": "int4"}}},
    ],
)
def test_fields_that_cannot_be(served: Served, options: dict[str, Any]) -> None:
    answer = served.put(C, options)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["field"]


@pytest.mark.parametrize(
    ("dtype", "vectors"),
    [
        ("int8", [[128] + [0] * 7]),
        ("int8", [[0.5] + [0] * 7]),
        ("uint8", [[-1] + [0] * 7]),
        ("float16", [[1e6] + [0] * 7]),
        ("bit", [[2] + [0] * 7]),
        ("bit", [[256]]),
        ("bit", [[0, 0]]),
        ("int8", block(np.full((1, 8), 200, np.uint8))),
        ("uint8", block(np.full((1, 8), -1, np.int8))),
        ("int8", block(np.zeros((1, 8), np.float64))),
        ("int8", block(np.zeros((1, 8), np.int8), shape=[1, 9])),
        ("float16", block(np.full((1, 8), np.nan, np.float16))),
        ("float32", block(np.ones((1, 8), np.bool_))),
        ("float16", block(np.ones((1, 8), np.bool_))),
        ("uint8", block(np.ones((1, 8), np.bool_))),
        ("bit", {**block(np.full((1, 8), 2, np.uint8)), "dtype": "|b1"}),
    ],
)
def test_vectors_that_do_not_fit(served: Served, dtype: str, vectors: Any) -> None:
    metric = "hamming" if dtype == "bit" else "l2"
    assert served.put(C, {"dim": 8, "metric": metric, "dtype": dtype}).status_code == 201
    answer = served.post(C + "/insert", {"ids": [1], "vectors": vectors})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_vector"
    assert served.post(C + "/count", {}).json()["count"] == 0
