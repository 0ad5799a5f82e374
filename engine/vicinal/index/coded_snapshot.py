"""A coded index as bytes: what was fitted to the rows, the effort table and the links, framed by `packing`.

The words are a tree of named fields, whose arrays are numbered; each array lies on a cache line. Rows and code lines
are not kept: they are encoded again from the vectors, which costs less than reading and checking them. The second bytes
of rows may be, in a file that will be mapped: there they take no memory until a search looks. Reading checks every
shape that a kernel relies on before an index is made; the fields' names are those of the classes, so what another
version fitted differently is refused, not misread.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.codecs.cells import Cells
from vicinal.codecs.choice import Choice
from vicinal.codecs.frame import Frame
from vicinal.codecs.levels import ByteCodec, NibbleCodec
from vicinal.codecs.lines import QueryArrays
from vicinal.codecs.signs import SignCodec
from vicinal.errors import CorruptData
from vicinal.index.coded_arrays import DEGREE, SENTINEL, on_line
from vicinal.index.coded_checks import require_fitting
from vicinal.index.coded_effort import Effort, EffortTable, Measured, Reference
from vicinal.index.filter_effort import SHARES, FilterEffort, FilterEfforts, Level
from vicinal.packing import pack_parts, unpack
from vicinal.types import Metric

__all__ = ["FORMAT", "MAGIC", "Fitted", "chunks", "decode", "encode"]

MAGIC: Final = b"VICCODES"
FORMAT: Final = 3
_WHAT: Final = "snapshot of a coded graph"
_LINE: Final = 64
_KINDS: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        *(Choice, Frame, Cells, SignCodec, NibbleCodec, ByteCodec, QueryArrays),
        *(EffortTable, Effort, Measured, Reference),
        *(FilterEfforts, Level, FilterEffort),
    )
}
_EFFORTS_MAX: Final = 256


class Fitted(NamedTuple):
    """All of a coded index that cannot be made again from its rows, and its entry for insertion.

    `filters`, with the cells that filtered scans look at (members by cell, uint32), is None where there are none.
    `plane`: second bytes of the rows, (n, padded), left where they were read from; None where they are made again.
    `changes`: slots inserted and taken out since the links were built.
    """

    choice: Choice
    efforts: EffortTable
    fine: bool
    entry: int
    links: NDArray[np.uint32]
    filters: FilterEfforts | None = None
    sizes: NDArray[np.uint32] | None = None
    members: NDArray[np.uint32] | None = None
    plane: NDArray[np.uint8] | None = None
    changes: int = 0


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """A value as JSON holds it, its arrays put aside."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value, value.dtype.newbyteorder("<")))
        return {"array": len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        fields = value._asdict()
    elif isinstance(value, tuple):
        return [_plain(part, arrays) for part in value]
    else:
        return value.item() if isinstance(value, np.generic) else value
    return {"kind": type(value).__name__, "fields": {name: _plain(part, arrays) for name, part in fields.items()}}


def chunks(fitted: Fitted) -> list[bytes | memoryview]:
    """The snapshot in parts, to be written one after the other; the same index gives the same bytes."""
    arrays: list[NDArray[Any]] = []
    tree = {name: _plain(part, arrays) for name, part in fitted._asdict().items()}
    return pack_parts(MAGIC, FORMAT, {"n": len(fitted.links), "tree": tree}, arrays, _LINE)


def encode(fitted: Fitted) -> bytes:
    """The snapshot as one."""
    return b"".join(chunks(fitted))


def _value(plain: Any, arrays: list[NDArray[Any]]) -> Any:
    """The value that `_plain` made JSON of: copies of arrays, as kernels are compiled for those one can write.

    Those of bytes begin on a cache line: among them are tables that kernels multiply with.
    """
    if isinstance(plain, list):
        return tuple(_value(part, arrays) for part in plain)
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        array = arrays[plain["array"]]
        return on_line(array) if array.dtype == np.uint8 else array.copy()
    fields = {name: _value(part, arrays) for name, part in plain["fields"].items()}
    if plain["kind"] == Frame.__name__:
        fields["metric"] = Metric(fields["metric"])
    return _KINDS[plain["kind"]](**fields)


def decode(buffer: memoryview | bytes, metric: Metric, dim: int, slots: int) -> Fitted:
    """What a snapshot holds, for rows of `dim` dimensions under `metric`, at most `slots` of them.

    CorruptData, or FormatTooNew, unless all of it fits together.
    """
    told, arrays = unpack(buffer, MAGIC, FORMAT, _WHAT, _LINE)
    try:
        n = told["n"]
        plane = told["tree"].pop("plane", None)
        fitted = Fitted(**{name: _value(part, arrays) for name, part in told["tree"].items()})
        if plane is not None:
            fitted = fitted._replace(plane=arrays[plane["array"]])
        require_fitting(fitted.choice, metric, dim, n)
        _check(fitted, n, slots)
        _check_filters(fitted, n)
        _check_changes(fitted.changes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        message = f"{_WHAT}: what was fitted does not fit: {error}; it will be rebuilt from the vectors"
        raise CorruptData(message, field="snapshot") from error
    return fitted


def _check_filters(fitted: Fitted, n: int) -> None:
    """ValueError unless cells hold every slot once and efforts keep a search inside its memory."""
    if fitted.filters is None:
        return
    sizes, members = fitted.sizes, fitted.members
    if sizes is None or members is None or sizes.dtype != np.uint32 or members.dtype != np.uint32:
        raise ValueError("cells are lists of slots")
    if sizes.ndim != 1 or not sizes.all() or int(sizes.sum(dtype=np.int64)) != n or members.shape != (n,):
        raise ValueError(f"cells of {n} slots")
    if int(members.max()) >= n or (np.bincount(members, minlength=n) != 1).any():
        raise ValueError("the cells do not hold every slot once")
    if not fitted.filters.levels:
        raise ValueError("no efforts under filters")
    for level in fitted.filters.levels:
        if len(level.by_share) != len(SHARES) or not 0 < level.recall <= 1:
            raise ValueError("efforts of other shares")
        for one in level.by_share:
            whole = all(type(part) is int and 0 <= part < 1 << 15 for part in (*one.sweep, one.rescore))
            told = (one.margin, *one[4:])
            whole = whole and type(one.quota) is int and not any(map(math.isnan, told))  # TypeError: no numbers
            if not whole or one.sweep.pool % 8 or not min(one.sweep[:2]) or not one.rescore or one.quota < 1:
                raise ValueError(f"an effort of {one}")


def _check_changes(changes: int) -> None:
    """ValueError unless it is a count."""
    if type(changes) is not int or changes < 0:
        raise ValueError(f"{changes} changes")


def _check(fitted: Fitted, n: int, slots: int) -> None:
    """ValueError unless links and efforts keep a walk inside its arrays."""
    links, measured = fitted.links, fitted.efforts.measured
    if (
        type(n) is not int
        or n < 1
        or n > slots
        or links.shape != (n, DEGREE)
        or links.dtype != np.uint32
        or not 0 <= fitted.entry < n
    ):
        raise ValueError(f"{n} slots of {slots}, links {links.shape}, entry {fitted.entry}")
    if ((links >= n) & (links != SENTINEL)).any():
        raise ValueError("a link leads to a slot that does not exist")
    plane = fitted.plane
    if plane is not None and (plane.dtype != np.uint8 or plane.shape != (n, fitted.choice.frame.padded)):
        raise ValueError(f"second bytes {plane.shape} of {n} rows")
    if fitted.efforts.exact_walk != fitted.choice.exact_walk or len(measured) > _EFFORTS_MAX:
        raise ValueError("the efforts are another walk's")
    if any(one.effort.pool > two.effort.pool for one, two in pairwise(measured)):
        raise ValueError("the efforts do not rise")
    for known in (fitted.efforts.reference, fitted.efforts.checked):
        if any(type(ef) is not int or ef < 1 or not 0 <= recall <= 1 for ef, recall in known):
            raise ValueError("an ef without a recall")
    for one in measured:
        parts = (*one.effort, one.recall, one.cost)
        whole = all(type(part) is int and 0 <= part < 1 << 15 for part in one.effort)
        if not whole or one.effort.pool % 8 or not min(one.effort[:2]) or not np.isfinite(parts).all():
            raise ValueError(f"an effort of {one.effort}")
