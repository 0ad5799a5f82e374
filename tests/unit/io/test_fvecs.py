from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.errors import InvalidVector
from vicinal.io import open_source

DTYPES: dict[str, np.dtype[Any]] = {".fvecs": np.dtype("<f4"), ".bvecs": np.dtype("u1"), ".ivecs": np.dtype("<i4")}


def write_vecs(path: Path, matrix: np.ndarray) -> bytes:
    values = np.ascontiguousarray(matrix, DTYPES[path.suffix])
    rows = [np.array([len(row)], "<i4").tobytes() + row.tobytes() for row in values]
    path.write_bytes(b"".join(rows))
    return b"".join(rows)


@pytest.mark.parametrize("suffix", sorted(DTYPES))
def test_rows_come_back(tmp_path: Path, suffix: str) -> None:
    matrix = np.arange(5 * 4).reshape(5, 4)
    write_vecs(tmp_path / f"v{suffix}", matrix)
    source = open_source(tmp_path / f"v{suffix}")
    assert (source.total, source.dim) == (5, 4)
    batches = list(source.batches(2))
    assert [len(batch.ids) for batch in batches] == [2, 2, 1]
    joined = np.concatenate([batch.vectors for batch in batches if batch.vectors is not None])
    assert joined.dtype == (np.uint8 if suffix == ".bvecs" else np.float32)
    np.testing.assert_array_equal(joined, matrix)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    whole = write_vecs(tmp_path / "v.fvecs", np.ones((3, 4)))
    for content in (b"", whole[:-1], np.array([0], "<i4").tobytes(), np.array([-3], "<i4").tobytes()):
        (tmp_path / "v.fvecs").write_bytes(content)
        with pytest.raises(InvalidVector, match=r"v\.fvecs"):
            open_source(tmp_path / "v.fvecs")


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    content = bytearray(write_vecs(tmp_path / "v.fvecs", np.ones((3, 4))))
    content[40:44] = np.array([5], "<i4").tobytes()
    (tmp_path / "v.fvecs").write_bytes(content)
    with pytest.raises(InvalidVector, match="row 2"):
        list(open_source(tmp_path / "v.fvecs").batches(10))
