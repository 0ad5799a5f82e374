"""The same database and collections over HTTP, sync and async.

`vicinal.connect("http://host:port")` gives a `RemoteDatabase`, `await vicinal.connect_async(...)` an
`AsyncDatabase`; both send the calls of `vicinal.client.calls` and raise the engine's own errors.
"""

from __future__ import annotations

from vicinal.client.conversation import Retries
from vicinal.client.remote import RemoteCollection, RemoteDatabase
from vicinal.client.remote_async import AsyncCollection, AsyncDatabase

__all__ = [
    "AsyncCollection",
    "AsyncDatabase",
    "RemoteCollection",
    "RemoteDatabase",
    "Retries",
    "connect_async",
]


async def connect_async(url: str, *, api_key: str | None = None, retries: Retries | None = None) -> AsyncDatabase:
    """Connect to a server; raises Unavailable or Unauthorized when it does not answer or refuses the key."""
    database = AsyncDatabase(url, api_key=api_key, retries=retries)
    try:
        await database.list_collections()
    except BaseException:
        await database.close()
        raise
    return database
