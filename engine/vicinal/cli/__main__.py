"""`python -m vicinal.cli` is `vicinal`."""

from __future__ import annotations

import sys

from vicinal.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
