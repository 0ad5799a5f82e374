"""Attribute columns of a collection, derived from its payloads: nothing needs to be declared.

One `Column` for every path that occurs, typed by kind, so that a key that holds numbers here and text there
answers both. Integers keep all 64 bits: signed ones, and those of 2**63 and above, have columns of their own.
Strings are codes of a dictionary; those longer than 64 characters, or new when the dictionary is full, are kept
as a digest of 64 bits instead (BLAKE2b under a secret salt: two different strings are taken for equal once in
2**64 comparisons). Strings that are ISO 8601 datetimes have their instant beside them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from enum import Enum, auto
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal.errors import InvalidPayload
from vicinal.filter.instants import parse_instant
from vicinal.filter.path import Path, render_path
from vicinal.filter.shred import Piece, shred
from vicinal.filter.values import Picture, Values
from vicinal.limits import SORTED_BYTES_MAX

__all__ = ["LADDERS", "SALT_SIZE", "Column", "Columns", "Kind", "Tag", "digests_of"]

_CHUNK = 2_048  # payloads parsed at a time: few enough that the collector never sees them grow old
SALT_SIZE: Final = blake2b.SALT_SIZE
_CODES_MAX = 65_535
_CODED_LENGTH_MAX = 64
_STRING_BYTES = 160  # of a dictionary entry beside the text: two objects and the table's share
_COLUMN_BYTES = 1_500  # of a path: objects, names, empty arrays


class Kind(Enum):
    """What a column holds."""

    TAG = auto()
    CODE = auto()
    HASH = auto()
    INT = auto()
    BIG = auto()  # integers of 2**63 and above
    REAL = auto()
    INSTANT = auto()  # microseconds since 1970
    PLACE = auto()  # objects with lon and lat, see `areas`


LADDERS: Final = {
    Kind.TAG: ("u1",),
    Kind.CODE: ("u1", "u2"),
    Kind.HASH: ("i8",),
    Kind.INT: ("i1", "i2", "i4", "i8"),
    Kind.BIG: ("u8",),
    Kind.REAL: ("f8",),
    Kind.INSTANT: ("i8",),
    Kind.PLACE: ("c16",),
}


class Tag:
    """Values that are not strings or numbers, by code; empty ones first."""

    NULL: Final = 0
    EMPTY: Final = 1  # []
    ARRAY: Final = 2
    OBJECT: Final = 3
    FALSE: Final = 4
    TRUE: Final = 5


class Column:
    """All values at one path."""

    def __init__(self, salt: bytes) -> None:
        self.salt = salt
        self.kinds: dict[Kind, Values] = {}
        self.codes: dict[str, int] = {}
        self._text_bytes = 0
        self._instants: NDArray[np.int64] | None = None  # by code, where _dated
        self._dated: NDArray[np.bool_] | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes, those of the dictionary estimated."""
        tables = 0 if self._instants is None else 9 * len(self.codes)
        arrays = sum(values.memory_bytes for values in list(self.kinds.values()))
        return _COLUMN_BYTES + self._text_bytes + tables + arrays

    def append(self, piece: Piece) -> None:
        """Add the values of a piece."""
        if piece.kind is str:
            self._add_strings(piece.slots, piece.values)
        elif piece.kind is int:
            self._add_integers(piece.slots, piece.values)
        elif piece.kind is float:
            self._add(Kind.REAL, piece.slots, np.array(piece.values, np.float64))
        elif piece.kind is complex:
            self._add(Kind.PLACE, piece.slots, np.array(piece.values, np.complex128))
        else:
            self._add(Kind.TAG, piece.slots, _tags(piece.kind, piece.values))

    def _add(self, kind: Kind, slots: NDArray[np.uint32], values: NDArray[Any]) -> None:
        if slots.size:
            column = self.kinds.get(kind)
            if column is None:
                column = Values(*LADDERS[kind])
                column.append(slots, values)
                self.kinds[kind] = column
            else:
                column.append(slots, values)

    def _add_integers(self, slots: NDArray[np.uint32], values: Sequence[int]) -> None:
        try:
            self._add(Kind.INT, slots, np.array(values, np.int64))
        except OverflowError:
            big = np.fromiter((v >> 63 > 0 for v in values), np.bool_, len(values))
            signed = [v for v in values if v >> 63 <= 0]
            self._add(Kind.INT, slots[~big], np.array(signed, np.int64))
            self._add(Kind.BIG, slots[big], np.array([v for v in values if v >> 63 > 0], np.uint64))

    def _add_strings(self, slots: NDArray[np.uint32], values: Sequence[str]) -> None:
        found = list(map(self.codes.get, values))
        if None in found and len(self.codes) < _CODES_MAX:
            self.learn(values)
            found = list(map(self.codes.get, values))
        if None not in found:
            codes = np.array(found, np.uint16)
            self._add(Kind.CODE, slots, codes)
            if self._instants is not None and self._dated is not None:
                dated = self._dated[codes]
                self._add(Kind.INSTANT, slots[dated], self._instants[codes[dated]])
            return
        known = np.fromiter((code is not None for code in found), np.bool_, len(found))
        self._add(Kind.CODE, slots[known], np.array([c for c in found if c is not None], np.uint16))
        uncoded = [text for text, code in zip(values, found, strict=True) if code is None]
        self._add(Kind.HASH, slots[~known], digests_of(uncoded, self.salt))
        instants = list(map(parse_instant, values))
        dated = np.fromiter((instant is not None for instant in instants), np.bool_, len(instants))
        self._add(Kind.INSTANT, slots[dated], np.array([i for i in instants if i is not None], np.int64))

    def texts(self, codes: Sequence[int]) -> list[str]:
        """The strings of some codes."""
        known = list(self.codes)
        return [known[code] for code in codes]

    def learn(self, values: Sequence[str]) -> None:
        """Give codes to new strings while there are codes left."""
        begin = len(self.codes)
        new = [t for t in dict.fromkeys(values) if t not in self.codes and len(t) <= _CODED_LENGTH_MAX]
        del new[_CODES_MAX - begin :]
        dates = [(code, parse_instant(text)) for code, text in enumerate(new, begin) if text[4:5] == "-"]
        for code, instant in dates:
            if instant is not None:
                if self._instants is None or self._dated is None:
                    self._instants, self._dated = np.zeros(_CODES_MAX, np.int64), np.zeros(_CODES_MAX, np.bool_)
                self._instants[code], self._dated[code] = instant, True
        self._text_bytes += _STRING_BYTES * len(new) + sum(map(len, new))
        self.codes.update(zip(new, range(begin, begin + len(new)), strict=True))


def digests_of(texts: Sequence[str], salt: bytes) -> NDArray[np.int64]:
    """64 bits of each text."""
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    return np.frombuffer(b"".join([blake2b(t, digest_size=8, salt=salt).digest() for t in encoded]), np.int64)


def _tags(kind: type, values: Sequence[Any]) -> NDArray[np.uint8]:
    """The tags of values that are all of a type, or of several (`object`)."""
    if kind is bool:
        return np.array(values, np.uint8) + np.uint8(Tag.FALSE)  # FALSE and TRUE follow each other
    if kind is list:
        return np.fromiter(map(bool, values), np.uint8, len(values)) + np.uint8(Tag.EMPTY)  # EMPTY, ARRAY too
    return np.fromiter(map(_tag, values), np.uint8, len(values))


def _tag(value: Any) -> int:
    if value is None:
        return Tag.NULL
    if isinstance(value, bool):
        return Tag.TRUE if value else Tag.FALSE
    if isinstance(value, dict):
        return Tag.OBJECT
    return Tag.ARRAY if value else Tag.EMPTY


class Columns:
    """The columns of all paths, by slot; one writer extends them while any number of readers read.

    A slot's payload never changes. A reader that knows n slots asks for n and sees exactly those, however far
    the writer has come.
    """

    def __init__(self, salt: bytes | None = None) -> None:
        self.salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
        self._table: dict[Path, Column] = {}
        self._n = 0
        self._lock = threading.Lock()
        self.sorted_max = SORTED_BYTES_MAX

    @property
    def n(self) -> int:
        """Slots taken in; every column is complete for the slots below it."""
        return self._n

    @property
    def memory_bytes(self) -> int:
        """Bytes held, those of dictionaries estimated."""
        return sum(column.memory_bytes for column in list(self._table.values()))

    @property
    def bytes_by_key(self) -> dict[str, int]:
        """Bytes held for each key, as filters write it."""
        return {render_path(path): column.memory_bytes for path, column in sorted(self._table.items(), key=str)}

    @classmethod
    def restored(cls, salt: bytes, n: int, table: dict[Path, Column]) -> Columns:
        """Columns of n slots, as `pictures` gave them."""
        columns = cls(salt)
        columns._table, columns._n = table, n
        return columns

    def pictures(self) -> tuple[int, list[tuple[Path, list[str], list[tuple[Kind, Picture]]]]]:
        """The number of slots, and of each path the dictionary and the arrays by kind, all of one moment."""
        with self._lock:
            return self._n, [
                (path, list(column.codes), [(kind, values.picture) for kind, values in column.kinds.items()])
                for path, column in self._table.items()
            ]

    def keys(self) -> list[str]:
        """The keys that occur, as filters write them, sorted."""
        return sorted(map(render_path, list(self._table)))

    def column(self, path: Path) -> Column | None:
        """The column of a path, None if no payload has a value there."""
        return self._table.get(path)

    def digests(self, texts: Sequence[str]) -> list[int]:
        """What columns keep of strings that have no code."""
        digests: list[int] = digests_of(texts, self.salt).tolist()
        return digests

    def extend(self, payloads: Sequence[bytes | None]) -> None:
        """Take in the payloads (JSON objects, or None) of slots n, n + 1, ...

        InvalidPayload if one is not a JSON object; `n` then tells how many were taken in before the group of
        payloads it is in, and nothing of that group was.
        """
        with self._lock:
            for begin in range(0, len(payloads), _CHUNK):
                chunk = payloads[begin : begin + _CHUNK]
                objects, slots = _parsed(chunk, self._n)
                for piece in shred(objects, slots) if objects else ():
                    column = self._table.get(piece.path)
                    if column is None:
                        column = self._table[piece.path] = Column(self.salt)
                    column.append(piece)
                self._n += len(chunk)
            self._fit()

    def seal(self) -> None:
        """Sort what is not sorted, so that large columns answer without a scan.

        For a background thread now and then, and after a bulk load: growth sorts by itself, but only when a
        column has grown by half. Writers wait for one array at a time.
        """
        for column in list(self._table.values()):
            for values in list(column.kinds.values()):
                if values.unsealed and values.sorts:
                    with self._lock:
                        values.seal()
                        self._fit()

    def _fit(self) -> None:
        """Keep what is sorted within its bound: the arrays least asked go first, of these the largest."""
        held = [values for column in self._table.values() for values in column.kinds.values() if values.sorted_bytes]
        total = sum(values.sorted_bytes for values in held)
        for values in sorted(held, key=lambda v: (v.asked, -v.sorted_bytes)):
            if total <= self.sorted_max:
                return
            total -= values.sorted_bytes
            values.unsort()


def _parsed(payloads: Sequence[bytes | None], first: int) -> tuple[list[dict[str, Any]], NDArray[np.uint32]]:
    """The objects among the payloads and their slots."""
    slots = np.arange(first, first + len(payloads), dtype=np.uint32)
    if None in payloads:
        slots = slots[[p is not None for p in payloads]]
    try:
        objects = [orjson.loads(p) for p in payloads if p is not None]
    except orjson.JSONDecodeError as error:
        raise InvalidPayload(f"a payload of slots {first} and on is not JSON: {error}", field="payload") from error
    if set(map(type, objects)) - {dict}:
        raise InvalidPayload(f"a payload of slots {first} and on is not a JSON object", field="payload")
    return objects, slots
