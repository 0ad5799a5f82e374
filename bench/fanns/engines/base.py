"""What every engine of filtered search offers, and grids that several share."""
# ruff: noqa: ARG002 - not every engine needs all that it is given

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Dataset
from bench.fanns.columns import Predicate, Table
from bench.rivals.base import Floats, Unsupported

__all__ = ["EF", "Filtered", "Floats", "Line", "packed"]

Line = tuple[Any, ...]  # settings of ascending work and recall
EF: Line = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1000, 2000, 4000)


class Filtered:
    """An engine under test: build or open, then `set` a setting and `query`. Ids are row numbers.

    reuses: the engine of bench.rivals whose saved index it opens. saves: whether it can be saved with its attributes;
    shares: the engine whose saved index it opens, if not its own. alone: whether it builds on all cores each time, so
    that nothing else is built meanwhile. lines: its settings, each line ascending in work
    and recall. always: the setting timed in every cell beside the fastest, if any.
    """

    package: ClassVar[str] = ""
    reuses: ClassVar[str | None] = None
    saves: ClassVar[bool] = False
    shares: ClassVar[str | None] = None
    alone: ClassVar[bool] = False
    lines: ClassVar[tuple[Line, ...]] = ((None,),)
    always: ClassVar[Any] = None

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        """Index all rows with their attributes."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the built index into an empty folder."""
        raise Unsupported("cannot be saved")

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        """Read a saved index."""
        raise Unsupported("cannot be opened")

    def phrase(self, predicate: Predicate) -> Any:
        """The filter as the engine takes it, made outside the clock: text, SQL, a tree; never a bitmap."""
        return predicate

    def set(self, setting: Any) -> None:
        """Take one setting."""
        self.setting = setting

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        """Answer one query with one thread, its filter evaluated here: ids, nearest first."""
        raise NotImplementedError

    @property
    def builds(self) -> dict[str, float]:
        """Seconds of what was built later, by attribute."""
        return {}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of what was built later, by attribute."""
        return {}

    @property
    def nbytes(self) -> int | None:
        """Bytes of the index where the engine tells."""
        return None


def packed(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A bitmap, little bit order."""
    return np.packbits(mask, bitorder="little")
