"""What SQLite's log (WAL) should hold: damage in it looks like the end of a crash, and would be taken for one.

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest, which is right after a crash:
the rest is of one transaction, as each is synced before the next begins. Where a later frame follows the end of a
transaction in that rest, bytes changed that were synced, and acknowledged commits would be lost in silence. A head of a
frame that a crash left half, or as garbage, ends none: it names pages that the file cannot have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from vicinal.errors import CorruptData
from vicinal.storage.files import Files

__all__ = ["check_log", "frames"]

_HEAD: Final = 32
_FRAME_HEAD: Final = 24


def frames(files: Files, path: Path) -> list[bool | None]:
    """Whether each frame of a catalogue's log ends a transaction; None: left from before the log began anew.

    Only while SQLite does not have the catalogue open.
    """
    log = path.with_name(path.name + "-wal")
    if not files.exists(log):
        return []
    file = files.open(log, read_only=True)
    try:
        head = file.pread(_HEAD, 0)
        step = _FRAME_HEAD + int.from_bytes(head[8:12], "big")
        if len(head) < _HEAD or not 512 <= step <= _FRAME_HEAD + 65536:
            return []
        starts = range(_HEAD, file.size() - step + 1, step)
        most = len(starts) + path.stat().st_size // (step - _FRAME_HEAD) + 1  # pages that the catalogue can have
        heads = (file.pread(_FRAME_HEAD, at) for at in starts)
        return [_ends(one, most) if one[8:16] == head[16:24] else None for one in heads]
    finally:
        file.close()


def _ends(head: bytes, most: int) -> bool:
    """Whether a frame's head says that it ends a transaction: which page it is of, and how many there are then."""
    page, pages = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    return 0 < page <= pages <= most


def check_log(connection: apsw.Connection, path: Path, found: list[bool | None]) -> None:
    """CorruptData when commits stand behind the frame at which SQLite stopped to read the log."""
    if True not in found:
        return
    read = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
    rest = [ends for ends in found[max(read, 0) :] if ends is not None]
    if True in rest[:-1]:
        log = f"{path}-wal"
        raise CorruptData(
            f"{log}: frame {read} does not match its checksum, and commits follow it; put the file back as it was, or "
            "restore the collection from a backup",
            field=log,
            value=read,
        )
