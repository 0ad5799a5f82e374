"""Recall against QPS of each engine's own batch call on `--threads` threads."""

from __future__ import annotations

import argparse
from typing import Any

from bench.rounds import measured

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; engines without a batch call are left out with their reason."""
    return measured(options, threads=options.threads)
