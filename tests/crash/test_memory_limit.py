"""Memory that runs out for real, under limits of the kernel: writes are refused in time and resume, reads go on."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from tests.support.memory_group import launcher, limit_file, memory_group
from tests.support.own_process import run_alone

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import StorageFull

MIB: Final = 1 << 20
DIM: Final = 512
BATCH: Final = 1000
LIMITS: Final = {"addresses": (resource.RLIMIT_AS, "VmSize"), "data": (resource.RLIMIT_DATA, "VmData")}


def _rows(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((BATCH, DIM)).astype(np.float32)


def _upsert(collection: Collection, batch: int) -> None:
    ids = range(batch * BATCH, (batch + 1) * BATCH)
    collection.upsert(ids, _rows(batch), [{"n": i} for i in ids])


def _check(collection: Collection, batches: int) -> None:
    """What was acknowledged is there and found, and nothing else."""
    assert collection.count() == batches * BATCH
    assert not collection.info().read_only
    for batch in {0, batches // 2, batches - 1}:
        row = _rows(batch)[7]
        assert len(collection.query(row, 1)) == 1
        hit = collection.query(row, 1, exact=True)[0]  # among rows of noise a walk may miss even an equal one
        assert hit.id == batch * BATCH + 7
        assert hit.payload == {"n": hit.id}
        assert collection.get([hit.id], with_vectors=True)[0].vector.tolist() == row.tolist()


def _go_through(collection: Collection, batches: int) -> None:
    """Compile and load all that is needed later."""
    for batch in range(batches):
        _upsert(collection, batch)
    assert collection.flush(300)
    _upsert(collection, batches)
    _check(collection, batches + 1)
    assert collection.flush(300)
    assert collection.delete([3]) == 1
    assert collection.verify().ok


def _filled(collection: Collection, most: int) -> int:
    """Insert until a batch is refused although nothing waits for the graph; gives how many, of `most`, were taken."""
    stored, refused, waited = 0, 0, False
    while not waited or refused < 5:
        assert stored < most, "nothing is refused"
        try:
            _upsert(collection, stored)
        except StorageFull as error:
            assert error.field == "memory"  # noqa: PT017 - any but these are refused for another reason
            refused += 1
            _check(collection, stored)
            waited = collection.info().tail == 0
            assert collection.flush(300)
        else:
            stored, waited = stored + 1, False
    print(f"{stored} batches stored, {refused} refused")
    assert stored
    return stored


def _lowered(kind: str, spare: int) -> Callable[[], None]:
    """Lower a limit of this process to `spare` bytes more than it uses; gives what lifts it again."""
    limit, name = LIMITS[kind]
    told = Path("/proc/self/status").read_text()
    used = int(told.split(f"{name}:")[1].split()[0]) * 1024
    most = resource.getrlimit(limit)
    resource.setrlimit(limit, (used + spare, most[1]))
    return lambda: resource.setrlimit(limit, most)


def _raise(group: Path, nbytes: int) -> None:
    limit_file(group).write_text(str(nbytes))


def insert_twice_what_fits(where: str, kind: str, spare: int, before: int, most: int) -> None:
    """`kind`: a limit of the process, which is lowered here, or the path of its control group, whose limit is.

    `before`: batches that another collection takes before there is a limit; `most`: that no limit here lets pass.
    """
    with Database(":memory:") as other:
        _go_through(other.create_collection("c", dim=DIM, metric="l2"), before)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what that collection held is given back, and not taken from below the limit
    folder = None if where == ":memory:" else Path(where) / "db"
    with Database(where if folder is None else folder) as database:
        collection = database.create_collection("c", dim=DIM, metric="l2")
        lift = _lowered(kind, spare) if kind in LIMITS else lambda: _raise(Path(kind), 4 * spare)
        stored = _filled(collection, most)
        for _ in range(stored):  # as many again
            with pytest.raises(StorageFull):
                _upsert(collection, stored)
        _check(collection, stored)
        assert collection.delete([1]) == 1
        lift()
        _upsert(collection, stored)
        assert collection.count() == (stored + 1) * BATCH - 1
        assert collection.flush(300)
        assert collection.verify().ok


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_under_a_limit_of_the_process(kind: str, tmp_path: Path) -> None:
    print(run_alone(insert_twice_what_fits, str(tmp_path), kind, 104 * MIB, 12, 60))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_in_memory_under_a_limit_of_the_process() -> None:
    print(run_alone(insert_twice_what_fits, ":memory:", "data", 400 * MIB, 12, 1000))


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kept", ["disk", "memory"])
def test_in_a_control_group_of_one_gibibyte(kept: str, tmp_path: Path) -> None:
    with memory_group(1024 * MIB) as group:
        if group is None:
            pytest.skip("this process may make no control group with a limit of memory")
        words = (":memory:" if kept == "memory" else str(tmp_path), str(group), 1024 * MIB, 12, 2000)
        print(run_alone(insert_twice_what_fits, *words, timeout=850, launcher=launcher(group)))
