"""Names and aliases of a data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.errors import AlreadyExists, Closed, CorruptData, NotFound, ReadOnly
from vicinal.storage.catalog import Catalog
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files


@pytest.fixture(params=["disk", "memory"])
def names(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseCatalog]:
    made = DatabaseCatalog.open(Files(), tmp_path / "database.db" if request.param == "disk" else ":memory:")
    yield made
    made.close()


def test_names_lead_to_directories(names: DatabaseCatalog) -> None:
    names.create("b", "u1")
    names.create("a", "u2")
    assert names.list() == {"a": "u2", "b": "u1"}
    assert names.resolve("b") == ("b", "u1")
    assert names.switch("b", "u3") == "u1"
    assert names.drop("b") == "u3"
    assert names.list() == {"a": "u2"}
    with pytest.raises(NotFound, match="no collection 'b'"):
        names.resolve("b")


def test_aliases_move_in_one_step_and_go_with_their_collection(names: DatabaseCatalog) -> None:
    names.create("a", "u1")
    names.create("b", "u2")
    names.set_alias("live", "a")
    assert names.resolve("live") == ("a", "u1")
    names.set_alias("live", "b")
    names.set_alias("other", "b")
    assert names.aliases() == {"live": "b", "other": "b"}
    names.drop_alias("other")
    names.drop("b")
    assert names.aliases() == {}


def test_a_name_is_a_collection_or_an_alias(names: DatabaseCatalog) -> None:
    names.create("a", "u1")
    names.set_alias("x", "a")
    for taken in ("a", "x"):
        with pytest.raises(AlreadyExists):
            names.create(taken, "u2")
    with pytest.raises(AlreadyExists, match="not an alias"):
        names.set_alias("a", "a")
    for unknown in (lambda: names.drop("x"), lambda: names.switch("x", "u"), lambda: names.set_alias("y", "x")):
        with pytest.raises(NotFound):
            unknown()
    with pytest.raises(NotFound, match="no alias 'a'"):
        names.drop_alias("a")
    assert names.list() == {"a": "u1"}


def test_names_are_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    first = DatabaseCatalog.open(Files(), path)
    first.create("a", "u1")
    first.close()
    first.close()
    with pytest.raises(Closed):
        first.list()
    reader = DatabaseCatalog.open(Files(), path, read_only=True)
    assert reader.list() == {"a": "u1"}
    with pytest.raises(ReadOnly):
        reader.create("b", "u2")
    reader.close()


def test_an_empty_file_left_by_a_crash_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    path.touch()
    with pytest.raises(CorruptData):
        DatabaseCatalog.open(Files(), path, read_only=True)
    DatabaseCatalog.open(Files(), path).close()
    DatabaseCatalog.open(Files(), path, read_only=True).close()


def test_the_catalogue_of_a_collection_is_refused(tmp_path: Path) -> None:
    Catalog.create(Files(), tmp_path / "catalog.db", b"").close()
    with pytest.raises(CorruptData, match="not a catalogue of the kind"):
        DatabaseCatalog.open(Files(), tmp_path / "catalog.db")
