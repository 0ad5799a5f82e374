"""Collections that several files of tests ask and none changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.filter_plans import fill

from vicinal.collection import Collection
from vicinal.database import Database


@pytest.fixture(scope="session")
def planned() -> Iterator[Collection]:
    """`filter_plans.fill`."""
    with Database(":memory:") as database:
        yield fill(database)
