"""An observer that makes the n-th I/O call fail."""

from __future__ import annotations

import errno
import os
from typing import Literal

from vicinal.storage.files import IoCall

__all__ = ["FAULTS", "Fault", "FaultAt"]

Fault = Literal["EIO", "ENOSPC", "EINTR", "short"]
FAULTS: tuple[Fault, ...] = ("EIO", "ENOSPC", "EINTR", "short")


class FaultAt:
    """Fails call number `at` (from 0), once, or it and all later ones when `lasting`. Counts in `calls`.

    "short" lets a write transfer half of its bytes; other calls cannot be short and go through.
    """

    def __init__(self, at: int, fault: Fault, *, lasting: bool = False, reads: bool = True) -> None:
        self.at = at
        self.fault = fault
        self.lasting = lasting
        self.reads = reads
        self.calls = 0
        self.hit: IoCall | None = None

    def before(self, call: IoCall) -> int | None:
        if call.kind == "read" and not self.reads:
            return None
        number, self.calls = self.calls, self.calls + 1
        if number != self.at and not (self.lasting and number > self.at):
            return None
        self.hit = self.hit or call
        if self.fault == "short":
            return len(call.data) // 2 or None if call.kind == "write" else None
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code), call.path)
