"""Where a backup is written: by one caller at a time, and beside files that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.database import Database
from vicinal.errors import AlreadyExists
from vicinal.storage.catalog import Catalog


def test_two_backups_to_one_place_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused, the first is whole; files that are called nearly so are somebody's."""
    for name in ("b.tar.tmp", "b.tar.catalog"):
        (tmp_path / name).write_text("mine")
    refused: list[int] = []
    real = Catalog.copy_to

    def copy_to(*arguments: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(AlreadyExists, match="being written"):
            database.backup(tmp_path / "x" / ".." / "b.tar")
        refused.append(1)
        real(*arguments)

    (tmp_path / "x").mkdir()
    with Database(tmp_path / "db") as database:
        database.create_collection("c", dim=4).upsert(range(50), np.ones((50, 4)))
        monkeypatch.setattr(Catalog, "copy_to", copy_to)
        assert database.backup(tmp_path / "b.tar").collections == {"c": 50}
        assert refused
        assert database.restore(tmp_path / "b.tar", {"c": "d"}) == ["d"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "b.tar.catalog", "b.tar.tmp", "db", "x"]
    assert (tmp_path / "b.tar.tmp").read_text() == (tmp_path / "b.tar.catalog").read_text() == "mine"
