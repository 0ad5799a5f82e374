"""Exit 0 when the service of this container is ready, 1 otherwise; standard library only."""

from __future__ import annotations

import http.client
import os
import sys

__all__ = ["is_ready", "main"]

_SECONDS = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not listened on


def is_ready(host: str, port: int) -> bool:
    """Whether /readyz answers 200; it needs no key."""
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Ask the service that the environment describes."""
    host = os.environ.get("VICINAL_HOST", "127.0.0.1")
    return 0 if is_ready(host, int(os.environ.get("VICINAL_PORT", "6333"))) else 1


if __name__ == "__main__":
    sys.exit(main())
