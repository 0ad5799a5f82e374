"""Data directories as this version writes them, small enough to be kept: `python -m tests.support.golden FOLDER`.

Make one as tests/golden/format-N when a format of files changes or a kind of file is added. Every later version must
open all of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from tests.support.engine_script import create, make_script, observed, play, read_state

from vicinal.flat_api import BFIndex, Index
from vicinal.index import field_index
from vicinal.index.field_index import FieldIndex

__all__ = ["CODED", "ROWS", "make", "printed", "rows_of"]

ROWS: Final = 320
CODED: Final = ("codes", "cells")  # collections large enough, as made here, for these layouts


def rows_of(dim: int) -> NDArray[np.float32]:
    """Rows that every platform makes alike."""
    numbers = np.arange(ROWS * dim, dtype=np.int64).reshape(ROWS, dim)
    return ((numbers * 2654435761 % 4093) / 4093 - 0.5).astype(np.float32)


def printed(state: dict[Any, Any]) -> list[list[Any]]:
    """A state as JSON has it."""
    entries = [
        [i, vector.hex(), tokens.hex(), None if payload is None else json.loads(payload)]
        for i, (vector, tokens, payload) in state.items()
    ]
    return sorted(entries, key=lambda entry: str(entry[0]))


def make(folder: Path) -> None:
    """Write a database of three collections and two saved indexes."""
    folder.mkdir(parents=True)
    wanted = {**(FieldIndex.__init__.__kwdefaults__ or {}), "coded_from": ROWS // 2}
    with (
        observed(None, often=4),
        mock.patch.object(field_index, "CELLS_FROM_ROWS", ROWS // 2),
        mock.patch.object(FieldIndex.__init__, "__kwdefaults__", wanted),
    ):
        session = create(folder / "db")
        play(session, make_script(1, 30), 0, lambda *_: None)
        session.reopen()
        assert session.database is not None
        for name in CODED:
            layout = "cells" if name == "cells" else "graph"
            made = session.database.create_collection(name, dim=16, metric="cosine", layout=layout, codec="int8")
            made.upsert(list(range(ROWS)), rows_of(16), [{"n": n % 5} for n in range(ROWS)])
            assert made.flush(60)
        session.database.set_alias("other", "codes")
        (folder / "state.json").write_text(json.dumps(printed(read_state(session.collection))))
        session.close()
    (folder / "db" / "LOCK").unlink()
    for kind in (Index, BFIndex):
        index = kind("l2", 6)
        index.init_index(ROWS)
        index.add_items(rows_of(6), np.arange(ROWS) * 2)
        index.save_index(str(folder / f"{kind.__name__}.bin"))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
