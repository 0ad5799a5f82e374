"""What this process may still use: memory of the machine, of its control groups and limits, space of a file system.

Control groups (version 1 and 2) are what containers are limited by; reaching the limit kills the process. Pages of
files count as used there, and are given back on demand, so they count as free here. The process's own limits
(`ulimit -v`, `ulimit -d`) make allocations fail.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Space", "free_memory", "free_space"]

_KIB: Final = 1024
_GROUPS: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 1 << 60
_RESERVE_MAX: Final = 64 << 20
_RESERVE_SHARE: Final = 20  # part of a file system that stays free
_LIMITS: Final = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))  # and what counts towards them


class Space(NamedTuple):
    """Bytes of a file system: all of it, and what this user may still write."""

    total: int
    free: int

    @property
    def reserve(self) -> int:
        """What stays free for deletes, the log and its checkpoint."""
        return min(_RESERVE_MAX, self.total // _RESERVE_SHARE)

    @property
    def spare(self) -> int:
        """What is free beside the reserve; below 0 when some of that is taken."""
        return self.free - self.reserve


def free_space(path: Path) -> Space:
    """The file system that holds `path`, which exists."""
    told = os.statvfs(path)
    return Space(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize)


def free_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = _GROUPS, own: Path | None = None) -> int:
    """Bytes that this process may allocate before the kernel refuses, or has to kill somebody; huge if unknown.

    The paths are for tests; `own` is the list of the process's groups.
    """
    least = _below_limits()
    machine = _numbers(meminfo)
    if "MemAvailable" in machine:
        least = min(least, machine["MemAvailable"] * _KIB)
    for group in _groups(groups, own or Path("/proc/self/cgroup")):
        least = min(least, _left(group))
    return max(least, 0)


def _below_limits() -> int:
    """Bytes below the limits that the process itself runs under."""
    limits = [(resource.getrlimit(limit)[0], name) for limit, name in _LIMITS]
    limited = [(most, name) for most, name in limits if most != resource.RLIM_INFINITY]
    used = _numbers(Path("/proc/self/status")) if limited else {}
    return min((most - used[name] * _KIB for most, name in limited if name in used), default=_UNLIMITED)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """The directories of the groups that count this process's memory, up to the roots of what it sees of them."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        directory = top / name.lstrip("/")
        while True:
            if directory.is_dir():
                yield directory
            if directory == top or top not in directory.parents:
                break
            directory = directory.parent


def _left(group: Path) -> int:
    """Bytes below the limit of one group, pages of files aside."""
    for limit, used, file, shared in (
        ("memory.max", "memory.current", "file", "shmem"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),
    ):
        try:
            most, now = (group / limit).read_text().strip(), int((group / used).read_text())
        except (OSError, ValueError):
            continue
        if not most.isdecimal() or int(most) >= _UNLIMITED:
            return _UNLIMITED
        told = _numbers(group / "memory.stat")
        return int(most) - now + told.get(file, 0) - told.get(shared, 0)
    return _UNLIMITED


def _numbers(path: Path) -> dict[str, int]:
    """The first number behind each name of a file of such lines."""
    found: dict[str, int] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, rest = line.replace(":", " ").partition(" ")
        number = rest.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0])
    return found
