from __future__ import annotations

import datetime as dt
import decimal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.errors import InvalidArgument, InvalidPayload, InvalidVector
from vicinal.io import open_source
from vicinal.io.parquet import json_value

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SAMPLE = Path(__file__).parents[2] / "data/sample"


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_batches_do_not_end_with_row_groups(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"n": list(range(25))}, row_group_size=7)
    batches = list(open_source(path).batches(10))
    assert [len(batch.ids) for batch in batches] == [10, 10, 5]
    assert [next(iter(batch.ids)) for batch in batches] == [0, 10, 20]
    assert [row["n"] for batch in batches for row in batch.payloads or []] == list(range(25))


@pytest.mark.parametrize("kind", ["list", "fixed", "float16", "int"])
def test_ids_and_vectors_leave_the_payload(tmp_path: Path, kind: str) -> None:
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    types = {
        "list": pa.list_(pa.float64()),
        "fixed": pa.list_(pa.float32(), 2),
        "float16": pa.list_(pa.float16(), 2),
        "int": pa.list_(pa.int64()),
    }
    values = [[np.float16(x) for x in row] for row in rows] if kind == "float16" else rows
    vectors = pa.array([[int(x) for x in row] for row in rows] if kind == "int" else values, types[kind])
    path = write(tmp_path / "p.parquet", {"key": ["a", "b", "c"], "v": vectors, "year": [1, 2, 3]})
    source = open_source(path, id_column="key", vector_column="v")
    assert (source.total, source.dim) == (3, 2)
    (batch,) = source.batches(10)
    assert batch.ids == ["a", "b", "c"]
    assert batch.payloads == [{"year": 1}, {"year": 2}, {"year": 3}]
    assert batch.vectors is not None
    np.testing.assert_array_equal(batch.vectors, rows)


def test_uneven_vectors_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"v": [[1.0, 2.0], [3.0]]})
    with pytest.raises(InvalidVector, match="row 1"):
        list(open_source(path, vector_column="v").batches(10))
    path = write(tmp_path / "q.parquet", {"v": [[1.0], None]})
    with pytest.raises(InvalidVector, match="row 1"):
        list(open_source(path, vector_column="v").batches(10))
    path = write(tmp_path / "r.parquet", {"v": ["text"]})
    with pytest.raises(InvalidVector, match="lists of numbers"):
        open_source(path, vector_column="v")


def test_unknown_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"a": [1], "b": [2]})
    with pytest.raises(InvalidArgument, match=r"no column 'key'.*a, b"):
        open_source(path, id_column="key")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InvalidArgument, match="parquet"):
        open_source(tmp_path / "p.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "p.parquet", {"a": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'vicinal\[arrow\]'"):
        open_source(path)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (dt.date(2024, 2, 1), "2024-02-01"),
        (dt.datetime(2024, 2, 1, 3, 4, tzinfo=dt.UTC), "2024-02-01T03:04:00+00:00"),
        (decimal.Decimal("1.5"), 1.5),
        (float("nan"), None),
        (float("inf"), None),
        ([1, None, {"a": float("nan")}], [1, None, {"a": None}]),
        (True, True),
    ],
)
def test_values_become_json(value: Any, wanted: Any) -> None:
    assert json_value(value) == wanted


def test_bytes_are_no_payload() -> None:
    with pytest.raises(InvalidPayload, match="bytes"):
        json_value(b"x")


def test_the_sample_is_read_whole() -> None:
    source = open_source(SAMPLE / "papers.parquet", id_column="arxiv_id")
    batches = list(source.batches(1500))
    assert sum(len(batch.ids) for batch in batches) == source.total == 5000
    assert (batches[0].payloads or [])[0][
        "title"
    ] == "Neuro-Symbolic AI for Analytical Solutions of Differential Equations"
    assert batches[0].ids[0] == "2502.01476"
