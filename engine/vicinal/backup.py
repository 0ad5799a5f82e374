"""Backup and restore: collections as one plain tar archive (`storage.archive`), written while they are in use.

A collection goes in as of one commit: a copy of its catalogue, which names the rows and their checksums, the first so
many rows of its row files, and the snapshots that the catalogue names, which only save time. What is archived is
compared with its checksums on the way. A restored collection is a new directory: it is complete, synced and verified
before its name leads there, and the names of one archive are registered in one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from vicinal.errors import CorruptData, FormatTooNew, StorageFull, VicinalError
from vicinal.maintenance import CATALOG, Opened, close_files, open_collection, row_widths
from vicinal.storage.archive import Archive, Source, pack
from vicinal.storage.catalog import Catalog
from vicinal.storage.files import Files, OpenFile
from vicinal.storage.snapshots import sum_of
from vicinal.storage.vectors import HEAD_BYTES
from vicinal.verification import files_problems, index_problems

__all__ = ["Listed", "archived", "listed", "unpack"]

_PART: Final = 4 << 20


class Listed(NamedTuple):
    """A collection in an archive: its number among them, its name, commit and points when it was archived."""

    number: int
    name: str
    seq: int
    points: int


def archived(
    files: Files, collections: Mapping[str, Opened], aliases: Mapping[str, str], scratch: Path
) -> Iterator[bytes | memoryview]:
    """The archive of open collections in parts; `scratch` holds the copy of one catalogue at a time."""
    told: list[dict[str, Any]] = []

    def sources() -> Iterator[Source]:
        for number, (name, opened) in enumerate(collections.items()):
            yield from _collection(files, opened, number, name, scratch, told)

    try:
        yield from pack(sources(), {"collections": told, "aliases": dict(aliases)})
    finally:
        for path in (scratch, scratch.with_name(scratch.name + "-wal"), scratch.with_name(scratch.name + "-shm")):
            with suppress(VicinalError):
                files.remove(path)


def _collection(
    files: Files, opened: Opened, number: int, name: str, scratch: Path, told: list[dict[str, Any]]
) -> Iterator[Source]:
    """The files of one collection as of its last commit, told in the manifest."""
    opened.catalog.copy_to(files, scratch)
    frozen = Catalog.open(files, scratch)
    try:
        seq, sums = frozen.last.seq, frozen.row_sums()
        told.append({"name": name, "seq": seq, "points": frozen.living(seq)})
        kept = dict(_snapshots(files, opened, frozen))
    finally:
        frozen.close()
    if files.exists(scratch.with_name(scratch.name + "-wal")):  # closing moves it, and says nothing when it cannot
        raise StorageFull(f"{scratch} could not be written whole; free some space", field=str(scratch))
    copy = files.open(scratch, read_only=True)
    try:
        yield Source(f"{number}/{CATALOG}", copy.size(), _parts(copy))
        for field in opened.fields.values():
            for file, rows in field.files.items():
                count, expected = sums.get(file, (0, {}))
                size = HEAD_BYTES + count * rows.row_bytes
                yield Source(f"{number}/{file}", size, rows.frozen(count, expected, seq))
        for file, snapshot in kept.items():
            yield Source(f"{number}/{file}", snapshot.size(), _parts(snapshot))
    finally:
        for one in (copy, *kept.values()):
            one.close()


def _snapshots(files: Files, opened: Opened, frozen: Catalog) -> Iterator[tuple[str, OpenFile]]:
    """The snapshots that a copied catalogue names, opened; it forgets those that were replaced since."""
    for stem, crc in frozen.snapshot_sums().items():
        file = f"{stem}.snapshot"
        assert opened.directory is not None, "collections in memory have no snapshots"
        try:
            found = files.open(opened.directory / file, read_only=True)
        except CorruptData:
            frozen.drop_snapshot(stem)
            continue
        if crc is not None and _sum_of(found) != crc:
            found.close()
            frozen.drop_snapshot(stem)
            continue
        yield file, found


def _sum_of(snapshot: OpenFile) -> int | None:
    try:
        return sum_of(snapshot)
    except (CorruptData, FormatTooNew):
        return None


def _parts(file: OpenFile) -> Iterator[bytes]:
    for at in range(0, file.size(), _PART):
        yield file.pread(_PART, at)


def listed(archive: Archive) -> tuple[list[Listed], dict[str, str]]:
    """The collections of an archive, and its aliases; CorruptData when its manifest does not fit its members."""
    manifest = archive.manifest
    try:
        told = [Listed(n, of["name"], of["seq"], of["points"]) for n, of in enumerate(manifest["collections"])]
        aliases = {alias: manifest["aliases"][alias] for alias in manifest["aliases"]}
        texts = [*aliases, *aliases.values(), *(of.name for of in told)]
        fits = all(isinstance(text, str) for text in texts) and len({of.name for of in told}) == len(told)
        numbers = {int(name.partition("/")[0]) for name in archive.names}
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"the manifest of a backup cannot be read: {error!r}", field="manifest") from error
    if not fits or numbers != set(range(len(told))):
        raise CorruptData("the manifest of a backup names other collections than are in it", field="manifest")
    return told, aliases


def unpack(files: Files, archive: Archive, collection: Listed, directory: Path) -> None:
    """Make a collection's directory from an archive and verify it; durable, except for the directory's own name.

    CorruptData, FormatTooNew when it is not whole; the directory is then the caller's to remove.
    """
    prefix = f"{collection.number}/"
    files.mkdir(directory)
    names = [name.removeprefix(prefix) for name in archive.names if name.startswith(prefix)]
    for name in names:
        _write(files, directory / name, archive.read(prefix + name))
    files.sync_dir(directory)
    _verify(files, directory, set(names))


def _write(files: Files, path: Path, parts: Iterator[bytes]) -> None:
    file = files.open(path, create=True)
    try:
        at = 0
        for part in parts:
            file.pwrite(part, at)
            at += len(part)
        file.fdatasync()
    finally:
        file.close()


def _verify(files: Files, directory: Path, names: set[str]) -> None:
    """Read everything once more; CorruptData says what does not hold."""
    catalog = Catalog.open(files, directory / CATALOG)
    try:
        catalog.check(deep=True)  # before anything is allocated by what it says
    finally:
        catalog.close()
    opened = open_collection(files, directory)
    try:
        rows = {file for name, spec in opened.schema.fields.items() for file in row_widths(name, spec)}
        expected = {CATALOG, *rows, *(f"{stem}.snapshot" for stem in opened.catalog.snapshots())}
        problems = [*files_problems(opened), *index_problems(opened, opened.view.n)]
        if names != expected:
            problems.append(f"it holds {min(names ^ expected)} or lacks it")
    finally:
        close_files(opened)
    if problems:
        raise CorruptData(f"a collection in the backup is damaged: {problems[0]}", field=str(directory))
