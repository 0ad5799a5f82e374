"""Graph or cells: what a dense field is laid out as, asked for or chosen from its size and the machine's memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from vicinal.codecs.frame import lines_of

__all__ = ["CELLS_FROM_ROWS", "Layout", "choose_layout", "graph_bytes", "memory_budget"]

CELLS_FROM_ROWS: Final = 2_000  # below, a scan of all stored rows is as fast
_SHARE: Final = 0.5  # of the machine's memory that a graph may take
_LINE, _HEAD_AND_LINKS = 64, 192
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


class Layout(NamedTuple):
    """`chosen`: graph or cells; `why`."""

    chosen: str
    why: str


def graph_bytes(n: int, dim: int) -> int:
    """Bytes of a graph of n rows at most: a code line, and a row of head, links and a byte per dimension."""
    return n * (_LINE + _HEAD_AND_LINKS + lines_of(dim))


def memory_budget() -> int:
    """Bytes that a graph may take: half of the memory of the machine or of its container, whichever is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 40
    try:
        limit = _CGROUP.read_text().strip()
    except OSError:
        limit = "max"
    return int(_SHARE * min(whole, int(limit) if limit.isdecimal() else whole))


def choose_layout(asked: str, n: int, dim: int, budget: int) -> Layout:
    """Give the layout for n rows: what was asked for; under `auto` a graph, unless it would not fit `budget` bytes."""
    if asked != "auto":
        return Layout(asked, "asked for")
    needed = graph_bytes(n, dim)
    said = f"a graph of {n} rows takes up to {needed >> 20} MiB, the budget is {budget >> 20} MiB"
    return Layout("graph" if needed <= budget else "cells", said)
