"""Arrays that lie in mapped files: which do, and how this process lets go of their pages."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_mapped", "let_go", "pages_of"]


def pages_of(array: NDArray[Any]) -> mmap.mmap | None:
    """The map that an array is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array lies in a mapped file."""
    return pages_of(array) is not None


def let_go(array: NDArray[Any]) -> None:
    """Drop a mapped array's pages from this process; they are in the system's cache until others need the memory."""
    pages = pages_of(array)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
