"""Payloads change without their points' vectors, and every View sees its own version of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vicinal.matching
from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument, InvalidPayload
from vicinal.matching import Matcher


@pytest.fixture
def made() -> Iterator[Collection]:
    with Database(":memory:") as database:
        collection = database.create_collection("c", dim=2)
        vectors = np.ones((200, 2), np.float32)
        collection.upsert(np.arange(200), vectors, [{"n": i % 4, "kept": i} for i in range(200)])
        yield collection


def test_set_payload_merges_and_leaves_the_slot_where_it_is(made: Collection) -> None:
    slots = made._view.n
    assert made.set_payload({"n": 9, "new": [1]}, ids=[3, 3, 5000]) == 1
    assert made.get([3])[0].payload == {"n": 9, "kept": 3, "new": [1]}
    assert made.count("n = 9") == 1
    assert made.count("n = 3") == 49
    assert made._view.n == slots
    assert made.query(np.ones(2), 5, filter="n = 9").ids == [3]


def test_delete_payload_removes_keys(made: Collection) -> None:
    assert made.delete_payload(["n", "absent"], filter="n = 1") == 50
    assert made.count("n = 1") == 0
    assert made.count({"must": [{"is_empty": {"key": "n"}}]}) == 50
    assert made.get([1])[0].payload == {"kept": 1}


def test_a_change_of_nothing_writes_nothing(made: Collection) -> None:
    seq = made._view.seq
    assert made.set_payload({"n": 2}, filter="n = 2") == 50
    assert made._view.seq == seq


@pytest.mark.parametrize("before", [True, False], ids=["columns read before", "columns read after"])
def test_a_reader_of_an_older_view_sees_the_older_payloads(made: Collection, before: bool) -> None:
    matcher, old = Matcher(made._generation.opened.catalog), made._view
    if before:
        matcher.bits("n = 1", old)
    made.set_payload({"n": 1}, filter="n = 0")
    made.set_payload({"n": 0}, ids=[0, 1])
    newer = made._view

    def count(text: str, view: Any) -> int:
        bits = matcher.bits(text, view)
        assert bits is not None
        return int(np.bitwise_count(bits).sum())

    assert (count("n = 1", newer), count("n = 0", newer)) == (98, 2)
    assert (count("n = 1", old), count("n = 0", old)) == (50, 50)
    by_id = {"must": [{"has_id": [0, 1, 2]}, {"key": "n", "match": {"value": 0}}]}
    for view, matching in ((newer, [0, 1]), (old, [0])):
        bits = matcher.bits(by_id, view)
        assert bits is not None
        assert np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist() == matching


def test_answers_of_an_older_view_carry_its_payloads(made: Collection) -> None:
    generation, old, slots = made._generation, made._view, np.array([0, 1], np.uint32)
    made.set_payload({"n": 7}, ids=[0])
    for view, expected in ((old, [0, 1]), (made._view, [7, 1])):
        points = generation.points(view, slots, with_payload=True, with_vectors=False)
        hits = generation.hits(view, slots, np.zeros(2, np.float32), True, False, None)
        for told in (points, hits):
            assert [one.payload and one.payload["n"] for one in told] == expected


def test_many_changes_are_folded_into_new_columns(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vicinal.matching, "FOLD_FROM", 10)
    matcher = Matcher(made._generation.opened.catalog)
    matcher.keep_up(made._view, lambda: False)
    made.set_payload({"n": 7}, filter="n = 0")
    view = made._view
    assert matcher._attributes.changed(view) == 50
    matcher.keep_up(view, lambda: False)
    assert matcher._attributes.changed(view) == 0
    bits = matcher.bits("n = 7", view)
    assert bits is not None
    assert int(np.bitwise_count(bits).sum()) == 50
    made.set_payload({"n": 8}, ids=[0])
    after = matcher.bits("n = 7", made._view)
    assert after is not None
    assert int(np.bitwise_count(after).sum()) == 49


def test_changed_payloads_survive_reopening(tmp_path: Path) -> None:
    with Database(tmp_path / "db") as database:
        collection = database.create_collection("c", dim=2)
        collection.upsert([1, "a"], np.ones((2, 2), np.float32), [{"x": 1}, None])
        collection.set_payload({"y": 2}, ids=[1, "a"])
    with Database(tmp_path / "db") as database:
        points = database.collection("c").get([1, "a"])
        assert [p.payload for p in points] == [{"x": 1, "y": 2}, {"y": 2}]
        assert database.collection("c").count("y = 2") == 2


def test_bad_changes_are_refused_and_nothing_is_lost(made: Collection) -> None:
    with pytest.raises(InvalidPayload):
        made.set_payload([1], ids=[1])  # type: ignore[arg-type]
    with pytest.raises(InvalidPayload):
        made.set_payload(None, ids=[1])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        made.set_payload({"n": 1})
    with pytest.raises(InvalidArgument):
        made.delete_payload("n", ids=[1])
    with pytest.raises(InvalidArgument):
        made.delete_payload([1], ids=[1])  # type: ignore[list-item]
    made.set_payload({"big": "x" * 40_000}, ids=[1])
    with pytest.raises(InvalidPayload):  # the merged payload would pass the limit
        made.set_payload({"more": "x" * 40_000}, ids=[0, 1])
    assert made.get([0])[0].payload == {"n": 0, "kept": 0}
    assert made.set_payload({"n": 5}, ids=[1]) == 1  # writes go on
