"""Settings: precedence, keys, and the refusal to be open to the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from vicinal.errors import InvalidArgument
from vicinal_server.settings import is_loopback, load_settings

KEY = "k" * 32


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIR", "HOST", "PORT", "API_KEY", "API_KEY_FILE", "READ_ONLY_API_KEY", "CONFIG", "THREADS"):
        monkeypatch.delenv(f"VICINAL_{name}", raising=False)


def test_defaults_are_loopback_and_the_documented_port() -> None:
    settings = load_settings(dir="data")
    assert (settings.host, settings.port, settings.admin_key) == ("127.0.0.1", 6333, None)
    settings.require_safe_host()


def test_arguments_go_before_environment_before_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "vicinal.toml"
    config.write_text('dir = "from-toml"\nport = 1\nthreads = 7\n', "utf-8")
    monkeypatch.setenv("VICINAL_CONFIG", str(config))
    monkeypatch.setenv("VICINAL_PORT", "2")
    monkeypatch.setenv("VICINAL_HOST", "::1")
    settings = load_settings(host="localhost")
    assert (str(settings.dir), settings.port, settings.threads, settings.host) == ("from-toml", 2, 7, "localhost")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_refuses_the_network_without_a_key(host: str) -> None:
    with pytest.raises(InvalidArgument, match="without a key") as caught:
        load_settings(dir="data", host=host).require_safe_host()
    assert caught.value.field == "api_key"
    load_settings(dir="data", host=host, api_key=KEY).require_safe_host()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("127.0.0.1.evil.org", False),
        ("localhost.evil.org", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_loopback_names(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n", "utf-8")
    assert load_settings(dir="data", api_key_file=path).admin_key == KEY


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"dir": "d", "api_key": "short"}, None),
        ({"dir": "d", "api_key": "é" * 32}, None),
        ({"dir": "d", "read_only_api_key": KEY}, None),
        ({"dir": "d", "api_key": KEY, "read_only_api_key": KEY}, None),
        ({"dir": "d", "api_key": KEY, "api_key_file": "somewhere"}, None),
        ({"dir": "d", "api_key_file": "no-such-file"}, "api_key_file"),
        ({"dir": "d", "port": 70_000}, "port"),
        ({"dir": "d", "threads": 0}, "threads"),
        ({"dir": "d", "log_level": "loud"}, "log_level"),
        ({"dir": "d", "colour": "red"}, "colour"),
        ({}, "dir"),
    ],
)
def test_wrong_settings_say_which(given: dict[str, object], field: str | None) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_settings(**given)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["dir = ", 'dir = "d"\nunknown = 1\n'])
def test_a_broken_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    config = tmp_path / "vicinal.toml"
    config.write_text(text, "utf-8")
    monkeypatch.setenv("VICINAL_CONFIG", str(config))
    with pytest.raises(InvalidArgument):
        load_settings()
    monkeypatch.setenv("VICINAL_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(InvalidArgument, match="names no file"):
        load_settings()


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(load_settings(dir="d", api_key=KEY))
