"""A collection whose field lies in cells: made, searched, filtered, deleted from, reopened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import InvalidArgument

N = 5_000


def _layout(made: Collection) -> Any:
    return made.info().fields[""]["layout"]


def test_a_collection_in_cells_answers_as_any_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((N, 24)).astype(np.float32)
    payloads = [{"n": i % 100} for i in range(N)]
    with Database(tmp_path / "db") as database:
        made = database.create_collection("c", dim=24, layout="cells")
        assert _layout(made) == {"asked": "cells", "chosen": None, "why": "no vector is in the graph yet"}
        made.upsert(range(4000), rows[:4000], payloads[:4000])
        assert made.flush(100)
        made.upsert(range(4000, N), rows[4000:], payloads[4000:])
        assert made.flush(100)
        assert _layout(made) == {"asked": "cells", "chosen": "cells", "why": "asked for"}
        _answers_hold(made, rows)
        assert made.delete([7]) == 1
        assert made.query(rows[7], 1)[0].id != 7
    with Database(tmp_path / "db") as database:
        made = database.collection("c")
        assert made.info().tail == 0
        assert _layout(made)["chosen"] == "cells"
        _answers_hold(made, rows)
        assert made.query(rows[7], 1)[0].id != 7


def _answers_hold(made: Collection, rows: np.ndarray[Any, Any]) -> None:
    found = 0
    for query in rows[3000:3050] + np.float32(0.01):
        near = made.query(query, 10, with_payload=False, ef=400)
        found += len(set(near.ids) & set(made.query(query, 10, with_payload=False, exact=True).ids))
    assert found > 475
    hits = made.query(rows[4500], 10, filter="n < 60", explain=True)
    assert hits.explain is not None
    assert hits.explain["plan"] in ("cells", "list")
    assert hits.explain["answered_by"] in ("cells", "list")
    assert len(hits) == 10
    assert all(hit.payload is not None and hit.payload["n"] < 60 for hit in hits)
    assert len(made.query(rows[0], 200, filter="n = 5", with_payload=False)) == 50


def test_an_unknown_layout_is_refused() -> None:
    with Database(":memory:") as database, pytest.raises(InvalidArgument) as caught:
        database.create_collection("c", dim=4, layout="tree")
    assert caught.value.field == "layout"
