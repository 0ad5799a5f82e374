"""The real service on a loopback port, in a thread: for clients that open sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

import vicinal
from vicinal_server.app import create_app
from vicinal_server.settings import load_settings

__all__ = ["listening"]


@contextmanager
def listening(folder: Path | None = None) -> Iterator[str]:
    """Yield the service's address; it stops, and its database, in memory or a folder, closes with the block."""
    with vicinal.connect(folder or ":memory:") as database, socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        app = create_app(load_settings(dir=folder or Path("unused")), database)
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="listening")
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
