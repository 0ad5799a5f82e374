"""Metrics that are functions of two rows, as addresses that the float walk calls (`distance.FUNCTION`).

A walk specialised to each function would cost seconds to compile in every process that registers one; a call by address
costs next to nothing beside the function, and one cached walk serves every function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numba import carray, types
from numba.core.dispatcher import Dispatcher

from vicinal.kernels import cfunc
from vicinal.kernels.simd import get_f32

__all__ = ["EARTH_KM", "FAR", "compiled", "haversine_function", "jitted", "l1_function"]

EARTH_KM: Final = 6371.0088  # mean radius (IUGG)
FAR: Final = np.float32(np.finfo(np.float32).max)  # the distance of a pair that has none
_BY_ADDRESS: Final = types.float32(types.intp, types.intp, types.intp)
_BY_POINTER: Final = types.float32(types.CPointer(types.float32), types.CPointer(types.float32), types.intp)
# sums may be reordered, so that they become vector instructions; nan and infinity keep their meaning
_LOOSE: Final = {"reassoc", "contract", "arcp", "nsz"}


def _l1(query, row, dim):
    x, y, total = carray(query, (dim,)), carray(row, (dim,)), np.float32(0)
    for i in range(dim):
        total += abs(x[i] - y[i])
    return total


def _haversine(query, row, dim):  # noqa: ARG001 - dim is 2
    """Great-circle distance of (latitude, longitude) pairs in degrees, in km on a sphere (R. W. Sinnott, 1984)."""
    radian = math.pi / 180.0
    latitude, other = get_f32(query) * radian, get_f32(row) * radian
    across = (get_f32(query + 4) - get_f32(row + 4)) * radian
    half = math.sin((latitude - other) * 0.5) ** 2
    half += math.cos(latitude) * math.cos(other) * math.sin(across * 0.5) ** 2
    return np.float32(2.0 * EARTH_KM * math.asin(min(1.0, math.sqrt(half))))


def l1_function() -> Any:
    """The city block distance; `.address` is valid while the result lives."""
    return cfunc(_BY_POINTER, _l1, fastmath=_LOOSE)


def haversine_function() -> Any:
    """The great-circle distance in kilometres; `.address` is valid while the result lives."""
    return cfunc(_BY_ADDRESS, _haversine)


def jitted(function: Callable[..., Any]) -> Any:
    """A numba dispatcher of the function: itself when it is one already. No C callback, no ufunc, no thread pool."""
    if isinstance(function, Dispatcher):
        if function.targetoptions.get("parallel"):
            raise TypeError("it is compiled with parallel=True, whose threads cannot be entered from several searches")
        return function
    return numba.njit(nogil=True, error_model="numpy", fastmath=_LOOSE)(function)


def compiled(dispatcher: Any) -> Any:
    """A dispatcher of two float32 vectors by address; `.address` is valid while the result lives.

    Where it gives nan or infinity, or raises, the pair is FAR apart. Raises numba's errors when it does not compile.
    """

    def called(query, row, dim):
        try:
            found = np.float32(dispatcher(carray(query, (dim,)), carray(row, (dim,))))
        except Exception:  # noqa: BLE001 - numba knows no other
            return FAR
        return found if abs(found) <= FAR else FAR

    return numba.cfunc(_BY_POINTER, error_model="numpy")(called)
