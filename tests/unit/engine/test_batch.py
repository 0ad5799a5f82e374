"""What a caller sends is checked before anything is written: every bad input names its culprit."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from vicinal import limits
from vicinal.batch import DensePart, MultiPart, as_ids, make_batch
from vicinal.casting import as_matrix, as_query
from vicinal.errors import InvalidArgument, InvalidId, InvalidPayload, InvalidVector, LimitExceeded
from vicinal.schema import Dense, Multi, Schema
from vicinal.types import Metric

COSINE = Schema({"": Dense(4)})
L2 = Schema({"": Dense(4, metric=Metric.L2)})
TOKENS = Schema({"tokens": Multi(8, repetitions=2, simhash_projections=2, projection_dimension=4)})
NAMED = Schema({"a": Dense(2), "b": Dense(3)})
GOOD = [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ([[1.0, 2.0, float("nan"), 4.0]], InvalidVector),
        ([[1.0, 2.0, float("inf"), 4.0]], InvalidVector),
        ([[1e39, 0.0, 0.0, 0.0]], InvalidVector),
        ([[0.0, 0.0, 0.0, 0.0]], InvalidVector),
        ([[1.0, 2.0, 3.0]], InvalidVector),
        ([1.0, 2.0, 3.0, 4.0], InvalidVector),
        ([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]], InvalidVector),
        ([["a", "b", "c", "d"]], InvalidVector),
        ([[1 + 2j, 0, 0, 0]], InvalidVector),
        ([[True, False, True, True]], InvalidVector),
        ([], InvalidVector),
        ("text", InvalidVector),
        (None, InvalidVector),
        ({"other": GOOD}, InvalidVector),
        ({}, InvalidVector),
    ],
)
def test_bad_dense_vectors(vectors: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        make_batch(COSINE, [1], vectors, None)
    assert caught.value.field  # type: ignore[attr-defined]


def test_a_zero_vector_is_fine_where_direction_does_not_matter() -> None:
    part = make_batch(L2, [1], [[0, 0, 0, 0]], None).parts[""]
    assert isinstance(part, DensePart)
    assert part.inv_norms.size == 0


@pytest.mark.parametrize("scale", [1e-19, 1e-12, 1.0, 1e12, 9e17])
def test_norms_of_tiny_and_huge_rows(scale: float) -> None:
    row = np.array([[3.0, 4.0, 0.0, 0.0]]) * scale
    part = make_batch(COSINE, [1], row, None).parts[""]
    assert isinstance(part, DensePart)
    np.testing.assert_allclose(part.inv_norms, [1 / (5 * scale)], rtol=1e-6)


@pytest.mark.parametrize(
    ("schema", "scale"), [(COSINE, 1e-20), (COSINE, 1e-40), (COSINE, 1e20), (L2, 1e20), (L2, 1e38)]
)
def test_lengths_whose_distances_leave_float32_are_refused(schema: Schema, scale: float) -> None:
    rows = np.array([[3.0, 4.0, 0.0, 0.0]]) * [[1], [scale]]
    with pytest.raises(InvalidVector, match="row 1 of"):
        make_batch(schema, [1, 2], rows, None)
    with pytest.raises(InvalidVector):
        as_query(rows[1], 4, schema.fields[""].metric)  # type: ignore[union-attr]


@pytest.mark.parametrize("row", [[90.1, 0], [-91, 0], [0, 180.5], [0, -200], [np.nan, 0]])
def test_degrees_out_of_range_are_refused(row: list[float]) -> None:
    places = Schema({"": Dense(2, metric=Metric.HAVERSINE)})
    with pytest.raises(InvalidVector):
        make_batch(places, [1], [row], None)
    with pytest.raises(InvalidVector):
        as_query(row, 2, Metric.HAVERSINE)
    assert make_batch(places, [1, 2], [[90, -180], [-90, 180]], None).ids == [1, 2]


@pytest.mark.parametrize("bad", [-1, 1 << 64, 1.5, None, b"x", "", "x" * 513, True, ["nested"], "nul\0", "\ud800"])
def test_bad_ids(bad: Any) -> None:
    with pytest.raises(InvalidId):
        as_ids([bad])


@pytest.mark.parametrize("ids", ["abc", 7, None, np.zeros((2, 2), np.int64)])
def test_ids_must_be_a_list(ids: Any) -> None:
    with pytest.raises(InvalidId):
        as_ids(ids)


def test_good_ids() -> None:
    assert as_ids([0, limits.ID_MAX, "7", 7]) == [0, limits.ID_MAX, "7", 7]
    assert as_ids(np.array([3, 4], np.uint64)) == [3, 4]
    assert as_ids([np.int32(5)]) == [5]


def test_every_spelling_of_a_uuid_is_one_id() -> None:
    one = uuid.UUID("6F9619FF-8B86-D011-B42D-00CF4FC964FF")
    spellings = [one, str(one).upper(), one.hex, "{" + str(one) + "}", one.urn]
    assert as_ids(spellings) == [str(one)] * 5


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(InvalidId, match="twice"):
        make_batch(COSINE, [1, 1], GOOD * 2, None)


def test_seven_and_seven_as_text_are_two_points() -> None:
    assert make_batch(COSINE, [7, "7"], GOOD * 2, None).ids == [7, "7"]


def test_empty_and_oversized_batches() -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        make_batch(COSINE, [], np.empty((0, 4)), None)
    with pytest.raises(LimitExceeded):
        make_batch(COSINE, range(limits.BATCH_POINTS_MAX + 1), GOOD, None)


@pytest.mark.parametrize("payloads", [[1], ["x"], [[1]], {"a": 1}, "x", [{1: object()}], [], [None, None], 5])
def test_bad_payloads(payloads: Any) -> None:
    with pytest.raises(InvalidPayload):
        make_batch(COSINE, [1], GOOD, payloads)


def test_a_payload_over_the_bound() -> None:
    with pytest.raises(InvalidPayload):
        make_batch(COSINE, [1], GOOD, [{"a": "x" * limits.PAYLOAD_BYTES_MAX}])


def test_a_payload_a_thousand_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(1000):
        deep = {"a": deep}
    with pytest.raises(InvalidPayload):
        make_batch(COSINE, [1], GOOD, [deep])


def test_vectors_come_in_many_shapes() -> None:
    import pyarrow as pa

    expected = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    arrow = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(1.0, 9.0)), 4)
    chunked = pa.chunked_array([arrow.slice(0, 1), arrow.slice(1, 1)])

    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return expected

    class Capsule:
        def __dlpack__(self, **options: Any) -> Any:
            return expected.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return expected.__dlpack_device__()

    shapes = (expected, expected.tolist(), expected.astype(np.float16), arrow, chunked, Tensor(), Capsule())
    for value in (*shapes, np.asfortranarray(expected)):
        matrix = as_matrix(value, 4)
        np.testing.assert_array_equal(matrix, expected)
        assert matrix.dtype == np.float32
        assert matrix.flags.c_contiguous


def test_arrow_nulls_are_refused() -> None:
    import pyarrow as pa

    with pytest.raises(InvalidVector, match="null"):
        as_matrix(pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), 2)


@pytest.mark.parametrize("value", [[1, 2, 3], [[1, 2, 3, 4]], [float("nan")] * 4, [0, 0, 0, 0], 5, None])
def test_bad_queries(value: Any) -> None:
    with pytest.raises(InvalidVector):
        as_query(value, 4, Metric.COSINE)


@pytest.mark.parametrize(
    "tokens",
    [
        [np.empty((0, 8))],
        [np.ones((2, 7))],
        [np.full((1, 8), np.nan)],
        [np.ones((1, 8)), np.ones((1, 8))],
        (np.ones((3, 8)), [0, 3]),
        (np.ones((3, 8)), [2]),
        (np.ones((3, 8)), [4]),
        (np.ones((3, 8)), [1.5]),
        (np.ones((3, 8)), [-1, 3]),
        5,
        "text",
    ],
)
def test_bad_tokens(tokens: Any) -> None:
    ids = [1, 2] if isinstance(tokens, tuple) and len(tokens[1]) == 2 and tokens[1][0] != 0 else [1]
    if isinstance(tokens, tuple) and tokens[1] == [0, 3]:
        part = make_batch(TOKENS, [1], tokens, None).parts["tokens"]  # offsets with a leading zero are understood
        assert isinstance(part, MultiPart)
        assert part.ends.tolist() == [3]
        return
    with pytest.raises(InvalidVector):
        make_batch(TOKENS, ids, tokens, None)


def test_named_fields_need_names_and_may_be_left_out() -> None:
    with pytest.raises(InvalidVector, match="dict"):
        make_batch(NAMED, [1], [[1, 2]], None)
    assert set(make_batch(NAMED, [1], {"a": [[1, 2]]}, None).parts) == {"a"}
