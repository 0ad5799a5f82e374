"""A server in a child process, for the demo: started, asked until it answers, killed without warning."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from vicinal.client import RemoteDatabase, Retries
from vicinal.errors import Unavailable

__all__ = ["ChildServer", "free_port"]

_PATIENCE: Final = 60.0  # seconds; a cold machine compiles before it answers
_POLL: Final = 0.05
_SHOWN: Final = 2000
_STOP_SECONDS: Final = 10.0


class ChildServer:
    """`vicinal serve` over `directory` on a loopback port; its log goes to `log`."""

    def __init__(self, directory: Path, log: Path, api_key: str) -> None:
        self._directory = directory
        self._log = log
        self._api_key = api_key
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> RemoteDatabase:
        """Start the server and return a client once it answers; raises Unavailable with its last words."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "vicinal.cli", "serve", str(self._directory), "--port", str(port)]
        # the key travels in the environment: arguments are seen by every user of the machine
        environment = {**os.environ, "VICINAL_API_KEY": self._api_key}
        environment.pop("VICINAL_API_KEY_FILE", None)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
        return self._answering()

    def _answering(self) -> RemoteDatabase:
        client = RemoteDatabase(self.url, api_key=self._api_key, retries=Retries(attempts=1))
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                client.list_collections()
            except Unavailable:
                time.sleep(_POLL)
                continue
            client.close()
            return RemoteDatabase(self.url, api_key=self._api_key)
        client.close()
        said = self._log.read_bytes()[-_SHOWN:].decode("utf-8", "replace").strip()
        raise Unavailable(f"the server did not start: {said or 'it said nothing'}", field="serve")

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL, nothing is finished or saved."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask the server to finish, and kill it when it does not within ten seconds."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def free_port() -> int:
    """Return a loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
