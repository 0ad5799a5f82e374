"""The writer when storage fails: what is refused, what goes on, and what callers are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import Closed, ReadOnly, StorageFull
from vicinal.writer import Delete, Upsert


@pytest.fixture
def collection(tmp_path: Path) -> Any:
    with Database(tmp_path / "db") as database:
        made = database.create_collection("c", dim=2, metric="l2")
        made.upsert([1, 2], [[1, 1], [2, 2]])
        yield made


def _fail(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, error: Exception) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(target, name, failing)


def test_a_full_disk_refuses_the_write_and_nothing_else(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = next(iter(collection._generation.opened.fields[""].files.values()))
    for target, name in ((file, "append"), (collection._generation.opened.catalog, "commit")):
        with monkeypatch.context() as patch:
            _fail(patch, target, name, StorageFull("no space"))
            with pytest.raises(StorageFull):
                collection.upsert([3], [[3, 3]])
        assert collection.count() == 2
        assert collection.get([3]) == []
    collection.upsert([4], [[4, 4]])
    assert collection.query([3.9, 4], 1)[0].id == 4
    assert file.rows == 3


@pytest.mark.parametrize("error", [StorageFull("no space"), OSError(5, "I/O error")])
def test_a_failed_sync_ends_writing_until_reopened(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    file = next(iter(collection._generation.opened.fields[""].files.values()))
    with monkeypatch.context() as patch:
        _fail(patch, file, "sync", error)
        with pytest.raises((ReadOnly, OSError)):
            collection.upsert([3], [[3, 3]])
    with pytest.raises(ReadOnly, match="reopen"):
        collection.upsert([3], [[3, 3]])
    assert collection.info().read_only
    assert collection.query([2, 2], 1)[0].id == 2


def test_operations_of_one_group_act_in_order(collection: Collection) -> None:
    from vicinal.batch import make_batch

    def batch(ids: list[Any], value: float) -> Upsert:
        return Upsert(make_batch(collection.schema, ids, np.full((len(ids), 2), value), None))

    writer = collection._generation.writer
    with writer._wake:  # hold the writer back, so that one group takes all of it
        futures = [
            writer.submit(operation)
            for operation in (batch([5, 6], 5), Delete([5, 1]), batch([5], 7), Delete([6, 6, 99]), batch([6], 9))
        ]
    assert [f.result(10) for f in futures[1::2]] == [2, 1]
    assert {p.id: p.vector.tolist() for p in collection.get([1, 2, 5, 6], with_vectors=True)} == {
        2: [2, 2],
        5: [7, 7],
        6: [9, 9],
    }
    assert collection.info().seq == 2


def test_nothing_is_committed_for_nothing(collection: Collection) -> None:
    assert collection.delete([77]) == 0
    assert collection.delete([]) == 0
    assert collection.info().seq == 1


def test_after_closing(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    made = database.create_collection("c", dim=2)
    database.close()
    with pytest.raises(Closed):
        made.upsert([1], [[1, 1]])
