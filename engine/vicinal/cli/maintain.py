"""`vicinal verify`, `compact`, `backup` and `restore`: look after a data directory, or ask its server to."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicinal.cli.output import ApiKeyFile, JsonFlag, print_json, read_key, size_text
from vicinal.errors import CorruptData, InvalidArgument, NotFound

if TYPE_CHECKING:
    from vicinal.client import RemoteDatabase
    from vicinal.database import Database
    from vicinal.types import VerifyReport

__all__ = ["backup", "compact", "restore", "verify"]

Directory = Annotated[str, typer.Argument(metavar="DIR", help="A data directory, or a server's http address.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A data directory.")]
Names = Annotated[list[str] | None, typer.Option("--name", help="A collection; may be repeated. All by default.")]


def verify(
    directory: Directory, name: Names = None, api_key_file: ApiKeyFile = None, as_json: JsonFlag = False
) -> None:
    """Check in depth that all is whole: the catalogue, all checksums, the indexes. Exit code 1 when it is not."""
    with _opened(directory, api_key_file, read_only=True) as database:
        reports = database.verify(name)
    if as_json:
        print_json({"ok": all(each.ok for each in reports), "collections": [dataclasses.asdict(r) for r in reports]})
    for each in () if as_json else reports:
        sys.stdout.write(_told(each))
    broken = [each for each in reports if not each.ok]
    if broken:
        raise CorruptData(
            f"{len(broken)} of {len(reports)} collections are damaged", field="directory", value=directory
        )


def compact(
    directory: Directory, name: Names = None, api_key_file: ApiKeyFile = None, as_json: JsonFlag = False
) -> None:
    """Rewrite collections without their dead slots, and give the space back."""
    told = []
    if "://" not in directory and not (Path(directory) / "database.db").exists():  # opening it would make one
        raise NotFound(f"{directory} is no database", field="directory", value=directory)
    with _opened(directory, api_key_file) as database:
        for each in database.list_collections() if name is None else name:
            collection = database.collection(each)
            before = collection.info().disk_bytes
            freed = collection.compact()
            told.append({"name": each, "slots_freed": freed, "bytes_freed": before - collection.info().disk_bytes})
    if as_json:
        print_json({"collections": told})
        return
    for line in told:
        sys.stdout.write(f"{line['name']}: {line['slots_freed']:,} dead slots are gone\n")


def backup(
    directory: Folder,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="The tar archive to write; must not exist.")],
    name: Names = None,
    as_json: JsonFlag = False,
) -> None:
    """Write collections into one tar archive with a manifest of SHA-256 sums."""
    with _local(directory, read_only=True) as database:
        told = database.backup(archive, name)
    if as_json:
        print_json(dataclasses.asdict(told))
        return
    sys.stdout.write(f"{archive}: {size_text(told.bytes)}, {_points(dict(told.collections))}\n")


def restore(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that `vicinal backup` wrote.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A data directory; made when missing.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A collection, or OLD=NEW to rename it; may be repeated. All by default."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add the collections of an archive to a data directory, after everything in it was verified."""
    with _local(directory, reads=archive) as database:
        names = database.restore(archive, None if name is None else _renamed(name))
        told = {each: database.collection(each).info().points for each in names}
    if as_json:
        print_json({"directory": str(directory), "collections": told})
        return
    sys.stdout.write(f"{directory}: {_points(told)}\n")


def _renamed(names: list[str]) -> dict[str, str]:
    """Name in the archive → name to have, of `NAME` and `OLD=NEW`."""
    pairs = [each.partition("=") for each in names]
    if len({old for old, _, _ in pairs}) != len(pairs):
        raise InvalidArgument("a collection is restored once: name it once", field="name", value=names)
    return {old: new if equals else old for old, equals, new in pairs}


def _points(collections: dict[str, int]) -> str:
    return ", ".join(f"{name} ({points:,} points)" for name, points in collections.items()) or "no collections"


def _told(report: VerifyReport) -> str:
    if report.ok:
        read = size_text(report.bytes)
        return f"{report.name}: whole; {report.points:,} points, {report.slots:,} slots, {read} compared\n"
    return "".join(f"{report.name}: {problem}\n" for problem in report.problems)


def _opened(directory: str, api_key_file: str | None, *, read_only: bool = False) -> Database | RemoteDatabase:
    import vicinal

    return vicinal.connect(directory, api_key=read_key(api_key_file), read_only=read_only)


def _local(directory: Path, *, read_only: bool = False, reads: Path | None = None) -> Database:
    """The database of a folder; `reads`: a file without which none is made."""
    from vicinal.database import Database

    if str(directory).startswith(("http:/", "https:/")):
        message = f"{directory} is no folder: a server keeps backups itself, ask it by PUT /v1/backups/NAME"
        raise InvalidArgument(message, field="directory", value=str(directory))
    if reads is not None and not reads.exists():
        raise NotFound(f"there is no file {reads}", field="archive", value=str(reads))
    return Database(directory, read_only=read_only)
