"""Arrays and a few words about them as bytes, little-endian: the frame of every snapshot of something derived.

    header  magic 8 bytes | format u32 | byte order mark u32 | text bytes u64 | total length u64 | CRC32C u32 of the
            text | CRC32C u32 of the bytes before
    text    JSON: {"about": ..., "arrays": [[type, shape, CRC32C], ...]}, padded with blanks to the alignment
    arrays  one after another, each padded to the alignment

Every size is compared with the bytes there are before anything is allocated; what the arrays are of is the reader's to
check. Magic, format and alignment belong to the thing that is kept.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from vicinal.errors import CorruptData, FormatTooNew

__all__ = ["pack", "pack_parts", "unpack"]

_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("<8sIIQQII")
_TYPES: Final = re.compile(r"\|[iu]1|<[fiuc](2|4|8|16)")
_ALIGN: Final = 8


def pack(magic: bytes, version: int, about: Any, arrays: Sequence[NDArray[Any]], align: int = _ALIGN) -> bytes:
    """The arrays and `about` (JSON values) as bytes; the same values give the same bytes."""
    return b"".join(pack_parts(magic, version, about, arrays, align))


def pack_parts(
    magic: bytes, version: int, about: Any, arrays: Sequence[NDArray[Any]], align: int = _ALIGN
) -> list[bytes | memoryview]:
    """The same in parts, to be written one after another; the arrays must not change until they are."""
    ordered = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
    contents = [array.reshape(-1).view(np.uint8).data for array in ordered]
    places = [
        [array.dtype.str, list(array.shape), crc32c(content)] for array, content in zip(ordered, contents, strict=True)
    ]
    text = json.dumps({"about": about, "arrays": places}).encode()
    text += b" " * (-(_HEADER.size + len(text)) % align)
    total = _HEADER.size + len(text) + sum(_padded(len(content), align) for content in contents)
    head = _HEADER.pack(magic, version, _ORDER, len(text), total, crc32c(text), 0)[:-4]
    parts: list[bytes | memoryview] = [head + struct.pack("<I", crc32c(head)) + text]
    for content in contents:
        parts += [content, bytes(-len(content) % align)]
    return parts


def _padded(size: int, align: int) -> int:
    return -(-size // align) * align


def unpack(
    buffer: memoryview | bytes, magic: bytes, version: int, what: str, align: int = _ALIGN
) -> tuple[Any, list[NDArray[Any]]]:
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
        return told["about"], _arrays(view[_HEADER.size + length :].toreadonly(), told["arrays"], align)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _corrupt(what, str(error)) from error


def _arrays(body: memoryview, places: list[Any], align: int) -> list[NDArray[Any]]:
    """The arrays, whose sizes and checksums must hold."""
    arrays, at = [], 0
    for number, (kind, shape, crc) in enumerate(places):
        if not _TYPES.fullmatch(kind) or min(shape, default=0) < 0:
            raise ValueError(f"array {number} cannot be so")
        size = int(np.dtype(kind).itemsize * np.prod(shape, dtype=object))
        content = body[at : at + size]
        if len(content) != size or crc32c(content) != crc:
            raise ValueError(f"the checksum of array {number} is wrong")
        arrays.append(np.frombuffer(content, kind).reshape(shape))
        at += _padded(size, align)
    if at != len(body):
        raise ValueError("its arrays do not fill it")
    return arrays


def _corrupt(what: str, why: str) -> CorruptData:
    return CorruptData(f"{what}: {why}; it will be made again", field=what)
