"""Filters that ask for values between two bounds, where one sorted column holds all that there are.

The slots that match are then one stretch of the column's order. Finding its ends at each query takes less than looking
a bitmap up, and makes no array.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.columns import Columns
from vicinal.filter.membership import Between
from vicinal.filter.model import KeyCondition
from vicinal.filter.normal import Leaf, Node
from vicinal.filter.probes import is_complement, probes
from vicinal.filter.sealed import Sealed
from vicinal.filter.values import Picture

__all__ = ["Kernels", "Stretch", "stretch_kernels", "stretch_of"]

_MOST: Final = (1 << 63) - 1
_LEAST: Final = -_MOST - 1


class Stretch(NamedTuple):
    """A question to a sorted column: `at` is the address of what the kernels read of it (see `stretch_kernels`).

    order: the slots by value. `sealed` and `fields` are what must stay where it is.
    """

    at: int
    order: NDArray[np.uint32]
    sealed: Sealed
    fields: NDArray[np.int64]


class Kernels(NamedTuple):
    """What reads stretches, by address.

    find: (at, where to put the address of the first slot) to how many there are. mark: (at, first, count, words, lines
    of eight words to fill). narrow: (words, others, how many words) leaves what is in both sets and gives how many.
    """

    find: Callable[[int, int], int]
    mark: Callable[[int, int, int, int, int], None]
    narrow: Callable[[int, int, int], int]


@cache
def stretch_kernels() -> Kernels:
    """Imported with the first stretch: numba is not needed before."""
    from vicinal.kernels import entry
    from vicinal.kernels.stretch import FIND, MARK, NARROW, find_stretch, mark_stretch, narrow

    return Kernels(entry(find_stretch, FIND), entry(mark_stretch, MARK), entry(narrow, NARROW))


def stretch_of(node: Node, columns: Columns, n: int) -> Stretch | None:
    """The stretch of the slots below n that satisfy a filter; None unless it is one."""
    if not isinstance(node, Leaf) or node.negated or not isinstance(node.condition, KeyCondition):
        return None
    found = [] if is_complement(node.condition) else probes(node.condition, columns)
    if len(found) != 1:
        return None
    values, question = found[0]
    if not isinstance(question, Between):
        return None
    picture = values.picture
    sealed = picture.sealed
    if not isinstance(sealed, Sealed) or not sealed.ordered.single or not _end(picture) <= sealed.stop <= n:
        return None
    values.asked += 1
    return _stretch(sealed, question)


def _end(picture: Picture) -> int:
    """One beyond the last slot with a value."""
    last = int(picture.slots[picture.pairs - 1]) + 1 if picture.pairs else 0
    return max(picture.stop, last)


def _stretch(sealed: Sealed, question: Between) -> Stretch | None:
    from vicinal.kernels.stretch import KINDS, StretchFields

    keys, ordered = sealed.keys, sealed.ordered
    kind = KINDS.get(keys.dtype.str[1:])
    if kind is None or not (keys.flags.c_contiguous and ordered.order.flags.c_contiguous):
        return None
    low, high = _as_floats_sort(question) if keys.dtype.kind == "f" else _as_integers(question)
    fields = np.array(
        StretchFields(
            keys=keys.ctypes.data,
            kind=kind,
            size=keys.size,
            order=ordered.order.ctypes.data,
            ranks=ordered.ranks.ctypes.data,
            sets=len(ordered.ranks) - 1,
            kept=ordered.sets.ctypes.data,
            words=ordered.sets.shape[1],
            low=low,
            high=high,
        ),
        np.int64,
    )
    return Stretch(fields.ctypes.data, ordered.order, sealed, fields)


def _as_integers(question: Between) -> tuple[int, int]:
    """The bounds within 64 bits; contradictory ones where nothing lies between them."""
    low, high = question
    if low > min(high, _MOST) or high < _LEAST:
        return 1, 0
    return max(low, _LEAST), min(high, _MOST)


def _as_floats_sort(question: Between) -> tuple[int, int]:
    """The bounds as integers that sort as floats do; zeros of both signs lie between zeros."""
    return _sorting(question.low or -0.0), _sorting(question.high or 0.0)


def _sorting(value: Any) -> int:
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return int(bits) if bits >= 0 else int(bits) ^ _MOST
