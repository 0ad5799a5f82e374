"""A scripted writer over row file and catalogue, and a reader that says what a directory holds.

The script is what the engine's writer does, at its smallest: append, sync, commit. `run` notes each seq
before it is tried and after it is acknowledged, so a test knows which states a crash may leave.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vicinal.storage import snapshots
from vicinal.storage.catalog import Catalog, Commit, NewPoint
from vicinal.storage.files import Files
from vicinal.storage.vectors import RowFile

__all__ = ["ROW_BYTES", "State", "Step", "Writer", "read_state", "states_of", "write_script"]

ROW_BYTES = 48
State = dict[int | str, tuple[bytes, bytes | None]]  # id → (row, payload)
Step = tuple[list[tuple[int | str, bytes, bytes | None]], list[int | str], list[tuple[int | str, bytes]]]


def write_script(seed: int, steps: int, points: int = 6) -> list[Step]:
    """Return commits of (upserts, deletes, payload changes) on few ids, so that they meet each other."""
    rng = random.Random(seed)
    script: list[Step] = []
    known: set[int | str] = set()
    for _ in range(steps):
        ids: list[int | str] = rng.sample([*range(9), *"012345678"], rng.randint(0, points))
        upserts = [(i, rng.randbytes(ROW_BYTES), rng.choice([None, b'{"n":%d}' % rng.getrandbits(300)])) for i in ids]
        rest = sorted(known - set(ids), key=str)
        deletes = rng.sample(rest, min(len(rest), rng.choice([0, 0, 1])))
        changes = [(i, b'{"p":%d}' % rng.getrandbits(60)) for i in rest if i not in deletes][:2]
        known = (known | set(ids)) - set(deletes)
        script.append((upserts, deletes, changes))
    return script


def states_of(script: list[Step]) -> list[State]:
    """Return what a directory holds after each commit; the first entry is the empty one."""
    states: list[State] = [{}]
    for upserts, deletes, changes in script:
        state = dict(states[-1])
        for i, row, payload in upserts:
            state[i] = (row, payload)
        for i in deletes:
            del state[i]
        for i, payload in changes:
            state[i] = (state[i][0], payload)
        states.append(state)
    return states


class Writer:
    """Catalogue and row file of one directory, written as the engine does."""

    def __init__(self, files: Files, catalog: Catalog, rows: RowFile) -> None:
        self.files, self.catalog, self.rows = files, catalog, rows

    @classmethod
    def create(cls, files: Files, root: Path) -> Writer:
        rows = RowFile.create(files, root / "v-0.vec", ROW_BYTES)
        return cls(files, Catalog.create(files, root / "catalog.db", b"{}"), rows)

    @classmethod
    def open(cls, files: Files, root: Path, *, read_only: bool = False) -> Writer:
        catalog = Catalog.open(files, root / "catalog.db", read_only)
        try:
            last = catalog.last
            rows = RowFile.open(
                files,
                root / "v-0.vec",
                ROW_BYTES,
                last.rows,
                read_only,
                crcs=catalog.crcs("v-0"),
                between=(last.since.get("v-0", 0), last.seq),
            )
        except BaseException:
            catalog.close()
            raise
        return cls(files, catalog, rows)

    def apply(self, step: Step) -> None:
        """Commit one step of a script."""
        upserts, deletes, changes = step
        seq, first = self.catalog.last.seq + 1, self.rows.rows
        touched = self.catalog.live_slots([i for i, _, _ in upserts] + list(deletes))
        slots = self.catalog.live_slots([i for i, _ in changes])
        if upserts:
            block = np.frombuffer(b"".join(row for _, row, _ in upserts), np.uint8).reshape(-1, ROW_BYTES)
            self.rows.append(block)
            self.rows.sync(seq - 1)
        self.catalog.commit(
            Commit(
                seq,
                self.rows.rows,
                [NewPoint(first + at, i, payload) for at, (i, _, payload) in enumerate(upserts)],
                [slot for slot in touched if slot is not None],
                {"v-0": self.rows.crcs_since()},
                {"v-0": self.rows.rows},
                [(slot, payload) for slot, (_, payload) in zip(slots, changes, strict=True) if slot is not None],
            )
        )

    def run(self, script: list[Step], note: Callable[[str, int], None], *, checkpoint_every: int = 0) -> None:
        """Apply a whole script, with a snapshot and a checkpoint now and then."""
        for step in script:
            note("tried", self.catalog.last.seq + 1)
            self.apply(step)
            note("acknowledged", self.catalog.last.seq)
            if checkpoint_every and self.catalog.last.seq % checkpoint_every == 0:
                self.catalog.checkpoint()
                name = f"graph-{self.catalog.last.seq}"
                snapshots.publish(self.files, self.rows_path.parent, name, [b"links " * 100])
                self.catalog.set_snapshot("graph", self.catalog.last.seq)
                snapshots.remove_old(self.files, self.rows_path.parent, [name])

    @property
    def rows_path(self) -> Path:
        return Path(self.rows.name)

    def close(self) -> None:
        self.rows.close()
        self.catalog.close()


def read_state(writer: Writer) -> State:
    """Return every point, after verifying every checksum; the id index must agree with the points."""
    catalog, rows = writer.catalog, writer.rows
    catalog.check(deep=True)
    rows.verify(catalog.crcs("v-0"))
    seq = catalog.last.seq
    ids, strings, _, dead = catalog.load_ids()
    payloads = catalog.payload_range(0, catalog.last.rows, seq)
    matrix = rows.matrix(np.uint8, (ROW_BYTES,))
    state: State = {}
    for slot in np.flatnonzero(~dead).tolist():
        point = strings.get(slot, int(ids[slot]))
        assert point not in state, f"two live slots of {point!r}"
        state[point] = (matrix[slot].tobytes(), payloads[slot])
        assert catalog.live_slots([point]) == catalog.slots_at([point], seq) == [slot]
    for name, snapshot_seq in catalog.snapshots().items():
        snapshots.load(writer.files, writer.rows_path.parent / f"{name}-{snapshot_seq}.snapshot")
    return state
