"""A control group whose memory is limited, for one process of a test; a container is limited by such a one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["launcher", "limit_file", "memory_group"]

_GROUPS: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = ("memory.max", "memory.limit_in_bytes")  # of version 2 and 1


def limit_file(group: Path) -> Path:
    """Where the limit of a group is written."""
    return next(group / name for name in _LIMITS if (group / name).exists())


@contextmanager
def memory_group(nbytes: int) -> Iterator[Path | None]:
    """A group below that of this process, limited to `nbytes`; None where this process may not make one."""
    group = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers in {"", "memory"}:
            made = _made(_GROUPS / controllers / name.lstrip("/") / "vicinal-test", nbytes)
            group = group or made
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _made(group: Path, nbytes: int) -> Path | None:
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        limit_file(group).write_text(str(nbytes))
    except (OSError, StopIteration):
        _remove(group)
        return None
    return group


def _remove(group: Path) -> None:
    """Remove a group whose process has just ended."""
    for _ in range(50):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def launcher(group: Path) -> list[str]:
    """The words before a command that is to run in the group."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
