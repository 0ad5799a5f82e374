from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vicinal
from vicinal.cli import output
from vicinal.cli.app import main
from vicinal.errors import InvalidVector

SAMPLE = Path(__file__).parents[2] / "data/sample"
COMMANDS = ("build", "serve", "query", "info", "verify", "compact", "backup", "restore", "demo", "warmup")


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "numba", "httpx", "fastapi", "pyarrow", "apsw", "orjson", "vicinal.database", "vicinal.client")
    probe = (
        "import sys\nfrom vicinal.cli.app import main\ncode = main(['--help'])\n"
        f"print(code, [m for m in {heavy!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "0 []"
    for command in COMMANDS:
        assert command in out.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-h"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == vicinal.__version__


@pytest.mark.parametrize(
    "line",
    [
        ["nonsense"],
        ["build"],
        ["build", "v.npy"],
        ["build", "v.npy", "--out", "d", "--metric", "angular"],
        ["query", "d", "--npy", "q.npy", "-k", "many"],
        ["info"],
        ["serve", "d", "--port", "x"],
        ["info", "d", "--nonsense"],
    ],
)
def test_bad_usage_is_two(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    said = capsys.readouterr()
    assert not said.out
    assert "Traceback" not in said.err


def test_a_typed_error_is_one_line_and_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "nowhere", "--npy", "none.npy"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: none.npy is not a file")


def test_a_typed_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "nowhere", "--npy", "none.npy", "--json"]) == 1
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["code"], told["field"]) == ("invalid_argument", "path")


def test_the_systems_own_errors_are_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["build", str(SAMPLE / "queries.npy"), "--out", str(tmp_path / "file" / "below")]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said


def test_what_the_engine_lets_through_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "data/LOCK")

    monkeypatch.setattr("vicinal.cli.query._opened", denied)
    assert main(["info", "data"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "data/LOCK" in said


def test_errors_carry_their_notes(capsys: pytest.CaptureFixture[str]) -> None:
    error = InvalidVector("line one\nline two", field="vectors")
    error.add_note("request r1")
    output.print_error(error, as_json=False)
    assert capsys.readouterr().err == "error: line one line two; request r1\n"


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3.84e6, "3.8 MB"), (2e15, "2000.0 TB")]
)
def test_sizes_as_people_read_them(nbytes: float, text: str) -> None:
    assert output.size_text(nbytes) == text
