"""Growing, updating, deleting and compacting against a dict, with readers alongside."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicinal.bits import slots_from_bits
from vicinal.flat import points as module
from vicinal.flat.filters import allowed_by
from vicinal.flat_api import BFIndex, Index
from vicinal.index.field_index import FieldIndex

DIM = 5
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "auto", "mark", "unmark", "replace", "compact", "copy"]),
        st.lists(st.integers(0, 40), min_size=1, max_size=6),
    ),
    max_size=25,
)


def check(index, live: dict[int, Any], marked: dict[int, Any]) -> None:
    assert index.get_current_count() == len(live) + len(marked)
    assert sorted(index.get_ids_list()) == sorted(live | marked)
    assert len(index) == len(live)
    for label in marked:
        assert label not in index
    if not live:
        return
    labels = sorted(live)
    np.testing.assert_array_equal(index.get_items(labels), [live[label] for label in labels])
    found, distances = index.knn_query(np.array([live[labels[0]]]), len(live) + 1)
    assert sorted(found[0, :-1].tolist()) == labels
    assert np.isinf(distances[0, -1])


@pytest.mark.parametrize("compact_from", [3, 4096])
@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, seed=st.integers(0, 5))
def test_any_sequence_of_changes(compact_from, actions, seed):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_COMPACT_SLOTS", compact_from)
        index = Index("l2", DIM)
        live: dict[int, Any] = {}
        marked: dict[int, Any] = {}
        index.init_index(0, M=4, ef_construction=20, allow_replace_deleted=True)
        for kind, labels in actions:
            index = act(index, kind, labels, rng, live, marked)
            check(index, live, marked)


def act(index, kind, labels, rng, live, marked):
    if kind in {"add", "auto", "replace"}:
        rows = rng.standard_normal((len(labels), DIM)).astype(np.float32)
        before = set(live) | set(marked)
        if kind == "auto":
            index.add_items(rows)
            labels = sorted(set(index.get_ids_list()) - before)
            assert len(labels) == len(rows)
        else:
            index.add_items(rows, labels, replace_deleted=kind == "replace")
        for label, row in zip(labels, rows, strict=True):
            live[label] = row
            marked.pop(label, None)
        for label in set(marked) - set(index.get_ids_list()):
            assert kind == "replace"
            del marked[label]
    elif kind in {"mark", "unmark"}:
        source, target = (live, marked) if kind == "mark" else (marked, live)
        for label in set(labels) & set(source):
            (index.mark_deleted if kind == "mark" else index.unmark_deleted)(label)
            target[label] = source.pop(label)
    elif kind == "compact":
        index.compact()
        marked.clear()
    else:
        index = Index.from_bytes(index.to_bytes())
    return index


def test_replacing_takes_as_many_places_as_there_are_new_labels():
    index = Index("l2", 2)
    index.init_index(0, allow_replace_deleted=True)
    index.add_items(np.eye(2).repeat(5, 0))
    for label in range(4):
        index.mark_deleted(label)
    index.add_items([[3, 3], [4, 4]], [100, 1], replace_deleted=True)  # 1 exists: only 100 takes a place
    assert sorted(index.get_ids_list()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]
    assert 1 in index


def test_the_last_row_of_a_label_counts():
    for kind in (Index, BFIndex):
        index = kind("cosine", 2)
        index.add_items([[1, 0], [0, 1], [1, 1], [2, 1]], [7, 3, 7, 3])
        assert index.get_items([7, 3]).tolist() == [[1, 1], [2, 1]]
        assert index.get_current_count() == 2


def test_memory_comes_back():
    rng = np.random.default_rng(0)
    index = Index("l2", 32)
    index.init_index(0)
    index.add_items(rng.standard_normal((3000, 32)))
    full = index.memory_usage()
    assert full["total"] == sum(value for key, value in full.items() if key != "total")
    assert full["vectors"] >= 3000 * 32 * 4
    for label in range(2500):
        index.mark_deleted(label)
    index.compact()
    assert index.memory_usage()["total"] < full["total"] / 3
    assert index.get_ids_list() == list(range(2500, 3000))
    assert "500 points" in repr(index)


def test_points_by_label_and_what_an_index_says_of_itself():
    rows = np.random.default_rng(5).standard_normal((30, 4)).astype(np.float32)
    index, scanned = Index("cosine", 4), BFIndex("l2", 4)
    assert index.stats["layout"] == "scan"
    index.add_items(rows, np.arange(30) * 2)
    scanned.add_items(rows)
    index.mark_deleted(6)
    np.testing.assert_array_equal(index[8], rows[4])
    np.testing.assert_array_equal(index[[8, 0]], rows[[4, 0]])
    for missing in (6, 7):
        with pytest.raises(LookupError, match="Label not found"):
            index[missing]
    stats = index.stats
    assert (stats["points"], stats["deleted"], stats["layout"]) == (29, 1, "float")
    assert stats["codec"]["chosen"] == "none"
    assert stats["memory"] == index.memory_usage()
    assert (scanned.stats["layout"], scanned.stats["codec"]) == ("scan", None)


def test_updates_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(module, "_COMPACT_SLOTS", 50)
    index = BFIndex("l2", 4)
    for turn in range(40):
        index.add_items(np.full((20, 4), turn), np.arange(20))
    assert index._points._taken <= 100
    for label in range(20):
        index.delete_vector(label)
    assert len(index) == 0
    assert index.knn_query([[1, 1, 1, 1]])[0].tolist() == [[2**64 - 1]]


def test_an_addition_that_fails_leaves_nothing_behind(monkeypatch):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((60, 4)).astype(np.float32)
    index = Index("l2", 4)
    index.add_items(rows)
    grow = FieldIndex.extend

    def fails(self, *arguments):
        grow(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FieldIndex, "extend", fails)
        with pytest.raises(KeyboardInterrupt):
            index.add_items(rows + 10, np.arange(60))
    assert index.knn_query(rows, 1)[0].ravel().tolist() == list(range(60))
    assert index.get_current_count() == 60
    index.add_items(rows + 20, np.arange(60, 120))
    assert index.knn_query(rows + 10, 1)[1].min() > 0  # what failed is not found
    np.testing.assert_array_equal(index.get_items(np.arange(60)), rows)
    assert Index.from_bytes(index.to_bytes()).get_current_count() == 120


def test_a_picture_keeps_what_an_update_ends():
    rows = np.random.default_rng(2).standard_normal((100, 4)).astype(np.float32)
    index = Index("l2", 4)
    index.add_items(rows)
    index.mark_deleted(0)
    before = index._points.picture
    index.add_items(rows[5:6] + 1, [5])
    after = index._points.picture
    assert before.alive is not None
    assert after.alive is not None
    assert int(before.alive[0]) >> 5 & 1 == 1
    assert int(after.alive[0]) >> 5 & 1 == 0
    # labels as a filter lead to the slots that the picture has
    for picture, slots in ((before, [5, 6]), (after, [6, 100])):
        bits = allowed_by([5, 6], picture, index._points)
        assert bits is not None
        assert slots_from_bits(bits, picture.n).tolist() == slots


def test_a_point_marked_while_the_index_is_compacted_stays_marked(monkeypatch):
    index = Index("l2", 4)
    index.add_items(np.random.default_rng(2).standard_normal((100, 4)))
    index.mark_deleted(3)
    grow = FieldIndex.extend

    def marks(self, *arguments):
        grow(self, *arguments)
        index.mark_deleted(7)

    with monkeypatch.context() as patched:
        patched.setattr(FieldIndex, "extend", marks)
        index.compact()
    assert 7 not in index
    assert index.get_current_count() == 99
    assert len(index) == 98
    index.unmark_deleted(7)
    assert 7 in index


def test_progress_is_told_up_to_one():
    told: list[float] = []
    index = Index("l2", 4)
    index.add_items(np.random.default_rng(0).standard_normal((2500, 4)), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 1


def test_searching_while_adding_updating_and_compacting():
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((1200, 8)).astype(np.float32)
    index = Index("l2", 8)
    index.init_index(0, ef_construction=40)
    index.set_ef(50)
    index.add_items(rows[:600])
    done = threading.Event()
    problems: list[object] = []

    def read() -> None:
        local = np.random.default_rng(threading.get_ident() % 1000)
        while not done.is_set():
            label = int(local.integers(600))
            try:
                found, near = index.knn_query(rows[label], 3)
                own = index.knn_query(rows[label], 1, filter=[label])
                if 2**64 - 1 in found or (np.diff(near[0]) < 0).any() or own[0].tolist() != [[label]]:
                    problems.append((label, found, near, own))
            except Exception as error:  # noqa: BLE001 - any error is what is looked for
                problems.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for first in range(600, 1200, 60):
        index.add_items(rows[first : first + 60], np.arange(first, first + 60))
        index.add_items(rows[:50], np.arange(50))  # the same vectors under the same labels
        index.mark_deleted(first)
        if first % 180 == 0:
            index.compact()
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(index) == 1190
