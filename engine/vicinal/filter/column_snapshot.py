"""Columns as bytes, without what is sorted of them, framed by `packing`.

The words name the salt, the number of slots, the commit, and per path the dictionary and what there is of each kind:
its name, dense values, pairs. The arrays are the stale slots, then per kind dense values, presence bits, slots and
values of the pairs. They are compared with the words, and codes with their dictionary, before anything is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import clear_beyond, word_count
from vicinal.errors import CorruptData
from vicinal.filter.columns import LADDERS, SALT_SIZE, Column, Columns, Kind, Tag
from vicinal.filter.values import Picture, Values
from vicinal.limits import SLOTS_MAX
from vicinal.packing import pack_parts, unpack

__all__ = ["FORMAT", "Loaded", "decode", "encode"]

FORMAT: Final = 2
_MAGIC: Final = b"VICCOLUM"
_WHAT: Final = "snapshot of columns"


class Loaded(NamedTuple):
    """Columns as of commit `seq`, but for the payloads of the slots `stale`, which may be older."""

    columns: Columns
    seq: int
    stale: NDArray[np.uint32]


def encode(columns: Columns, seq: int, stale: NDArray[np.uint32]) -> list[bytes | memoryview]:
    """The columns as pieces of bytes to be written one after another; readers and the writer go on meanwhile."""
    n, table = columns.pictures()
    arrays: list[NDArray[Any]] = [stale.astype("<u4")]
    described = []
    for path, codes, kinds in table:
        parts = []
        for kind, p in kinds:
            present = clear_beyond(p.present[: word_count(p.stop)].copy(), p.stop)
            arrays += [p.dense[: p.stop], present, p.slots[: p.pairs], p.extra[: p.pairs]]
            parts.append([kind.name, p.stop, p.pairs])
        described.append([path, codes, parts])
    about = {"salt": columns.salt.hex(), "n": n, "seq": seq, "columns": described}
    return pack_parts(_MAGIC, FORMAT, about, arrays)


def decode(buffer: memoryview) -> Loaded:
    """The columns, over the buffer's own memory; CorruptData or FormatTooNew if it does not hold any."""
    about, arrays = unpack(buffer, _MAGIC, FORMAT, _WHAT)
    try:
        return _columns(about, iter(arrays))
    except (ValueError, TypeError, KeyError, StopIteration, OverflowError) as error:
        message = f"{_WHAT}: {error}; they will be read from the payloads"
        raise CorruptData(message, field="columns") from error


def _columns(about: dict[str, Any], arrays: Iterator[NDArray[Any]]) -> Loaded:
    n, seq, salt = about["n"], about["seq"], bytes.fromhex(about["salt"])
    _check(type(n) is int and 0 <= n <= SLOTS_MAX and type(seq) is int and len(salt) == SALT_SIZE, "header")
    stale = _taken(arrays, "u4", None)
    _check(not stale.size or int(stale.max()) < n, "stale slots")
    table = {}
    for path, codes, parts in about["columns"]:
        column = Column(salt)
        column.learn(codes)
        _check(len(column.codes) == len(codes), f"dictionary of {path}")
        for kind_name, stop, pairs in parts:
            kind = Kind[kind_name]
            _check(type(stop) is int and 0 <= stop <= n, f"{kind_name} of {path}")
            dense = _taken(arrays, LADDERS[kind], stop)
            present = _taken(arrays, "u8", word_count(stop))
            slots, extra = _taken(arrays, "u4", pairs), _taken(arrays, (dense.dtype.str[1:],), pairs)
            picture = Picture(dense, present, stop, slots, extra, pairs, None)
            _check_picture(picture, n, _largest(kind, column), f"{kind_name} of {path}")
            column.kinds[kind] = Values.restored(picture, *LADDERS[kind])
        table[tuple(path)] = column
    _check(next(arrays, None) is None, "more arrays than columns")
    return Loaded(Columns.restored(salt, n, table), seq, stale)


def _taken(arrays: Iterator[NDArray[Any]], types: str | tuple[str, ...], count: int | None) -> NDArray[Any]:
    """The next array, which is of one of these types and has so many values."""
    found = next(arrays)
    allowed = (types,) if isinstance(types, str) else types
    fits = found.ndim == 1 and found.dtype.str[1:] in allowed and count in (None, found.size)
    _check(fits, f"an array of {found.dtype} {found.shape}")
    return found


def _largest(kind: Kind, column: Column) -> int | None:
    """The largest value that may be stored, None if any."""
    return {Kind.CODE: len(column.codes) - 1, Kind.TAG: Tag.TRUE}.get(kind)


def _check_picture(p: Picture, n: int, largest: int | None, where: str) -> None:
    slots = p.slots
    _check(p.pairs == 0 or (int(slots[-1]) < n and bool(np.all(slots[1:] >= slots[:-1]))), f"slots of {where}")
    _check(p.stop > 0 or p.pairs > 0, f"nothing in {where}")
    if largest is not None:
        for values in (p.dense, p.extra):  # what is not present is 0 in `dense`
            _check(values.size == 0 or int(values.max()) <= largest, f"values of {where}")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} cannot be")
