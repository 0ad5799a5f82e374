"""Proxies stand for token matrices where candidates for MaxSim are sought: what all kinds of them share.

A proxy index follows the points of a field in slot order. What it fits to them (centroids, features) is fitted again
when the field has grown fourfold, and all points are encoded anew; until that is done readers keep the old picture.
Proxies are derived: they can be built again from the stored tokens, and a lost snapshot costs time only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vicinal.types import TokenRows

__all__ = ["Near", "ProxyIndex", "ProxyPicture", "with_room"]

Near = tuple[NDArray[np.uint32], NDArray[np.float32]]
_GROWN: Final = 4
_CHUNK: Final = 256  # points between looks at `cancel`


class ProxyPicture(Protocol):
    """What readers see of the slots 0 .. n - 1; later changes do not touch it."""

    @property
    def n(self) -> int:
        """Slots that have a proxy."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of proxies and of what was fitted."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """What was measured and chosen, for `info`."""

    def nearest(self, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range) -> Near:
        """The `count` best of `slots`, each below n, by the proxies' estimate of MaxSim: slots and scores, best first.

        `query` (m, dim) float32, checked. Ties by the order of `slots`.
        """


P = TypeVar("P", bound=ProxyPicture)


class ProxyIndex(ABC, Generic[P]):
    """The proxies of one multi-vector field; written by one thread, read through pictures."""

    refits: bool = True

    def __init__(self) -> None:
        self._fitted_tokens = 0
        self._picture: P | None = None

    @property
    def n(self) -> int:
        """Watermark: slots 0 .. n - 1 have proxies."""
        return 0 if self._picture is None else self._picture.n

    @property
    def fitted_tokens(self) -> int:
        """How many tokens the field held when the proxies were fitted."""
        return self._fitted_tokens

    def picture(self) -> P | None:
        """The state for readers. None before the first points."""
        return self._picture

    def extend(self, rows: TokenRows, stop: int, cancel: Callable[[], bool] | None = None) -> None:
        """Give slots n .. stop - 1 proxies; all slots when they are fitted again.

        Stops early when `cancel` says so, between chunks: what is done so far is kept, except of a refit.
        """
        tokens = int(rows.ends[stop - 1]) if stop else 0
        if self._picture is None or (self.refits and self._stale(tokens)):
            fresh = self._fit(rows, stop)
            while fresh.n < stop:
                if cancel is not None and cancel():
                    return
                fresh = self._add(fresh, rows, min(fresh.n + _CHUNK, stop))
            self._fitted_tokens, self._picture = tokens, fresh
        while self._picture.n < stop and not (cancel is not None and cancel()):
            self._picture = self._add(self._picture, rows, min(self._picture.n + _CHUNK, stop))

    def _stale(self, tokens: int) -> bool:
        """Whether it is time to fit again, now that there are so many tokens."""
        return tokens >= _GROWN * max(self._fitted_tokens, 1)

    @abstractmethod
    def _fit(self, rows: TokenRows, stop: int) -> P:
        """A picture of no slot, fitted to the tokens of slots 0 .. stop - 1, of which there may be none."""

    @abstractmethod
    def _add(self, picture: P, rows: TokenRows, stop: int) -> P:
        """The picture with slots picture.n .. stop - 1 added, in the same arrays while they have room."""

    @abstractmethod
    def encode(self) -> bytes:
        """The proxies as bytes."""

    @abstractmethod
    def decode(self, buffer: memoryview | bytes, rows: TokenRows, slots: int) -> None:
        """Take what `encode` gave, for at most `slots` slots of these rows; CorruptData when it does not fit."""


def with_room(array: NDArray[Any], used: int, wanted: int) -> NDArray[Any]:
    """The array, or a larger one with its first `used` entries: readers keep the old one."""
    if wanted <= len(array):
        return array
    larger = np.zeros((max(wanted, len(array) + len(array) // 4), *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
