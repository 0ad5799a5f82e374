"""Filters over labels as sets of slots.

A filter is a function of a label, labels (an array of whole numbers, a list, set or range), a bool mask by label, a
`Bitmap`, or an expression (see `expressions`); or a list of those, one per query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask, bits_from_slots, word_count
from vicinal.filter.model import Filter
from vicinal.flat.expressions import is_expression, labels_that_match
from vicinal.flat.inputs import Refused, as_labels
from vicinal.flat.labels import MISSING
from vicinal.flat.picture import Picture
from vicinal.flat.points import Points
from vicinal.types import Bits

__all__ = ["Bitmap", "allowed_by", "filters_of_rows"]


_BITS_MAX: Final = 1 << 32  # half a gigabyte of words


class Bitmap:
    """A set of labels as bits: bit `label & 63` of `words[label >> 6]`; labels beyond the words are not in it."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        if not isinstance(words, np.ndarray) or words.dtype != np.uint64 or words.ndim != 1:
            raise Refused("a bitmap is a flat array of uint64 words", field="words", value=words, limit="uint64 (n,)")
        self.words = np.ascontiguousarray(words)

    @classmethod
    def from_labels(cls, labels: Any) -> Bitmap:
        """The set of these labels."""
        flat = as_labels(labels, "labels")
        if len(flat) and int(flat.max()) >= _BITS_MAX:
            raise Refused(
                f"a bitmap reaches to label {_BITS_MAX - 1}: filter by the labels themselves",
                field="labels",
                value=int(flat.max()),
                limit=_BITS_MAX - 1,
            )
        return cls(bits_from_slots(flat.astype(np.int64), int(flat.max()) + 1 if len(flat) else 0))

    @classmethod
    def from_mask(cls, mask: Any) -> Bitmap:
        """The set of the labels whose place in a bool mask is true."""
        return cls(bits_from_mask(np.asarray(mask, np.bool_)))

    def __contains__(self, label: int) -> bool:
        return 0 <= label >> 6 < len(self.words) and bool(int(self.words[label >> 6]) >> (label & 63) & 1)


_FORMS: Final = (Bitmap, Filter, Mapping, np.ndarray, Sequence, set, frozenset)


def filters_of_rows(filter: Any, rows: int) -> list[Any] | None:
    """The filters of `rows` queries when `filter` holds one for each, else None."""
    if isinstance(filter, np.ndarray) and filter.ndim == 2:
        return _counted(list(filter), rows)
    if not isinstance(filter, list | tuple) or not any(_is_filter(part) for part in filter):
        return None
    return _counted(list(filter), rows)


def _is_filter(part: Any) -> bool:
    """Whether a part of a list is a filter of its own and not a label."""
    return part is None or callable(part) or isinstance(part, _FORMS)


def _counted(filters: list[Any], rows: int) -> list[Any]:
    if len(filters) != rows:
        raise Refused(
            f"filter holds {len(filters)} filters for {rows} queries: pass one for all, or one for each",
            field="filter",
            value=len(filters),
            limit=rows,
        )
    return filters


def allowed_by(filter: Any, picture: Picture, points: Points) -> Bits | None:
    """The bits of the slots that are alive in the picture and match; None when all n may be returned."""
    if filter is None:
        return picture.alive
    if isinstance(filter, Bitmap):
        bits = _from_words(filter.words, picture)
    elif is_expression(filter):
        if (mask := labels_that_match(filter, picture.labels[: picture.n])) is None:
            return picture.alive
        bits = bits_from_mask(mask)
    elif callable(filter):
        bits = _from_function(filter, picture)
    elif (mask := _as_mask(filter)) is not None:
        bits = _from_mask(mask, picture)
    else:
        bits = _from_labels(as_labels(filter, "filter"), picture, points)
    if picture.alive is not None:
        bits &= picture.alive[: len(bits)]
    return bits


def _as_mask(filter: Any) -> NDArray[np.bool_] | None:
    """The filter as a mask if it is one."""
    if isinstance(filter, list) and filter and isinstance(filter[0], bool | np.bool_):
        return np.asarray(filter, np.bool_)
    mask = isinstance(filter, np.ndarray) and filter.ndim == 1 and filter.dtype == np.bool_
    return filter if mask else None


def _from_labels(labels: NDArray[np.uint64], picture: Picture, points: Points) -> Bits:
    now, slots = points.pinned(labels)
    if now.labels is picture.labels and now.n == picture.n:
        return bits_from_slots(slots[slots != MISSING], picture.n)
    # points were added since: the names lead to newer slots
    return bits_from_mask(np.isin(picture.labels[: picture.n], labels))


def _from_words(words: Bits, picture: Picture) -> Bits:
    n = picture.n
    if picture.plain:
        bits = np.zeros(word_count(n), np.uint64)
        shared = min(len(bits), len(words))
        bits[:shared] = words[:shared]
        if n & 63:
            bits[-1] &= np.uint64((1 << (n & 63)) - 1)
        return bits
    labels = picture.labels[:n]
    inside = labels < np.uint64(len(words) * 64)
    held = labels[inside]
    mask = np.zeros(n, np.bool_)
    mask[inside] = (words[held >> np.uint64(6)] >> (held & np.uint64(63))) & np.uint64(1)
    return bits_from_mask(mask)


def _from_mask(mask: NDArray[np.bool_], picture: Picture) -> Bits:
    n = picture.n
    by_slot = np.zeros(n, np.bool_)
    if picture.plain:
        shared = min(n, len(mask))
        by_slot[:shared] = mask[:shared]
    else:
        labels = picture.labels[:n]
        inside = labels < np.uint64(len(mask))
        by_slot[inside] = mask[labels[inside].astype(np.int64)]
    return bits_from_mask(by_slot)


def _from_function(filter: Callable[[int], bool], picture: Picture) -> Bits:
    """The answers for every label that is alive."""
    n = picture.n
    labels = picture.labels[:n].tolist()
    mask = np.zeros(n, np.bool_)
    if picture.alive is None:
        mask[:] = [bool(filter(label)) for label in labels]
        return bits_from_mask(mask)
    alive = np.unpackbits(picture.alive.view(np.uint8), count=n, bitorder="little")
    for slot in np.flatnonzero(alive).tolist():
        mask[slot] = bool(filter(labels[slot]))
    return bits_from_mask(mask)
