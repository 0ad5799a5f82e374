from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vicinal.cli import kernels
from vicinal.cli.app import main


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("vicinal.kernels.cache_folder", lambda: tmp_path)
    fake = SimpleNamespace(warm=lambda: {"exact": 1.5, "beam": 2.25})
    monkeypatch.setitem(sys.modules, "vicinal.kernels.warmup", fake)
    return tmp_path


def test_seconds_per_kernel(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[:2] == ["   1.50 s  exact", "   2.25 s  beam"]
    assert lines[2].endswith("in all")
    assert main(["warmup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernels"] == {"exact": 1.5, "beam": 2.25}


def test_compiling_is_announced_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernels.announce_compilation()
    assert "compiling kernels" in capsys.readouterr().err
    (cache / "deep").mkdir()
    (cache / "deep" / "exact.nbi").touch()
    kernels.announce_compilation()
    assert not capsys.readouterr().err


def test_without_a_cache_it_is_announced_every_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vicinal.kernels.cache_folder", lambda: None)
    kernels.announce_compilation()
    assert "compiling" in capsys.readouterr().err
