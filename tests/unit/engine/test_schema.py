"""A schema survives its catalogue, and refuses what it does not know."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vicinal import limits
from vicinal.errors import CorruptData, FormatTooNew, InvalidArgument, LimitExceeded, NotFound
from vicinal.schema import FORMAT, Dense, Multi, Schema, check_name, from_mapping
from vicinal.types import Metric

BOTH = Schema({"title": Dense(3, metric=Metric.DOT, M=8), "tokens": Multi(4, store="float32", fill_empty=False)})


def test_round_trip() -> None:
    assert Schema.decode(BOTH.encode()) == BOTH


def test_a_newer_format_is_refused() -> None:
    tree = orjson.loads(BOTH.encode())
    tree["format"] = FORMAT + 1
    with pytest.raises(FormatTooNew, match="upgrade"):
        Schema.decode(orjson.dumps(tree))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"format":1,"fields":{"a":{"kind":"dense"}}}', b"\xff"])
def test_a_damaged_schema_is_found(text: bytes) -> None:
    with pytest.raises(CorruptData):
        Schema.decode(text)


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0},
        {"dim": limits.DIM_MAX + 1},
        {"dim": 2.0},
        {"dim": True},
        {"dim": 4, "metric": "euclid"},
        {"dim": 4, "M": 1},
        {"dim": 4, "ef_construction": 0},
        {"dim": 4, "dtype": "float64"},
        {"dim": 4, "colour": "red"},
        {},
        {"kind": "sparse", "dim": 4},
        {"kind": "multi", "dim": 4, "store": "int4"},
        {"kind": "multi", "dim": 4, "projection_dimension": 0},
    ],
)
def test_bad_fields(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_mapping(options)
    assert caught.value.field


def test_an_encoding_too_wide_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        Multi(128, repetitions=1000, simhash_projections=16, projection_dimension=128)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a" * 65, "ü", "a b", 5, None])
def test_bad_names(name: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_name(name, "collection name")


def test_resolve_finds_the_only_field_of_a_kind() -> None:
    assert BOTH.resolve(None, Dense) == "title"
    assert BOTH.resolve("tokens", Multi) == "tokens"
    with pytest.raises(NotFound):
        BOTH.resolve("missing", Dense)
    with pytest.raises(InvalidArgument, match="query_multi"):
        BOTH.resolve("tokens", Dense)
    with pytest.raises(InvalidArgument, match="using"):
        Schema({"a": Dense(1), "b": Dense(1)}).resolve(None, Dense)


def test_no_fields_and_too_many() -> None:
    with pytest.raises(LimitExceeded):
        Schema({})
    with pytest.raises(LimitExceeded):
        Schema({f"f{i}": Dense(1) for i in range(limits.FIELDS_MAX + 1)})


def test_layout_is_checked_and_older_catalogues_have_none():
    assert Dense(8).layout == "auto"
    kept = Schema({"": Dense(8, layout="cells")})
    assert Schema.decode(kept.encode()) == kept
    old = b'{"format":1,"fields":{"":{"kind":"dense","dim":8,"metric":"l2","dtype":"float32"}}}'
    assert Schema.decode(old) == Schema({"": Dense(8, Metric.L2)})
    for wrong in ({"layout": "tree"}, {"layout": "cells", "codec": "none"}):
        with pytest.raises(InvalidArgument) as caught:
            from_mapping({"dim": 8, **wrong})
        assert caught.value.field == "layout"
