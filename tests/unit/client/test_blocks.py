from __future__ import annotations

import array
import uuid
from typing import Any

import msgpack
import numpy as np
import pytest

from vicinal.client.blocks import (
    Ragged,
    array_of,
    columns_of,
    cut_columns,
    pack_array,
    pack_columns,
    pack_ids,
    row_count,
    row_nbytes,
    unpack_array,
    unpack_vector,
)
from vicinal.errors import InvalidId, InvalidVector


class OnlyArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones((2, 3))


class OnlyDlpack:
    def __init__(self) -> None:
        self._inner = np.ones((2, 3), np.float32)

    def __dlpack__(self, **options: Any) -> Any:
        return self._inner.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._inner.__dlpack_device__()


def through_the_wire(tree: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(tree))


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [
        ("<f4", "<f4"), (">f4", "<f4"), ("<f8", "<f4"), ("<i8", "<f4"), (">f2", "<f4"),
        ("<f2", "<f2"), ("u1", "|u1"), ("i1", "|i1"),
    ],
)  # fmt: skip
def test_blocks_are_little_endian_and_no_wider_than_the_numbers(dtype: str, sent: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)[:, ::-1]
    block = through_the_wire(pack_array(values))
    assert (block["dtype"], block["shape"], len(block["data"])) == (sent, [2, 3], 6 * np.dtype(sent).itemsize)
    assert block["data"][: np.dtype(sent).itemsize] == np.array([2], sent).tobytes()
    np.testing.assert_array_equal(unpack_array(block), values)


def test_truth_values_travel_as_bytes() -> None:
    assert array_of([[True, False]]).dtype == np.bool_
    assert pack_array(np.array([True, False]))["dtype"] == "|b1"


def test_numbers_beyond_float32_travel_as_infinity_for_the_server_to_refuse() -> None:
    assert np.isinf(unpack_array(through_the_wire(pack_array(np.array([1e300])))))[0]


@pytest.mark.parametrize(
    "vectors",
    [np.ones((2, 3)), [[1, 1, 1], [1.0, 1, 1]], OnlyArray(), OnlyDlpack(), [array.array("f", [1, 1, 1])] * 2],
)
def test_dense_containers(vectors: Any) -> None:
    columns = columns_of(vectors)
    assert isinstance(columns, np.ndarray)
    np.testing.assert_array_equal(columns, np.ones((2, 3)))


def test_arrow_lists_are_dense() -> None:
    pa = pytest.importorskip("pyarrow")
    rows = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    np.testing.assert_array_equal(columns_of(rows), [[1, 2], [3, 4]])
    with pytest.raises(InvalidVector, match="nulls"):
        columns_of(pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)))


MATRICES = [np.arange(4.0).reshape(2, 2), np.arange(4.0, 10.0).reshape(3, 2)]


@pytest.mark.parametrize(
    "vectors",
    [
        MATRICES,
        [matrix.tolist() for matrix in MATRICES],
        (np.concatenate(MATRICES), [2, 5]),
        (np.concatenate(MATRICES), np.array([0, 2, 5], np.uint32)),
    ],
)
def test_multi_vectors_are_one_block_with_ends(vectors: Any) -> None:
    block = through_the_wire(pack_columns(columns_of(vectors)))
    assert block["ends"] == [2, 5]
    np.testing.assert_array_equal(unpack_array(block), np.concatenate(MATRICES))


def test_a_cube_is_matrices_of_equal_length() -> None:
    columns = columns_of(np.arange(12.0).reshape(2, 3, 2))
    assert isinstance(columns, Ragged)
    assert columns.offsets.tolist() == [0, 3, 6]


def test_named_fields_are_cut_together() -> None:
    columns = columns_of({"v": np.arange(6.0).reshape(2, 3), "t": MATRICES})
    assert row_count(columns) == 2
    assert row_nbytes(columns) == 4 * (6 + 10) / 2
    cut = through_the_wire(pack_columns(cut_columns(columns, 1, 2)))
    assert cut["t"]["ends"] == [3]
    np.testing.assert_array_equal(unpack_array(cut["v"]), [[3, 4, 5]])
    np.testing.assert_array_equal(unpack_array(cut["t"]), MATRICES[1])


@pytest.mark.parametrize(
    "vectors",
    [
        [[1, 2], [3]],
        [["a"]],
        np.ones(3),
        np.ones((1, 1, 1, 1)),
        "text",
        None,
        [np.ones((2, 2)), np.ones((2, 3))],
        (np.ones((4, 2)), [2, 3]),
        (np.ones((4, 2)), [2, 2, 4]),
        (np.ones((4, 2)), [5, 4]),
        np.ones((2, 2), complex),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(vectors: Any) -> None:
    with pytest.raises(InvalidVector):
        columns_of(vectors)


def test_fields_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidVector, match="different numbers"):
        row_count(columns_of({"a": np.ones((2, 2)), "b": np.ones((3, 2))}))


@pytest.mark.parametrize("ids", [[0, 2**64 - 1], np.array([0, 2**64 - 1], np.uint64), (0, np.uint64(2**64 - 1))])
def test_integers_travel_as_a_block(ids: Any) -> None:
    block = through_the_wire(pack_ids(ids))
    assert block["dtype"] == "<u8"
    assert unpack_array(block).tolist() == [0, 2**64 - 1]


def test_signed_and_big_endian_arrays_are_blocks_too() -> None:
    assert unpack_array(through_the_wire(pack_ids(np.array([3, 4], np.int32)))).tolist() == [3, 4]
    assert unpack_array(through_the_wire(pack_ids(np.array([3, 4], ">u2")))).tolist() == [3, 4]
    assert unpack_array(through_the_wire(pack_ids(range(2)))).tolist() == [0, 1]


def test_texts_and_uuids_travel_as_a_list() -> None:
    key = uuid.uuid4()
    assert through_the_wire(pack_ids(["a", 7, key])) == ["a", 7, str(key)]


@pytest.mark.parametrize("ids", ["abc", [-1], [2**64], [1.0], [True], [None], [""], np.array([-1]), np.ones((2, 2)), 5])
def test_what_is_no_id_is_refused(ids: Any) -> None:
    with pytest.raises(InvalidId):
        pack_ids(ids)


def test_vectors_of_points() -> None:
    block = through_the_wire(pack_array(np.array([1.0, 2.0])))
    assert unpack_vector(None) is None
    assert unpack_vector([1, 2]).tolist() == [1, 2]
    assert unpack_vector(block).tolist() == [1, 2]
    assert {name: vector.tolist() for name, vector in unpack_vector({"a": block, "b": [3]}).items()} == {
        "a": [1, 2],
        "b": [3],
    }
