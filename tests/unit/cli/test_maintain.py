"""verify, compact, backup and restore from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.listening import listening

import vicinal
from vicinal.cli.app import main
from vicinal.database import Database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Database(tmp_path / "db") as database:
        for name in ("one", "two"):
            collection = database.create_collection(name, dim=4, metric="l2")
            collection.upsert(range(1000), np.arange(4000).reshape(1000, 4))
            collection.delete(range(10))
    return tmp_path / "db"


def test_a_directory_is_looked_after(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, other = str(tmp_path / "b.tar"), str(tmp_path / "other")
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("one: whole; 990 points, 1,000 slots, ")
    assert main(["compact", str(folder), "--name", "two"]) == 0
    assert capsys.readouterr().out == "two: 10 dead slots are gone\n"
    assert main(["backup", str(folder), archive]) == 0
    assert "one (990 points), two (990 points)" in capsys.readouterr().out
    assert main(["restore", archive, other, "--name", "one", "--name", "two=three"]) == 0
    assert capsys.readouterr().out == f"{other}: one (990 points), three (990 points)\n"
    assert main(["verify", other, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert [each["name"] for each in told["collections"]] == ["one", "three"]
    for line in (
        ["backup", str(folder), archive],
        ["restore", archive, other],
        ["restore", archive, other, "--name", "one=x", "--name", "one=y"],
        ["restore", str(tmp_path / "none.tar"), other],
        ["compact", str(folder), "--name", "three"],
    ):
        assert main(line) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_damage_is_exit_code_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = min(folder.rglob("*.vec"))
    with file.open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"\x01\x02\x03")
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr()
    assert "rows 0 to 999" in said.out
    assert ": whole;" in said.out
    assert said.err == "error: 1 of 2 collections are damaged\n"
    assert main(["verify", str(folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]


def test_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*line: str) -> Any:
        assert main([*line, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    archive = str(tmp_path / "b.tar")
    assert [each["slots_freed"] for each in told("compact", str(folder))["collections"]] == [10, 10]
    assert told("backup", str(folder), archive)["collections"] == {"one": 990, "two": 990}
    assert told("restore", archive, str(tmp_path / "c"))["collections"] == {"one": 990, "two": 990}


def test_a_server_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as url, vicinal.connect(url) as database:
        collection = database.create_collection("c", dim=4)
        collection.upsert(range(100), np.ones((100, 4)))
        collection.delete([1, 2, 3])
        assert main(["compact", url]) == 0
        assert capsys.readouterr().out.endswith("c: 3 dead slots are gone\n")  # behind the server's log
        assert main(["verify", url]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("c: whole; 97 points, 97 slots")


def test_what_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, archive = str(tmp_path / "mistyped"), str(tmp_path / "none.tar")
    for line in (["compact", folder], ["restore", archive, folder]):
        assert main(line) == 1
        assert "mistyped is no database" in (said := capsys.readouterr().err) or "there is no file" in said
    assert not list(tmp_path.iterdir())


def test_an_address_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (["backup", "http://localhost:1", "b.tar"], ["restore", "b.tar", "https://localhost:1"]):
        assert main(line) == 1
        assert "/v1/backups/NAME" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_memory_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def none_left(*_: Any) -> Any:
        raise MemoryError("no memory is left to map it")

    monkeypatch.setattr("vicinal.storage.files.OpenFile.map", none_left)
    assert main(["verify", str(folder)]) == 1
    assert capsys.readouterr().err.startswith("error: no memory is left (")
