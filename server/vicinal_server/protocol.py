"""uvicorn's HTTP protocol with a deadline and a size limit for the head of a request.

uvicorn waits for ever for the end of a request's headers (its issue 157) and keeps whatever arrives, so a few
hundred idle sockets would hold a server. Bodies have their own limits, in native/body.py.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES_MAX", "HEAD_SECONDS_MAX", "BoundedProtocol"]

HEAD_SECONDS_MAX: Final = 10.0
HEAD_BYTES_MAX: Final = 16 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head takes longer than HEAD_SECONDS_MAX or is over HEAD_BYTES_MAX."""

    head_seconds: float = HEAD_SECONDS_MAX

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that is already too large and not yet whole."""
        waiting = self._deadline is not None
        super().data_received(data)
        if waiting and self._deadline is not None:  # this chunk did not finish the head
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self._stop_clock()
                self.send_400_response(f"Request head over {HEAD_BYTES_MAX} bytes.")

    def on_message_begin(self) -> None:
        """Start the clock for this request."""
        super().on_message_begin()
        self._start_clock()  # a kept connection's next request

    def on_headers_complete(self) -> None:
        """Stop the clock: the head is here."""
        self._stop_clock()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count one header."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("request head too large")  # the parser turns this into a 400 and closes
        super().on_header(name, value)

    def _start_clock(self) -> None:
        self._stop_clock()
        self._head_bytes = 0
        self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
