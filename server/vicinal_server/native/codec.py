"""Bytes to Python and back: JSON or msgpack envelopes with vectors as little-endian blocks.

A block is {"dtype": "<f4", "shape": [n, d], "data": bytes} in msgpack, the same with "base64" in JSON; vectors may
also be of "<f2", "|i1" or "|u1". It
becomes an array over the received bytes: no Python object per number, no copy. Lists are left as they are for
the engine, which turns them into arrays once and checks every value.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Final

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from vicinal.errors import InvalidArgument, InvalidVector
from vicinal_server.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

__all__ = [
    "JSON",
    "MSGPACK",
    "Ragged",
    "answer",
    "as_block",
    "as_vectors",
    "decode_body",
    "media_type",
    "wants_msgpack",
]

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_MSGPACK_NAMES: Final = frozenset({MSGPACK, "application/x-msgpack", "application/vnd.msgpack"})
_VECTORS: Final = ("<f4", "<f2", "|i1", "|u1", "|b1")  # |u1 also holds packed bits
_JSON_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_BLOCK_KEYS: Final = frozenset({"dtype", "shape", "data", "base64", "ends"})


def media_type(header: str | None) -> str:
    """JSON or MSGPACK from a Content-Type; UnsupportedMediaType for anything else.

    Types a web page may send without asking first (forms, plain text, none) are refused on purpose.
    """
    name = (header or "").partition(";")[0].strip().lower()
    if name == JSON:
        return JSON
    if name in _MSGPACK_NAMES:
        return MSGPACK
    raise UnsupportedMediaType(
        f"send Content-Type {JSON} or {MSGPACK}", field="content-type", value=name, limit=[JSON, MSGPACK]
    )


def wants_msgpack(accept: str | None) -> bool:
    """Whether the client named msgpack in Accept; JSON otherwise."""
    names = (part.partition(";")[0].strip().lower() for part in (accept or "").split(","))
    return not _MSGPACK_NAMES.isdisjoint(names)


def decode_body(raw: bytes | bytearray, media: str, structure_max: int) -> dict[str, Any]:
    """The map a body holds; MalformedBody when it cannot be decoded, InvalidArgument when it is no map.

    `structure_max` bounds the bytes of msgpack outside binary blocks: each may become an object of 64 bytes.
    """
    if not raw:
        return {}
    try:
        if media == JSON:
            tree = orjson.loads(raw)
        else:
            _check_structure(raw, structure_max)
            tree = msgpack.unpackb(raw, ext_hook=_refuse_extension)
    except (ValueError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise MalformedBody(f"the body is not {media}: {reason}", field="body") from None
    if not isinstance(tree, dict):
        raise InvalidArgument("the body must be one map", field="body", value=type(tree).__name__)
    return tree


def _refuse_extension(code: int, _: bytes) -> None:
    raise ValueError(f"extension type {code} has no meaning here")


def _check_structure(raw: bytes | bytearray, structure_max: int) -> None:
    if len(raw) <= structure_max:
        return
    unpacker = msgpack.Unpacker(max_buffer_size=len(raw))
    unpacker.feed(raw)
    bulk = 0
    pending = 1  # values still to pass; maps are entered, everything else is skipped without making objects
    while pending:
        pending -= 1
        start = unpacker.tell()
        lead = raw[start] if start < len(raw) else 0
        if lead & 0xF0 == 0x80 or lead in (0xDE, 0xDF):
            pending += 2 * unpacker.read_map_header()
            continue
        unpacker.skip()
        if 0xC4 <= lead <= 0xC6:
            bulk += unpacker.tell() - start
    if len(raw) - bulk > structure_max:
        raise BodyTooLarge(
            "too much of the body lies outside binary blocks: send vectors as blocks, or less at once",
            field="body",
            value=len(raw) - bulk,
            limit=structure_max,
        )


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("dtype"), str)


def as_block(value: Any, field: str, dtypes: tuple[str, ...] = _VECTORS) -> Any:
    """The array of a block, (n,) or (n, d) and read-only; anything else comes back untouched."""
    if not _is_block(value):
        return value
    if "ends" in value:
        raise InvalidVector(f"{field} is one matrix: it takes no ends", field=field)
    return _array(value, field, dtypes)


def as_vectors(value: Any, field: str = "vectors") -> Any:
    """What `Collection.upsert` takes: lists, an array, (tokens, ends), or a map of field names to these."""
    if isinstance(value, dict) and not _is_block(value):
        return {name: _rows(rows, f"{field}.{name}") for name, rows in value.items()}
    return _rows(value, field)


def _rows(value: Any, field: str) -> Any:
    if not _is_block(value) or "ends" not in value:
        return as_block(value, field)
    tokens = _array(value, field, _VECTORS)
    ends = value["ends"]
    if not isinstance(ends, list) or not all(type(e) is int and 0 <= e <= len(tokens) for e in ends):
        raise InvalidVector(
            f"the ends of {field} must be a list of whole numbers up to {len(tokens)}",
            field=field,
            limit=len(tokens),
        )
    return tokens, np.array(ends, np.int64)


def _array(block: dict[str, Any], field: str, dtypes: tuple[str, ...]) -> NDArray[Any]:
    unknown = block.keys() - _BLOCK_KEYS
    if unknown or ("data" in block) == ("base64" in block):
        raise InvalidVector(
            f"a block in {field} has dtype, shape and either data or base64", field=field, value=sorted(block)
        )
    if block["dtype"] not in dtypes:
        known = " or ".join(dtypes)
        raise InvalidVector(f"the dtype of {field} must be {known}", field=field, value=block["dtype"], limit=known)
    dtype = np.dtype(block["dtype"])
    shape = _shape(block.get("shape"), field)
    data = _bytes(block, field)
    size = math.prod(shape) * dtype.itemsize
    if size != len(data):
        raise InvalidVector(
            f"the block of {field} needs {size} bytes for shape {shape} but holds {len(data)}",
            field=field,
            value=len(data),
            limit=size,
        )
    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    if dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise InvalidVector(f"a boolean of {field} is 0 or 1", field=field, limit=1)
    return array


def _shape(shape: Any, field: str) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 2
        or not all(type(n) is int and 0 <= n < 2**32 for n in shape)
    ):
        raise InvalidVector(f"the shape of {field} must be one or two whole numbers", field=field, value=shape)
    return tuple(shape)


def _bytes(block: dict[str, Any], field: str) -> bytes:
    data = block.get("data")
    if data is None:
        try:
            data = base64.b64decode(block["base64"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise InvalidVector(f"the base64 of {field} is broken: {error}", field=field) from None
    if not isinstance(data, bytes):
        raise InvalidVector(
            f"the data of {field} must be binary; JSON sends base64", field=field, value=type(data).__name__
        )
    return data


def answer(tree: dict[str, Any], *, packed: bool, status: int = 200) -> Response:
    """A response from a tree that may hold numpy arrays: lists in JSON, blocks in msgpack."""
    if packed:
        return Response(msgpack.packb(tree, default=_pack_array), status, media_type=MSGPACK)
    try:
        text = orjson.dumps(tree, default=_plain, option=_JSON_OPTIONS)
    except orjson.JSONEncodeError:  # payloads may be as deep as orjson goes, and here they stand deeper still
        for row in tree.get("hits", tree.get("points", ())):
            row["payload"] = orjson.Fragment(orjson.dumps(row.get("payload")))
        text = orjson.dumps(tree, default=_plain, option=_JSON_OPTIONS)
    return Response(text, status, media_type=JSON)


class Ragged:
    """A matrix of which only the first counts[i] entries of row i mean something.

    Written as a block where the format has blocks and the entries are numbers, as lists otherwise.
    """

    def __init__(self, rows: NDArray[Any], counts: NDArray[Any]) -> None:
        self.rows = rows
        self.counts = counts

    def lists(self) -> list[list[Any]]:
        """Row i as a list of counts[i] entries."""
        return [row[:n].tolist() for row, n in zip(self.rows, self.counts.tolist(), strict=True)]


def _pack_array(value: Any) -> Any:
    if isinstance(value, Ragged) and value.rows.dtype != object:
        value = value.rows
    if isinstance(value, np.ndarray) and value.dtype.kind in "fui":
        dtype = value.dtype.str if value.dtype.str in (*_VECTORS, "<u8") else "<f4"
        return {
            "dtype": dtype,
            "shape": list(value.shape),
            "data": np.ascontiguousarray(value, dtype).tobytes(),
        }
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Ragged):
        return value.lists()
    if isinstance(value, np.ndarray | np.generic):  # what orjson does not take: strides, objects, float16
        return value.tolist()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
