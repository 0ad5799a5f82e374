"""Run the Dockerfile's own steps without docker, in a temporary folder, and prove that what they make works.

    python docker/check_steps.py

Every COPY, RUN, ENV, USER and WORKDIR is carried out with the image's absolute paths moved under a temporary
folder; then CMD is started with a key and without the right to write anything but its data, HEALTHCHECK is
asked until it says ready, points are inserted and found, and SIGTERM must end it with status 0. Steps that make
users are skipped; run as root, the server is nobody, or root without capabilities.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Image", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_MOVED = ("/source", "/opt", "/wheels", "/var/cache", "/data")
_SKIPPED = ("useradd ", "install --directory --owner=")  # these need root, and change the machine
_NOBODY = 65534
_START_SECONDS = 120.0


class Image:
    """What the instructions so far have made: files under `root`, the environment, the working folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(root / "home")}
        self.folder = root
        self.command: list[str] = []
        self.health: list[str] = []

    def moved(self, text: str) -> str:
        """`text` with the image's absolute paths moved under `root`."""
        names = "|".join(re.escape(name) for name in _MOVED)
        return re.sub(rf"(?<![\w./-])({names})(?=[/\s\"*]|$)", lambda found: f"{self.root}{found[1]}", text)

    def apply(self, word: str, rest: str) -> None:
        """Carry out one instruction."""
        if word == "FROM":
            self._check_python(rest)
        elif word == "WORKDIR":
            self.folder = Path(self.moved(rest))
            self.folder.mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            name, _, value = rest.partition("=")
            self.environment[name] = self.moved(value)
        elif word == "COPY":
            self._copy(shlex.split(rest))
        elif word == "RUN":
            self._run(rest)
        elif word == "CMD":
            self.command = [self.moved(part) for part in json.loads(rest)]
        elif word == "HEALTHCHECK":
            self.health = [self.moved(part) for part in json.loads(rest.partition(" CMD ")[2])]
        elif word not in ("USER", "VOLUME", "EXPOSE", "STOPSIGNAL"):
            raise SystemExit(f"check_steps does not know {word}")

    def _check_python(self, base: str) -> None:
        wanted = "{}.{}".format(*sys.version_info[:2])
        if not base.startswith(f"python:{wanted}-"):
            raise SystemExit(f"run this with the Python of {base}, not {wanted}")

    def _copy(self, parts: list[str]) -> None:
        from_stage = parts[0].startswith("--from=")
        *sources, target = parts[1:] if from_stage else parts
        place = Path(self.moved(target)) if target.startswith("/") else self.folder / target
        for source in sources:
            origin = Path(self.moved(source)) if from_stage else _ROOT / source
            if origin == place:
                continue
            if origin.is_dir():
                shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, place)

    def _run(self, line: str) -> None:
        if line.startswith(_SKIPPED):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"} | _pip_settings()
        subprocess.run(  # noqa: S602  the line is the Dockerfile's, and means a shell there too
            self.moved(line), shell=True, cwd=self.folder, env=self.environment | quiet, check=True
        )


def _pip_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines()]
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in found]


def _serve(image: Image) -> None:
    """Start CMD as the image would, use it, stop it."""
    home = image.root / "data"
    home.mkdir(exist_ok=True)
    key = secrets.token_urlsafe(32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"VICINAL_HOST": "127.0.0.1", "VICINAL_PORT": str(port), "VICINAL_API_KEY": key}
    environment = image.environment | told
    command, as_user = _unprivileged(image, home)
    server = subprocess.Popen(command, env=environment, cwd="/", **as_user)  # noqa: S603
    try:
        _wait_ready(server, image.health, environment)
        _use(f"http://127.0.0.1:{port}/v1/collections/check", key)
        server.send_signal(signal.SIGTERM)
        if server.wait(60) != 0:
            raise SystemExit(f"the server ended with status {server.returncode} on SIGTERM")
    finally:
        server.kill()
        server.wait()


def _unprivileged(image: Image, home: Path) -> tuple[list[str], dict[str, Any]]:
    """CMD, and how to start it so that it may write its data and its kernel cache only, as in the image."""
    image.root.chmod(0o755)
    for folder, _, _ in os.walk(image.root / "opt"):
        Path(folder).chmod(0o555)
    if os.getuid() != 0:
        return image.command, {}
    probe = [image.command[0], "-c", ""]
    try:
        subprocess.run(probe, check=True, user=_NOBODY, group=_NOBODY, extra_groups=[])  # noqa: S603
    except PermissionError:  # this Python lies in a private home: keep the user, but without its powers
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *image.command], {}
    for owned in (home, image.root / "var"):
        subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", str(owned)], check=True)  # noqa: S603, S607
    return image.command, {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


def _wait_ready(server: subprocess.Popen[bytes], health: list[str], environment: dict[str, str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(health, env=environment, check=False).returncode != 0:  # noqa: S603
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server did not become ready")
        time.sleep(0.2)


def _use(url: str, key: str) -> None:
    _call("PUT", url, key, {"dim": 2, "metric": "l2"})
    _call("POST", f"{url}/insert", key, {"ids": [1, 2], "vectors": [[0, 0], [3, 4]]})
    hits = _call("POST", f"{url}/query", key, {"vector": [0, 0], "k": 2})["hits"]
    if [(hit["id"], hit["score"]) for hit in hits] != [(1, 0.0), (2, 5.0)]:
        raise SystemExit(f"wrong answer: {hits}")


def _call(method: str, url: str, key: str, tree: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json", "api-key": key}
    request = urllib.request.Request(url, json.dumps(tree).encode(), headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  loopback, made above
        return json.load(answer)


def main() -> int:
    """Carry out the Dockerfile, then serve from what it made."""
    with tempfile.TemporaryDirectory(prefix="vicinal-image-") as name:
        image = Image(Path(name))
        for word, rest in _instructions((_ROOT / "docker" / "Dockerfile").read_text("utf-8")):
            began = time.monotonic()
            image.apply(word, rest)
            print(f"{time.monotonic() - began:6.1f} s  {word} {rest}", flush=True)
        try:
            _serve(image)
        finally:
            for folder, _, _ in os.walk(name):
                Path(folder).chmod(0o755)
    print("the steps work: ready, answered, stopped cleanly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
