"""Run test files again as they would run on another processor: kernels are compiled there for its instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["run_again_on"]

_ROOT = Path(__file__).parents[2]


def run_again_on(
    name: str, cache: Path, *files: str | Path, picked: str = "not other_bodies", timeout: float = 115
) -> None:
    """Run the picked tests of some files in a fresh process for a processor by LLVM's name; fail with its output.

    cache: an empty folder for its kernels. `picked` must leave out the test that calls this.
    """
    if os.uname().machine != "x86_64":
        pytest.skip("the bodies differ on x86-64 only")
    environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "", "VICINAL_CACHE_DIR": str(cache)}
    call = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", "-k", picked]
    done = subprocess.run(
        [*call, *map(str, files)],
        check=False,
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
