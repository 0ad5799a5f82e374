"""Recall against QPS, one thread, one query per call; build time beside it."""

from __future__ import annotations

import argparse
from typing import Any

from bench.rounds import measured

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure ours and the rivals."""
    return measured(options, threads=1)
