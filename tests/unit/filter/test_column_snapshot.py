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
from vicinal.packing import pack, unpack

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
    return b"".join(pieces)


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
    with pytest.raises(CorruptData, match="where the header says"):
        decode(memoryview(whole + b"\0" * 8))


def _dictionary(about: Any, _: Any) -> None:
    next(codes for _, codes, _ in about["columns"] if len(codes) > 1)[1] = "a"


FORGED: dict[str, tuple[Any, str]] = {
    "fewer slots": (lambda about, _: about.update(n=2), "cannot be"),
    "slots no number": (lambda about, _: about.update(n="4"), "header cannot be"),
    "slots beyond all": (lambda about, _: about.update(n=1 << 40), "header cannot be"),
    "no commit": (lambda about, _: about.update(seq="7"), "header cannot be"),
    "another salt": (lambda about, _: about.update(salt="00"), "header cannot be"),
    "no columns": (lambda about, _: about.pop("columns"), "columns"),
    "a dictionary that is too short for the codes": (_dictionary, "dictionary"),
    "no such kind": (lambda about, _: about["columns"][0][2][0].__setitem__(0, "POPEN"), "POPEN"),
    "values that are not there": (lambda about, _: about["columns"][0][2][0].__setitem__(1, 1 << 40), "cannot be"),
    "an array of another type": (lambda _, arrays: arrays.__setitem__(1, arrays[1].astype("<c8")), "cannot be"),
    "an array of another size": (lambda _, arrays: arrays.__setitem__(1, arrays[1][:-1]), "cannot be"),
    "an array of another shape": (lambda _, arrays: arrays.__setitem__(1, arrays[1][None]), "cannot be"),
    "an array too few": (lambda _, arrays: arrays.pop(), "columns"),
    "an array too many": (lambda _, arrays: arrays.append(arrays[0]), "more arrays"),
    "a stale slot beyond": (lambda _, arrays: arrays.__setitem__(0, np.array([99], np.uint32)), "stale slots"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_does_not_fit_is_refused_although_its_checksums_hold(what: str) -> None:
    change, says = FORGED[what]
    about, arrays = unpack(saved(columns_of([*ROWS[:2], {"n": 70_000}, {"k": "z"}])), b"VICCOLUM", 2, "columns")
    assert decode(memoryview(pack(b"VICCOLUM", 2, about, arrays))).columns.n == 4
    change(about, arrays)
    with pytest.raises(CorruptData, match=says):
        decode(memoryview(pack(b"VICCOLUM", 2, about, arrays)))


def test_every_flipped_byte_is_refused() -> None:
    columns = columns_of(ROWS)
    whole = saved(columns)
    for at in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        try:
            again = decode(memoryview(flipped))
        except (CorruptData, FormatTooNew):
            continue
        assert whole[at] in b"\0 ", f"byte {at} is not padding"
        assert saved(again.columns) == whole


def test_a_later_format_is_told() -> None:
    about, arrays = unpack(saved(columns_of(ROWS)), b"VICCOLUM", 2, "columns")
    with pytest.raises(FormatTooNew):
        decode(memoryview(pack(b"VICCOLUM", 3, about, arrays)))
