"""What the image asks and says: the health check tells the truth, and no address stands in its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.server_process import ServerProcess

DOCKER = Path(__file__).parents[2] / "docker"


def health(port: int, host: str) -> int:
    told = os.environ | {"VICINAL_PORT": str(port), "VICINAL_HOST": host}
    command = [sys.executable, str(DOCKER / "healthcheck.py")]
    return subprocess.run(command, env=told, check=False, timeout=30).returncode


def test_the_health_check_tells_the_truth(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", api_key="k" * 32) as server:
        assert health(server.port, "0.0.0.0") == 0
        assert health(server.port, "127.0.0.1") == 0
    assert health(server.port, "0.0.0.0") == 1


def test_no_address_is_written_down() -> None:
    for name in ("Dockerfile", "Dockerfile.dockerignore", "compose.yaml"):
        assert "://" not in (DOCKER / name).read_text("utf-8")


def test_the_image_runs_without_privileges() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    assert "\nUSER 10001:10001\n" in text
    assert text.index("USER 10001") < text.index("vicinal warmup") < text.index("\nCMD ")
    compose = (DOCKER / "compose.yaml").read_text("utf-8")
    for line in ("read_only: true", "no-new-privileges:true", "- ALL", '"127.0.0.1:6333:6333"'):
        assert line in compose
