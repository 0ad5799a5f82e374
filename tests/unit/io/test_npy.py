from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal.io import open_source
from vicinal.io.npy import read_matrix, read_tokens


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8"])
def test_rows_come_back_in_order_and_in_their_dtype(tmp_path: Path, dtype: str) -> None:
    matrix = np.arange(7 * 3).reshape(7, 3).astype(dtype)
    np.save(tmp_path / "v.npy", matrix)
    source = open_source(tmp_path / "v.npy")
    batches = list(source.batches(3))
    assert (source.total, source.dim, source.names_ids) == (7, 3, False)
    assert [batch.start for batch in batches] == [0, 3, 6]
    assert [list(batch.ids) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    joined = np.concatenate([batch.vectors for batch in batches if batch.vectors is not None])
    assert joined.dtype == matrix.dtype
    np.testing.assert_array_equal(joined, matrix)


def test_the_file_is_mapped_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((4, 2), np.float32))
    assert isinstance(read_matrix(tmp_path / "v.npy"), np.memmap)


def test_one_vector_counts_as_one_row(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones(5, np.float32))
    assert read_matrix(tmp_path / "v.npy").shape == (1, 5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0), np.float32),
        np.zeros((2, 2, 2), np.float32),
        np.zeros((2, 2), np.complex64),
        np.array([["a", "b"]]),
    ],
)
def test_other_shapes_and_dtypes_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(InvalidVector, match=r"v\.npy"):
        read_matrix(tmp_path / "v.npy")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    header = {"descr": "|O", "fortran_order": False, "shape": (1, 1)}
    with (tmp_path / "v.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(InvalidVector, match="plain array"):
        read_matrix(tmp_path / "v.npy")


@pytest.mark.parametrize("content", [b"", b"not numpy at all", b"\x93NUMPY\x01\x00"])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(InvalidVector):
        read_matrix(tmp_path / "v.npy")


def test_an_archive_is_not_a_matrix(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=np.ones((2, 2)))
    (tmp_path / "v.npz").rename(tmp_path / "v.npy")
    with pytest.raises(InvalidVector, match="archive"):
        read_matrix(tmp_path / "v.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"none\.npy"):
        open_source(tmp_path / "none.npy")


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\.csv.*\.parquet"):
        open_source(tmp_path / "x.csv")


def test_tokens_are_cut_by_offsets(tmp_path: Path) -> None:
    tokens = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.savez(tmp_path / "t.npz", tokens=tokens, offsets=np.array([0, 2, 3, 5]))
    found = read_tokens(tmp_path / "t.npz")
    assert found.total == 3
    cut = found.rows(1, 3)
    np.testing.assert_array_equal(cut.tokens, tokens[2:5])
    assert cut.offsets.tolist() == [0, 1, 3]


def test_int8_tokens_are_multiples_of_one_127th(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", tokens=np.array([[127, -127], [0, 64]], np.int8), offsets=np.array([0, 2]))
    np.testing.assert_allclose(
        read_tokens(tmp_path / "t.npz").tokens, np.array([[1.0, -1.0], [0.0, 64 / 127]]), rtol=1e-6
    )


@pytest.mark.parametrize("offsets", [[1, 5], [0, 4], [0, 3, 2, 5], [0], [0.0, 5.0]])
def test_offsets_that_do_not_fit_are_refused(tmp_path: Path, offsets: list[float]) -> None:
    np.savez(tmp_path / "t.npz", tokens=np.ones((5, 2), np.float32), offsets=np.array(offsets))
    with pytest.raises(InvalidVector, match="offsets"):
        read_tokens(tmp_path / "t.npz")


def test_token_archives_without_their_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", words=np.ones((5, 2), np.float32))
    with pytest.raises(InvalidVector, match="tokens"):
        read_tokens(tmp_path / "t.npz")
    np.save(tmp_path / "m.npy", np.ones((5, 2), np.float32))
    with pytest.raises(InvalidVector, match="tokens"):
        read_tokens(tmp_path / "m.npy")
