"""A file system of few MiB for one process alone: a tmpfs in a mount namespace of its own, which needs no privilege
where the system lets users have namespaces; elsewhere an observer that counts bytes and says that the disk is full.

Run as `python small_disk.py SIZE FOLDER COMMAND ...`: only a process without other threads may enter a namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vicinal.storage.files import IoCall

__all__ = ["Quota", "launcher", "mount_small"]

_NEWNS: Final = 0x00020000
_NEWUSER: Final = 0x10000000
_REC_PRIVATE: Final = 0x4000 | 0x40000


def mount_small(where: Path, size: int) -> bool:
    """Mount a tmpfs of `size` bytes over an empty directory, for this process and its children; False if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEWUSER | _NEWNS) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:
        return False
    if libc.mount(b"none", b"/", None, _REC_PRIVATE, None) != 0:
        return False
    options = f"size={size},mode=700".encode()
    return bool(libc.mount(b"tmpfs", os.fsencode(where), b"tmpfs", 0, options) == 0)


def launcher(where: Path, size: int) -> list[str]:
    """The words before a command that is to see a small disk at `where`."""
    return [sys.executable, __file__, str(size), str(where)]


class Quota:
    """An observer that lets files below a directory take `size` bytes in all, and then fails writes with ENOSPC."""

    def __init__(self, root: Path, size: int) -> None:
        self.root, self.size = root, size
        self._turn = threading.Lock()

    def before(self, call: IoCall) -> int | None:
        if call.kind == "write":
            with self._turn:
                used = sum(path.stat().st_blocks * 512 for path in self.root.rglob("*") if path.is_file())
                if used + len(call.data) > self.size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.path)
        return None


if __name__ == "__main__":
    mount_small(Path(sys.argv[2]), int(sys.argv[1]))
    os.execv(sys.argv[3], sys.argv[3:])
