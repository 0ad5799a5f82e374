"""Bodies and blocks: right ones become arrays over the received bytes, wrong ones become typed errors."""

from __future__ import annotations

import base64
from typing import Any

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicinal.errors import InvalidArgument, InvalidVector, VicinalError
from vicinal_server.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType, status_of
from vicinal_server.native.codec import (
    JSON,
    MSGPACK,
    Ragged,
    answer,
    as_block,
    as_vectors,
    decode_body,
    media_type,
    wants_msgpack,
)

ROWS = np.arange(6, dtype="<f4").reshape(2, 3)


def packed_block(array: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes(), **more}


@pytest.mark.parametrize("name", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_types(name: str) -> None:
    assert media_type(name) == JSON


@pytest.mark.parametrize("name", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_types_a_web_page_may_send_unasked_are_refused(name: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        media_type(name)


def test_accept() -> None:
    assert wants_msgpack("text/html, application/x-msgpack;q=0.9")
    assert not wants_msgpack("application/json")
    assert not wants_msgpack(None)


def test_blocks_share_the_received_memory() -> None:
    raw = msgpack.packb({"vectors": packed_block(ROWS)})
    tree = decode_body(raw, MSGPACK, 1024)
    array = as_block(tree["vectors"], "vectors")
    assert np.array_equal(array, ROWS)
    assert not array.flags.owndata


def test_base64_blocks() -> None:
    text = base64.b64encode(ROWS.tobytes()).decode()
    assert np.array_equal(as_block({"dtype": "<f4", "shape": [2, 3], "base64": text}, "v"), ROWS)


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "|i1", "|u1"])
def test_vectors_of_every_dtype_go_both_ways(dtype: str) -> None:
    rows = ROWS.astype(dtype)
    packed = msgpack.unpackb(answer({"rows": rows}, packed=True).body)["rows"]
    assert packed["dtype"] == dtype
    made = as_block(packed, "v")
    assert made.dtype == rows.dtype
    assert np.array_equal(made, rows)
    assert orjson.loads(answer({"rows": rows}, packed=False).body)["rows"] == ROWS.tolist()


def test_ids_are_no_vectors() -> None:
    ids = {"dtype": "<u8", "shape": [1], "data": bytes(8)}
    assert as_block(ids, "ids", ("<u8",)).tolist() == [0]
    with pytest.raises(InvalidVector, match="must be <f4 or <f2"):
        as_block(ids, "vectors")


def test_lists_are_left_to_the_engine() -> None:
    rows = [[1.0, 2.0]]
    assert as_block(rows, "v") is rows


def test_named_fields_and_token_matrices() -> None:
    tree = {"title": packed_block(ROWS), "tokens": packed_block(ROWS, ends=[1, 2])}
    made = as_vectors(tree)
    assert np.array_equal(made["title"], ROWS)
    tokens, ends = made["tokens"]
    assert np.array_equal(tokens, ROWS)
    assert ends.tolist() == [1, 2]


@pytest.mark.parametrize(
    "block",
    [
        {"dtype": "<f4", "shape": [2, 3]},
        {"dtype": "<f4", "shape": [2, 3], "data": ROWS.tobytes(), "base64": ""},
        {"dtype": "<f4", "shape": [2, 3], "data": ROWS.tobytes(), "more": 1},
        {"dtype": "<f4", "shape": [2, 3], "data": "text"},
        {"dtype": "<f4", "shape": [2, 3], "data": list(ROWS.tobytes())},
        {"dtype": "<f4", "shape": [2, 3], "base64": "é"},
        {"dtype": "<f4", "shape": [2, 3], "base64": "AAA"},
        {"dtype": "<f4", "shape": [2, 3], "base64": 7},
        {"dtype": "<f4", "shape": [2, 4], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [], "data": b""},
        {"dtype": "<f4", "shape": [1, 2, 3], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [-2, -3], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [True, 6], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [2.0, 3.0], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [2**62, 4], "data": b""},
        {"dtype": "<f4", "shape": "23", "data": ROWS.tobytes()},
        {"dtype": ">f4", "shape": [2, 3], "data": ROWS.tobytes()},
        {"dtype": "<f8", "shape": [1, 3], "data": ROWS.tobytes()},
        {"dtype": "O", "shape": [3], "data": ROWS.tobytes()},
        {"dtype": "<f4", "shape": [2, 3], "data": ROWS.tobytes(), "ends": [2]},
    ],
)
def test_broken_blocks_are_typed_errors(block: dict[str, Any]) -> None:
    with pytest.raises(InvalidVector) as caught:
        as_block(block, "vectors")
    assert caught.value.field == "vectors"


@pytest.mark.parametrize("ends", [None, 3, ["1"], [1.0], [True], [-1], [3], [2**70]])
def test_broken_ends_are_typed_errors(ends: Any) -> None:
    with pytest.raises(InvalidVector):
        as_vectors(packed_block(ROWS, ends=ends))


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b"\xff",
        b'"\\ud800"',
        b"[" * 1_000_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_undecodable_json_is_422(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        decode_body(raw, JSON, 2**25)
    assert status_of(caught.value) == 422


@pytest.mark.parametrize(
    "raw",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of 2**32 - 1 values
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes
        b"\xdb\xff\xff\xff\xff",  # 4 GiB of text
        b"\x91" * 1_000_000,
        b"\x81\xa1a" * 100_000,
        b"\xc1",
        b"\x81\xa1\xff\x01",  # no UTF-8
        b"\x81\x01\x01",  # a key that is no text
        b"\x80\x80",  # more after the map
        b"\x81\xa1a\xd4\x05\x00",  # an extension
    ],
)
@pytest.mark.parametrize("structure_max", [0, 2**25])
def test_undecodable_msgpack_is_refused(raw: bytes, structure_max: int) -> None:
    with pytest.raises((MalformedBody, BodyTooLarge)) as caught:
        decode_body(raw, MSGPACK, structure_max)
    assert status_of(caught.value) in (422, 413)


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null", b'"a"'])
def test_a_body_is_one_map(raw: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_body(raw, JSON, 1024)
    with pytest.raises(InvalidArgument):
        decode_body(msgpack.packb(orjson.loads(raw)), MSGPACK, 1024)


def test_an_empty_body_is_an_empty_map() -> None:
    assert decode_body(b"", JSON, 1024) == {}


def test_structure_is_bounded_but_blocks_are_not() -> None:
    block = packed_block(np.zeros((1000, 100), "<f4"))
    decode_body(msgpack.packb({"ids": [1], "vectors": {"a": block}}), MSGPACK, 1024)
    with pytest.raises(BodyTooLarge):
        decode_body(msgpack.packb({"ids": [[]] * 2000, "vectors": block}), MSGPACK, 1024)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    for media in (JSON, MSGPACK):
        for structure_max in (8, 1024):
            try:
                outcome: Any = decode_body(raw, media, structure_max)
            except VicinalError as error:
                outcome = status_of(error)
            assert isinstance(outcome, dict) or outcome in (400, 413, 422)


def test_answers_in_json_hold_lists() -> None:
    tree = {"v": ROWS, "t": ROWS[:, ::2], "h": np.float32(0.5), "n": np.array([np.nan], np.float32), "b": np.bool_(1)}
    shown = orjson.loads(answer(tree, packed=False).body)
    assert shown == {"v": ROWS.tolist(), "t": [[0, 2], [3, 5]], "h": 0.5, "n": [None], "b": True}


def test_answers_in_msgpack_hold_blocks() -> None:
    tree = {"v": ROWS, "t": ROWS[:, ::2], "s": np.float32(0.5), "i": np.array([2**64 - 1], np.uint64)}
    shown = msgpack.unpackb(answer(tree, packed=True).body)
    assert np.array_equal(as_block(shown["v"], "v"), ROWS)
    assert np.array_equal(as_block(shown["t"], "t"), ROWS[:, ::2])
    assert shown["s"] == 0.5
    assert as_block(shown["i"], "i", ("<u8",)).tolist() == [2**64 - 1]


def test_ragged_rows_are_cut_in_lists_and_whole_in_blocks() -> None:
    numbers = Ragged(np.array([[1, 2], [3, 4]], np.uint64), np.array([2, 1]))
    texts = Ragged(np.array([["a", 2], [None, None]], object), np.array([2, 0]))
    assert orjson.loads(answer({"n": numbers, "t": texts}, packed=False).body) == {
        "n": [[1, 2], [3]],
        "t": [["a", 2], []],
    }
    shown = msgpack.unpackb(answer({"n": numbers, "t": texts}, packed=True).body)
    assert as_block(shown["n"], "n", ("<u8",)).tolist() == [[1, 2], [3, 4]]
    assert shown["t"] == [["a", 2], []]
