"""Damage to the files of a closed directory is detected, wherever it is: never a wrong answer, never a crash."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path

import pytest
from tests.support.crash_images import Recorder
from tests.support.own_process import run_alone
from tests.support.storage_script import State, Writer, read_state, states_of, write_script

from vicinal.errors import CorruptData
from vicinal.storage import vfs
from vicinal.storage.files import Files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    root = tmp_path_factory.mktemp("saved")
    script = write_script(11, 30)
    writer = Writer.create(Files(), root)
    writer.run(script, lambda _what, _seq: None)
    writer.close()
    return root, states_of(script)[-1]


def _read(root: Path) -> State:
    writer = Writer.open(Files(), root, read_only=True)
    try:
        return read_state(writer)
    finally:
        writer.close()


def _refused_or_whole(root: Path, state: State) -> bool:
    try:
        assert _read(root) == state
    except CorruptData as error:
        assert str(root) in str(error)  # noqa: PT017 - either way out is right; this one names the file
        return True
    return False


def _flip(root: Path, name: str, flips: int, size: int, first: int = 0) -> int:
    """Return how many of `flips` random bit flips in that range of a file go unnoticed by `_read`."""
    path, rng = root / name, random.Random(flips)
    content = path.read_bytes()
    whole = _read(root)
    unnoticed = 0
    for _ in range(flips):
        bit = rng.randrange(first * 8, size * 8)
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        unnoticed += not _refused_or_whole(root, whole)
    path.write_bytes(content)
    return unnoticed


@pytest.mark.parametrize("flips", [150, pytest.param(2000, marks=pytest.mark.full)])
def test_bit_flips_in_the_catalogue(saved: tuple[Path, State], flips: int, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(saved[0], root)
    assert _flip(root, "catalog.db", flips, (root / "catalog.db").stat().st_size) == 0


@pytest.mark.parametrize("flips", [100, pytest.param(2000, marks=pytest.mark.full)])
def test_bit_flips_in_committed_rows(saved: tuple[Path, State], flips: int, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(saved[0], root)
    rows = Writer.open(Files(), root, read_only=True).rows.rows
    assert _flip(root, "v-0.vec", flips, 4096 + rows * 48, 4096) == 0


@pytest.mark.parametrize("name", ["catalog.db", "v-0.vec"])
@pytest.mark.parametrize("points", [12, pytest.param(64, marks=pytest.mark.full)])
def test_truncation(saved: tuple[Path, State], name: str, points: int, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(saved[0], root)
    whole = (root / name).stat().st_size if name == "catalog.db" else 4096 + 48 * Writer.open(Files(), root).rows.rows
    rng = random.Random(0)
    for size in sorted((0, whole - 1, *rng.sample(range(whole), points)), reverse=True):
        os.truncate(root / name, size)
        assert _refused_or_whole(root, saved[1]), f"{name} cut to {size} bytes"


@pytest.mark.parametrize("name", ["catalog.db", "v-0.vec"])
def test_a_zeroed_page(saved: tuple[Path, State], name: str, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(saved[0], root)
    content = (root / name).read_bytes()
    pages = len(content) // 4096 if name == "catalog.db" else 1
    for page in range(pages):
        damaged = bytearray(content)
        damaged[page * 4096 : (page + 1) * 4096] = bytes(4096)
        (root / name).write_bytes(damaged)
        assert _refused_or_whole(root, saved[1]), f"page {page} of {name}"


def test_trailing_garbage_changes_nothing(saved: tuple[Path, State], tmp_path: Path) -> None:
    for name in ("catalog.db", "v-0.vec"):
        root = tmp_path / name
        shutil.copytree(saved[0], root)
        with (root / name).open("ab") as file:
            file.write(random.Random(0).randbytes(5000))
        assert not _refused_or_whole(root, saved[1]) or name == "catalog.db"


@pytest.mark.parametrize("name", ["catalog.db", "v-0.vec"])
def test_an_old_version_put_back(name: str, tmp_path: Path) -> None:
    root, old = tmp_path / "run", tmp_path / "old"
    writer = Writer.create(Files(), root := _made(root))
    writer.run(write_script(3, 8), lambda _what, _seq: None)
    writer.close()
    shutil.copytree(root, old)
    writer = Writer.open(Files(), root)
    for step in write_script(4, 6):
        writer.apply((step[0], [], []))
    writer.close()
    shutil.copy(old / name, root / name)
    with pytest.raises(CorruptData, match="older copy of the " + ("catalogue" if name == "catalog.db" else "file")):
        Writer.open(Files(), root)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_lost_wal_is_noticed(tmp_path: Path) -> None:
    """Commits that only the WAL held are gone; the row file knows that there were more."""
    writer = Writer.create(Files(), tmp_path)
    for step in write_script(3, 8):
        writer.apply((step[0], [], []))
        if writer.catalog.last.seq == 3:
            writer.catalog.checkpoint()
    shutil.copytree(tmp_path, tmp_path / "image", ignore=shutil.ignore_patterns("*-wal", "*-shm", "image"))
    writer.close()
    with pytest.raises(CorruptData, match="older copy of the catalogue"):
        Writer.open(Files(), tmp_path / "image")


def test_bit_flips_in_the_wal(tmp_path: Path) -> None:
    """What only the WAL holds is whole, or its loss is noticed, but for the newest commit.

    A damaged end of a log cannot be told from one that power loss tore.
    """
    script = write_script(3, 8)
    states = states_of([(step[0], [], []) for step in script])
    writer = Writer.create(Files(), _made(tmp_path / "run"))
    for step in script:
        writer.apply((step[0], [], []))
    image, rng = tmp_path / "image", random.Random(5)
    content = (tmp_path / "run" / "catalog.db-wal").read_bytes()
    for _ in range(60):
        shutil.copytree(tmp_path / "run", image, ignore=shutil.ignore_patterns("*-shm"))
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (image / "catalog.db-wal").write_bytes(damaged)
        with contextlib.suppress(CorruptData):
            assert _read(image) in states[-2:]
        shutil.rmtree(image)
    writer.close()


def flip_under_the_recorder(root: str) -> None:
    """The checksum VFS does its work also where the recording one lies below it."""
    vfs.register()
    writer = Writer.create(Files(Recorder()), Path(root))
    writer.run(write_script(11, 10), lambda _what, _seq: None)
    writer.close()
    assert _flip(Path(root), "catalog.db", 60, (Path(root) / "catalog.db").stat().st_size) == 0


def test_bit_flips_in_the_catalogue_under_the_recorder(tmp_path: Path) -> None:
    run_alone(flip_under_the_recorder, str(tmp_path))
