"""Open a collection's directory: recover what was committed, cut what was not, load or rebuild what is derived.

The order (each step relies on the one before): catalogue, row files checked against its counts, ids and deaths,
norms and ends, newest usable graph snapshot. Slots that no snapshot covers are the tail, and are searched exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask
from vicinal.errors import CorruptData, FormatTooNew, ReadOnly, StorageFull
from vicinal.fields import DenseField, FieldStore, vector_file
from vicinal.index.functions import check_function
from vicinal.multi_field import MultiField, token_files
from vicinal.schema import Dense, Multi, Schema
from vicinal.storage import snapshots
from vicinal.storage.catalog import Catalog
from vicinal.storage.files import Files
from vicinal.storage.machine import free_space
from vicinal.storage.vectors import RowFile
from vicinal.view import IdColumn, View

__all__ = [
    "CATALOG",
    "COLUMNS",
    "Opened",
    "check_functions",
    "close_files",
    "create",
    "load_columns",
    "miscounted",
    "open_collection",
    "row_widths",
    "save_snapshot",
]

CATALOG = "catalog.db"
COLUMNS = "+columns"  # no field can be called so


@dataclass(slots=True)
class Opened:
    """A collection's parts, ready for a writer."""

    schema: Schema
    catalog: Catalog
    fields: Mapping[str, FieldStore]
    view: View
    dead: NDArray[np.bool_]
    directory: Path | None
    files: Files


def check_functions(schema: Schema) -> None:
    """Raise InvalidArgument when a registered metric fails on vectors of its field's dimension."""
    for spec in schema.fields.values():
        if isinstance(spec, Dense):
            check_function(spec.metric, spec.dim)


def create(files: Files, directory: Path | None, schema: Schema) -> Opened:
    """Make an empty collection in `directory`, or in memory when it is None."""
    with ExitStack() as made:  # closed again when a later step fails
        if directory is None:
            catalog = Catalog.create(files, ":memory:", schema.encode())
        else:
            files.mkdir(directory)
        row_files: dict[str, RowFile] = {}
        for field, spec in schema.fields.items():
            for name, width in row_widths(field, spec).items():
                row_files[name] = _make(files, directory, name, width)
                made.callback(row_files[name].close)
        if directory is not None:  # last: a directory without a catalogue is not a collection
            catalog = Catalog.create(files, directory / CATALOG, schema.encode())
            made.callback(catalog.close)
            files.sync_dir(directory)
        made.pop_all()
    fields = {name: _field(name, spec, row_files) for name, spec in schema.fields.items()}
    dead = np.zeros(0, np.bool_)
    view = View(0, 0, 0, None, IdColumn(np.zeros(0, np.uint64), {}), {n: f.view(0) for n, f in fields.items()})
    return Opened(schema, catalog, fields, view, dead, directory, files)


def open_collection(files: Files, directory: Path, *, read_only: bool = False) -> Opened:
    """Recover the collection in `directory`; FormatTooNew or CorruptData when it cannot be trusted."""
    with ExitStack() as opened:  # closed again when it cannot: the folder may be opened once more, by this process too
        catalog = Catalog.open(files, directory / CATALOG, read_only=read_only)
        opened.callback(catalog.close, keep_log=True)
        schema = Schema.decode(catalog.config)
        for problem in miscounted(schema, catalog.last.counts, catalog.last.rows):
            raise CorruptData(f"{catalog.path}: {problem}", field=str(catalog.path))
        row_files: dict[str, RowFile] = {}
        for field, spec in schema.fields.items():
            for name, width in row_widths(field, spec).items():
                row_files[name] = _open_rows(files, directory, name, width, catalog, read_only=read_only)
                opened.callback(row_files[name].close)
        whole = _recovered(files, directory, schema, catalog, row_files)
        opened.pop_all()
    return whole


def _recovered(
    files: Files, directory: Path, schema: Schema, catalog: Catalog, row_files: Mapping[str, RowFile]
) -> Opened:
    """All that is derived from catalogue and rows."""
    last = catalog.last
    numbers, texts, masks, dead = catalog.load_ids()
    fields = {name: _field(name, spec, row_files) for name, spec in schema.fields.items()}
    for bit, field_store in enumerate(fields.values()):
        field_store.load(last.rows, (masks >> np.uint32(bit)) & np.uint32(1) == 1)
    _load_snapshots(files, directory, catalog, fields, last.rows)
    view = View(
        last.seq,
        last.rows,
        last.rows - int(dead.sum()),
        bits_from_mask(dead) if dead.any() else None,
        IdColumn(numbers, texts),
        {name: f.view(last.rows) for name, f in fields.items()},
    )
    return Opened(schema, catalog, fields, view, dead, directory, files)


def close_files(opened: Opened, *, seq: int | None = None) -> None:
    """Close row files and catalogue; `seq`: the last commit, which a clean close leaves in every row file."""
    for field in opened.fields.values():
        for file in field.files.values():
            if seq is not None:
                with suppress(StorageFull, ReadOnly):
                    file.stamp(seq)
            file.close()
    opened.catalog.close()


def _open_rows(files: Files, directory: Path, name: str, width: int, catalog: Catalog, *, read_only: bool) -> RowFile:
    last, crcs = catalog.last, catalog.crcs(name)
    opened = RowFile.open(
        files,
        directory / name,
        width,
        last.counts.get(name, 0),
        read_only=read_only,
        crcs=crcs,
        between=(last.since.get(name, 0), last.seq),
    )
    try:
        opened.verify(crcs)  # a flipped bit would be a wrong answer: nothing else reads every row with its checksum
    except BaseException:
        opened.close()
        raise
    return opened


def _load_snapshots(
    files: Files, directory: Path, catalog: Catalog, fields: Mapping[str, FieldStore], rows: int
) -> None:
    for stem, crc in catalog.snapshot_sums().items():
        field = stem.rpartition("@")[0]
        if field not in fields:
            continue
        with suppress(Exception):  # derived: the indexer builds it again, and answers are exact meanwhile
            fields[field].restore(snapshots.load(files, directory / f"{stem}.snapshot", crc), rows)


def load_columns(opened: Opened) -> memoryview | None:
    """The bytes of the newest snapshot of the attribute columns; None without one that is whole."""
    sums = opened.catalog.snapshot_sums()
    stems = [stem for stem in sums if stem.rpartition("@")[0] == COLUMNS]
    if opened.directory is None or not stems:
        return None
    try:
        return snapshots.load(opened.files, opened.directory / f"{stems[-1]}.snapshot", sums[stems[-1]])
    except (CorruptData, FormatTooNew):
        return None


def save_snapshot(opened: Opened, name: str, chunks: Sequence[bytes | memoryview], covered: int) -> bool:
    """Publish a field's graph, or the columns: file first, then the catalogue's pointer, then the old file goes.

    False when storage refused: what is derived can be saved later, and the next commit tells whether writes go on.
    """
    assert opened.directory is not None, "collections in memory have no snapshots"
    stem = f"{name}@{covered}"
    if sum(memoryview(chunk).nbytes for chunk in chunks) > free_space(opened.directory).spare:
        return False  # what only saves time must not take what deletes and checkpoints need
    try:
        if stem in opened.catalog.snapshots():
            opened.catalog.drop_snapshot(stem)  # what it names is about to be another file
        crc = _published(opened.files, opened.directory, stem, chunks)
        old = [known for known in opened.catalog.snapshots() if known.rpartition("@")[0] == name and known != stem]
        opened.catalog.set_snapshot(stem, opened.catalog.last.seq, crc)
        for known in old:
            opened.catalog.drop_snapshot(known)
        snapshots.remove_old(opened.files, opened.directory, opened.catalog.snapshots())
    except (StorageFull, ReadOnly, CorruptData):
        return False
    return True


def _published(files: Files, directory: Path, stem: str, chunks: Sequence[bytes | memoryview]) -> int:
    """Write a snapshot; gives its CRC32C."""
    file = files.open(snapshots.publish(files, directory, stem, chunks), read_only=True)
    try:
        return snapshots.sum_of(file)
    finally:
        file.close()


def row_widths(name: str, spec: Dense | Multi) -> dict[str, int]:
    """Row files of a field and the bytes of one row in each."""
    if isinstance(spec, Dense):
        return {vector_file(name): spec.row_bytes}
    return token_files(name, spec)


def miscounted(schema: Schema, counts: Mapping[str, int], rows: int) -> Iterator[str]:
    """What is wrong with the numbers of rows that a catalogue of so many slots knows of its files, in words."""
    known = {file for name, spec in schema.fields.items() for file in row_widths(name, spec)}
    for file in sorted(counts.keys() - known):
        yield f"it counts rows of {file!r}, which is no file of the collection"
    for name, spec in schema.fields.items():
        file = vector_file(name) if isinstance(spec, Dense) else list(token_files(name, spec))[1]  # one row per slot
        if counts.get(file, 0) != rows:
            yield f"it counts {counts.get(file, 0)} rows of {file!r}, where there are {rows} slots"


def _make(files: Files, directory: Path | None, name: str, width: int) -> RowFile:
    if directory is None:
        return RowFile.in_memory(width)
    return RowFile.create(files, directory / name, width)


def _field(name: str, spec: Dense | Multi, row_files: Mapping[str, Any]) -> FieldStore:
    if isinstance(spec, Dense):
        return DenseField(name, spec, row_files[vector_file(name)])
    return MultiField(name, spec, row_files)
