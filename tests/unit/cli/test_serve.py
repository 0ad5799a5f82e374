from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vicinal.cli.app import main


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A server that only writes down what it was told."""
    given: list[Any] = []
    settings = SimpleNamespace(load_settings=lambda **options: options)
    app = SimpleNamespace(run=given.append)
    monkeypatch.setitem(sys.modules, "vicinal_server.settings", settings)
    monkeypatch.setitem(sys.modules, "vicinal_server.app", app)
    return given


def test_only_what_was_given_is_told(told: list[Any], tmp_path: Path) -> None:
    assert main(["serve", str(tmp_path)]) == 0
    assert main(["serve", str(tmp_path), "--host", "::1", "--port", "7000", "--read-only"]) == 0
    assert told == [{"dir": tmp_path}, {"dir": tmp_path, "host": "::1", "port": 7000, "read_only": True}]


def test_the_keys_file_is_passed_on(told: list[Any], tmp_path: Path) -> None:
    assert main(["serve", str(tmp_path), "--api-key-file", str(tmp_path / "key")]) == 0
    assert told[0]["api_key_file"] == tmp_path / "key"


def test_without_the_server_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vicinal_server.settings", None)
    assert main(["serve", str(tmp_path)]) == 1
    assert "pip install 'vicinal[server]'" in capsys.readouterr().err


def test_refusing_the_network_without_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VICINAL_API_KEY", "VICINAL_API_KEY_FILE", "VICINAL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert main(["serve", str(tmp_path), "--host", "0.0.0.0"]) == 1
    assert "key" in capsys.readouterr().err
