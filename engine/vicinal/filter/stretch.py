"""Filters that ask for values between bounds, where sorted columns hold all that there are.

The slots that match are then stretches of a column's order, or all others. Finding their ends at each query takes less
than looking a bitmap up, and makes no array. Conditions that are such questions may be joined by `and` or by `or`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.filter.columns import Columns
from vicinal.filter.membership import Between, OneOf, Question
from vicinal.filter.model import KeyCondition
from vicinal.filter.normal import Leaf, Node
from vicinal.filter.ordered import Ordered
from vicinal.filter.probes import is_complement, probes
from vicinal.filter.sealed import Sealed
from vicinal.filter.values import Picture

__all__ = ["PAIRS_MOST", "Kernels", "Stretch", "stretch_kernels", "stretch_of"]

PAIRS_MOST: Final = 128  # of bounds in one question
_PARTS_MOST: Final = 8
_MOST: Final = (1 << 63) - 1
_LEAST: Final = -_MOST - 1


class Stretch(NamedTuple):
    """A question to sorted columns: `at` is the address of what the kernels read of it (see `stretch_kernels`).

    pairs: of bounds, whose slots can be read as a list; 0 where only bits tell them. parts: conditions that are joined,
    `either` by `or`; then `at` leads to their addresses. order: the slots by value, of the only condition, from the
    address `order_at`. `kept` is what must stay where it is.
    """

    at: int
    order: NDArray[np.uint32]
    order_at: int
    pairs: int
    parts: int
    either: bool
    kept: tuple[Any, ...]


class Kernels(NamedTuple):
    """What reads stretches, by address.

    find: (at, where to put the ends of each) to how many slots there are. copy: (at, ends, u32 list). mark: (at, ends,
    words, lines of eight words to fill). join: (at, parts, 1 if either will do, room for ends, words, as many to spare,
    lines) to how many there are. narrow: (words, others, how many words) leaves what is in both sets and gives how
    many.
    """

    find: Callable[[int, int], int]
    copy: Callable[[int, int, int], None]
    mark: Callable[[int, int, int, int], None]
    join: Callable[[int, int, int, int, int, int, int], int]
    narrow: Callable[[int, int, int], int]


@cache
def stretch_kernels() -> Kernels:
    """Imported with the first stretch: numba is not needed before."""
    from vicinal.kernels import entry, stretch

    return Kernels(
        entry(stretch.find_stretch, stretch.FIND),
        entry(stretch.copy_stretch, stretch.COPY),
        entry(stretch.mark_stretch, stretch.MARK),
        entry(stretch.join_stretches, stretch.JOIN),
        entry(stretch.narrow, stretch.NARROW),
    )


def stretch_of(node: Node, columns: Columns, n: int) -> Stretch | None:
    """The stretches of the slots below n that satisfy a filter; None unless it is made of some."""
    if isinstance(node, Leaf):
        parts = _leaf(node, columns, n)
        return parts[0] if len(parts) == 1 else _joined(parts, not node.negated)
    if node.kind == "least":
        return None
    each = [_leaf(part, columns, n) if isinstance(part, Leaf) else () for part in node.nodes]
    if any(len(parts) != 1 for parts in each):
        return None
    return _joined([part for (part,) in each], node.kind == "or")


def _joined(parts: Sequence[Stretch], either: bool) -> Stretch | None:
    """Several conditions; None for too many or none."""
    if not 0 < len(parts) <= _PARTS_MOST:
        return None
    table, first = np.array([part.at for part in parts], np.int64), parts[0]
    return Stretch(table.ctypes.data, first.order, first.order_at, 0, len(parts), either, (table, *parts))


def _leaf(node: Leaf, columns: Columns, n: int) -> Sequence[Stretch]:
    """The same of one condition: one, or of lists that may hold several values one for each; none if it is not so."""
    if not isinstance(node.condition, KeyCondition):
        return ()
    found = [] if is_complement(node.condition) else probes(node.condition, columns)
    if len(found) != 1:
        return ()
    values, question = found[0]
    picture = values.picture
    sealed = picture.sealed
    if not isinstance(sealed, Sealed) or not _end(picture) <= sealed.stop <= n:
        return ()
    questions: list[Question] = [question]
    if not sealed.ordered.single:
        # of a slot's values several may be asked for: it would be found as often
        if isinstance(question, OneOf) and question.listed.size <= _PARTS_MOST:
            questions = [Between(value, value) for value in question.listed.tolist()]
        elif not isinstance(question, Between) or question.low != question.high:
            return ()
    values.asked += 1
    parts = [_stretch(sealed, one, node.negated, n) for one in questions]
    return [part for part in parts if part is not None] if None not in parts else ()


def _end(picture: Picture) -> int:
    """One beyond the last slot with a value."""
    last = int(picture.slots[picture.pairs - 1]) + 1 if picture.pairs else 0
    return max(picture.stop, last)


def _stretch(sealed: Sealed, question: Question, inverted: bool, n: int) -> Stretch | None:
    from vicinal.kernels.stretch import KINDS, StretchFields

    keys, ordered = sealed.keys, sealed.ordered
    kind, bounds = KINDS.get(keys.dtype.str[1:]), _bounds(question, floats=keys.dtype.kind == "f")
    if kind is None or bounds is None or not (keys.flags.c_contiguous and ordered.order.flags.c_contiguous):
        return None
    run = None if ordered.single else _run(sealed, question)
    order_at = ordered.order.ctypes.data
    fields = np.array(
        StretchFields(
            keys=keys.ctypes.data,
            kind=kind,
            size=keys.size,
            order=order_at,
            ranks=ordered.ranks.ctypes.data,
            sets=len(ordered.ranks) - 1,
            kept=ordered.sets.ctypes.data,
            words=ordered.sets.shape[1] if run is None else run.size,
            run=0 if run is None else run.ctypes.data,
            bounds=bounds.ctypes.data,
            pairs=len(bounds),
            inverted=int(inverted),
            n=n,
        ),
        np.int64,
    )
    pairs = 0 if inverted else len(bounds)
    return Stretch(fields.ctypes.data, ordered.order, order_at, pairs, 1, either=False, kept=(sealed, fields, bounds))


def _run(sealed: Sealed, question: Question) -> NDArray[np.uint64] | None:
    """The bits of a stretch, where they are kept for themselves."""
    ordered: Ordered = sealed.ordered
    assert isinstance(question, Between), "lists are asked for one value"
    for span in sealed.spans(question).tolist():
        if tuple(span) in ordered.runs:
            return ordered.run_bits[ordered.runs.index(tuple(span))]
    return None


def _bounds(question: Question, *, floats: bool) -> NDArray[np.int64] | None:
    """Pairs of bounds as the keys sort; None where there are too many, or none that tell."""
    if isinstance(question, Between):
        asked = [question]
    elif isinstance(question, OneOf):
        listed = question.listed
        apart = np.ones(listed.size, np.bool_)
        if not floats:
            apart[1:] = np.diff(listed) != 1  # neighbouring integers are one stretch
        firsts = np.flatnonzero(apart)
        if not 0 < firsts.size <= PAIRS_MOST:
            return None
        lasts = np.append(firsts[1:], listed.size) - 1
        asked = [Between(*pair) for pair in zip(listed[firsts].tolist(), listed[lasts].tolist(), strict=True)]
    else:
        return None
    return np.array([_as_floats_sort(one) if floats else _as_integers(one) for one in asked], np.int64)


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
