"""Files of every format that was ever written: they open, hold what they held, and are used as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support.engine_script import DIM, read_state
from tests.support.golden import CODED, ROWS, printed, rows_of

from vicinal.database import Database
from vicinal.flat_api import BFIndex, Index
from vicinal.maintenance import open_collection
from vicinal.storage.files import Files

HERE = Path(__file__).parent
FORMATS = sorted(path.name for path in HERE.glob("format-*"))


@pytest.fixture(params=FORMATS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / request.param, tmp_path / "kept"))


def test_there_are_some() -> None:
    assert "format-1" in FORMATS


def test_the_points_are_those_that_were_written(kept: Path) -> None:
    expected = json.loads((kept / "state.json").read_text())
    assert len(expected) > 5
    with Database(kept / "db") as database:
        assert database.list_collections() == ["c", "cells", "codes"]
        assert printed(read_state(database.collection("c"))) == expected
        rows = rows_of(16)
        for name in CODED:
            collection = database.collection(name)
            assert collection.count("n = 3") == ROWS // 5
            for i in (0, 7, ROWS - 1):
                assert collection.query(rows[i], 1)[0].id == i
        assert database.collection("other").count() == ROWS
        collection = database.collection("c")  # and they can be written to
        collection.upsert([77], {"v": np.ones((1, DIM)), "t": [np.ones((2, DIM))]})
        assert collection.flush(60)
        assert len(collection.get([77])) == 1


def test_graphs_columns_and_proxies_are_not_made_anew(kept: Path) -> None:
    for place in sorted((kept / "db" / "collections").iterdir()):
        opened = open_collection(Files(), place)
        for name, field in opened.fields.items():
            assert field.indexed == opened.view.n > 0, (place, name)
            for file in field.files.values():
                file.close()
        opened.catalog.close()


def test_indexes(kept: Path) -> None:
    rows = rows_of(6)
    for kind in (Index, BFIndex):
        index = kind("l2", 6)
        index.load_index(kept / f"{kind.__name__}.bin")
        labels, distances = index.knn_query(rows[[3, 200]], 1)
        assert labels.ravel().tolist() == [6, 400]
        assert distances.ravel().tolist() == [0, 0]
