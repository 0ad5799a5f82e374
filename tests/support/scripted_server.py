"""A server on loopback that answers from a script and remembers what it was sent; no part of ours answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

__all__ = ["Answer", "ScriptedServer", "Seen", "scripted_server"]


class Seen(NamedTuple):
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Answer(NamedTuple):
    """What to say: a status, a body (msgpack unless bytes), headers; status 0 drops the connection."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


class ScriptedServer:
    """`answer` maps a request to its answer; `seen` holds every request in order of arrival."""

    def __init__(self, url: str, answer: Callable[[Seen], Answer]) -> None:
        self.url = url
        self.answer = answer
        self.seen: list[Seen] = []


@contextmanager
def scripted_server(answer: Callable[[Seen], Answer]) -> Iterator[ScriptedServer]:
    """Serve until the block ends."""

    class Talker(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            body = msgpack.unpackb(raw) if raw else None
            seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            script.seen.append(seen)
            said = script.answer(seen)
            if said.status == 0:
                self.close_connection = True
                return
            content = said.body if isinstance(said.body, bytes) else msgpack.packb(said.body)
            self.send_response(said.status)
            for name, value in {"content-type": "application/msgpack", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  names given by http.server

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Talker)
    script = ScriptedServer(f"http://127.0.0.1:{server.server_port}", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
