"""Run a function in a process of its own: what SQLite's VFS layers bind to is fixed once per process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["run_alone", "scratch_folder"]

_ROOT = Path(__file__).parents[2]


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed with its `with`, in memory where there is such a place.

    Power loss is simulated, and a killed process leaves the page cache, so real syncs would only cost time.
    """
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


def run_alone(
    function: Callable[..., None], *arguments: int | str, timeout: float = 600, launcher: Sequence[str] = ()
) -> str:
    """Call a module-level function there with `arguments`; fail with its output when it raises.

    `launcher`: a command that runs the command behind it.
    """
    source = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r})\n"
        f"from {function.__module__} import {function.__name__} as f\n"
        f"f(*{arguments!r})\n"
    )
    done = subprocess.run(
        [*launcher, sys.executable, "-X", "faulthandler", "-c", source],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=_ROOT,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
