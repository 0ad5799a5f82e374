"""Columns come back from their bytes as they were, grow afterwards, and damage is refused."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.filter_oracle import ALL_KEYS, bits_to_list, holds, payloads, trees

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.filter import Columns, evaluate
from vicinal.filter.column_snapshot import Loaded, decode, encode
from vicinal.filter.model import Filter

ROWS: list[Any] = [
    {"k": "a", "n": 1, "at": {"lon": 1, "lat": 2}, "t": "2020-01-01"},
    {"k": ["a", "b" * 80], "n": 2**63, "x": {"y": [None, True]}},
    None,
    {"n": [1.5, 70_000], "k": None},
]


def columns_of(rows: list[Any]) -> Columns:
    columns = Columns()
    columns.extend([None if row is None else orjson.dumps(row) for row in rows])
    return columns


def saved(columns: Columns, seq: int = 7, stale: Any = ()) -> bytes:
    pieces = encode(columns, seq, np.array(stale, np.uint32))
    return b"".join(p if isinstance(p, bytes) else p.tobytes() for p in pieces)


def reread(columns: Columns) -> Loaded:
    return decode(memoryview(saved(columns)))


def no_slots(ids: Any) -> Any:
    return np.zeros(0, np.uint32)


def test_stamp_and_keys_come_back() -> None:
    columns = columns_of(ROWS)
    loaded = decode(memoryview(saved(columns, 7, [1, 3])))
    assert (loaded.seq, loaded.stale.tolist(), loaded.columns.n) == (7, [1, 3], 4)
    assert loaded.columns.keys() == columns.keys()
    assert saved(loaded.columns) == saved(columns)
    assert decode(memoryview(saved(Columns()))).columns.n == 0


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(payloads, max_size=70), st.lists(payloads, max_size=70), st.lists(trees, min_size=1, max_size=4))
def test_restored_columns_answer_and_grow(rows: list[Any], later: list[Any], forest: list[Filter]) -> None:
    with patch("vicinal.filter.columns._CODES_MAX", 3):
        columns = reread(columns_of(rows)).columns
        columns.extend([None if row is None else orjson.dumps(row) for row in later])
        columns.seal()
        every = [None if row is None else orjson.loads(orjson.dumps(row)) for row in rows + later]
        for tree in forest:
            bits = evaluate(tree, columns, no_slots, len(every))
            assert bits_to_list(bits, len(every)) == [holds(tree, row, "nobody") for row in every]
    assert ALL_KEYS


def test_every_cut_is_refused() -> None:
    whole = saved(columns_of(ROWS))
    for size in (*range(0, len(whole), 5), len(whole) - 1):
        with pytest.raises(CorruptData):
            decode(memoryview(whole[:size]))
    with pytest.raises(CorruptData, match="bytes are left"):
        decode(memoryview(whole + b"\0" * 8))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"VICCOLUM", b"VICGRAPH", "not those of columns"),
        (b'"n":4', b'"n":2', "cannot be"),
        (b'"n":4', b'"n":x', "columns"),
        (b'"<i4"', b'"<c4"', "cannot be"),
        (b'["a"]', b'[""] ', "cannot be"),
        (b'"seq":7', b'"seq":"', "columns"),
    ],
)
def test_damage_is_refused(old: bytes, new: bytes, says: str) -> None:
    whole = saved(columns_of([*ROWS[:2], {"n": 70_000}, {"k": "z"}]))
    changed = whole.replace(old, new, 1)
    if old == b'["a"]':  # a dictionary that is too short for the codes
        changed = whole.replace(b'"a","z"', b'"a","a"', 1)
    assert changed != whole
    with pytest.raises(CorruptData, match=says):
        decode(memoryview(changed))


def test_a_later_format_is_told() -> None:
    whole = bytearray(saved(columns_of(ROWS)))
    whole[8] = 2
    with pytest.raises(FormatTooNew):
        decode(memoryview(whole))
