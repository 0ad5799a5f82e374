"""`vicinal build`, `query` and `info` on real directories."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import vicinal
from vicinal.cli.app import main
from vicinal.cli.build import MetricName
from vicinal.collection import Collection

N, DIM = 60, 8


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path, vectors: np.ndarray) -> Path:
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "q.npy", vectors[:2])
    rows = [json.dumps({"key": f"p{n}", "n": n, "even": n % 2 == 0}) for n in range(N)]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *line: Any) -> Any:
    """Run a command that must succeed; returns its JSON."""
    code = main([str(part) for part in line] + ["--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def refused(capsys: pytest.CaptureFixture[str], *line: Any) -> str:
    """Run a command that must fail with one typed error; returns its line."""
    assert main([str(part) for part in line]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return said.err.splitlines()[-1]


def test_a_matrix_with_payloads(files: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(
        capsys, "build", files / "v.npy", "--out", files / "db", "--payload", files / "p.jsonl", "--metric", "l2"
    )
    assert (told["collection"], told["points"], told["dim"], told["metric"]) == ("v", N, DIM, "l2")
    (state,) = run(capsys, "info", files / "db")["collections"]
    assert (state["points"], state["tail"], state["indexed"]) == (N, 0, N)
    first, second = run(capsys, "query", files / "db", "--npy", files / "q.npy", "-k", 3)["queries"]
    assert [first["hits"][0]["id"], second["hits"][0]["id"]] == [0, 1]
    assert first["hits"][0]["payload"] == {"key": "p0", "n": 0, "even": True}
    distances = np.sort(np.linalg.norm(vectors - vectors[0], axis=1))[:3]
    np.testing.assert_allclose([hit["score"] for hit in first["hits"]], distances, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("filter", ["even = true and n >= 50", '{"must": [{"key": "n", "match": {"any": [50, 52]}}]}'])
def test_filters_as_text_and_as_json(files: Path, filter: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "build", files / "v.npy", "--out", files / "db", "--payload", files / "p.jsonl", "--ids-col", "key")
    query = ("query", files / "db", "--npy", files / "q.npy", "--filter", filter, "--explain")
    found = run(capsys, *query)["queries"][0]
    wanted = {f"p{n}" for n in ((50, 52, 54, 56, 58) if "even" in filter else (50, 52))}
    assert {hit["id"] for hit in found["hits"]} == wanted
    assert found["explain"]
    assert run(capsys, *query, "--exact")["queries"][0]["hits"] == found["hits"]


def test_one_file_with_ids_vectors_and_payloads(
    files: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"id": f"r{n}", "emb": vectors[n].tolist(), "n": n}) for n in range(N)]
    (files / "all.jsonl").write_text("\n".join(rows))
    options = ("--ids-col", "id", "--vector-col", "emb", "--name", "things", "--M", 4, "--ef-construction", 20)
    assert run(capsys, "build", files / "all.jsonl", "--out", files / "db", *options)["collection"] == "things"
    hit = run(capsys, "query", files / "db", "--npy", files / "q.npy", "-k", 1)["queries"][1]["hits"][0]
    assert (hit["id"], hit["payload"]) == ("r1", {"n": 1})


def test_token_matrices_of_the_first_rows(files: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = np.random.default_rng(6).standard_normal((40, 4)).astype(np.float32)
    np.savez(files / "t.npz", tokens=tokens, offsets=np.arange(0, 41, 2))
    told = run(capsys, "build", files / "v.npy", "--out", files / "db", "--tokens", files / "t.npz")
    assert told["token_matrices"] == 20
    with vicinal.connect(files / "db", read_only=True) as database:
        collection = database.collection("v")
        assert collection.count() == N
        assert collection.query_multi(tokens[6:8], 1, exact=True).ids == [3]
        assert collection.query(vectors[50], 1).ids == [50]
        assert len(collection.query_multi(tokens[6:8], N)) == 20


def test_rows_of_packed_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = np.arange(40, dtype=np.uint8).reshape(10, 4)
    np.save(tmp_path / "bits.npy", packed)
    options = ["--metric", "jaccard", "--dtype", "bit", "--codec", "none"]
    told = run(capsys, "build", tmp_path / "bits.npy", "--out", tmp_path / "db", *options)
    assert (told["points"], told["dim"]) == (10, 32)
    with vicinal.connect(tmp_path / "db") as database:
        collection = database.collection("bits")
        assert collection.info().fields[""]["codec"]["asked"] == "none"
        np.testing.assert_array_equal(collection.get([3], with_vectors=True)[0].vector, packed[3])


def test_text_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(files / "v.npy"), "--out", str(files / "db"), "--payload", str(files / "p.jsonl")]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"v: {N} points in ")
    lines = said.err.splitlines()
    assert any(line.startswith(f"insert: {N} of {N} points, ") for line in lines)
    assert any(line.startswith(f"graph: {N} of {N} points, ") for line in lines)
    assert main(["info", str(files / "db")]) == 0
    assert f"v: {N} points, {N} rows in the graph, 0 in the tail" in capsys.readouterr().out
    assert main(["query", str(files / "db"), "--npy", str(files / "q.npy"), "-k", "2", "--explain"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("query 0: 2 hits in ")
    assert '{"key":"p1","n":1,"even":false}' in said.out


def test_two_collections_need_a_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        run(capsys, "build", files / "v.npy", "--out", files / "db", "--name", name)
    assert "--name" in refused(capsys, "query", files / "db", "--npy", files / "q.npy")
    assert len(run(capsys, "query", files / "db", "--npy", files / "q.npy", "--name", "b")["queries"]) == 2
    assert [entry["name"] for entry in run(capsys, "info", files / "db")["collections"]] == ["a", "b"]
    assert "already exists" in refused(capsys, "build", files / "v.npy", "--out", files / "db", "--name", "a")
    assert run(capsys, "info", files / "db", "--name", "a")["collections"][0]["points"] == N


def test_a_build_that_fails_leaves_no_collection(
    files: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors[N - 1, 3] = np.nan
    np.save(files / "bad.npy", vectors)
    assert "NaN" in refused(capsys, "build", files / "bad.npy", "--out", files / "db", "--name", "bad")
    assert run(capsys, "info", files / "db")["collections"] == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--payload", "short.jsonl"], "short.jsonl|1 rows"),
        (["--payload", "v.npy", "--ids-col", "key"], "payload"),
        (["--ids-col", "key"], "ids-col"),
        (["--name", "no/name"], "name"),
        (["--M", "1"], "M "),
        (["--tokens", "long.npz"], "61"),
        (["--tokens", "v.npy"], "tokens"),
    ],
)
def test_wrong_options_are_refused(
    files: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "short.jsonl").write_text('{"n": 1}\n')
    np.savez(files / "long.npz", tokens=np.ones((61, 2), np.float32), offsets=np.arange(62))
    given = [str(files / option) if "." in option else option for option in options]
    said = refused(capsys, "build", files / "v.npy", "--out", files / "db", *given)
    assert any(word in said for word in named.split("|")), said


def test_payloads_alone_are_no_vectors(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "vector" in refused(capsys, "build", files / "p.jsonl", "--out", files / "db")
    assert not (files / "db").exists()


def test_wrong_queries_are_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "build", files / "v.npy", "--out", files / "db")
    query = ("query", files / "db", "--npy", files / "q.npy")
    np.save(files / "wide.npy", np.ones((1, DIM + 1), np.float32))
    assert "JSON" in refused(capsys, *query, "--filter", '{"must": ')
    assert refused(capsys, *query, "--filter", "n >>= 3")
    assert "k" in refused(capsys, *query, "-k", 0)
    assert str(DIM) in refused(capsys, "query", files / "db", "--npy", files / "wide.npy")
    assert "nothing" in refused(capsys, *query, "--name", "nothing")
    assert "no database" in refused(capsys, "info", files / "elsewhere")
    assert "cannot be read" in refused(capsys, *query, "--api-key-file", files / "none")
    (files / "key").write_text("\n")
    assert "empty" in refused(capsys, *query, "--api-key-file", files / "key")


def test_the_metrics_offered_are_the_engines() -> None:
    assert list(get_args(MetricName)) == [metric.value for metric in vicinal.Metric]


def test_a_build_that_was_broken_off_goes_on(
    files: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicinal.cli.build._BATCH_ROWS", 7)
    written = Collection.upsert
    calls: list[int] = []

    def upsert(self: Collection, ids: Any, *rest: Any) -> int:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(ids))
        return written(self, ids, *rest)

    line = ["build", str(files / "v.npy"), "--out", str(files / "db"), "--payload", str(files / "p.jsonl")]
    with monkeypatch.context() as patched:
        patched.setattr(Collection, "upsert", upsert)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            sys.exit(main(line))
    capsys.readouterr()
    with vicinal.connect(files / "db", read_only=True) as database:
        assert len(database.collection("v")) == 21
    assert "already exists" in refused(capsys, *line)
    assert "other fields or options" in refused(capsys, *line, "--resume", "--M", 8)
    np.save(files / "w.npy", vectors[:10])
    assert "not the first" in refused(
        capsys, "build", files / "w.npy", "--out", files / "db", "--name", "v", "--resume"
    )
    calls.clear()
    told = run(capsys, *line, "--resume")
    assert (told["points"], told["collection"]) == (N, "v")
    with vicinal.connect(files / "db", read_only=True) as database:
        made = database.collection("v")
        assert made.info().slots == N  # nothing was written twice
        assert [made.query(row, 1).ids[0] for row in vectors] == list(range(N))


def test_resume_without_anything_to_resume_builds(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "build", files / "v.npy", "--out", files / "db", "--resume")["points"] == N
    assert run(capsys, "build", files / "v.npy", "--out", files / "db", "--resume")["points"] == N
