"""Database: a data directory. Holds its lock, and makes, opens, lists and drops collections.

    DIR/LOCK                        held while open; names its holder
    DIR/database.db                 names and aliases -> uuid
    DIR/collections/<uuid>/         one collection each; the catalogue in it is the truth

A collection's directory is complete before its name is registered, and unregistered before it is removed, so a crash
leaves at most a directory without a name; those are removed on open.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vicinal.backup import Listed, archived, listed, unpack
from vicinal.collection import Collection
from vicinal.errors import (
    AlreadyExists,
    Closed,
    CorruptData,
    FormatTooNew,
    InvalidArgument,
    NotFound,
    ReadOnly,
    StorageFull,
    VicinalError,
)
from vicinal.maintenance import Opened, check_functions, close_files, create, open_collection
from vicinal.schema import Dense, Field, Multi, Schema, check_name, from_mapping
from vicinal.storage.archive import Archive
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files
from vicinal.types import BackupInfo, VerifyReport

__all__ = ["Database"]

MEMORY = ":memory:"
_UID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as `_Home.new_place` names directories


class Database:
    """Collections in one directory, or in memory. Use it as a context manager, or `close` it."""

    def __init__(self, target: str | Path, *, read_only: bool = False) -> None:
        self._files = Files()
        self._read_only = read_only
        self._open: dict[str, Collection] = {}
        self._guard = threading.RLock()
        self._closed = False
        self._written: set[Path] = set()  # backups that are being written
        self._memory = str(target) == MEMORY
        self._directory = None if self._memory else Path(target)
        if self._directory is None:
            self._names = DatabaseCatalog.open(self._files, MEMORY)
        else:
            self._open_directory(self._directory)
        self._home = _Home(self._names, self._directory)

    def _open_directory(self, directory: Path) -> None:
        names = directory / "database.db"
        if not self._read_only:
            for parent in (*reversed(directory.parents), directory, directory / "collections"):
                self._files.mkdir(parent)
        elif not self._files.exists(names):
            raise NotFound(f"{directory} is no database", field="target", value=str(directory))
        self._lock = self._files.lock(directory / "LOCK", shared=self._read_only)
        try:
            # without its names every collection would look like what a crash left, and be removed
            used = not self._read_only and bool(self._files.listdir(directory / "collections"))
            self._names = DatabaseCatalog.open(self._files, names, read_only=self._read_only, create=not used)
            if not self._read_only:
                self._remove_orphans(directory)
        except BaseException:
            self._lock.release()
            raise

    def _remove_orphans(self, directory: Path) -> None:
        known = set(self._names.list().values())
        for entry in self._files.listdir(directory / "collections"):
            if entry not in known and _UID.fullmatch(entry):  # others are somebody's: a copy put aside, say
                self._files.remove_tree(directory / "collections" / entry)

    def __repr__(self) -> str:
        return f"Database({MEMORY if self._memory else str(self._directory)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        """True when opened without the right to write."""
        return self._read_only

    def create_collection(
        self,
        name: str,
        *,
        dim: int | None = None,
        metric: str = "cosine",
        vectors: dict[str, Any] | None = None,
        **options: Any,
    ) -> Collection:
        """Make a collection: one unnamed dense field by `dim` and `metric`, or named fields by `vectors`.

        vectors: {"title": Dense(384), "tokens": Multi(128)}, or the same as JSON objects. options: those of Dense.
        Raises AlreadyExists, InvalidArgument.
        """
        check_name(name, "collection name")
        schema = Schema(_fields(dim, metric, vectors, options))
        check_functions(schema)
        with self._guard:
            self._check_writable()
            if name in self._names.list():  # before a directory is made; `create` looks again
                raise AlreadyExists(f"collection {name!r} already exists!", field="name", value=name)
            self._require_free(name)
            made = self._open[name] = Collection(name, self._created(name, schema), self._home)
            return made

    def _created(self, name: str, schema: Schema) -> Opened:
        """A new, empty collection, registered."""
        uid, place = self._home.new_place()
        opened, asked = None, False
        try:
            opened = create(self._files, place, schema)
            asked = True
            self._names.create(name, uid)
        except BaseException as error:
            if opened is not None:
                close_files(opened)
            self._take_back([uid], error, asked=asked)
            raise
        return opened

    def _take_back(self, uids: Iterable[str], error: BaseException, *, asked: bool) -> None:
        """Remove new directories after an error, unless names, once `asked` for, may lead there: then they go later."""
        if self._directory is None or (asked and not isinstance(error, AlreadyExists | StorageFull)):
            return
        for uid in uids:
            with suppress(VicinalError):
                self._files.remove_tree(self._directory / "collections" / uid)

    def collection(self, name: str) -> Collection:
        """The collection of that name or alias, recovered from its files on first use; NotFound otherwise."""
        with self._guard:
            self._check_open()
            own, uid = self._names.resolve(name)
            found = self._open.get(own)
            if found is None:
                place = self._home.place(uid)
                assert place is not None, "collections in memory stay open"
                opened = open_collection(self._files, place, read_only=self._read_only)
                found = self._open[own] = Collection(own, opened, self._home, read_only=self._read_only)
            return found

    def list_collections(self) -> list[str]:
        """Names, sorted."""
        with self._guard:
            self._check_open()
            return sorted(self._names.list())

    def drop_collection(self, name: str) -> None:
        """Remove a collection and its files; NotFound when there is none."""
        with self._guard:
            self._check_writable()
            opened = self._open.pop(name, None)
            if opened is not None:
                opened.close()  # first, as a compaction may be about to give it another directory
            place = self._home.place(self._names.drop(name))
            if place is not None:
                self._files.remove_tree(place)

    def set_alias(self, alias: str, name: str) -> None:
        """Let `alias` lead to collection `name`, also when it led elsewhere before, in one step."""
        check_name(alias, "alias")
        with self._guard:
            self._check_writable()
            self._names.set_alias(alias, name)

    def verify(self, names: Sequence[str] | None = None) -> list[VerifyReport]:
        """Check collections in depth, all by default: checksums, catalogue, indexes. Reads and writes go on.

        What cannot even be opened has a report too, with what is wrong. CorruptData when the names are damaged.
        """
        self._check_open()
        self._names.check()
        return [self._verified(name) for name in (self.list_collections() if names is None else names)]

    def _verified(self, name: str) -> VerifyReport:
        try:
            return self.collection(name).verify()
        except (CorruptData, FormatTooNew) as error:
            return VerifyReport(name, (error.message,))

    def backup(self, path: str | Path, names: Sequence[str] | None = None) -> BackupInfo:
        """Write collections, all by default, and the aliases that lead there into one new tar archive at `path`.

        Each goes in as of one commit, while it is read and written. The archive is durable and whole when this
        returns; otherwise there is none. AlreadyExists, NotFound; CorruptData when stored data are damaged.
        """
        target = Path(path)
        if self._files.exists(target):
            raise AlreadyExists(f"{target} exists: choose another name", field="path", value=str(target))
        if not self._files.exists(target.parent):
            raise NotFound(f"there is no folder {target.parent}", field="path", value=str(target))
        found = [self.collection(name) for name in (self.list_collections() if names is None else names)]
        held = {one.name: one._generation for one in found}  # noqa: SLF001 - keeps their files
        aliases = {alias: name for alias, name in self._names.aliases().items() if name in held}
        opened = {name: generation.opened for name, generation in held.items()}
        scratch, partial = (target.with_name(f".{target.name}.{what}") for what in ("catalog", "partial"))
        with self._alone(target):
            self._files.write_atomic(target, archived(self._files, opened, aliases, scratch), partial)
        return self._contents(target)

    @contextmanager
    def _alone(self, target: Path) -> Iterator[None]:
        """AlreadyExists while another thread writes a backup there."""
        place = target.resolve()
        with self._guard:
            if place in self._written:
                raise AlreadyExists(f"{target} is being written: choose another name", field="path", value=str(target))
            self._written.add(place)
        try:
            yield
        finally:
            self._written.discard(place)

    def _contents(self, path: Path) -> BackupInfo:
        with closing(Archive.open(self._files, path)) as archive:
            return BackupInfo(str(path), archive.nbytes, {one.name: one.points for one in listed(archive)[0]})

    def restore(self, path: str | Path, names: Sequence[str] | Mapping[str, str] | None = None) -> list[str]:
        """Add the collections of a backup, those named or all; returns the names they have now.

        A mapping gives each another name. All of it is unpacked and verified before any name leads there, so it is
        all there or nothing is; aliases come with a whole backup. AlreadyExists when a name is taken; CorruptData,
        FormatTooNew when the archive cannot be trusted.
        """
        self._check_writable()
        with closing(Archive.open(self._files, Path(path))) as archive:
            wanted, aliases = _wanted(listed(archive), names)
            for name in (*wanted, *aliases):
                self._require_free(name)
            return self._restored(archive, wanted, aliases)

    def _require_free(self, name: str) -> None:
        check_name(name, "collection name")
        if name in self._names.list() or name in self._names.aliases():
            raise AlreadyExists(f"{name!r} exists: drop it first or choose another name", field="name", value=name)

    def _restored(self, archive: Archive, wanted: Mapping[str, Listed], aliases: Mapping[str, str]) -> list[str]:
        if self._directory is None:
            raise InvalidArgument("a database in memory has no place for a backup: open a folder", field="target")
        made: dict[str, str] = {}
        asked = False
        try:
            for name, collection in wanted.items():
                uid, place = self._home.new_place()
                made[name] = uid
                assert place is not None, "a folder has places"
                unpack(self._files, archive, collection, place)
            asked = True
            self._names.create_all(made, aliases)
        except BaseException as error:
            self._take_back(made.values(), error, asked=asked)
            raise
        return list(wanted)

    def close(self) -> None:
        """Finish queued writes, save snapshots, give the lock back. A second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            with ExitStack() as left:  # the lock goes last, whatever fails before
                if self._directory is not None:
                    left.callback(self._lock.release)
                left.callback(self._names.close)
                for collection in self._open.values():
                    left.callback(collection.close)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the database is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise ReadOnly("the database was opened read-only")


def _wanted(
    told: tuple[list[Listed], dict[str, str]], names: Sequence[str] | Mapping[str, str] | None
) -> tuple[dict[str, Listed], dict[str, str]]:
    """The collections of a backup to restore, by the name each is to have, and the aliases."""
    known = {one.name: one for one in told[0]}
    if names is None:
        return known, {alias: name for alias, name in told[1].items() if name in known}
    renamed = names if isinstance(names, Mapping) else {name: name for name in names}
    for name in renamed:
        if name not in known:
            raise NotFound(
                f"no collection {name!r} in the backup; there are {sorted(known)}", field="names", value=name
            )
    wanted = {new: known[name] for name, new in renamed.items()}
    if len(wanted) != len(renamed):
        raise InvalidArgument("two collections cannot have one name", field="names", value=sorted(renamed.values()))
    return wanted, {}


class _Home:
    """Where the generations of collections lie: `collections/<uuid>`, and the names that lead there."""

    def __init__(self, names: DatabaseCatalog, directory: Path | None) -> None:
        self._names, self._directory = names, directory

    def place(self, uid: str) -> Path | None:
        """The directory of a generation; None in memory."""
        return None if self._directory is None else self._directory / "collections" / uid

    def new_place(self) -> tuple[str, Path | None]:
        """A name that no generation has, and its directory."""
        uid = str(uuid.uuid4())
        return uid, self.place(uid)

    def switch(self, collection: str, uid: str) -> None:
        """Let a collection's name lead to generation `uid`."""
        self._names.switch(collection, uid)


def _fields(dim: int | None, metric: str, vectors: dict[str, Any] | None, options: dict[str, Any]) -> dict[str, Field]:
    if (dim is None) == (vectors is None):
        raise InvalidArgument("give either dim or vectors", field="dim")
    if vectors is None:
        return {"": from_mapping({"kind": "dense", "dim": dim, "metric": metric, **options})}
    if options:
        raise InvalidArgument(f"options {sorted(options)} belong to each field in `vectors`", field=min(options))
    fields: dict[str, Field] = {}
    for name, spec in vectors.items():
        if isinstance(spec, Dense | Multi):
            fields[name] = spec
        elif isinstance(spec, dict):
            fields[name] = from_mapping(spec)
        else:
            raise InvalidArgument("a vector field is a Dense or a Multi", field=name, value=spec)
    return fields
