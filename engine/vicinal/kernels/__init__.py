"""Numba kernels: arrays and addresses in, arrays out; no classes, no I/O, no state.

Import a kernel from its module (`from vicinal.kernels.exact import ...`): nothing is imported here, so that a
short run compiles only what it calls. Kernels are declared with `njit` of this package, which is numba's with
our defaults and with a cache folder of our own.

numba's cache looks only at the file of the function it stores, so after an edit of a leaf in another file
it would return the old caller. The folder is therefore named after the version, the processor and a hash of
every file of this package: `<user cache>/vicinal/<version>-<processor>-<hash>`. `VICINAL_CACHE_DIR` replaces
`<user cache>/vicinal`. The folder belongs to the user alone (mode 0700: numba's cache files can run code);
one that cannot be written is copied to a private temporary folder, and without that nothing is cached. Processes that
fill it together take turns, which numba does not see to.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import IndexDataCacheFile

from vicinal import __version__
from vicinal.kernels import cpu

if sys.platform != "win32":
    import fcntl

__all__ = ["cache_folder", "cfunc", "entry", "njit"]


def _user_cache() -> Path:
    """The folder under which caches go: VICINAL_CACHE_DIR, NUMBA_CACHE_DIR or the system's habit."""
    chosen = os.environ.get("VICINAL_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        root = str(Path.home() / "Library/Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "vicinal"


def _source_hash() -> str:
    """Sixteen hex digits over the kernels' sources and the compilers' versions."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {config.CPU_FEATURES}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _is_trusted(folder: Path) -> bool:
    """Whether only this user or root can have put files there."""
    if sys.platform == "win32":
        return folder.is_dir()
    try:
        found = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022


@functools.cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, made if need be; None when nothing can be cached."""
    try:
        folder = _user_cache() / f"{__version__}-{cpu.NAME}-{_source_hash()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_trusted(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
        private = Path(tempfile.mkdtemp(prefix="vicinal-kernels-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        if _is_trusted(folder):
            shutil.copytree(folder, private, dirs_exist_ok=True)  # baked into an image, read-only
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return private


class _SharedFile(IndexDataCacheFile):
    """A function's index and data files, added to by one process at a time.

    numba reads the index, chooses the next free name and writes both files; two processes at once would choose the
    same name, and one signature would be answered by the code of another.
    """

    def save(self, key: Any, data: Any) -> None:
        """Save one signature's code."""
        with _alone(Path(self._cache_path)):
            super().save(key, data)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from adding to a cache folder, where the system can."""
    if sys.platform == "win32":
        yield
        return
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _shared(made: Any) -> Any:
    """Let a function that is cached be saved by one process at a time."""
    file = getattr(made._cache, "_cache_file", None)  # noqa: SLF001 - numba has no other door to it
    if file is not None:
        file.__class__ = _SharedFile
    return made


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate with numba's `njit`: nogil, cache, no bounds checks and C's division; options override these.

    The cache folder is set only while the function is declared: other code's caches stay where they are.
    """
    if function is None:
        return functools.partial(njit, **options)
    with _our_cache() as cached:
        settings = {"nogil": True, "cache": cached, "boundscheck": False, "error_model": "numpy"}
        return _shared(numba.njit(**(settings | options))(function))


def cfunc(signature: Any, function: Callable[..., Any], **options: Any) -> Any:
    """Compile now, or load, numba's `cfunc` of a signature, with the cache folder of `njit`."""
    with _our_cache() as cached:
        return numba.cfunc(signature, cache=cached, error_model="numpy", **options)(function)


def entry(function: Any, signature: tuple[Any, ...]) -> Callable[..., Any]:
    """Compile a kernel for one signature and give what numba would choose: a call costs half.

    Nothing looks at the arguments any more but for their kind: the caller has checked dtype and strides.
    """
    compiled: Callable[..., Any] = function.compile(signature)
    return compiled


@contextlib.contextmanager
def _our_cache() -> Iterator[bool]:
    """Let what is declared meanwhile be cached in our folder; gives whether there is one."""
    folder = cache_folder()
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder or "")
    try:
        yield folder is not None
    finally:
        config.CACHE_DIR = before
