"""Damage to any file of a closed directory: found and named, or built anew; never a wrong answer or a crash."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support import engine_script, laid_out
from tests.support.engine_script import create, make_script, observed, play, read_state
from tests.support.walked import walked

from vicinal.collection import Collection
from vicinal.database import Database
from vicinal.errors import CorruptData
from vicinal.storage.vectors import HEAD_BYTES

ROWS = ("v-1.vec", "t-1.tok", "t-1.off", "t-1.sent")
DERIVED = ("v@", "t@", "+columns@")
LARGE = ("coded@", "cells@", "shared@")  # snapshots of large collections
WITNESS = "database.seen"  # tells of the newest commit only; it is made again
KINDS = ("database.db", "catalog.db", *ROWS, *DERIVED, *LARGE, WITNESS)
PAGE = 4096


class Saved(NamedTuple):
    """A closed directory, what must be found in it, and how it is opened."""

    root: Path
    check: Callable[[Collection], None]
    opening: Callable[[], AbstractContextManager[object]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, engine_script.State]:
    root = tmp_path_factory.mktemp("saved") / "db"
    script = make_script(3, 40)
    with observed(None, often=4):
        session = create(root)
        play(session, script, 0, lambda *_: None)
        session.close()
    state = script.states[-1]
    assert len(state) > 10
    return root, state


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, laid_out.State]:
    root = tmp_path_factory.mktemp("large") / "db"
    with walked(laid_out.ROWS_FROM):
        return root, laid_out.make(root)


@pytest.fixture(scope="module")
def saved(small: tuple[Path, engine_script.State], large: tuple[Path, laid_out.State]) -> Callable[[str], Saved]:
    """The directory that has a kind of file."""

    def same(collection: Collection) -> None:
        assert read_state(collection) == small[1]

    both = (
        Saved(small[0], same, partial(observed, None, often=4)),
        Saved(large[0], partial(laid_out.read_state, state=large[1]), partial(walked, laid_out.ROWS_FROM)),
    )
    return lambda kind: both[kind in LARGE]


def _file(root: Path, kind: str) -> Path:
    found = [path for path in root.rglob("*") if path.name.startswith(kind)]
    assert len(found) == 1, found
    return found[0]


def _noticed(saved: Saved, root: Path, kind: str) -> str:
    """Open, compare all: "refused" by an error that names the file, else what `verify` "found", or "nothing".

    What it finds in the closed file it must find without a crash; a rebuilt index is whole.
    """
    refused = None
    found = "nothing"
    try:
        with Database(root) as database:
            collection = database.collection("c")
            saved.check(collection)
            assert collection.flush(60)
            if any(report.problems for report in database.verify()):
                found = "found"
            saved.check(collection)
    except CorruptData as error:
        refused = str(error)
    assert refused is None or (kind in refused and kind not in (*DERIVED, *LARGE, WITNESS)), refused
    return found if refused is None else "refused"


def _harmed(saved: Saved, kind: str, scratch: Path, harm: Callable[[Path], object]) -> str:
    root = scratch / "copy"
    shutil.copytree(saved.root, root)
    harm(_file(root, kind))
    try:
        with saved.opening():
            return _noticed(saved, root, kind)
    finally:
        shutil.rmtree(root)


def _must_refuse(kind: str) -> bool:
    return kind not in (*DERIVED, *LARGE, WITNESS)


def _written(path: Path) -> int:
    """Bytes of a file that are in use."""
    return len(path.read_bytes().rstrip(b"\0"))


def _flipped(path: Path, rng: random.Random, first: int = 0) -> None:
    content = bytearray(path.read_bytes())
    bit = rng.randrange(first * 8, _written(path) * 8)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flips", [4, pytest.param(2000, marks=[pytest.mark.full, pytest.mark.timeout(3000)])])
def test_flipped_bits(saved: Callable[[str], Saved], kind: str, flips: int, tmp_path: Path) -> None:
    rng = random.Random(kind)
    first = HEAD_BYTES if kind in ROWS else 0
    flip = partial(_flipped, rng=rng, first=first)
    noticed = Counter(_harmed(saved(kind), kind, tmp_path, flip) for _ in range(flips))
    print(kind, noticed)
    # all rows and all names are read on opening; of the catalogue, what answers need
    assert noticed["refused"] == flips or kind not in ("database.db", *ROWS)


@pytest.mark.parametrize("kind", ROWS)
def test_flipped_bits_of_a_head(saved: Callable[[str], Saved], kind: str, tmp_path: Path) -> None:
    """Of its two slots the newer one may be torn by a crash, then the other one counts: only that goes unnoticed."""
    for at in (0, 9, 13, 17, 33):  # magic, version, row bytes, random bytes, checksum

        def flip(path: Path, at: int = at) -> None:
            content = bytearray(path.read_bytes())
            content[at] ^= 1
            path.write_bytes(content)

        assert _harmed(saved(kind), kind, tmp_path, flip) == "refused", at

    def both(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[512] ^= 1
        content[1024] ^= 1
        path.write_bytes(content)

    assert _harmed(saved(kind), kind, tmp_path, both) == "refused"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", [2, pytest.param(64, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_truncated(saved: Callable[[str], Saved], kind: str, points: int, tmp_path: Path) -> None:
    whole = _written(_file(saved(kind).root, kind))
    sizes = sorted({0, whole - 1, *random.Random(kind).sample(range(whole), points)})
    for size in sizes:
        noticed = _harmed(saved(kind), kind, tmp_path, partial(os.truncate, length=size))
        assert (noticed == "refused") == _must_refuse(kind), f"{kind} cut to {size} of {whole} bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_missing_zeroed_or_grown(saved: Callable[[str], Saved], kind: str, tmp_path: Path) -> None:
    whole = saved(kind)
    assert (_harmed(whole, kind, tmp_path, Path.unlink) == "refused") == _must_refuse(kind)
    zeroed = _harmed(whole, kind, tmp_path, lambda path: path.write_bytes(bytes(path.stat().st_size)))
    assert (zeroed == "refused") == _must_refuse(kind)

    def grow(path: Path) -> None:
        path.write_bytes(path.read_bytes() + random.Random(0).randbytes(5000))

    _harmed(whole, kind, tmp_path, grow)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [2, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_a_zeroed_page(saved: Callable[[str], Saved], kind: str, most: int, tmp_path: Path) -> None:
    """As a disk leaves what it lost: each page of a file that has something in it, or some of them."""
    content = _file(saved(kind).root, kind).read_bytes()
    pages = [at for at in range(0, len(content), PAGE) if any(content[at : at + PAGE])]
    for at in random.Random(kind).sample(pages, min(most, len(pages))):

        def zero(path: Path, at: int = at) -> None:
            path.write_bytes(content[:at] + bytes(len(content[at : at + PAGE])) + content[at + PAGE :])

        noticed = _harmed(saved(kind), kind, tmp_path, zero)
        assert noticed == "refused" or kind not in ("database.db", *ROWS), f"{kind} at {at}"


@pytest.mark.parametrize("kind", [*DERIVED, *LARGE])
def test_an_older_derived_file_put_back(
    large: tuple[Path, laid_out.State], saved: Callable[[str], Saved], kind: str, tmp_path: Path
) -> None:
    """Under the name of the newest: it is whole, but not the one that the catalogue knows."""
    root, older = tmp_path / "new", saved(kind)
    shutil.copytree(older.root, root)
    with older.opening():
        with Database(root) as database:
            collection = database.collection("c")
            if kind in LARGE:
                after = laid_out.change(collection, large[1])
            else:
                for seed in range(6):
                    ids = list(range(6 + seed % 3, 12))
                    rows = [[seed, i, 1, 2] for i in ids]
                    collection.upsert(ids, {"v": rows, "t": [[row] for row in rows]}, [{"n": seed}] * len(ids))
                collection.delete([7, 8])
                collection.set_payload({"n": 77}, [p.id for p in collection.scroll(limit=2)[0]])  # where they lie
                known = read_state(collection)
            assert collection.flush(60)
        newest = _file(root, kind)
        before = newest.read_bytes()
        shutil.copy(_file(older.root, kind), newest)
        assert newest.read_bytes() != before
        with Database(root) as database:
            collection = database.collection("c")
            for _ in range(2):
                if kind in LARGE:
                    laid_out.read_state(collection, after)
                else:
                    assert read_state(collection) == known
                assert collection.flush(60)
            named = collection.verify().problems  # unless a newer one was saved meanwhile
            assert all("another commit; it is made again by itself" in problem for problem in named)
        with Database(root) as database:
            assert database.collection("c").verify().problems == ()


@pytest.mark.parametrize("kind", ["catalog.db", "v-1.vec", "t-1.tok", "t-1.off", "t-1.sent"])
@pytest.mark.parametrize("change", ["upsert", "delete", "set_payload"])
def test_an_older_version_put_back(
    small: tuple[Path, engine_script.State], kind: str, change: str, tmp_path: Path
) -> None:
    """The commits that the old file lacks may have changed nothing but deaths or payloads."""
    root = tmp_path / "new"
    shutil.copytree(small[0], root)
    with Database(root) as database:
        collection = database.collection("c")
        if change == "upsert":
            collection.upsert([5], {"v": [[1, 2, 3, 4]], "t": [[[1, 2, 3, 4]]]})
        elif change == "delete":
            collection.delete(list(small[1])[:1])
        else:
            collection.set_payload({"n": 77}, list(small[1])[:1])
        state = read_state(database.collection("c"))
    shutil.copy(_file(small[0], kind), _file(root, kind))
    if change == "upsert" or kind == "catalog.db":
        with pytest.raises(CorruptData, match=r"older copy|do not match their checksum"), Database(root) as database:
            database.collection("c")
    else:  # the file is as it was
        with Database(root) as database:
            assert read_state(database.collection("c")) == state


def test_an_older_list_of_names_put_back(small: tuple[Path, engine_script.State], tmp_path: Path) -> None:
    """It does not name a collection made since, which would look like what a crash left, and be removed."""
    root = tmp_path / "new"
    shutil.copytree(small[0], root)
    with Database(root) as database:
        database.create_collection("later", dim=2).upsert([1], [[1, 2]])
    newest = (root / "database.db").read_bytes()
    shutil.copy(small[0] / "database.db", root / "database.db")
    with pytest.raises(CorruptData, match="an older copy"):
        Database(root)
    (root / "database.db").write_bytes(newest)
    with Database(root) as database:
        assert database.collection("later").count() == 1
    (root / "database.seen").write_bytes(b"7 7")  # says nothing, as its checksum is wrong
    Database(root).close()


def test_names_lost_with_their_witness(small: tuple[Path, engine_script.State], tmp_path: Path) -> None:
    """Every collection would look like what a crash left; none is removed."""
    root = tmp_path / "new"
    shutil.copytree(small[0], root)
    for name in ("database.db", "database.db-wal", "database.db-shm", "database.seen"):
        (root / name).unlink(missing_ok=True)
    kept = sorted(path for path in (root / "collections").rglob("*"))
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"database\.db"):
            Database(root)
    assert sorted(path for path in (root / "collections").rglob("*")) == kept
