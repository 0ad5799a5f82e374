"""Every kind of filter gives the same points as numpy does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from vicinal.errors import InvalidFilter
from vicinal.flat.inputs import Refused
from vicinal.flat_api import BFIndex, Bitmap, Index

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2500, 6)).astype(np.float32)
PLAIN, SPARSE = np.arange(2500), np.arange(2500) * 5 + 11
QUERIES = RNG.standard_normal((6, 6)).astype(np.float32)


def nearest(labels, allowed, query, k):
    rows = np.flatnonzero(np.isin(labels, list(allowed)))
    order = np.argsort(((X[rows] - query) ** 2).sum(1), kind="stable")[:k]
    return labels[rows[order]].tolist()


def made(kind, labels):
    index = kind("l2", 6)
    index.add_items(X, labels)
    if kind is Index:
        index.set_ef(300)
    return index


INDEXES = {
    (kind.__name__, name): made(kind, labels)
    for kind in (Index, BFIndex)
    for name, labels in (("plain", PLAIN), ("sparse", SPARSE))
}


@pytest.mark.parametrize("share", [0, 1, 3, 300, 2400])
@pytest.mark.parametrize(("kind", "name"), INDEXES)
def test_forms_of_one_set(kind, name, share):
    index, labels = INDEXES[kind, name], PLAIN if name == "plain" else SPARSE
    allowed = set(RNG.choice(labels, share, replace=False).tolist())
    mask = np.isin(np.arange(int(labels.max()) + 9), list(allowed))
    listed = sorted(allowed)
    forms = {
        "function": lambda label: label in allowed,
        "list": [*listed, 10**6],
        "array": np.array(listed, np.int32),
        "unsigned": np.array(listed, np.uint64),
        "set": allowed,
        "mask": mask,
        "mask list": mask.tolist(),
        "bitmap": Bitmap.from_labels(listed),
        "bitmap of a mask": Bitmap.from_mask(mask),
    }
    expected = [nearest(labels, allowed, query, 10) for query in QUERIES]
    for form, one_form in forms.items():
        found, distances = index.knn_query(QUERIES, 10, filter=one_form)
        one = np.concatenate([index.knn_query(query, 10, filter=one_form)[0] for query in QUERIES])
        for row, truth in enumerate(expected):
            assert found[row, : len(truth)].tolist() == truth, form
            assert one[row, : len(truth)].tolist() == truth, form
            assert (found[row, len(truth) :] == 2**64 - 1).all()
            assert np.isinf(distances[row, len(truth) :]).all()


def test_one_filter_per_query():
    index = INDEXES["Index", "plain"]
    filters = [None, [5, 6], {7}, lambda label: label < 50, np.arange(100) == 9, Bitmap.from_labels([1, 2, 3])]
    found, _ = index.knn_query(QUERIES, 3, filter=filters)
    allowed = [set(range(2500)), {5, 6}, {7}, set(range(50)), {9}, {1, 2, 3}]
    for row, one in enumerate(allowed):
        truth = nearest(PLAIN, one, QUERIES[row], 3)
        assert found[row, : len(truth)].tolist() == truth
    masks = np.zeros((6, 2500), bool)
    masks[np.arange(6), np.arange(6) * 3] = True
    assert index.knn_query(QUERIES, 1, filter=masks)[0].ravel().tolist() == [0, 3, 6, 9, 12, 15]
    with pytest.raises(Refused, match="2 filters for 6 queries"):
        index.knn_query(QUERIES, 1, filter=[None, [5]])


def test_filters_leave_deleted_points_out_and_follow_updates():
    index = made(Index, PLAIN)
    index.mark_deleted(5)
    for same in ([5, 6], {5, 6}, lambda label: label in {5, 6}, Bitmap.from_labels([5, 6])):
        assert index.knn_query(X[5], 2, filter=same)[0].tolist() == [[6, 2**64 - 1]]
    index.add_items(X[:1] + 9, [6])  # labels are no longer the slots
    for same in ([6], lambda label: label == 6, Bitmap.from_labels([6]), np.arange(7) == 6):
        labels, distances = index.knn_query(X[0] + 9, 2, filter=same)
        assert labels.tolist() == [[6, 2**64 - 1]]
        assert distances[0, 0] == 0


def test_a_function_is_asked_about_the_nearest_points_first():
    asked = []

    def passes(label):
        asked.append(label)
        return label % 2 == 1

    index = INDEXES["Index", "plain"]
    assert index.knn_query(QUERIES[:1], 4, filter=passes)[0].tolist() == [
        nearest(PLAIN, set(range(1, 2500, 2)), QUERIES[0], 4)
    ]
    assert len(asked) < 300


def test_an_error_of_a_function_comes_through():
    def fails(label):
        raise KeyError(label)

    with pytest.raises(KeyError):
        INDEXES["Index", "plain"].knn_query(QUERIES, filter=fails)


def test_a_bitmap_knows_its_labels():
    bitmap = Bitmap.from_labels([0, 63, 64, 200])
    assert [label for label in range(-70, 400) if label in bitmap] == [0, 63, 64, 200]
    assert 10**30 not in bitmap
    for wrong in (np.zeros(3, np.int64), [1, 2], np.zeros((2, 2), np.uint64)):
        with pytest.raises(Refused, match="uint64"):
            Bitmap(wrong)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="by the labels themselves"):
        Bitmap.from_labels([2**63])
    with pytest.raises(Refused, match="whole numbers"):
        INDEXES["Index", "plain"].knn_query(QUERIES, filter=[[1.5]] * len(QUERIES))


EXPRESSIONS = [
    ("id in (16, 21, 26, 4)", lambda label: label in {16, 21, 26}),
    ("label >= 2011", lambda label: label >= 2011),
    ("label between 100 and 201.5", lambda label: 100 <= label <= 201),
    ("not (label < 2000 or id = 2011)", lambda label: label >= 2000 and label != 2011),
    ("label != 16 and label <= 101", lambda label: label != 16 and label <= 101),
    ("label > 20.5 and `id` < 36.5", lambda label: 20 < label < 37),
    ("label = 16.0", lambda label: label == 16),
    ("label in (16, 16.5, true, 'a', -3)", lambda label: label == 16),
    ("label > -1 and label < 1e30", lambda label: True),
    ("label is null or label > 1e30", lambda label: False),
    ({"must_not": {"has_id": [16, 21]}}, lambda label: label not in {16, 21}),
    (
        {"min_should": {"conditions": [{"has_id": [16, 21]}, {"key": "label", "range": {"lt": 20}}], "min_count": 2}},
        lambda label: label == 16,
    ),
    ({"key": "label", "match": {"except": [16]}}, lambda label: label != 16),
]


@pytest.mark.parametrize(("expression", "passes"), EXPRESSIONS)
def test_expressions_over_labels(expression, passes):
    index = INDEXES["BFIndex", "sparse"]
    for given in (expression, [expression] * len(QUERIES)):
        found, _ = index.knn_query(QUERIES, 40, filter=given)
        again, _ = index.knn_query(QUERIES, 40, filter=[label for label in SPARSE.tolist() if passes(label)])
        np.testing.assert_array_equal(found, again)


def test_expressions_are_exact_for_large_labels():
    labels = np.array([2**53, 2**53 + 1, 2**53 + 2, 2**64 - 1], np.uint64)
    index = BFIndex("l2", 6)
    index.add_items(X[:4], labels)
    for text, expected in ((f"label > {2**53}", 3), (f"label = {2**53 + 1}", 1), (f"id in ({2**64 - 1}, 1)", 1)):
        assert len(set(index.knn_query(X[0], 4, filter=text)[1][0].tolist()) - {np.inf}) == expected, text


def test_expressions_leave_deleted_points_out():
    index = made(Index, PLAIN)
    index.mark_deleted(5)
    assert sorted(index.knn_query(X[5], 3, filter="label between 4 and 6")[0][0, :2].tolist()) == [4, 6]
    assert 5 not in index.knn_query(X[5], 3, filter={})[0]


@pytest.mark.parametrize(
    ("filter", "error", "message"),
    [
        ("year > 3", Refused, "labels only.*'year'"),
        ("label > '2020-01-01'", Refused, "instant"),
        ("label >", InvalidFilter, "value"),
        ({"mst": []}, InvalidFilter, "mst"),
    ],
)
def test_expressions_that_an_index_cannot_answer(filter, error, message):
    with pytest.raises(error, match=message):
        INDEXES["Index", "plain"].knn_query(X[0], 3, filter=filter)


def test_filters_over_codes_are_planned_once_somebody_filters():
    rows = np.random.default_rng(5).standard_normal((11_000, 24)).astype(np.float32)
    index = Index("l2", 24)
    index.add_items(rows[:10_500])
    before = index.to_bytes()
    mask = np.zeros(len(rows), np.bool_)
    mask[::3] = True

    def recall(masks, ids):
        found, _ = index.knn_query(rows[ids], 10, filter=masks)
        shares = []
        for at, row in enumerate(ids):
            one = masks[at] if isinstance(masks, list) else masks
            among = np.flatnonzero(one[: len(index)])
            true = among[np.argsort(((rows[among] - rows[row]) ** 2).sum(1))[:10]]
            assert one[found[at]].all()
            shares.append(np.isin(found[at], true).mean())
        return np.mean(shares)

    def filtered() -> Any:
        graph = index._points.picture.graph
        assert graph is not None
        return graph.filtered

    assert filtered() is None
    assert recall(mask, range(20)) >= 0.95
    deadline = time.monotonic() + 200
    while filtered() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    made = filtered()
    assert recall(mask, range(20)) >= 0.95
    assert made.chosen, "a way was planned"
    assert recall([mask, ~mask] * 10, range(20)) >= 0.95
    assert index.to_bytes() == before
    index.add_items(rows[10_500:])
    assert filtered() is made
    late = np.arange(len(rows)) >= 10_500
    assert recall(late, range(10_500, 10_520)) >= 0.95  # an ef of 10 asks for no more
