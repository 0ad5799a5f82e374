"""Labels and vectors are checked before anything changes."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded, NotFound
from vicinal.flat.inputs import LabelNotFound, Refused, RefusedVector, as_labels
from vicinal.flat_api import BFIndex, Index


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 2**64 - 1], [0, 2**64 - 1]),
        ([1, 2**63 + 1, 3], [1, 2**63 + 1, 3]),
        (np.array([[1], [2]], np.int8), [1, 2]),
        (np.array([2.0, 3.0]), [2, 3]),
        ([np.int32(4), 5], [4, 5]),
        (range(3), [0, 1, 2]),
        ({7}, [7]),
        ((1, 2), [1, 2]),
        (9, [9]),
        ([], []),
    ],
    ids=str,
)
def test_labels(given, expected):
    labels = as_labels(given)
    assert labels.dtype == np.uint64
    assert labels.tolist() == expected


@pytest.mark.parametrize(
    "given",
    [
        [-1],
        [1.5],
        [float("nan")],
        [2.0**64],
        [2**64],
        ["a"],
        [None],
        [True, False],
        [[1], [2, 3]],
        np.array([-1]),
        "12",
    ],
    ids=str,
)
def test_what_is_no_label_is_refused(given):
    with pytest.raises(Refused, match="whole numbers"):
        as_labels(given)


def test_errors_are_ours_and_hnswlibs():
    assert issubclass(Refused, InvalidArgument)
    assert issubclass(Refused, ValueError)
    assert issubclass(RefusedVector, InvalidVector)
    assert issubclass(LabelNotFound, NotFound)
    assert issubclass(LabelNotFound, LookupError)
    for kind in (Refused, RefusedVector, LabelNotFound):
        assert issubclass(kind, RuntimeError)


@pytest.mark.parametrize("kind", [Index, BFIndex])
@pytest.mark.parametrize(
    ("space", "bad"),
    [("l2", np.nan), ("l2", np.inf), ("ip", -np.inf), ("l2", 1e39), ("cosine", 0.0)],
)
def test_a_bad_vector_changes_nothing(kind, space, bad):
    index = kind(space, 2)
    index.add_items([[1.0, 2.0]])
    row = [bad, 0.0] if bad == 0 else [bad, 1.0]
    with pytest.raises(InvalidVector, match="row 1 of data"):
        index.add_items([[3.0, 4.0], row])
    with pytest.raises(InvalidVector):
        index.knn_query([row])
    assert len(index) == 1
    assert index.get_current_count() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_the_short_way_of_a_query_refuses_what_the_long_way_does(bad):
    index = Index("cosine", 4)
    index.add_items(np.random.default_rng(0).standard_normal((700, 4)))
    assert index._points.picture.walk is not None
    with pytest.raises(InvalidVector):
        index.knn_query(np.full(4, bad, np.float32))


@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_an_array_of_any_shape_is_answered_or_refused_as_by_the_long_way(space):
    index = Index(space, 4)
    index.add_items(np.random.default_rng(0).standard_normal((700, 4)))
    one = np.full((1, 4), 0.5, np.float32)
    for data in (one, one[0]):
        labels, distances = index.knn_query(data, 3)
        assert labels.shape == distances.shape == (1, 3)
        assert labels.tolist() == index.knn_query(one.astype(np.float64), 3)[0].tolist()
    for wrong in (one[..., :3], one[None], one[0, 0], np.zeros((1, 0), np.float32), np.full(1, 0.5, np.float32)):
        with pytest.raises(InvalidVector):
            index.knn_query(np.asarray(wrong), 3)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Index("l2", 0), LimitExceeded),
        (lambda: Index("l2", 1 << 20), LimitExceeded),
        (lambda: Index("l2", 2.5), LimitExceeded),  # type: ignore[arg-type]
        (lambda: Index("l2", 4).init_index(10, M=1), LimitExceeded),
        (lambda: Index("l2", 4).init_index(10, M=1000), LimitExceeded),
        (lambda: Index("l2", 4).init_index(10, ef_construction=10**6), LimitExceeded),
        (lambda: Index("l2", 4).init_index(-1), LimitExceeded),
        (lambda: Index("l2", 4).init_index(1 << 40), LimitExceeded),
        (lambda: Index("l2", 4).init_index(10, random_seed=-1), Refused),
        (lambda: Index("l2", 4).set_ef(0), Refused),
        (lambda: Index("l2", 4).set_ef("many"), Refused),  # type: ignore[arg-type]
        (lambda: Index("l2", 4).knn_query([[1, 2, 3, 4]], k=0), Refused),
        (lambda: Index("l2", 4).knn_query([[1, 2, 3, 4]], k=1.5), Refused),  # type: ignore[arg-type]
        (lambda: Index("l2", 4).knn_query([[1, 2, 3, 4]], k=1 << 40), LimitExceeded),
        (lambda: Index("l2", 4).mark_deleted([1]), Refused),  # type: ignore[arg-type]
        (lambda: Index("l2", 4).mark_deleted(-1), Refused),
        (lambda: Index("l2", 4).knn_query([["a", "b", "c", "d"]]), InvalidVector),
        (lambda: Index("l2", 4).add_items([[True, False, True, True]]), InvalidVector),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error):
        call()
