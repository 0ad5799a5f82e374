"""What SQLite's log (WAL) should hold: damage in it looks like the end of a crash, and would be taken for one.

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest. After a crash that is right:
the rest is of one transaction, as each is synced before the next begins, and of what an earlier crash left, over which
it was written. Each checksum goes on from that of the frame before. So where a frame in the rest goes on from one that
ends a transaction, bytes changed that were synced, and acknowledged commits would be lost in silence. A head of a frame
that a crash left half, or as garbage, ends none: it names pages that the file cannot have.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from vicinal.errors import CorruptData
from vicinal.storage.files import Files, OpenFile

__all__ = ["Log", "check_log", "open_log"]

_HEAD: Final = 32
_FRAME_HEAD: Final = 24
_SUMS: Final = struct.Struct(">II")
_WORDS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # by the file's first word: the order of bytes that is summed

Sums = tuple[int, int]


class Log(NamedTuple):
    """An open log: its frames, and of each whether it ends a transaction; None: left from before it began anew."""

    file: OpenFile
    order: str
    step: int
    ends: list[bool | None]

    def goes_on(self, frame: int) -> bool:
        """Whether the next frame was written after this one, one of them perhaps damaged since."""
        if frame + 1 >= len(self.ends) or self.ends[frame + 1] is None:
            return False
        known = [self._said(frame)]
        if frame:
            known.append(self._summed(frame, self._said(frame - 1)))
        return self._said(frame + 1) in [self._summed(frame + 1, sums) for sums in known]

    def _said(self, frame: int) -> Sums:
        first, second = _SUMS.unpack(self.file.pread(8, _HEAD + frame * self.step + 16))
        return first, second

    def _summed(self, frame: int, sums: Sums) -> Sums:
        """The checksum of a frame that follows one with these."""
        content = self.file.pread(self.step, _HEAD + frame * self.step)
        content = content[:8] + content[_FRAME_HEAD:]
        first, second = sums
        for one, other in struct.iter_unpack(f"{self.order}II", content):
            first = (first + one + second) & 0xFFFFFFFF
            second = (second + other + first) & 0xFFFFFFFF
        return first, second


def open_log(files: Files, path: Path) -> Log | None:
    """The log of a catalogue, which SQLite does not have open yet; None without one, or without a head."""
    log = path.with_name(path.name + "-wal")
    if not files.exists(log):
        return None
    file = files.open(log, read_only=True)
    head = file.pread(_HEAD, 0)
    order = _WORDS.get(int.from_bytes(head[:4], "big"))
    step = _FRAME_HEAD + int.from_bytes(head[8:12], "big")
    if len(head) < _HEAD or order is None or not 512 <= step <= _FRAME_HEAD + 65536:
        file.close()
        return None
    starts = range(_HEAD, file.size() - step + 1, step)
    most = len(starts) + path.stat().st_size // (step - _FRAME_HEAD) + 1  # pages that the catalogue can have
    heads = (file.pread(_FRAME_HEAD, at) for at in starts)
    return Log(file, order, step, [_ends(one, most) if one[8:16] == head[16:24] else None for one in heads])


def _ends(head: bytes, most: int) -> bool:
    """Whether a frame's head says that it ends a transaction: which page it is of, and how many there are then."""
    page, pages = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    return 0 < page <= pages <= most


def check_log(connection: apsw.Connection, path: Path, log: Log | None) -> None:
    """CorruptData when a transaction stands behind the frame at which SQLite stopped to read the log. Closes it."""
    if log is None:
        return
    try:
        if True not in log.ends:
            return
        read = max(connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0], 0)
        if any(ends and log.goes_on(frame) for frame, ends in enumerate(log.ends[read:], start=read)):
            name = f"{path}-wal"
            raise CorruptData(
                f"{name}: frame {read} does not match its checksum, and commits follow it; put the file back as it "
                "was, or restore the collection from a backup",
                field=name,
                value=read,
            )
    finally:
        log.file.close()
