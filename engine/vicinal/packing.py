"""Arrays and a few words about them as bytes, little-endian: the form of snapshots of proxies.

    header  magic 8 bytes | format u32 | byte order mark u32 | text bytes u64 | total length u64 | CRC32C u32 of the
            text | CRC32C u32 of the bytes before
    text    JSON: {"about": ..., "arrays": [[type, shape, CRC32C], ...]}, padded with blanks to 8 bytes
    arrays  one after another, each padded to 8 bytes

Every size is compared with the bytes there are before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew

__all__ = ["pack", "unpack"]

_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIIQQII")
_DTYPES: Final = ("<f4", "<i8", "<u2", "|u1")
_ALIGN: Final = 8


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def pack(magic: bytes, version: int, about: Any, arrays: Sequence[NDArray[Any]]) -> bytes:
    """The arrays and `about` (JSON values) as bytes; the same values give the same bytes."""
    contents = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
    places = [[array.dtype.str, list(array.shape), crc32c(array.tobytes())] for array in contents]
    text = json.dumps({"about": about, "arrays": places}).encode()
    text += b" " * (-(_HEADER.size + len(text)) % _ALIGN)
    total = _HEADER.size + len(text) + sum(_padded(array.nbytes) for array in contents)
    head = _HEADER.pack(magic, version, _ORDER, len(text), total, crc32c(text), 0)[:-4]
    pieces = [head, struct.pack("<I", crc32c(head)), text]
    for array in contents:
        pieces += [array.tobytes(), b"\0" * (-array.nbytes % _ALIGN)]
    return b"".join(pieces)


def unpack(buffer: memoryview | bytes, magic: bytes, version: int, what: str) -> tuple[Any, list[NDArray[Any]]]:
    """What `pack` was given, the arrays as read-only views of the buffer.

    `what` names the thing in errors. Raises CorruptData, or FormatTooNew for a later version.
    """
    view = memoryview(buffer).cast("B")
    if len(view) < _HEADER.size:
        raise _corrupt(what, f"{len(view)} bytes are too few for the header")
    found, format_, order, length, total, text_crc, crc = _HEADER.unpack_from(view)
    if found != magic or order != _ORDER or crc != crc32c(view[: _HEADER.size - 4]):
        raise _corrupt(what, "the header is damaged")
    if format_ > version:
        raise FormatTooNew(f"{what} of format {format_}; this version reads up to {version}", value=format_)
    if format_ != version or total != len(view) or length > total - _HEADER.size:
        raise _corrupt(what, f"{len(view)} bytes where the header says {total}")
    text = view[_HEADER.size : _HEADER.size + length]
    if crc32c(text) != text_crc:
        raise _corrupt(what, "the checksum of its text is wrong")
    try:
        told = json.loads(bytes(text))
        return told["about"], _arrays(view[_HEADER.size + length :], told["arrays"])
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(what, str(error)) from error


def _arrays(body: memoryview, places: list[Any]) -> list[NDArray[Any]]:
    """The arrays, whose sizes and checksums must hold."""
    arrays, at = [], 0
    for number, (kind, shape, crc) in enumerate(places):
        if kind not in _DTYPES or min(shape, default=0) < 0:
            raise ValueError(f"array {number} cannot be so")
        size = int(np.dtype(kind).itemsize * np.prod(shape, dtype=object))
        content = body[at : at + size]
        if len(content) != size or crc32c(content) != crc:
            raise ValueError(f"the checksum of array {number} is wrong")
        arrays.append(np.frombuffer(content, kind).reshape(shape))
        at += _padded(size)
    if at != len(body):
        raise ValueError("its arrays do not fill it")
    return arrays


def _corrupt(what: str, why: str) -> CorruptData:
    return CorruptData(f"{what}: {why}; it will be made again", field=what)
