from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from vicinal.kernels import warmup


def test_reports_every_kernel_and_its_seconds():
    said: list[str] = []
    seconds = warmup.warm(lambda name, _: said.append(name))
    assert said == list(seconds)
    assert {"scan_range", "scan_list", "insert", "search"} <= set(said)
    assert all(s >= 0 for s in seconds.values())


@pytest.mark.parametrize("kernel", ["scan_range", "scan_list", "search"])
def test_a_wrong_kernel_is_found(kernel, monkeypatch):
    def broken(*arguments):
        arguments[-1][:] = np.float32(0.5)
        return len(arguments[-1])

    monkeypatch.setattr(warmup, kernel, broken)
    with pytest.raises(warmup.KernelMismatch, match=kernel):
        warmup.warm()


@pytest.mark.full
@pytest.mark.parametrize(("name", "features"), [("haswell", ""), ("x86-64", "")])
def test_other_processors_agree_with_numpy(tmp_path, name, features):
    env = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "VICINAL_CACHE_DIR": str(tmp_path)}
    code = "from vicinal.kernels.warmup import warm; warm()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
