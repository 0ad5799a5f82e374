"""Programs written for hnswlib: what its classes promise holds of ours."""

from __future__ import annotations

import copy
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vicinal.flat_api import BFIndex, Index

DIM = 12
RNG = np.random.default_rng(7)
X = RNG.random((1500, DIM)).astype(np.float32)
QUERIES = RNG.random((40, DIM)).astype(np.float32)


def make(space: str = "l2", rows=X, **options) -> Index:
    index = Index(space=space, dim=DIM)
    index.init_index(max_elements=len(rows), ef_construction=100, M=16, **options)
    index.set_ef(100)
    index.add_items(rows)
    return index


def distances_of(space: str, queries, rows):
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if space == "l2":
        return ((queries[:, None] - rows[None]) ** 2).sum(-1)
    if space == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return 1 - queries @ rows.T


def parameters(function) -> list[tuple[str, object]]:
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Index.__init__, {"space": None, "dim": None}),
        (Index.add_items, {"data": None, "ids": None, "num_threads": -1, "replace_deleted": False}),
        (Index.knn_query, {"data": None, "k": 1, "num_threads": -1, "filter": None}),
        (Index.get_items, {"ids": None, "return_type": "numpy"}),
        (Index.set_ef, {"ef": None}),
        (Index.set_num_threads, {"num_threads": None}),
        (Index.save_index, {"path_to_index": None}),
        (Index.load_index, {"path_to_index": None, "max_elements": 0, "allow_replace_deleted": False}),
        (Index.mark_deleted, {"label": None}),
        (Index.unmark_deleted, {"label": None}),
        (Index.resize_index, {"new_size": None}),
        (BFIndex.__init__, {"space": None, "dim": None}),
        (BFIndex.add_items, {"data": None, "ids": None}),
        (BFIndex.knn_query, {"data": None, "k": 1, "num_threads": -1, "filter": None}),
        (BFIndex.delete_vector, {"label": None}),
        (BFIndex.load_index, {"path_to_index": None, "max_elements": 0}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures(function, expected):
    empty = inspect.Parameter.empty
    assert [(name, None if default is empty else default) for name, default in parameters(function)] == list(
        expected.items()
    )


def test_the_defaults_of_init_index():
    assert parameters(Index.init_index)[1:] == [
        ("M", 16),
        ("ef_construction", 200),
        ("random_seed", 100),
        ("allow_replace_deleted", False),
    ]


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_distances_and_order(space):
    expected = np.sort(distances_of(space, QUERIES, X), axis=1)[:, :10]
    exact = BFIndex(space, DIM)
    exact.init_index(len(X))
    exact.add_items(X)
    for index, tolerance in ((exact, 0), (make(space), 0.02)):
        labels, distances = index.knn_query(QUERIES, k=10)
        assert labels.dtype == np.uint64
        assert distances.dtype == np.float32
        assert labels.shape == distances.shape == (40, 10)
        assert (np.diff(distances, axis=1) >= 0).all()
        assert np.mean(np.abs(distances - expected) > 1e-5) <= tolerance
        np.testing.assert_allclose(
            distances, np.take_along_axis(distances_of(space, QUERIES, X), labels.astype(np.int64), 1), atol=1e-5
        )


@pytest.mark.parametrize(
    ("space", "expected"),
    [("l2", [0, 1, 2, 2, 2]), ("ip", [-2, -1, 0, 0, 0]), ("cosine", [0, 0.1835, 0.42265, 0.42265, 0.42265])],
)
@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 13), (30, 100)])
def test_spaces_on_five_points_of_any_width(space, expected, left, right):
    corners = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]])
    padded = np.pad(corners, ((0, 0), (left, right)))
    index = Index(space, padded.shape[1])
    index.init_index(max_elements=5)
    index.add_items(padded)
    np.testing.assert_allclose(index.knn_query(padded[-1:], k=5)[1], [expected], atol=1e-3)


def test_properties():
    index = make()
    assert (index.space, index.dim, index.M, index.ef_construction) == ("l2", DIM, 16, 100)
    assert (index.max_elements, index.element_count, index.ef) == (1500, 1500, 100)
    assert (index.get_max_elements(), index.get_current_count()) == (1500, 1500)
    index.ef = 20
    assert index.ef == 20
    index.num_threads = 3
    index.set_num_threads(1)
    assert index.num_threads == 1
    fresh = Index("ip", 3)
    assert (fresh.ef, fresh.M, fresh.ef_construction, fresh.max_elements, fresh.element_count) == (10, 0, 0, 0, 0)
    assert "ip" in repr(fresh)
    fresh.init_index(10, M=48, ef_construction=20)
    assert fresh.ef_construction == 48  # never below M


def test_items_by_label():
    index = Index("l2", DIM)
    index.init_index(max_elements=10)
    with pytest.raises(RuntimeError):
        index.get_items([0])
    labels = np.array([5, 2**64 - 2, 7], np.uint64)
    index.add_items(X[:3], labels)
    np.testing.assert_array_equal(index.get_items(labels), X[:3])
    np.testing.assert_array_equal(index.get_items(labels[:, None]), X[:3])
    assert index.get_items([7], return_type="list") == [X[2].tolist()]
    assert index.get_items().shape == (0, DIM)
    assert sorted(index.get_ids_list()) == sorted(labels.tolist())
    for wrong in (5, np.uint64(5)):
        with pytest.raises(ValueError, match="list of indices"):
            index.get_items(wrong)
    with pytest.raises(RuntimeError, match="Label not found"):
        index.get_items([6])
    with pytest.raises(ValueError, match="return_type"):
        index.get_items([7], return_type="tuple")


def test_labels_follow_the_count_of_rows_added():
    index = Index("l2", DIM)
    index.init_index(100)
    index.add_items(X[:3])
    index.add_items(X[3:5], [50, 51])
    index.add_items(X[5])
    assert index.get_ids_list() == [0, 1, 2, 50, 51, 5]
    index.add_items(X[6], 7)
    index.add_items(X[7])  # the seventh row would be 7, which exists
    assert 52 in index
    np.testing.assert_array_equal(index.get_items([7]), X[6:7])


def test_adding_a_label_again_updates_it():
    index = make()
    index.add_items(X[:1] + 5, [3])
    assert index.element_count == 1500
    np.testing.assert_array_equal(index.get_items([3]), X[:1] + 5)
    assert index.knn_query(X[0] + 5)[0].tolist() == [[3]]
    assert 3 not in index.knn_query(X[3], 20)[0]


def test_marking_and_unmarking():
    index = make()
    found = set(index.knn_query(QUERIES, 5)[0].ravel().tolist())
    for label in found:
        index.mark_deleted(label)
    assert not found & set(index.knn_query(QUERIES, 5)[0].ravel().tolist())
    assert index.element_count == 1500
    assert len(index) == 1500 - len(found)
    label = min(found)
    with pytest.raises(RuntimeError, match="already deleted"):
        index.mark_deleted(label)
    with pytest.raises(RuntimeError, match="Label not found"):
        index.get_items([label])
    for label in found:
        index.unmark_deleted(label)
    assert found & set(index.knn_query(QUERIES, 5)[0].ravel().tolist())
    with pytest.raises(RuntimeError, match="not deleted"):
        index.unmark_deleted(label)
    with pytest.raises(RuntimeError, match="Label not found"):
        index.mark_deleted(99999)


def test_replacing_deleted_points():
    index = make(allow_replace_deleted=True)
    for label in range(100):
        index.mark_deleted(label)
    index.add_items(X[:60] + 2, np.arange(5000, 5060), replace_deleted=True)
    assert index.element_count == 1500
    assert len(set(index.get_ids_list()) & set(range(100))) == 40
    np.testing.assert_array_equal(index.get_items(np.arange(5000, 5060)), X[:60] + 2)
    assert index.knn_query(X[7] + 2)[0].tolist() == [[5007]]
    index.add_items(X[:60] + 3, np.arange(6000, 6060), replace_deleted=True)  # 40 vacant, 20 more
    assert index.element_count == 1520
    with pytest.raises(RuntimeError, match="disabled"):
        make().add_items(X[:1], [9999], replace_deleted=True)


def test_resizing():
    index = make()
    index.resize_index(3000)
    assert index.max_elements == 3000
    index.add_items(X + 1)
    assert index.knn_query(X[:50] + 1)[0].ravel().tolist() == list(range(1500, 1550))
    with pytest.raises(RuntimeError, match="Cannot resize"):
        index.resize_index(10)


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_copies_through_reduce(space):
    fresh = copy.deepcopy(Index(space, DIM))
    fresh.init_index(10)
    index = make(space)
    index.mark_deleted(4)
    index.num_threads = 1
    twin = copy.deepcopy(index)
    for name in ("space", "dim", "M", "ef", "ef_construction", "num_threads", "max_elements", "element_count"):
        assert getattr(twin, name) == getattr(index, name)
    for mine, theirs in zip(index.knn_query(QUERIES, 5), twin.knn_query(QUERIES, 5), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    twin.unmark_deleted(4)
    assert 4 not in index


def test_an_index_can_be_sent_to_another_process(tmp_path):
    index = make()
    function, (content, vectors) = index.__reduce__()
    assert function(content, vectors).element_count == 1500
    (tmp_path / "bytes").write_bytes(content)
    code = (
        "import sys; from vicinal.flat_api import Index; "
        "print(Index.from_bytes(open(sys.argv[1], 'rb').read()).knn_query([[0.5] * 12], 3)[0].tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bytes")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert out.stdout.strip() == str(index.knn_query([[0.5] * 12], 3)[0].tolist())


def test_saving_and_loading_with_deletions(tmp_path):
    path = str(tmp_path / "index.bin")
    index = make("cosine", allow_replace_deleted=True)
    index.mark_deleted(9)
    index.save_index(path)
    assert index.index_file_size() == Path(path).stat().st_size
    other = Index("cosine", DIM)
    other.load_index(path, max_elements=4000)
    assert (other.max_elements, other.ef, other.element_count, len(other)) == (4000, 100, 1500, 1499)
    np.testing.assert_array_equal(other.knn_query(QUERIES, 5)[0], index.knn_query(QUERIES, 5)[0])
    np.testing.assert_array_equal(other.get_items([8]), X[8:9])  # as added, not normalised
    other.add_items(X[:1], [8000], replace_deleted=True)
    assert 9 not in other.get_ids_list()
    other.load_index(path)
    assert 9 in other.get_ids_list()


def test_a_file_can_be_loaded_into_another_space(tmp_path):
    make("l2").save_index(tmp_path / "a")
    other = Index("ip", DIM)
    other.load_index(tmp_path / "a")
    assert other.space == "ip"
    assert other._points.content()[3] == make("ip")._points.content()[3]  # a graph for its own distances
    expected = np.sort(distances_of("ip", QUERIES, X), axis=1)[:, :3]
    assert np.mean(np.abs(other.knn_query(QUERIES, 3)[1] - expected) > 1e-5) < 0.02


def test_a_function_as_filter():
    index = make()
    exact = BFIndex("l2", DIM)
    exact.init_index(len(X))
    exact.add_items(X)
    for queries in (QUERIES, QUERIES[:1]):
        labels, _ = index.knn_query(queries, 3, num_threads=1, filter=lambda label: label % 2 == 0)
        assert (labels % 2 == 0).all()
        truth, _ = exact.knn_query(queries, 3, filter=lambda label: label % 2 == 0)
        assert (labels == truth).mean() > 0.98


def test_brute_force_deletes_and_saves(tmp_path):
    exact = BFIndex("cosine", DIM)
    exact.init_index(max_elements=2000)
    exact.set_num_threads(2)
    exact.add_items(X, np.arange(1500) + 10)
    exact.delete_vector(10)
    exact.delete_vector(10)
    assert exact.get_current_count() == 1499
    assert exact.get_max_elements() == 2000
    exact.save_index(str(tmp_path / "bf"))
    other = BFIndex("cosine", DIM)
    other.load_index(str(tmp_path / "bf"))
    np.testing.assert_array_equal(other.knn_query(QUERIES, 4)[0], exact.knn_query(QUERIES, 4)[0])
    assert 10 not in other
    with pytest.raises(RuntimeError, match="other kind"):
        Index("cosine", DIM).load_index(tmp_path / "bf")


def test_refusals_are_the_exceptions_that_programs_expect():
    with pytest.raises(RuntimeError, match="Space name must be one of"):
        Index("hamming", 3)
    index = make()
    with pytest.raises(RuntimeError, match="already initiated"):
        index.init_index(5)
    for wrong in (X[:, :5], X[None], np.float32(1)):
        with pytest.raises(RuntimeError, match="wrong dimensionality"):
            index.add_items(wrong)
        with pytest.raises(RuntimeError, match="wrong dimensionality"):
            index.knn_query(wrong)
    with pytest.raises(RuntimeError, match="label shape"):
        index.add_items(X[:3], [1, 2])
    few = make(rows=X[:3])
    with pytest.raises(RuntimeError, match="contiguous 2D array"):
        few.knn_query(X[0], k=4, strict=True)
