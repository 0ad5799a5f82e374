"""A registered metric from upsert to another process, and the other functions through the public names."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.vectors_oracle import nearest

import vicinal
from vicinal.database import Database
from vicinal.errors import InvalidArgument, UnknownMetric, VicinalError
from vicinal.view import DenseView

DIM = 12
SOURCE = """
import sys
import numpy as np
import vicinal
def drift(a, b):
    total = np.float32(0)
    for i in range(len(a)):
        total += abs(a[i] - b[i]) * (1 + i)
    return total
if {register}:
    vicinal.register_metric("drift", drift)
with vicinal.connect({folder!r}, read_only={read_only}) as database:
    found = database.collection("c").query(np.linspace(0, 1, {dim}), 5)
    print(found.ids, found.scores.tolist())
"""


def drift(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += abs(a[i] - b[i]) * (1 + i)
    return total


vicinal.register_metric("drift", drift)


def plain(rows: Any, query: Any) -> Any:
    return (np.abs(rows.astype(np.float64) - query) * np.arange(1, DIM + 1)).sum(axis=1)


@pytest.fixture(scope="module")
def rows() -> Any:
    return np.random.default_rng(1).standard_normal((3000, DIM)).astype(np.float32)


def fill(database: Any, rows: Any, metric: str) -> Any:
    made = database.create_collection("c", dim=rows.shape[1], metric=metric, ef_construction=60)
    made.upsert(np.arange(2600), rows[:2600])
    assert made.flush(100)
    made.upsert(np.arange(2600, len(rows)), rows[2600:])  # some are in the tail
    made.delete([5, 2700])
    return made


def other_process(folder: Path, *, register: bool, read_only: bool = False) -> Any:
    code = SOURCE.format(folder=str(folder), register=register, read_only=read_only, dim=DIM)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)


def test_the_whole_way(tmp_path: Path, rows: Any) -> None:
    query = np.linspace(0, 1, DIM)
    true = plain(rows, query)
    true[[5, 2700]] = np.inf
    order = np.argsort(true, kind="stable")
    with vicinal.connect(str(tmp_path)) as database:
        made = fill(database, rows, "drift")
        assert made.info().fields[""]["metric"] == "drift"
        for options in ({}, {"exact": True}, {"ef": 300}):
            hits = made.query(query, 10, **options)
            np.testing.assert_allclose(hits.scores, true[order[:10]], rtol=1e-4)
            assert hits.ids == order[:10].tolist()
        ids, scores, counts = made.query_batch(rows[:20], 10)
        assert (counts == 10).all()
        for row in (0, 7, 19):
            np.testing.assert_allclose(scores[row], plain(rows[ids[row]], rows[row]), rtol=1e-4, atol=1e-4)
    with vicinal.connect(str(tmp_path), read_only=True) as database:
        assert database.collection("c").query(query, 10).ids == order[:10].tolist()
    for read_only in (False, True):
        done = other_process(tmp_path, register=True, read_only=read_only)
        assert done.stdout.startswith(str(order[:5].tolist())), done.stderr
    done = other_process(tmp_path, register=False)
    assert "UnknownMetric" in done.stderr
    assert 'call vicinal.register_metric("drift", function) before' in done.stderr


def test_after_a_refused_opening_the_folder_opens(tmp_path: Path, rows: Any, monkeypatch: Any) -> None:
    with vicinal.connect(str(tmp_path)) as database:
        fill(database, rows, "drift")
    known = vicinal.Metric("drift")
    with vicinal.connect(str(tmp_path)) as database:
        with monkeypatch.context() as patch:
            patch.setattr("vicinal.types._REGISTERED", {})
            with pytest.raises(UnknownMetric):
                database.collection("c")
            assert database.list_collections() == ["c"]
        assert vicinal.Metric("drift") is known
        assert len(database.collection("c")) == 2998


@pytest.mark.parametrize("metric", ["l1", "haversine"])
def test_built_in_functions(metric: str, rows: Any) -> None:
    vectors = rows if metric == "l1" else rows[:, :2] * np.float32(20)
    with vicinal.connect(":memory:") as database:
        made = fill(database, vectors, metric)
        assert made.query(vectors[0], explain=True).explain["plan"] in ("exact", "sweep")
        alive = np.setdiff1d(np.arange(3000), [5, 2700])
        _, scores, _ = made.query_batch(vectors[:30], 10, ef=200)
        for row in range(30):
            _, true = nearest(vicinal.Metric(metric), vectors, vectors[row], 10, alive)
            np.testing.assert_allclose(scores[row], true, rtol=2e-3, atol=0.2)
        assert made.query(vectors[9], 1).ids == [9]


def test_large_fields_stay_on_floats() -> None:
    many = np.random.default_rng(2).standard_normal((11_000, 8)).astype(np.float32)
    with Database(":memory:") as database:
        made = database.create_collection("c", dim=8, metric="l1", ef_construction=20)
        made.upsert(np.arange(11_000), many)
        assert made.flush(200)
        field = made._view.fields[""]
        assert isinstance(field, DenseView)
        graph = field.graph
        assert graph is not None
        assert graph.layout == "float"
        near, truth = (made.query_batch(many[:50] + 0.01, 10, exact=exact)[0] for exact in (False, True))
        assert np.mean([np.isin(a, b).mean() for a, b in zip(near, truth, strict=True)]) > 0.95


@pytest.mark.parametrize("kind", [vicinal.Index, vicinal.BFIndex])
@pytest.mark.parametrize("space", ["drift", "l1", "haversine"])
def test_indexes(kind: Any, space: str, rows: Any, tmp_path: Path) -> None:
    vectors = rows[:1500] if space != "haversine" else rows[:1500, :2] * np.float32(20)
    index = kind(space, vectors.shape[1])
    index.init_index(1500)
    index.add_items(vectors)
    assert index.space == space
    for batch in (vectors[:1], vectors[:40]):
        labels, distances = index.knn_query(batch, 5)
        assert labels[:, 0].tolist() == list(range(len(batch)))
        assert distances.max() > 0
    if space == "drift":
        np.testing.assert_allclose(distances[3], np.sort(plain(vectors, vectors[3]))[:5], rtol=1e-4, atol=1e-4)
    index.save_index(tmp_path / "saved")
    again = kind(space, vectors.shape[1])
    again.load_index(tmp_path / "saved")
    for other in (again, copy.deepcopy(index)):
        assert other.space == space
        assert other.knn_query(vectors[:40], 5)[0].tolist() == labels.tolist()


def test_what_does_not_fit_is_refused() -> None:
    with vicinal.connect(":memory:") as database:
        for options in ({"metric": "nobody"}, {"metric": "no name"}, {"metric": 7}):
            with pytest.raises(UnknownMetric):
                database.create_collection("c", dim=4, **options)
        with pytest.raises(InvalidArgument, match="dim is 2"):
            database.create_collection("c", dim=3, metric="haversine")
        for metric in ("l1", "drift"):
            with pytest.raises(InvalidArgument, match="compares float32"):
                database.create_collection("c", dim=8, metric=metric, dtype="int8")
        made = database.create_collection("c", dim=2, metric="haversine")
        with pytest.raises(VicinalError, match="latitude"):
            made.upsert([1], [[91, 0]])
        with pytest.raises(VicinalError, match="latitude"):
            made.query([0, 181])
    for kind in (vicinal.Index, vicinal.BFIndex):
        with pytest.raises(InvalidArgument, match="dim is 2"):
            kind("haversine", 3)
        with pytest.raises(RuntimeError, match="register_metric"):
            kind("nobody", 3)
        index = kind("haversine", 2)
        with pytest.raises(VicinalError, match="latitude"):
            index.knn_query([[91, 0]])
