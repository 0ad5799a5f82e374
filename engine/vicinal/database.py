"""Database: a data directory. Holds its lock, and makes, opens, lists and drops collections.

    DIR/LOCK                        held while open; names its holder
    DIR/database.db                 names and aliases -> uuid
    DIR/collections/<uuid>/         one collection each; the catalogue in it is the truth

A collection's directory is complete before its name is registered, and unregistered before it is removed, so a crash
leaves at most a directory without a name; those are removed on open.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vicinal.collection import Collection
from vicinal.errors import AlreadyExists, Closed, InvalidArgument, NotFound, ReadOnly
from vicinal.maintenance import check_functions, create, open_collection
from vicinal.schema import Dense, Field, Multi, Schema, check_name, from_mapping
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files

__all__ = ["Database"]

MEMORY = ":memory:"


class Database:
    """Collections in one directory, or in memory. Use it as a context manager, or `close` it."""

    def __init__(self, target: str | Path, *, read_only: bool = False) -> None:
        self._files = Files()
        self._read_only = read_only
        self._open: dict[str, Collection] = {}
        self._guard = threading.RLock()
        self._closed = False
        self._memory = str(target) == MEMORY
        self._directory = None if self._memory else Path(target)
        if self._directory is None:
            self._names = DatabaseCatalog.open(self._files, MEMORY)
        else:
            self._open_directory(self._directory)

    def _open_directory(self, directory: Path) -> None:
        names = directory / "database.db"
        if not self._read_only:
            for parent in (*reversed(directory.parents), directory, directory / "collections"):
                self._files.mkdir(parent)
        elif not self._files.exists(names):
            raise NotFound(f"{directory} is no database", field="target", value=str(directory))
        self._lock = self._files.lock(directory / "LOCK", shared=self._read_only)
        try:
            self._names = DatabaseCatalog.open(self._files, names, read_only=self._read_only)
            if not self._read_only:
                self._remove_orphans(directory)
        except BaseException:
            self._lock.release()
            raise

    def _remove_orphans(self, directory: Path) -> None:
        known = set(self._names.list().values())
        for entry in self._files.listdir(directory / "collections"):
            if entry not in known:
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
            uid = str(uuid.uuid4())
            opened = create(self._files, self._place(uid), schema)
            self._names.create(name, uid)
            made = self._open[uid] = Collection(name, opened)
            return made

    def _place(self, uid: str) -> Path | None:
        return None if self._directory is None else self._directory / "collections" / uid

    def collection(self, name: str) -> Collection:
        """The collection of that name or alias, recovered from its files on first use; NotFound otherwise."""
        with self._guard:
            self._check_open()
            uid = self._names.resolve(name)
            found = self._open.get(uid)
            if found is None:
                place = self._place(uid)
                assert place is not None, "collections in memory stay open"
                opened = open_collection(self._files, place, read_only=self._read_only)
                found = self._open[uid] = Collection(name, opened, read_only=self._read_only)
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
            uid = self._names.drop(name)
            opened = self._open.pop(uid, None)
            if opened is not None:
                opened.close()
            place = self._place(uid)
            if place is not None:
                self._files.remove_tree(place)

    def set_alias(self, alias: str, name: str) -> None:
        """Let `alias` lead to collection `name`, also when it led elsewhere before, in one step."""
        check_name(alias, "alias")
        with self._guard:
            self._check_writable()
            self._names.set_alias(alias, name)

    def close(self) -> None:
        """Finish queued writes, save snapshots, give the lock back. A second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            for collection in self._open.values():
                collection.close()
            self._names.close()
            if self._directory is not None:
                self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the database is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise ReadOnly("the database was opened read-only")


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
