"""The service as users run it: `python -m vicinal_server` in a process of its own, on a loopback port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

__all__ = ["ServerProcess", "environment"]

_PATIENCE = 60.0


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """The environment of a server on `directory`, free of settings from outside."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VICINAL_")}
    named = {f"VICINAL_{name.upper()}": value for name, value in settings.items()}
    return {**inherited, "VICINAL_DIR": str(directory), **named}


class ServerProcess:
    """Started on entry and answering; killed on exit if it still runs. `log` is what it wrote."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.port = _free_port()
        self._log = directory.parent / f"{directory.name}.log"
        self._environment = environment(directory, port=str(self.port), **settings)
        self._process: subprocess.Popen[bytes] | None = None
        headers = {"api-key": settings["api_key"]} if "api_key" in settings else {}
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=30
        )

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "vicinal_server"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        """Everything written so far."""
        return self._log.read_text("utf-8")

    def end(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end, return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(_PATIENCE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
