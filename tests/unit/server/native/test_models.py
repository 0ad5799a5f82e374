"""Requests: wrong keys and types are named; nulls count as absent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from vicinal.errors import InvalidArgument, InvalidId, InvalidVector
from vicinal_server.native import models


def test_null_counts_as_absent() -> None:
    body = models.parse(models.Query, {"vector": [1], "k": None, "filter": None, "ef": None})
    assert (body.k, body.filter, body.ef) == (10, None, None)


@pytest.mark.parametrize(
    ("model", "tree", "error", "field"),
    [
        (models.Query, {"vectr": [1]}, InvalidArgument, "vectr"),
        (models.Query, {"k": "10"}, InvalidArgument, "k"),
        (models.Query, {"k": 10.0}, InvalidArgument, "k"),
        (models.Query, {"k": True}, InvalidArgument, "k"),
        (models.Query, {"exact": 1}, InvalidArgument, "exact"),
        (models.Query, {"using": 3}, InvalidArgument, "using"),
        (models.QueryMulti, {}, InvalidVector, "tokens"),
        (models.QueryMulti, {"tokens": [], "rerank": "best"}, InvalidArgument, "rerank"),
        (models.Insert, {"vectors": []}, InvalidId, "ids"),
        (models.Insert, {"ids": []}, InvalidVector, "vectors"),
        (models.Get, {}, InvalidId, "ids"),
        (models.Scroll, {"limit": "all"}, InvalidArgument, "limit"),
        (models.Create, {"vectors": {"a": 3}}, InvalidArgument, "vectors.a"),
        (models.Flush, {"x": 1}, InvalidArgument, "x"),
    ],
)
def test_wrong_requests_name_the_culprit(
    model: type[Any], tree: dict[str, Any], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as caught:
        models.parse(model, tree)
    assert isinstance(caught.value, InvalidArgument)
    assert caught.value.field == field


def test_filters_and_vectors_pass_untouched() -> None:
    tree = {"must": [{"key": "year", "range": {"gte": 2020}}]}
    vector = [0.5] * 3
    body = models.parse(models.Query, {"vector": vector, "filter": tree})
    assert body.filter is tree
    assert body.vector is vector


def test_every_public_request_is_a_model() -> None:
    for name in set(models.__all__) - {"parse"}:
        assert issubclass(getattr(models, name), BaseModel)
