"""Damage to any file of a closed directory: found and named, or built anew; never a wrong answer or a crash."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support.engine_script import State, create, make_script, observed, play, read_state

from vicinal.database import Database
from vicinal.errors import CorruptData

KINDS = ("database.db", "catalog.db", "v-1.vec", "t-1.tok", "t-1.off", "t-1.sent", "v@", "t@", "+columns@")
DERIVED = ("v@", "t@", "+columns@")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    root = tmp_path_factory.mktemp("saved") / "db"
    script = make_script(3, 40)
    with observed(None, often=4):
        session = create(root)
        play(session, script, 0, lambda *_: None)
        session.close()
    state = script.states[-1]
    assert len(state) > 10
    return root, state


def _file(root: Path, kind: str) -> Path:
    found = [path for path in root.rglob("*") if path.name.startswith(kind)]
    assert len(found) == 1, found
    return found[0]


def _noticed(root: Path, state: State, kind: str) -> bool:
    """Open, compare all; True when the damage was refused by an error that names the file."""
    refused = None
    try:
        with Database(root) as database:
            assert read_state(database.collection("c")) == state
            assert database.collection("c").flush(30)
            assert read_state(database.collection("c")) == state
    except CorruptData as error:
        refused = str(error)
    assert refused is None or (kind in refused and kind not in DERIVED), refused
    return refused is not None


def _harmed(saved: tuple[Path, State], kind: str, scratch: Path, harm: Callable[[Path], object]) -> bool:
    root = scratch / "copy"
    shutil.copytree(saved[0], root)
    harm(_file(root, kind))
    try:
        with observed(None, often=4):
            return _noticed(root, saved[1], kind)
    finally:
        shutil.rmtree(root)


def _written(path: Path) -> int:
    """Bytes of a file that are in use."""
    return len(path.read_bytes().rstrip(b"\0"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flips", [6, pytest.param(2000, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_flipped_bits(saved: tuple[Path, State], kind: str, flips: int, tmp_path: Path) -> None:
    rng = random.Random(kind)

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        bit = rng.randrange(_written(path) * 8)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

    noticed = sum(_harmed(saved, kind, tmp_path, flip) for _ in range(flips))
    if kind == "database.db":  # all of it is read on opening; of the catalogue, what answers need
        assert noticed == flips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", [4, pytest.param(64, marks=pytest.mark.full)])
def test_truncated(saved: tuple[Path, State], kind: str, points: int, tmp_path: Path) -> None:
    whole = _written(_file(saved[0], kind))
    sizes = sorted({0, whole - 1, *random.Random(kind).sample(range(whole), points)})
    for size in sizes:
        noticed = _harmed(saved, kind, tmp_path, partial(os.truncate, length=size))
        assert noticed == (kind not in DERIVED), f"{kind} cut to {size} of {whole} bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_missing_zeroed_or_grown(saved: tuple[Path, State], kind: str, tmp_path: Path) -> None:
    assert _harmed(saved, kind, tmp_path, Path.unlink) == (kind not in DERIVED)
    zeroed = _harmed(saved, kind, tmp_path, lambda path: path.write_bytes(bytes(path.stat().st_size)))
    assert zeroed == (kind not in DERIVED)

    def grow(path: Path) -> None:
        path.write_bytes(path.read_bytes() + random.Random(0).randbytes(5000))

    _harmed(saved, kind, tmp_path, grow)


@pytest.mark.parametrize("kind", ["catalog.db", "v-1.vec", "t-1.tok", "t-1.off", "t-1.sent"])
@pytest.mark.parametrize("change", ["upsert", "delete", "set_payload"])
def test_an_older_version_put_back(saved: tuple[Path, State], kind: str, change: str, tmp_path: Path) -> None:
    """The commits that the old file lacks may have changed nothing but deaths or payloads."""
    root = tmp_path / "new"
    shutil.copytree(saved[0], root)
    with Database(root) as database:
        collection = database.collection("c")
        if change == "upsert":
            collection.upsert([5], {"v": [[1, 2, 3, 4]], "t": [[[1, 2, 3, 4]]]})
        elif change == "delete":
            collection.delete(list(saved[1])[:1])
        else:
            collection.set_payload({"n": 77}, list(saved[1])[:1])
        state = read_state(database.collection("c"))
    shutil.copy(_file(saved[0], kind), _file(root, kind))
    if change == "upsert" or kind == "catalog.db":
        with pytest.raises(CorruptData, match=r"older copy|do not match their checksum"), Database(root) as database:
            database.collection("c")
    else:  # the file is as it was
        with Database(root) as database:
            assert read_state(database.collection("c")) == state


def test_an_older_list_of_names_put_back(saved: tuple[Path, State], tmp_path: Path) -> None:
    """It does not name a collection made since, which would look like what a crash left, and be removed."""
    root = tmp_path / "new"
    shutil.copytree(saved[0], root)
    with Database(root) as database:
        database.create_collection("later", dim=2).upsert([1], [[1, 2]])
    newest = (root / "database.db").read_bytes()
    shutil.copy(saved[0] / "database.db", root / "database.db")
    with pytest.raises(CorruptData, match="an older copy"):
        Database(root)
    (root / "database.db").write_bytes(newest)
    with Database(root) as database:
        assert database.collection("later").count() == 1
    (root / "database.seen").write_bytes(b"7 7")  # says nothing, as its checksum is wrong
    Database(root).close()


def test_names_lost_with_their_witness(saved: tuple[Path, State], tmp_path: Path) -> None:
    """Every collection would look like what a crash left; none is removed."""
    root = tmp_path / "new"
    shutil.copytree(saved[0], root)
    for name in ("database.db", "database.db-wal", "database.db-shm", "database.seen"):
        (root / name).unlink(missing_ok=True)
    kept = sorted(path for path in (root / "collections").rglob("*"))
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"database\.db"):
            Database(root)
    assert sorted(path for path in (root / "collections").rglob("*")) == kept
