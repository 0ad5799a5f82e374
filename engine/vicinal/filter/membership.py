"""Questions asked of every value of a column at once: within bounds, one of, none of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.areas import Area

__all__ = ["Between", "NoneOf", "OneOf", "Question"]

_COMPARE_MAX = 16  # ranges compared one after another; beyond, a table or a sort is faster


class Between(NamedTuple):
    """low <= value <= high, both Python numbers, exact whatever the width of the column."""

    low: Any
    high: Any

    def __call__(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a value lies within."""
        low, high = self.low, self.high
        least: float
        most: float
        if values.dtype.kind != "f":
            info = np.iinfo(values.dtype)
            if low > high or low > info.max or high < info.min:
                return np.zeros(values.size, np.bool_)
            low, high = max(low, info.min), min(high, info.max)
            if low == info.min and high == info.max:
                return np.ones(values.size, np.bool_)
            least, most = info.min, info.max
        else:
            least, most = -math.inf, math.inf
        if low == high:
            return np.asarray(values == low)
        if low == least:
            return np.asarray(values <= high)
        if high == most:
            return np.asarray(values >= low)
        within = values >= low
        within &= values <= high
        return np.asarray(within)


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """The value is one of `listed`: sorted, distinct, of the column's widest dtype."""

    listed: NDArray[Any]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a value is listed."""
        integers = self.listed.dtype.kind != "f"
        breaks = np.flatnonzero(np.diff(self.listed) != 1) + 1 if integers else np.arange(1, self.listed.size)
        if breaks.size >= _COMPARE_MAX:
            return np.isin(values, self.listed)
        found = np.zeros(values.size, np.bool_)
        for run in np.split(self.listed, breaks):  # neighbouring integers
            if run.size:
                found |= Between(run[0].item(), run[-1].item())(values)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class NoneOf:
    """The value is none of `listed`."""

    listed: NDArray[Any]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a value is not listed."""
        found = OneOf(self.listed)(values)
        return np.logical_not(found, out=found)


Question = Between | OneOf | NoneOf | Area
