"""Verify a collection in use: catalogue, checksums, snapshots, and what must hold of its indexes.

Everything that counts is read from its files. Reads and writes go on; indexes stand still while they are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vicinal.errors import VicinalError
from vicinal.generation import Generation
from vicinal.maintenance import Opened, miscounted
from vicinal.storage import snapshots
from vicinal.types import VerifyReport

__all__ = ["files_problems", "index_problems", "verify"]


def verify(name: str, generation: Generation) -> VerifyReport:
    """All that does not hold of a collection, in words."""
    opened = generation.opened
    with generation.writer.paused():  # so that all are of one commit
        view = generation.view
        sums = opened.catalog.row_sums()
    files = {file: rows for field in opened.fields.values() for file, rows in field.files.items()}
    problems = [*files_problems(opened)]
    problems += miscounted(opened.schema, {file: rows for file, (rows, _) in sums.items()}, view.n)
    read = opened.catalog.disk_bytes
    for file, (rows, expected) in sums.items():
        if file in files:
            problems += _raised(files[file].verify, expected, rows)
            read += rows * files[file].row_bytes
    if not problems and opened.catalog.living(view.seq) != view.alive:
        problems.append(f"{view.alive} points are found where the catalogue has {opened.catalog.living(view.seq)}")
    with generation.indexer.paused():
        problems += index_problems(opened, generation.view.n)
    return VerifyReport(name, tuple(problems), view.seq, view.alive, view.n, read)


def files_problems(opened: Opened) -> Iterator[str]:
    """What is wrong with catalogue and snapshots."""
    yield from _raised(opened.catalog.check, True)
    if opened.directory is None:
        return
    for stem, crc in opened.catalog.snapshot_sums().items():
        path = opened.directory / f"{stem}.snapshot"
        found = _raised(snapshots.load, opened.files, path, crc)
        if (
            found and opened.catalog.snapshot_sums().get(stem, -1) == crc
        ):  # else a newer one has taken its place meanwhile
            yield from (f"{problem}; it is made again by itself" for problem in found)


def index_problems(opened: Opened, n: int) -> Iterator[str]:
    """What does not hold of the indexes over n slots; nobody may change them meanwhile."""
    for name, field in opened.fields.items():
        yield from (f"field {name!r}: {problem}" for problem in field.problems(n))


def _raised(call: Callable[..., object], *arguments: object) -> list[str]:
    """The message of the error that a call raises, if it does."""
    try:
        call(*arguments)
    except VicinalError as error:
        return [error.message]
    return []
