"""Columns as bytes, without what is sorted of them; the file around them has the checksum (`storage.snapshots`).

    magic "VICCOLUM" | format u32 | length u32 of what follows | a JSON object, padded with blanks to 8 bytes | arrays

The object names the salt, the number of slots, the commit, and per path the dictionary and the arrays: dtype, dense
values, presence bits, slots and values of the pairs; each array begins at a multiple of 8 bytes. Little-endian.
Everything is compared with the bytes there are, and codes with their dictionary, before a column is answered from.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal.bits import clear_beyond, word_count
from vicinal.errors import CorruptData, FormatTooNew
from vicinal.filter.columns import LADDERS, SALT_SIZE, Column, Columns, Kind, Tag
from vicinal.filter.values import Picture, Values
from vicinal.limits import SLOTS_MAX

__all__ = ["FORMAT", "Loaded", "decode", "encode"]

FORMAT: Final = 1
_MAGIC: Final = b"VICCOLUM"
_HEAD: Final = struct.Struct("<8sII")
_ALIGN: Final = 8


class Loaded(NamedTuple):
    """Columns as of commit `seq`, but for the payloads of the slots `stale`, which may be older."""

    columns: Columns
    seq: int
    stale: NDArray[np.uint32]


def encode(columns: Columns, seq: int, stale: NDArray[np.uint32]) -> list[bytes | NDArray[Any]]:
    """The columns as pieces of bytes to be written one after another; readers and the writer go on meanwhile."""
    n, table = columns.pictures()
    arrays: list[NDArray[Any]] = [stale.astype("<u4")]
    described = []
    for path, codes, kinds in table:
        parts = []
        for kind, p in kinds:
            present = clear_beyond(p.present[: word_count(p.stop)].copy(), p.stop)
            arrays += [p.dense[: p.stop], present, p.slots[: p.pairs], p.extra[: p.pairs]]
            parts.append([kind.name, p.dense.dtype.str, p.stop, p.pairs])
        described.append([path, codes, parts])
    meta = {"salt": columns.salt.hex(), "n": n, "seq": seq, "stale": stale.size, "columns": described}
    text = orjson.dumps(meta)
    text += b" " * (-(_HEAD.size + len(text)) % _ALIGN)
    pieces: list[bytes | NDArray[Any]] = [_HEAD.pack(_MAGIC, FORMAT, len(text)) + text]
    for array in arrays:
        pieces += [array, b"\0" * (-array.nbytes % _ALIGN)]
    return pieces


def decode(buffer: memoryview) -> Loaded:
    """The columns, over the buffer's own memory; CorruptData or FormatTooNew if it does not hold any."""
    if len(buffer) < _HEAD.size:
        raise _corrupt(f"{len(buffer)} bytes are too few")
    magic, version, length = _HEAD.unpack_from(buffer)
    if magic != _MAGIC:
        raise _corrupt("the first bytes are not those of columns")
    if version > FORMAT:
        raise FormatTooNew(f"columns of format {version}; this version reads up to {FORMAT}", value=version)
    try:
        meta = orjson.loads(buffer[_HEAD.size : _HEAD.size + length])
        return _columns(meta, _arrays(buffer, _HEAD.size + length))
    except (ValueError, TypeError, KeyError, StopIteration, OverflowError) as error:
        raise _corrupt(str(error)) from error


def _corrupt(what: str) -> CorruptData:
    return CorruptData(f"snapshot of columns: {what}; they will be read from the payloads", field="columns")


class _arrays:  # noqa: N801 - used as a function
    """Takes arrays off a buffer, one after another."""

    def __init__(self, buffer: memoryview, at: int) -> None:
        self._buffer, self._at = buffer, at

    def __call__(self, dtype: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self._buffer, dtype, count, self._at) if count else np.zeros(0, dtype)
        self._at += found.nbytes + -found.nbytes % _ALIGN
        return found

    def end(self) -> None:
        """Refuse what is left."""
        if self._at != len(self._buffer):
            raise ValueError(f"{len(self._buffer) - self._at} bytes are left")


def _columns(meta: dict[str, Any], take: _arrays) -> Loaded:
    n, seq, salt = meta["n"], meta["seq"], bytes.fromhex(meta["salt"])
    _check(type(n) is int and 0 <= n <= SLOTS_MAX and type(seq) is int and len(salt) == SALT_SIZE, "header")
    stale = take("<u4", meta["stale"])
    _check(not stale.size or int(stale.max()) < n, "stale slots")
    table = {}
    for path, codes, parts in meta["columns"]:
        column = Column(salt)
        column.learn(codes)
        _check(len(column.codes) == len(codes), f"dictionary of {path}")
        for kind_name, dtype, stop, pairs in parts:
            kind = Kind[kind_name]
            _check(dtype.lstrip("<|") in LADDERS[kind] and 0 <= stop <= n, f"{kind_name} of {path}")
            picture = Picture(
                take(dtype, stop),
                take("<u8", word_count(stop)),
                stop,
                take("<u4", pairs),
                take(dtype, pairs),
                pairs,
                None,
            )
            _check_picture(picture, n, _largest(kind, column), f"{kind_name} of {path}")
            column.kinds[kind] = Values.restored(picture, *LADDERS[kind])
        table[tuple(path)] = column
    take.end()
    return Loaded(Columns.restored(salt, n, table), seq, stale)


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
