"""The folder of compiled kernels."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from numba.core import config
from numba.core.caching import IndexDataCacheFile

import vicinal
from vicinal import kernels

LEAF = """
from numba.extending import intrinsic
from numba import types

@intrinsic
def leaf(typingctx):
    def gen(ctx, b, sig, args):
        return ctx.get_constant(types.int64, {})

    return types.int64(), gen
"""
CALLER = """
from vicinal.kernels import njit
from vicinal.kernels.leaf import leaf

@njit
def caller():
    return leaf()
"""
MAIN = """
import vicinal
vicinal.__path__ = [{!r}]
from vicinal.kernels.caller import caller
print(caller())
"""


def _fails(prefix: str) -> str:
    raise OSError(prefix)


@pytest.fixture(autouse=True)
def _fresh():
    kernels.cache_folder.cache_clear()
    yield
    kernels.cache_folder.cache_clear()


def _run(code: str, folder: Path, **environment: str) -> str:
    env = os.environ | {"VICINAL_CACHE_DIR": str(folder)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_folder_is_ours_alone_and_named_by_version_and_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("VICINAL_CACHE_DIR", str(tmp_path / "kept"))
    folder = kernels.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "kept"
    assert folder.name.startswith(f"{vicinal.__version__}-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_others_may_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("VICINAL_CACHE_DIR", str(tmp_path))
    folder = kernels.cache_folder()
    assert folder is not None
    folder.chmod(0o777)
    (folder / "planted").touch()
    kernels.cache_folder.cache_clear()
    other = kernels.cache_folder()
    assert other is not None
    assert other.parent != tmp_path
    assert not (other / "planted").exists()


def test_a_folder_that_cannot_be_written_is_copied(tmp_path, monkeypatch):
    monkeypatch.setenv("VICINAL_CACHE_DIR", str(tmp_path))
    folder = kernels.cache_folder()
    assert folder is not None
    (folder / "baked").touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    kernels.cache_folder.cache_clear()
    copy = kernels.cache_folder()
    assert copy is not None
    assert copy.parent != tmp_path
    assert (copy / "baked").exists()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_no_folder_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VICINAL_CACHE_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setattr("tempfile.mkdtemp", _fails)
    assert kernels.cache_folder() is None
    assert kernels.njit(lambda x: x + 1)(1) == 2


def test_declaring_a_kernel_leaves_numba_as_it_was():
    before = config.CACHE_DIR
    kernels.njit(lambda x: x + 1)
    assert before == config.CACHE_DIR


def test_editing_a_leaf_in_another_file_shows(tmp_path):
    """numba alone would go on returning the old value: it looks at the caller's file only."""
    copy = tmp_path / "copy" / "kernels"
    copy.mkdir(parents=True)
    here = Path(kernels.__file__).parent
    for name in ("__init__.py", "cpu.py"):
        (copy / name).write_text((here / name).read_text())
    (copy / "caller.py").write_text(CALLER)
    for value in (1, 2):
        (copy / "leaf.py").write_text(LEAF.format(value))
        for _ in range(2):  # compiled, then loaded
            assert _run(MAIN.format(str(copy.parent)), tmp_path / "cache") == str(value)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, "haswell True False False"),
        ({"NUMBA_CPU_NAME": "generic"}, "generic False False False"),
        ({"NUMBA_CPU_NAME": "znver4", "NUMBA_CPU_FEATURES": "-avx512vnni"}, "znver4 True True False"),
    ],
)
def test_the_features_of_a_named_processor(tmp_path, environment, expected):
    code = "from vicinal.kernels import cpu as c; print(c.NAME, c.HAS_AVX2, c.HAS_AVX512, c.HAS_VNNI)"
    assert _run(code, tmp_path, **environment) == expected


def test_importing_the_package_imports_neither_numba_nor_kernels(tmp_path):
    code = "import sys, vicinal; print(sorted({'numba', 'vicinal.kernels'} & set(sys.modules)))"
    assert _run(code, tmp_path) == "[]"


def test_signatures_saved_at_once_are_all_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("VICINAL_CACHE_DIR", str(tmp_path))
    made = [kernels.njit(_same) for _ in range(4)]  # as in four processes: nothing but the files is shared
    files = [one._cache._cache_file for one in made]
    read = type(files[0])._load_index

    def slowly(self):
        known = read(self)
        time.sleep(0.05)
        return known

    monkeypatch.setattr(IndexDataCacheFile, "_load_index", slowly)
    folder = Path(files[0]._cache_path)
    folder.mkdir(parents=True, exist_ok=True)
    threads = [threading.Thread(target=file.save, args=(number, f"code {number}")) for number, file in enumerate(files)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [files[0].load(number) for number in range(4)] == [f"code {number}" for number in range(4)]


def _same(x):
    return x
