"""`python -m vicinal_server`: serve with the settings of the environment."""

from __future__ import annotations

import sys

from vicinal.errors import VicinalError
from vicinal_server.app import run
from vicinal_server.settings import load_settings

__all__ = ["main"]


def main() -> int:
    """Serve until stopped; 2 and one line on standard error when the settings are wrong."""
    try:
        run(load_settings())
    except VicinalError as error:
        print(f"vicinal_server: {error.message}", file=sys.stderr)  # noqa: T201  this is the command's output
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
