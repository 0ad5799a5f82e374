"""connect: one spelling for a folder, for memory and for a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vicinal.client import RemoteDatabase
    from vicinal.database import Database

__all__ = ["connect"]


def connect(target: str | Path, *, api_key: str | None = None, read_only: bool = False) -> Database | RemoteDatabase:
    """Open a database: a folder (made when missing), ":memory:", or "http://host:port".

    A folder has one writer or any number of read_only openers at a time; DatabaseLocked names the holder.
    """
    if isinstance(target, str) and target.startswith(("http://", "https://")):
        from vicinal.client import RemoteDatabase

        return RemoteDatabase(target, api_key=api_key)
    from vicinal.database import Database

    return Database(target, read_only=read_only)
