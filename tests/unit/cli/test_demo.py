"""The demo, whole, and each of its alarms."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vicinal.cli import demo
from vicinal.cli.app import main
from vicinal.cli.child import ChildServer, free_port
from vicinal.errors import InvalidArgument, Unavailable
from vicinal.types import Hit, Hits, Point

SAMPLE = Path(__file__).parents[2] / "data/sample"


def test_the_demo_runs_from_a_clone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicinal.cli", "demo", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=110)
    assert done.returncode == 0, done.stderr
    told = {step["step"]: step["detail"] for step in json.loads(done.stdout)["steps"]}
    assert told["insert over HTTP"].startswith("500 papers and 100 token matrices")
    assert told["plain query"].count("\n") == told["multi-vector query"].count("\n") == 5
    assert told["compare"].startswith("5,000 papers and 600 token matrices are there")
    assert list(told)[-3:] == ["kill -9", "restart", "compare"]


def test_without_the_sample_it_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--sample", str(tmp_path)]) == 1
    assert "make demo" in capsys.readouterr().err
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "a/b/c/d/demo.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match="repository"):
        demo.find_sample(None)
    shutil.copytree(SAMPLE, tmp_path / "tests/data/sample")
    assert demo.find_sample(None) == Path("tests/data/sample")


class Recovered:
    """A server's collections after a crash, as the demo sees them, with one thing wrong."""

    def __init__(self, sample: demo.Sample, answers: demo.Answers, loses: str) -> None:
        self._sample, self._answers, self._loses = sample, answers, loses
        self.name = ""

    def collection(self, name: str) -> Recovered:
        made = Recovered(self._sample, self._answers, self._loses)
        made.name = name
        return made

    def count(self) -> int:
        held = {"papers": len(self._sample.papers), "passages": self._sample.tokens.total}[self.name]
        return held - (self._loses == self.name)

    def get(self, ids: Any) -> list[Point]:
        rows = [Point(n, dict(self._sample.papers[n])) for n in ids]
        if self._loses == "payload":
            rows[77] = Point(77, {"title": "another"})
        return rows

    def query(self, vector: Any, k: int, *, filter: Any = None, exact: bool = False) -> Hits:
        right = self._answers.filtered if filter else self._answers.plain
        return Hits.of(right[1:] + right[:1]) if self._loses == "answer" and filter else right

    def query_multi(self, tokens: Any, k: int, *, exact: bool = False) -> Hits:
        return self._answers.multi


@pytest.mark.parametrize("loses", ["papers", "passages", "payload", "answer", "nothing"])
def test_every_loss_is_noticed(loses: str) -> None:
    sample = demo._read(SAMPLE)
    hits = Hits.of(Hit(n, 1.0 - n / 10) for n in range(5))
    answers = demo.Answers(hits, hits, hits)
    client: Any = Recovered(sample, answers, loses)
    if loses == "nothing":
        assert "5,000 papers" in demo._compare(client, sample, answers)
        return
    with pytest.raises(demo.DemoFailed):
        demo._compare(client, sample, answers)


def test_a_server_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    server = ChildServer(tmp_path / "data", tmp_path / "log", "k" * 20)
    with pytest.raises(Unavailable, match="did not start"):
        server.start()
    server.stop()


def test_free_ports_are_free() -> None:
    assert free_port() != 0
