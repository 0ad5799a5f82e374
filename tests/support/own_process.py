"""Run a function in a process of its own: what SQLite's VFS layers bind to is fixed once per process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["run_alone"]

_ROOT = Path(__file__).parents[2]


def run_alone(function: Callable[..., None], *arguments: int | str, timeout: float = 600) -> str:
    """Call a module-level function there with `arguments`; fail with its output when it raises."""
    source = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r})\n"
        f"from {function.__module__} import {function.__name__} as f\n"
        f"f(*{arguments!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", source],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=_ROOT,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
