"""`vicinal warmup`: compile every kernel now instead of at the first query."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from vicinal.cli.kernels import announce_compilation
from vicinal.cli.output import JsonFlag, print_json
from vicinal.errors import VicinalError

__all__ = ["warmup"]


def warmup(
    everything: Annotated[bool, typer.Option("--all", help="Kernels of other dtypes and metrics too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compile the kernels into this user's cache; needed once per version and processor."""
    announce_compilation()
    began = time.perf_counter()
    from vicinal.warmup import KernelMismatch, warm

    try:
        timings = warm(None if as_json else _print_line, everything=everything)
    except KernelMismatch as mismatch:
        raise VicinalError(
            f"{mismatch}: do not use this installation; report it with the processor's name and numba's version",
            field="kernels",
        ) from mismatch
    total = time.perf_counter() - began
    if as_json:
        print_json({"kernels": timings, "seconds": total})
    else:
        _print_line("in all", total)


def _print_line(name: str, seconds: float) -> None:
    sys.stdout.write(f"{seconds:7.2f} s  {name}\n")
    sys.stdout.flush()
