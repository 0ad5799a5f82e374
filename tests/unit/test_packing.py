"""Packed arrays: what went in comes out, and every damage is refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.packing import pack, pack_parts, unpack

MAGIC = b"VICTESTS"
ARRAYS: list[NDArray[Any]] = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array([3, 1], np.int64),
    np.empty(0, np.uint16),
    np.arange(5, dtype=np.uint8),
]


def test_what_went_in_comes_out() -> None:
    whole = pack(MAGIC, 2, {"a": [1, "x"]}, ARRAYS)
    assert whole == pack(MAGIC, 2, {"a": [1, "x"]}, ARRAYS)
    about, arrays = unpack(whole, MAGIC, 2, "a test")
    assert about == {"a": [1, "x"]}
    for found, sent in zip(arrays, ARRAYS, strict=True):
        assert found.dtype == sent.dtype
        assert np.array_equal(found, sent)


@given(st.data())
@settings(max_examples=200)
def test_every_damage_is_refused(data: st.DataObject) -> None:
    whole = bytearray(pack(MAGIC, 1, {"a": 1}, ARRAYS))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))
        try:
            found = unpack(bytes(whole), MAGIC, 1, "a test")
        except CorruptData:
            return
        assert all(np.array_equal(a, b) for a, b in zip(found[1], ARRAYS, strict=True))  # it was in the padding
    else:
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(CorruptData):
            unpack(bytes(whole[:cut]), MAGIC, 1, "a test")
        with pytest.raises(CorruptData):
            unpack(bytes(whole) + b"\0" * (cut + 1), MAGIC, 1, "a test")


def test_parts_lie_aligned_and_are_not_copied() -> None:
    large = np.arange(1000, dtype=np.float64)
    parts = pack_parts(MAGIC, 1, {"a": 1}, [large, ARRAYS[0]], 64)
    assert np.shares_memory(np.frombuffer(parts[1]), large)
    whole = b"".join(parts)
    assert whole == pack(MAGIC, 1, {"a": 1}, [large, ARRAYS[0]], 64)
    room = np.zeros(len(whole) + 64, np.uint8)
    start = -room.ctypes.data % 64
    room[start : start + len(whole)] = np.frombuffer(whole, np.uint8)
    _, arrays = unpack(room[start : start + len(whole)].data, MAGIC, 1, "a test", 64)
    assert [array.ctypes.data % 64 for array in arrays] == [0, 0]
    assert not arrays[0].flags.writeable
    with pytest.raises(CorruptData):
        unpack(whole, MAGIC, 1, "a test")


def test_another_thing_or_a_later_format_is_refused() -> None:
    whole = pack(MAGIC, 2, {}, ARRAYS)
    with pytest.raises(CorruptData, match="a test"):
        unpack(whole, b"VICOTHER", 2, "a test")
    with pytest.raises(FormatTooNew):
        unpack(whole, MAGIC, 1, "a test")
    with pytest.raises(CorruptData, match="where the header says"):
        unpack(pack(MAGIC, 1, {}, ARRAYS), MAGIC, 2, "a test")


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("<f8", [2]),
        (">f4", [2]),
        ("<f3", [2]),
        ("|V4", [2]),
        ("|O", [2]),
        ("<f4", [-1]),
        ("<f4", [1 << 62, 1 << 62]),
        ("<f4", "x"),
        (3, [2]),
    ],
)
def test_arrays_that_cannot_be_are_refused_before_memory_is_taken(kind: object, shape: object) -> None:
    whole = pack(MAGIC, 1, {}, [np.arange(2, dtype=np.float32)])
    header = struct.Struct("<8sIIQQII")
    length = header.unpack_from(whole)[3]
    told = json.loads(whole[header.size : header.size + length])
    told["arrays"][0][:2] = [kind, shape]
    text = json.dumps(told).encode()
    text += b" " * (-(header.size + len(text)) % 8)
    rest = whole[header.size + length :]
    head = header.pack(MAGIC, 1, 0x01020304, len(text), header.size + len(text) + len(rest), crc32c(text), 0)[:-4]
    with pytest.raises(CorruptData):
        unpack(head + struct.pack("<I", crc32c(head)) + text + rest, MAGIC, 1, "a test")
