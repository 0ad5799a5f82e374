"""What every engine for token matrices offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.multi.sets import MultiSet

__all__ = ["CANDIDATES", "MultiEngine"]

Floats = NDArray[np.float32]
CANDIDATES = (10, 15, 25, 50, 100, 200, 300, 500, 1000, 2000, 5000)


class MultiEngine:
    """An engine under test: build, then `set` a setting and `query`. Ids are numbers of documents.

    `package` is the distribution whose version is recorded.
    """

    package: ClassVar[str] = ""

    def build(self, data: MultiSet, folder: Path) -> None:
        """Index all documents; `folder` is for engines that keep their index in files and may reuse it."""
        raise NotImplementedError

    def settings(self, data: MultiSet, k: int) -> list[Any]:
        """The sweep from fast to accurate: candidates that are re-ranked."""
        return [count for count in CANDIDATES if k <= count < len(data.ends)] or [len(data.ends)]

    def set(self, setting: Any) -> None:
        """Take one setting of the sweep."""
        self.setting = setting

    def query(self, tokens: Floats, k: int) -> Any:
        """The k documents of largest MaxSim, best first."""
        raise NotImplementedError

    def bytes_used(self) -> int:
        """Bytes of everything that answering needs."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Further figures."""
        return {}

    def close(self) -> None:
        """Let go of files."""
