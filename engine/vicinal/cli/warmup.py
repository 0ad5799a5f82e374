"""`vicinal warmup`: compile every kernel now instead of at the first query."""

from __future__ import annotations

import sys
import time

from vicinal.cli.kernels import announce_compilation
from vicinal.cli.output import JsonFlag, print_json

__all__ = ["warmup"]


def warmup(as_json: JsonFlag = False) -> None:
    """Compile all kernels into this user's cache; needed once per version and processor."""
    announce_compilation()
    began = time.perf_counter()
    from vicinal.kernels.warmup import warm

    timings = warm()
    total = time.perf_counter() - began
    if as_json:
        print_json({"kernels": dict(timings), "seconds": total})
        return
    for name, seconds in timings.items():
        sys.stdout.write(f"{seconds:7.2f} s  {name}\n")
    sys.stdout.write(f"{total:7.2f} s  in all\n")
