"""The application over a scripted database, and over a real one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from tests.support.fake_database import FakeDatabase
from tests.support.served import Served, serve

import vicinal
from vicinal_server.app import create_app
from vicinal_server.settings import load_settings


@pytest.fixture(autouse=True)
def log() -> Iterator[Any]:
    """What the service logs; printing tracebacks would be slow."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def scripted(database: FakeDatabase) -> Iterator[Served]:
    with serve(create_app(load_settings(dir="unused", threads=4), database)) as served:
        yield served


@pytest.fixture
def memory() -> Iterator[Any]:
    with vicinal.connect(":memory:") as database:
        yield database


@pytest.fixture
def served(memory: Any) -> Iterator[Served]:
    settings = load_settings(dir="unused", body_json_max=64 * 1024, body_binary_max=128 * 1024)
    with serve(create_app(settings, memory)) as client:
        yield client
