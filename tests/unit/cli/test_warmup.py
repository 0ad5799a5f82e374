from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vicinal import warmup
from vicinal.cli import kernels
from vicinal.cli.app import main

Report = Callable[[str, float], None] | None


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty kernel cache, and a warm-up that compiles nothing."""

    def warm(report: Report = None, *, everything: bool = False) -> dict[str, float]:
        timings = {"exact": 1.5, "beam": 2.25}
        for name, seconds in timings.items():
            if report is not None:
                report(name, seconds)
        return timings

    monkeypatch.setattr("vicinal.kernels.cache_folder", lambda: tmp_path)
    monkeypatch.setattr(warmup, "warm", warm)
    return tmp_path


@pytest.mark.usefixtures("cache")
def test_seconds_per_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["   1.50 s  exact", "   2.25 s  beam"]
    assert lines[2].endswith("in all")
    assert main(["warmup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernels"] == {"exact": 1.5, "beam": 2.25}


def test_a_kernel_that_computes_wrongly_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(report: Report = None, *, everything: bool = False) -> dict[str, float]:
        raise warmup.KernelMismatch("search disagrees with numpy")

    monkeypatch.setattr(warmup, "warm", wrong)
    assert main(["warmup"]) == 1
    assert "error: search disagrees with numpy: do not use" in capsys.readouterr().err


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
