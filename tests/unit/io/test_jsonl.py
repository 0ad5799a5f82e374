from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vicinal.errors import InvalidArgument, InvalidId, InvalidVector
from vicinal.io import Joined, open_source


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_payloads_ids_and_vectors(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", '{"id": "a", "v": [1, 2], "year": 2020}', "", '{"id": 7, "v": [3, 4.5]}', "  ")
    source = open_source(path, id_column="id", vector_column="v")
    assert (source.total, source.dim, source.names_ids) == (2, 2, True)
    (batch,) = source.batches(10)
    assert batch.ids == ["a", 7]
    assert batch.payloads == [{"year": 2020}, {}]
    assert batch.vectors is not None
    np.testing.assert_array_equal(batch.vectors, [[1, 2], [3, 4.5]])


def test_rows_are_numbered_across_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *(f'{{"n": {n}}}' for n in range(5)))
    batches = list(open_source(path).batches(2))
    assert [list(batch.ids) for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [row["n"] for batch in batches for row in batch.payloads or []] == list(range(5))
    assert batches[0].vectors is None


@pytest.mark.parametrize("line", ["[1]", "{", "nope", '{"a": NaN}', '"text"'])
def test_the_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "p.jsonl", '{"a": 1}', line)
    with pytest.raises(InvalidArgument, match="line 2"):
        list(open_source(path).batches(10))


@pytest.mark.parametrize("bad", ["null", "1.5", "true", "[1]"])
def test_rows_without_a_usable_id_are_named(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "p.jsonl", '{"id": 1}', f'{{"id": {bad}}}')
    with pytest.raises(InvalidId, match="row 1"):
        list(open_source(path, id_column="id").batches(10))


@pytest.mark.parametrize("bad", ["null", "[1]", '"text"', "[]", '["a", "b"]', "[[1], [2]]"])
def test_rows_without_a_usable_vector_are_refused(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "p.jsonl", '{"v": [1, 2]}', f'{{"v": {bad}}}')
    with pytest.raises(InvalidVector, match="v"):
        list(open_source(path, vector_column="v").batches(10))


def test_vectors_and_payloads_are_joined_by_row(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    path = write(tmp_path / "p.jsonl", *(f'{{"id": "r{n}", "n": {n}}}' for n in range(3)))
    joined = Joined(open_source(tmp_path / "v.npy"), open_source(path, id_column="id"))
    first, second = joined.batches(2)
    assert (joined.total, joined.dim, joined.names_ids) == (3, 2, True)
    assert (first.ids, second.ids, second.start) == (["r0", "r1"], ["r2"], 2)
    assert second.payloads == [{"n": 2}]
    assert second.vectors is not None
    assert second.vectors.tolist() == [[4, 5]]


def test_files_of_different_lengths_are_not_joined(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 2), np.float32))
    path = write(tmp_path / "p.jsonl", '{"n": 1}')
    with pytest.raises(InvalidArgument, match=r"1 rows.*3"):
        Joined(open_source(tmp_path / "v.npy"), open_source(path))
