"""Looking after collections, /v1: compaction, verification, backups in `DIR/backups`. No request names a path."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from vicinal.errors import AlreadyExists, CorruptData, FormatTooNew, InvalidArgument, NotFound
from vicinal.limits import NAME_PATTERN
from vicinal.storage.files import Files
from vicinal_server.errors import Damaged
from vicinal_server.native import models
from vicinal_server.native.routes import COLLECTION, parsed, replied, service_of
from vicinal_server.native.schemas import described

__all__ = ["router"]

router: Final = APIRouter()
_BACKUPS: Final = "/v1/backups"
_SUFFIX: Final = ".tar"


@router.post(COLLECTION + "/compact", **described("give back the space of dead slots", models.Compact, "Compacted"))
async def compact(request: Request, c: str) -> Response:
    """Rewrite a collection without its dead slots; reads and writes go on."""
    service = service_of(request)
    await parsed(request, models.Compact)

    def call() -> int:
        try:
            return int(service.database.collection(c).compact())
        except CorruptData as error:
            message = f"collection {c!r} is damaged and was left as it is: POST /v1/collections/{c}/verify says where"
            raise Damaged(message, field="collection", value=c) from error

    freed = await service.wait(call)
    return replied(request, {"freed": freed})


@router.post(COLLECTION + "/verify", **described("check a collection in depth", models.Verify, "Report"))
async def verify(request: Request, c: str) -> Response:
    """Compare all of a collection with its checksums, and its indexes with what must hold of them."""
    service = service_of(request)
    await parsed(request, models.Verify)
    return replied(request, await service.wait(lambda: asdict(service.database.collection(c).verify())))


@router.post("/v1/verify", **described("check collections in depth", models.VerifyAll, "Reports"))
async def verify_all(request: Request) -> Response:
    """The same for several collections, all by default; one that cannot be opened has a report too."""
    service, body = service_of(request), await parsed(request, models.VerifyAll)
    reports = await service.wait(lambda: service.database.verify(body.collections))
    return replied(request, {"reports": [asdict(report) for report in reports]})


@router.get(_BACKUPS, **described("list the backups", answer="Backups"))
async def backups(request: Request) -> Response:
    """Names and sizes of the archives in DIR/backups."""
    service = service_of(request)
    folder = service.settings.dir / "backups"

    def call() -> dict[str, Any]:
        found = sorted(path for path in folder.glob("*" + _SUFFIX) if re.fullmatch(NAME_PATTERN, path.stem))
        return {"backups": [{"name": path.stem, "bytes": path.stat().st_size} for path in found]}

    return replied(request, await service.read(call))


@router.put(_BACKUPS + "/{b}", **described("back collections up", models.Backup, "BackedUp", status=201))
async def backup(request: Request, b: str) -> Response:
    """Write DIR/backups/{b}.tar while the collections are in use; 409 when it exists."""
    service, body = service_of(request), await parsed(request, models.Backup)
    path = _path(service.settings.dir, b)

    def call() -> dict[str, Any]:
        Files().mkdir(path.parent)  # with errors of ours
        try:
            told = service.database.backup(path, body.collections)
        except CorruptData as error:
            message = "a collection is damaged, so there is no backup: POST /v1/verify says which"
            raise Damaged(message, field="collections", value=body.collections) from error
        except AlreadyExists as error:
            raise AlreadyExists(f"backup {b!r} exists: choose another name", field="name", value=b) from error
        return {"name": b, "bytes": told.bytes, "collections": dict(told.collections)}

    return replied(request, await service.wait(call), 201)


@router.delete(_BACKUPS + "/{b}", **described("remove a backup", answer="Removed"))
async def remove(request: Request, b: str) -> Response:
    """Remove an archive from DIR/backups."""
    service = service_of(request)
    path = _existing(service.settings.dir, b)
    await service.write(path.unlink, missing_ok=True)
    return replied(request, {"removed": b})


@router.post(_BACKUPS + "/{b}/restore", **described("restore collections", models.Restore, "Restored"))
async def restore(request: Request, b: str) -> Response:
    """Add collections of DIR/backups/{b}.tar, after everything in it was verified; 409 when a name is taken."""
    service, body = service_of(request), await parsed(request, models.Restore)
    path = _existing(service.settings.dir, b)

    def call() -> dict[str, Any]:
        try:
            return {"restored": service.database.restore(path, body.collections)}
        except (CorruptData, FormatTooNew) as error:
            message = error.message.replace(str(path.parent), "backups")
            raise InvalidArgument(message, field="backup", value=b) from error

    return replied(request, await service.wait(call))


def _path(directory: Path, name: str) -> Path:
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidArgument(f"a backup's name matches {NAME_PATTERN}", field="name", value=name, limit=NAME_PATTERN)
    return directory.absolute() / "backups" / (name + _SUFFIX)  # as errors hide paths in full


def _existing(directory: Path, name: str) -> Path:
    path = _path(directory, name)
    if not path.is_file():
        raise NotFound(f"no backup {name!r}", field="name", value=name)
    return path
